"""``Folder``: one's own MIDI files as a corpus."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from notelstm.data.scan import SUFFIXES, scan_folder
from notelstm.errors import DataError, MidiError
from notelstm.midi import ReadPolicy, ReadReport, read_midi_with_report
from notelstm.notes import Notes

__all__ = ["Folder", "midi_files"]

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Folder:
    """The MIDI files of a folder and the folders in it.

    A file that cannot be read is logged as a warning and left out; what was repaired in the
    others is logged too.

    Args:
        path: The folder, or a single MIDI file.
        policy: How to read the files.
        licence: What one may do with the music, as far as you know.
    """

    path: str | os.PathLike[str]
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    licence: str = ""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return Path(self.path).resolve().name

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.path)

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The pieces, in the order of their names.

        Args:
            limit: How many at most; None for all. Files that cannot be read do not count.

        Yields:
            The file's path within the folder, with ``/`` between folders, and its notes.

        Raises:
            DataError: If there is no such folder, or no file in it that can be read.
        """
        for name, notes, _ in self.pieces_with_reports(limit):
            yield name, notes

    def pieces_with_reports(
        self, limit: int | None = None
    ) -> Iterator[tuple[str, Notes, ReadReport]]:
        """Like :meth:`pieces`, with what was found, mended and left out in each file.

        Args:
            limit: How many at most; None for all. Files that cannot be read do not count.

        Yields:
            The file's path within the folder, its notes, and the report.

        Raises:
            DataError: If there is no such folder, or no file in it that can be read.
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
            raise self._nothing(reasons)

    def _nothing(self, reasons: Counter[str]) -> DataError:
        if not reasons:
            return DataError(
                f"a corpus has files ending in {', '.join(SUFFIXES)}",
                got="none",
                where=str(self.path),
                hint="name the folder that your MIDI files are in",
            )
        (rule, often), *_ = reasons.most_common(1)
        return DataError(
            "a corpus has a MIDI file that can be read",
            got=f"none of {reasons.total()}; the most frequent reason, {often} times: {rule}",
            where=str(self.path),
            hint="try `notelstm inspect` on one of them, or another policy",
        )


def midi_files(root: Path) -> list[Path]:
    """The MIDI files of a folder and the folders in it, by their names, links followed once.

    Args:
        root: A folder, or a single file, whatever its name.

    Raises:
        DataError: If there is nothing of that name.
    """
    return [Path(path) for path in scan_folder(root).paths]
