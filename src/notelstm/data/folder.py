"""``Folder``: the MIDI files of a folder as a corpus."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from notelstm.data.scan import no_midi_files, scan_folder
from notelstm.errors import DataError, MidiError
from notelstm.midi import ReadPolicy, ReadReport, read_midi_with_report
from notelstm.notes import Notes

__all__ = ["Folder", "midi_files", "nothing_readable"]

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Folder:
    """The MIDI files of a folder and the folders in it.

    A file that cannot be read is logged as a warning and left out; repairs of the others are logged
    too.

    Args:
        path: The folder, or a single MIDI file.
        policy: How to read the files.
        licence: The terms of use of the music, as far as you know.
    """

    path: str | os.PathLike[str]
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    license: str = ""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.path)

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The pieces, in the order of their names.

        Args:
            limit: The largest number of pieces; None for all. Rejected files do not count.

        Yields:
            The file's path within the folder, with ``/`` between folders, and its notes.

        Raises:
            DataNotFoundError: If there is no such folder.
            DataError: If no file in it can be read.
        """
        for name, notes, _ in self.pieces_with_reports(limit):
            yield name, notes

    def pieces_with_reports(
        self, limit: int | None = None
    ) -> Iterator[tuple[str, Notes, ReadReport]]:
        """Like :meth:`pieces`, with the report on each file.

        Args:
            limit: The largest number of pieces; None for all. Rejected files do not count.

        Yields:
            The file's path within the folder, its notes, and the report.

        Raises:
            DataNotFoundError: If there is no such folder.
            DataError: If no file in it can be read.
        """
        root = Path(self.path)
        read, reasons = 0, Counter[str]()
        for path in midi_files(root):
            if limit is not None and read >= limit:
                return
            name = path.relative_to(root).as_posix() if path != root else path.name
            try:
                notes, report = read_midi_with_report(path, self.policy)
            except MidiError as error:
                _log.warning("left out: %s", error)
                reasons[error.problem] += 1
                continue
            if not report.healthy:
                _log.info("%s: %d repairs", name, report.repairs_total)
            read += 1
            yield name, notes, report
        if not read and limit != 0:
            raise nothing_readable(reasons, self.source) if reasons else no_midi_files(self.path)


def nothing_readable(reasons: Counter[str], source: str) -> DataError:
    """The error for a corpus none of whose files can be read.

    Args:
        reasons: The number of files for each problem.
        source: Where the files are.
    """
    if not reasons:
        return DataError("there are no pieces", where=source)
    total = reasons.total()
    (problem, count), *_ = reasons.most_common(1)
    often = "" if total == 1 else f" in {count}"
    return DataError(
        f"cannot read {'the only file' if total == 1 else f'any of {total} files'}"
        f"; the most frequent reason{often}: {problem}",
        where=source,
        hint="run notelstm inspect on one of them, or use another policy",
    )


def midi_files(root: Path) -> list[Path]:
    """The MIDI files of a folder and the folders in it, by their names, links followed once.

    Args:
        root: A folder, or a single file, whatever its name.

    Raises:
        DataNotFoundError: If there is nothing of that name.
    """
    return [Path(path) for path in scan_folder(root).paths]
