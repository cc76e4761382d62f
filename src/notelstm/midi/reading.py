"""``read_midi``: read ``Notes`` from a MIDI file, bytes or a ``PrettyMIDI``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeAlias, final

from notelstm.errors import MidiError, MidiNotFoundError, MissingExtraError, NoNotesError
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import ReadReport
from notelstm.notes import Notes
from notelstm.plugins import find

__all__ = ["MAX_BYTES", "Reader", "Source", "read_midi", "read_midi_with_report"]

MAX_BYTES: Final = 2**25
"""The largest MIDI file that is read, 32 MiB."""

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Any"
"""A path, the bytes of a file, a binary file object, or a ``PrettyMIDI``."""


class Reader(Protocol):
    """Reads the bytes of a MIDI file; a plugin of the kind ``readers``."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        """Read a file.

        Args:
            data: A whole MIDI file.
            policy: How to read it.
            where: The file's name in messages.

        Returns:
            The notes, sorted by start, at least one; and the report.

        Raises:
            NoNotesError: If no notes are left under the policy.
            MidiError: If the file cannot be read, or the policy is not supported.
        """
        ...


def read_midi(
    source: Source, policy: ReadPolicy | None = None, *, reader: str | Reader = "auto"
) -> Notes:
    """Read the notes of a MIDI file.

    Args:
        source: A path, the bytes of a file, a binary file object, or a ``PrettyMIDI``.
        policy: How to read it; None for ``ReadPolicy()``.
        reader: A reader, or its name, or ``"auto"`` for the fastest one that can read the file.

    Returns:
        The notes, sorted by start, at least one.

    Raises:
        NoNotesError: If no notes are left under the policy.
        MidiNotFoundError: If there is no such file.
        MidiError: If the file cannot be read.
        PluginError: If there is no such reader.
    """
    return read_midi_with_report(source, policy, reader=reader)[0]


def read_midi_with_report(
    source: Source, policy: ReadPolicy | None = None, *, reader: str | Reader = "auto"
) -> tuple[Notes, ReadReport]:
    """Like :func:`read_midi`, with a report of the file's tracks, repairs and losses."""
    policy = ReadPolicy() if policy is None else policy
    if hasattr(source, "instruments"):
        from notelstm.midi.pretty_midi_reader import from_pretty_midi_with_report

        return from_pretty_midi_with_report(source, policy)
    data, where = _bytes_of(source)
    if isinstance(reader, str):
        reader = _Auto() if reader == "auto" else find("readers", reader).load()()
    try:
        return reader.read(data, policy, where)
    except MidiError as error:
        if error.where:
            raise
        raise type(error)(error.problem, where=where, hint=error.hint) from error


@final
class _Auto:
    """The fast reader for healthy files, the tolerant one for others."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        from notelstm.midi.symusic_reader import SymusicReader
        from notelstm.midi.tolerant import TolerantReader

        try:
            return SymusicReader().read(data, policy, where)
        except NoNotesError:
            raise
        except (MidiError, MissingExtraError):
            return TolerantReader().read(data, policy, where)


def _bytes_of(source: Source) -> tuple[bytes, str]:
    """The bytes of a source, and its name in messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        data, where = bytes(source), "bytes"
    elif isinstance(source, str | os.PathLike):
        data, where = _bytes_of_path(Path(source)), str(source)
    elif hasattr(source, "read"):
        where = str(getattr(source, "name", "file object"))
        data = _bytes_of_file(source, where)
    else:
        raise MidiError(
            f"cannot read MIDI from {type(source).__name__}",
            hint="pass a path, bytes, a binary file object or a PrettyMIDI",
        )
    if len(data) > MAX_BYTES:
        raise MidiError(
            f"the file is larger than {MAX_BYTES // 2**20} MiB",
            where=where,
            hint="check that it is a MIDI file",
        )
    return data, where


def _bytes_of_path(path: Path) -> bytes:
    try:
        # Opening a named pipe waits for a writer; those of a shell, under /dev, have one.
        if not path.is_fifo() or path.parts[:2] in (("/", "dev"), ("/", "proc")):
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MidiNotFoundError(f"no such MIDI file: {path}", hint="check the path") from error
    except IsADirectoryError as error:
        raise MidiError(f"not a file but a folder: {path}", hint="name a file in it") from error
    except OSError as error:
        reason = error.strerror or "unknown reason"
        refused = isinstance(error, PermissionError)
        raise MidiError(
            f"cannot read the file: {reason}",
            where=str(path),
            hint="check the file's permissions" if refused else "check the path",
        ) from error
    except ValueError as error:
        raise MidiNotFoundError(
            f"no such MIDI file: {str(path)!r}", hint="remove the null character from the path"
        ) from error
    raise MidiError(f"not a file but a named pipe: {path}", hint="pass the path of a file")


def _bytes_of_file(file: Any, where: str) -> bytes:
    data = bytearray()
    # A pipe without a buffer gives what it has at the moment, so one call may not read all.
    while len(data) <= MAX_BYTES:
        try:
            block = file.read(MAX_BYTES + 1 - len(data))
        except (OSError, ValueError) as error:  # ValueError: a closed file, or undecodable text
            raise MidiError(f"cannot read the file object: {error}", where=where) from error
        if not isinstance(block, bytes):
            raise MidiError(
                f"the file object gives {type(block).__name__}, not bytes",
                where=where,
                hint='open the file in binary mode, open(path, "rb")',
            )
        if not block:
            break
        data += block
    return bytes(data)
