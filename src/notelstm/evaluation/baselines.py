"""What a model has to beat: ``Uniform``, ``Unigram`` and ``RepeatLast``, on the same notes.

A baseline predicts each field of a note by itself: pitch, step, duration and velocity, as cells of
the grid on which models are scored, from the same field of the notes before. Its figures are made
by the same rules as a model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError
from notelstm.evaluation.grid import FIRST, UNIFORM_MIXIN, GRIDS, places_of, quantize
from notelstm.evaluation.scores import PieceScore, Scores, all_scored, long_enough
from notelstm.fields import Role
from notelstm.notes import Notes

__all__ = [
    "NOVELTY",
    "Baseline",
    "Places",
    "RepeatLast",
    "Uniform",
    "Unigram",
    "fit_unigram",
    "score_baseline",
]

Places: TypeAlias = Mapping[Role, NDArray[np.int64]]
"""By role, (N,) the cell of each note of a piece, as its place in the support."""

NOVELTY: Final = 8.0
"""How many notes each distinct cell that was seen speaks for cells that were not."""


class Baseline(Protocol):
    """Predicts each note of a piece from those before it."""

    def probabilities(self, places: Places) -> Mapping[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell, which may be 0.

        Args:
            places: The cells of a piece.
        """
        ...


def score_baseline(
    baseline: Baseline, pieces: Sequence[Notes], *, names: Sequence[str] | None = None
) -> Scores:
    """Score a baseline as :func:`~notelstm.evaluation.nats_per_note` scores a model.

    Args:
        baseline: What predicts.
        pieces: Held-out pieces; those of 25 notes or fewer are passed over.
        names: What the pieces are called; None for their numbers.

    Raises:
        DataError: If no piece has more than 25 notes, or there are not as many names as pieces.
    """
    scored = []
    for name, piece in long_enough(pieces, names):
        notes = quantize(piece)
        nats: dict[str, float] = {
            role: float(-np.log((1 - UNIFORM_MIXIN) * p[FIRST:] + UNIFORM_MIXIN / GRIDS[role].size).sum())
            for role, p in baseline.probabilities(places_of(notes)).items()
        }
        seconds = float(notes.start[-1] - notes.start[FIRST - 1])
        scored.append(PieceScore(notes=len(notes) - FIRST, nats=nats, name=name, seconds=seconds))
    return all_scored(scored, len(pieces))


@final
@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Every cell is as likely as any other."""

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) one over the number of cells."""
        return {role: np.full(len(at), 1 / GRIDS[role].size) for role, at in places.items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Unigram:
    """Each cell is as likely as it was often in the training pieces, whatever comes before.

    What was never seen shares the probability :data:`NOVELTY` D / (NOVELTY D + N) with all cells,
    after N notes in D distinct cells.

    Attributes:
        counts: By role, (C,) how often each cell was there.
        repeats: By role, how often a cell was that of the note before.
        pairs: How many notes had one before them in their piece.
    """

    counts: Mapping[Role, NDArray[np.int64]]
    repeats: Mapping[Role, int] = field(default_factory=dict)
    pairs: int = 0

    def distribution(self, role: Role) -> NDArray[np.float64]:
        """(C,) the probability of each cell of a role; they sum to 1."""
        counts = self.counts[role]
        new = NOVELTY * max(1, int((counts > 0).sum()))
        return np.asarray((counts + new / len(counts)) / (counts.sum() + new))

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell."""
        return {role: self.distribution(role)[at] for role, at in places.items()}

    def to_json(self) -> dict[str, Any]:
        """Counts up to the last that is not 0, as JSON values; a bundle stores them."""
        return {
            "counts": {role: np.trim_zeros(c, "b").tolist() for role, c in self.counts.items()},
            "repeats": dict(self.repeats),
            "pairs": self.pairs,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Unigram:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: If it is something else.
        """
        try:
            counts = {role: _padded(stored["counts"][role], g.size) for role, g in GRIDS.items()}
            repeats = {role: int(stored["repeats"][role]) for role in GRIDS}
            made = cls(counts=counts, repeats=repeats, pairs=int(stored["pairs"]))
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"the stored unigram is damaged: {error}",
                hint="fit it again with fit_unigram(pieces)",
            ) from error
        return made


def _padded(counts: Sequence[int], size: int) -> NDArray[np.int64]:
    """(C,) the counts with zeros behind them."""
    given = np.array(counts, dtype=np.int64)
    if given.ndim != 1 or np.any(given < 0):
        raise ValueError("its counts are not a list of numbers of at least 0")
    return np.pad(given, (0, size - len(given)))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RepeatLast:
    """The cell of the note before once more, as often as it was so in training; else a unigram.

    Attributes:
        unigram: What the training pieces hold.
    """

    unigram: Unigram

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell; of the first it is the unigram's."""
        made = self.unigram.probabilities(places)
        for role, at in places.items():
            share = self.unigram.repeats[role] / max(1, self.unigram.pairs)
            made[role][1:] *= 1 - share
            made[role][1:] += share * (at[1:] == at[:-1])
        return made


def fit_unigram(pieces: Iterable[Notes]) -> Unigram:
    """Count the cells of training pieces.

    Args:
        pieces: Training pieces; empty ones say nothing.
    """
    counts = {role: np.zeros(grid.size, np.int64) for role, grid in GRIDS.items()}
    repeats = dict.fromkeys(GRIDS, 0)
    pairs = 0
    for piece in pieces:
        for role, at in places_of(quantize(piece)).items():
            counts[role] += np.bincount(at, minlength=GRIDS[role].size)
            repeats[role] += int((at[1:] == at[:-1]).sum())
        pairs += max(0, len(piece) - 1)
    return Unigram(counts=counts, repeats=repeats, pairs=pairs)
