"""What became of each file of a corpus."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from notelstm.data.corpus.columns import REFUSED, Columns, text_of
from notelstm.midi import ReadReport, Repair

__all__ = ["CorpusReport", "FileReport"]

MAX_REPAIRS: Final = 20
"""How many repairs of a file are kept one by one; all of them are counted."""


def _told(repair: Repair) -> str:
    """A repair on a line: what it was, and where."""
    where = f" ({repair.place})" if repair.place else ""
    return f"{repair.rule}: {repair.message}{where}"


@final
@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What became of one file.

    Attributes:
        name: What it is called in the corpus.
        error: Why it could not be read, "" if it could.
        rule: The rule that it broke, the same for all files with this fault; "" if it was read.
        reader: The reader that gave the notes.
        tracks: How many tracks with notes it has.
        notes: How many notes were read.
        seconds: The last release, seconds from the start of the piece.
        left_out: Notes that the policy left out, by the setting that did it.
        repairs: What was broken and what was made of it, the first 20 of it.
        repairs_total: How much was broken.
        saved: Notes that come from a damaged chunk or file.
        lost: Notes known to be lost to damage.
        warnings: What is odd but not broken.
    """

    name: str
    error: str = ""
    rule: str = ""
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
        """What is kept of the report on a file that was read."""
        return cls(
            name=name,
            reader=report.reader,
            tracks=len(report.tracks),
            notes=report.notes,
            seconds=float(report.seconds),
            left_out=dict(report.left_out),
            repairs=tuple(map(_told, report.repairs[:MAX_REPAIRS])),
            repairs_total=report.repairs_total,
            saved=report.saved,
            lost=report.lost,
            warnings=report.warnings[:MAX_REPAIRS],
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; what says nothing is left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value or name == "name"}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> FileReport:
        """The inverse of :meth:`to_json`."""
        lists = {k: tuple(saved[k]) for k in ("repairs", "warnings") if k in saved}
        return cls(**{**saved, **lists})


@final
class CorpusReport:
    """What became of the files of a corpus, one :class:`FileReport` for each, read when asked for.

    Args:
        columns: The corpus' columns.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __len__(self) -> int:
        """How many files there are, read or not."""
        return len(self._columns["status"])

    def __getitem__(self, file: int) -> FileReport:
        """What became of a file.

        Raises:
            IndexError: If there is no such file.
        """
        if not -len(self) <= file < len(self):
            raise IndexError(f"file {file} of {len(self)}")
        return FileReport.from_json(json.loads(text_of(self._columns, "report", file % len(self))))

    def __iter__(self) -> Iterator[FileReport]:
        """The files, by name."""
        return (self[file] for file in range(len(self)))

    @property
    def refused_total(self) -> int:
        """How many files could not be read."""
        return int(np.count_nonzero(self._columns["status"] == REFUSED))

    def refused(self) -> Iterator[FileReport]:
        """The files that could not be read."""
        places = np.flatnonzero(self._columns["status"] == REFUSED)
        return (self[int(place)] for place in places)

    def repaired(self) -> Iterator[FileReport]:
        """The files that had to be repaired."""
        return (file for file in self if file.repairs_total)

    def reasons(self) -> Counter[str]:
        """How many files broke each rule."""
        return Counter(file.rule for file in self.refused())
