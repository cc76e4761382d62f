"""Standard output and error: closed pipes, and the silence of all but the main process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, final

from typing_extensions import override

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Streams", "lasting_streams", "silent_unless_main"]


@final
@dataclass
class Streams:
    """The state of the standard streams after a command.

    Attributes:
        output_error: The error by which standard output was lost, a BrokenPipeError if its reader
            ended; None if nothing was lost.
    """

    output_error: OSError | None = None


@final
class _Lasting(io.FileIO):
    """A file descriptor that discards its output after writing has failed.

    The command then runs to its end, so no file is left half written.
    """

    error: OSError | None = None

    @override
    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            null = os.open(os.devnull, os.O_WRONLY)
            # Child processes and C libraries write to the descriptor, too.
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


@contextlib.contextmanager
def lasting_streams() -> Iterator[Streams]:
    """Keep a command running after the readers of its streams have ended.

    A stream that is closed at the start is replaced by the null device, so that no file opened
    later takes its descriptor. Streams that are not plain files, as under a test runner, are left
    as they are.

    Yields:
        The state of the streams, complete after the block.
    """
    closed = [_is_closed(number) for number in range(3)]
    if any(closed):
        null = os.open(os.devnull, os.O_RDWR)  # takes the lowest closed descriptor
        for number in range(3):
            if closed[number] and number != null:
                os.dup2(null, number)
        if null > 2:
            os.close(null)
    state = Streams()
    before = sys.stdout, sys.stderr
    output = _lasting(before[0], 1)
    errors = _lasting(before[1], 2)
    sys.stdout, sys.stderr = output or before[0], errors or before[1]
    try:
        yield state
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        if closed[1]:
            state.output_error = BrokenPipeError("standard output is closed")
        elif output is not None:
            # A buffered stream has a raw one, which the type of text streams does not declare.
            raw = output.buffer.raw  # type: ignore[attr-defined]
            assert isinstance(raw, _Lasting)
            state.output_error = raw.error


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _lasting(stream: TextIO | None, number: int) -> io.TextIOWrapper | None:
    """A replacement of `stream`; None if that is not a plain file."""
    if stream is None:
        return _text(_Lasting(number, "w", closefd=False), "utf-8", by_line=True)
    buffer = getattr(stream, "buffer", None)
    # Where Python runs unbuffered, the file is not inside a buffer.
    if type(getattr(buffer, "raw", buffer)) is not io.FileIO:
        return None
    stream.flush()
    by_line = bool(stream.line_buffering) or isinstance(buffer, io.FileIO)
    return _text(_Lasting(stream.fileno(), "w", closefd=False), stream.encoding, by_line=by_line)


def _text(raw: _Lasting, encoding: str, *, by_line: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",  # names of files can be any bytes
        line_buffering=by_line,
    )


@contextlib.contextmanager
def silent_unless_main() -> Iterator[None]:
    """Discard standard output and warnings of a process that is not the main one of a run.

    Errors are printed by every process.
    """
    # torch is imported only in a process that was launched as one of several.
    if "MASTER_ADDR" not in os.environ:
        yield
        return
    from notelstm.training.distributed import DistributedGroup

    if DistributedGroup().is_main_process:
        yield
        return
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
