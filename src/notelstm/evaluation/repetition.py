"""Repetition: the share of notes that repeat an earlier passage of the same piece.

:mod:`notelstm.evaluation.passages` defines when two passages are the same: they may differ in
tempo, and one of them may be transposed. A note counts if it belongs to a passage of
:data:`SHORTEST` notes that is the same as one that ended before it began. So the first time does
not count, a piece that is played twice counts for a half, and a figure that goes on counts once it
has repeated :data:`SHORTEST` notes.

A changed, missing or added note ends a passage, so that the share of varied repetitions is
underestimated, in samples as in real pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError
from notelstm.evaluation.features import usual_length
from notelstm.evaluation.grid import CELL
from notelstm.evaluation.passages import Line, hashes_of, line_of, same_tempo
from notelstm.notes import Notes

__all__ = [
    "SHARES",
    "SHORTEST",
    "Repetition",
    "RepetitionReport",
    "compare_repetition",
    "repetition_of",
]

SHORTEST: Final = 8
"""The number of notes of the shortest passage that counts.

Passages of 8 notes that are in two different pieces of MAESTRO by chance make up less than 0.1 % of
the notes, those of 6 notes 1 %; in one piece, they make up a fifth.
"""

DISTANT: Final = 20.0
"""Seconds from an earlier passage to its repetition beyond which the repetition is distant."""

_PLACES: Final = 64
"""Places of equal intervals, the earliest ones, whose steps are compared: it bounds the time."""


@final
@dataclass(frozen=True, kw_only=True)
class Repetition:
    """The shares of a piece's notes that repeat an earlier passage of it, 0 to 1.

    Attributes:
        same_key: At the same pitches.
        transposed: At other pitches only.
        distant: At the same pitches, at least 20 seconds later.
    """

    same_key: float
    transposed: float
    distant: float


SHARES: Final = ("same_key", "transposed", "distant")
"""The names of the shares, in the order in which they are shown."""


@final
@dataclass(frozen=True, kw_only=True)
class RepetitionReport:
    """Repetition in generated and real pieces of the same length.

    Attributes:
        samples: Of each generated piece.
        real: Of each real piece.
        notes: The number of notes of each piece that were compared.
    """

    samples: tuple[Repetition, ...]
    real: tuple[Repetition, ...]
    notes: int

    def mean(self, share: str) -> tuple[float, float]:
        """The mean of a share over generated and over real pieces.

        Args:
            share: One of :data:`SHARES`.
        """
        samples, real = (_values(pieces, share).mean() for pieces in (self.samples, self.real))
        return float(samples), float(real)

    def usual(self, share: str) -> tuple[float, float]:
        """The 5th and the 95th percentile of a share over real pieces.

        Args:
            share: One of :data:`SHARES`.
        """
        low, high = np.percentile(_values(self.real, share), [5, 95])
        return float(low), float(high)

    def outside(self, share: str) -> tuple[int, int]:
        """The number of generated pieces with less, and with more, than :meth:`usual`.

        Args:
            share: One of :data:`SHARES`.
        """
        low, high = self.usual(share)
        values = _values(self.samples, share)
        return int((values < low).sum()), int((values > high).sum())

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        shares = {}
        for share in SHARES:
            mean, real = self.mean(share)
            less, more = self.outside(share)
            shares[share] = {
                "mean": mean,
                "real": real,
                "usual": list(self.usual(share)),
                "less": less,
                "more": more,
            }
        return {
            **shares,
            "notes": self.notes,
            "samples": [asdict(made) for made in self.samples],
            "real": [asdict(made) for made in self.real],
        }


def _values(pieces: Sequence[Repetition], share: str) -> NDArray[np.float64]:
    return np.array([getattr(piece, share) for piece in pieces], np.float64)


def compare_repetition(samples: Sequence[Notes], real: Sequence[Notes]) -> RepetitionReport:
    """Measure repetition in generated pieces and in real ones.

    Args:
        samples: Generated pieces; the first notes of each are measured, as many as they have in the
            median.
        real: Real pieces, of which as many of the first notes are measured: the longer a piece,
            the more of it is repetition.

    Raises:
        DataError: If there are no samples or real pieces, or most samples have fewer than two
            notes.
    """
    notes = usual_length(samples)
    if not real:
        raise DataError(
            "there are no real pieces to compare the samples with",
            hint="give some that the model was not trained on",
        )
    return RepetitionReport(
        samples=tuple(repetition_of(piece[:notes]) for piece in samples),
        real=tuple(repetition_of(piece[:notes]) for piece in real),
        notes=notes,
    )


def repetition_of(piece: Notes) -> Repetition:
    """Measure the share of notes that repeat an earlier passage of the piece.

    Args:
        piece: N notes, in any order. It takes O(N log N) steps.

    Example:
        >>> from notelstm.notes import Notes
        >>> theme = Notes(start=[0, 1, 2, 3, 4, 5, 6, 7.5], end=[9] * 8,
        ...               pitch=[60, 62, 64, 60, 67, 65, 62, 59])
        >>> repetition_of(Notes.concatenate([theme, theme])).same_key
        0.5
    """
    if not len(piece):
        return Repetition(same_key=0.0, transposed=0.0, distant=0.0)
    line = line_of(piece)
    pitches = hashes_of(line.pitch, SHORTEST)
    same_key = _repeated(line, pitches)
    in_any_key = _repeated(line, hashes_of(line.intervals, SHORTEST - 1))
    distant = _repeated(line, pitches, apart=round(DISTANT / CELL))
    return Repetition(
        same_key=float(same_key.mean()),
        transposed=float((in_any_key & ~same_key).mean()),
        distant=float(distant.mean()),
    )


def _repeated(line: Line, hashes: NDArray[np.uint64], apart: int = 0) -> NDArray[np.bool_]:
    """(N,) whether each note is part of a repetition, at least `apart` cells after the first time.

    Args:
        line: N notes.
        hashes: One for each passage of :data:`SHORTEST` notes, equal for those that may be
            the same.
        apart: Cells between the beginnings of both passages.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    first = np.searchsorted(ordered, ordered)
    found = np.zeros(len(line.pitch) + 1, np.int64)
    # Passages of one hash are neighbours: compare each with the first of them, the second, ...
    rest = np.arange(len(order))
    for number in range(_PLACES):
        rest = rest[first[rest] + number < rest]
        if not len(rest):
            break
        at, place = order[rest], order[first[rest] + number]
        same = at - place >= SHORTEST
        same &= line.onset[at] - line.onset[place] >= apart
        same[same] = same_tempo(line.steps, at[same], line.steps, place[same], SHORTEST - 1)
        # Each begins a stretch of notes, counted up at its begin and down after its end.
        found[at[same]] += 1
        found[at[same] + SHORTEST] -= 1
        rest = rest[~same]
    return np.asarray(np.cumsum(found)[:-1] > 0)
