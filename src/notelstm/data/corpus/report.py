"""The outcome of reading each file of a corpus."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from notelstm.data.piece_file import PieceFile
from notelstm.midi import ReadReport

__all__ = ["CorpusReport", "FileReport"]

MAX_REPAIRS: Final = 20
"""The repairs of a file that are listed; all are counted."""


@final
@dataclass(frozen=True, kw_only=True)
class FileReport:
    """The outcome of reading one file, otherwise as in :class:`~notelstm.midi.ReadReport`.

    Attributes:
        name: Its name in the corpus.
        error: Why it could not be read, "" if it was read.
        problem: The same without details of the file, "" if it was read.
        tracks: The number of tracks with notes.
        repairs: The first 20 repairs.
        warnings: The first 20 warnings.
    """

    name: str
    error: str = ""
    problem: str = ""
    reader: str = ""
    tracks: int = 0
    notes: int = 0
    seconds: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    repairs_total: int = 0
    saved: int = 0
    lost: int = 0
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_read(cls, name: str, report: ReadReport) -> FileReport:
        """The summary of a reader's report."""
        return cls(
            name=name,
            reader=report.reader,
            tracks=len(report.tracks),
            notes=report.notes,
            seconds=float(report.seconds),
            left_out=dict(report.left_out),
            repairs=tuple(f"{fault.rule}: {fault}" for fault in report.repairs[:MAX_REPAIRS]),
            repairs_total=report.repairs_total,
            saved=report.saved,
            lost=report.lost,
            warnings=report.warnings[:MAX_REPAIRS],
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, without those that are empty."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value or name == "name"}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> FileReport:
        """The inverse of :meth:`to_json`."""
        lists = {k: tuple(saved[k]) for k in ("repairs", "warnings") if k in saved}
        return cls(**{**saved, **lists})


@final
class CorpusReport:
    """The outcome of reading each file of a corpus, one :class:`FileReport` each."""

    def __init__(self, pieces: PieceFile) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        """The number of files, read or rejected."""
        return len(self._pieces.table)

    def __getitem__(self, file: int) -> FileReport:
        """The outcome of a file.

        Raises:
            IndexError: If there is no such file.
        """
        if not -len(self) <= file < len(self):
            raise IndexError(f"file {file} of {len(self)}")
        return FileReport.from_json(json.loads(self._pieces.report(file % len(self))))

    def __iter__(self) -> Iterator[FileReport]:
        """The files, by name."""
        return (self[file] for file in range(len(self)))

    @property
    def rejected_total(self) -> int:
        """The number of files that could not be read."""
        return int(np.count_nonzero(self._pieces.table["read"] == 0))

    def rejected(self) -> Iterator[FileReport]:
        """The files that could not be read."""
        return (self[int(k)] for k in np.flatnonzero(self._pieces.table["read"] == 0))

    def repaired(self) -> Iterator[FileReport]:
        """The files that had to be repaired."""
        return (file for file in self if file.repairs_total)

    def reasons(self) -> Counter[str]:
        """The number of rejected files for each problem."""
        return Counter(file.problem for file in self.rejected())
