"""Standard output and error of a command whose reader may end before the command does."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO, final

from typing_extensions import override

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Streams", "lasting_streams"]


@final
class Streams:
    """What became of the standard streams.

    Attributes:
        output_error: Why something that was printed on standard output was lost; None if nothing
            was. A reader that is gone is a BrokenPipeError.
    """

    def __init__(self) -> None:
        self.output_error: OSError | None = None


@final
class _Lasting(io.FileIO):
    """A file descriptor that takes everything written to it, also after writing has failed.

    The command goes on to its end, so no file is left half written; the rest of the output is
    discarded.
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
    """Let a command run to its end, whether or not the readers of its streams stay.

    A stream that is closed at the start is replaced by the null device, so that no file opened
    later takes its descriptor. Streams that are not plain files, as under a test runner, are left
    as they are.

    Yields:
        What became of the streams, complete after the block.
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
    """A stream in the place of `stream`; None where that is not a plain file."""
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
