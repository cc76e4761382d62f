"""Baselines: uniform, unigram, repeat-last and n-grams, scored on the same notes as a model.

A baseline predicts each field of a note (pitch, step, duration, velocity) from the same field of
the notes before. The values are cells of the grid on which models are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError
from notelstm.evaluation.grid import FIRST, GRIDS, UNIFORM_MIXIN, octave_bins, places_of, quantize
from notelstm.evaluation.scores import PieceScore, Scores, all_scored, long_enough
from notelstm.fields import Role
from notelstm.notes import Notes

__all__ = [
    "NOVELTY",
    "Baseline",
    "NGrams",
    "Places",
    "RepeatLast",
    "Table",
    "Uniform",
    "Unigram",
    "fit_ngrams",
    "fit_unigram",
    "score_baseline",
]

Places: TypeAlias = Mapping[Role, NDArray[np.int64]]
"""By role, (N,) the cell of each note of a piece, as its index in the support."""

NOVELTY: Final = 8.0
"""The weight of unseen cells, in notes, for each distinct cell that was seen."""


class Baseline(Protocol):
    """A prediction of each note of a piece from the notes before."""

    def probabilities(self, places: Places) -> Mapping[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell, which may be 0."""
        ...


def score_baseline(
    baseline: Baseline, pieces: Sequence[Notes], *, names: Sequence[str] | None = None
) -> Scores:
    """Score a baseline as :func:`~notelstm.evaluation.nats_per_note` scores a model.

    Raises:
        DataError: If no piece has more than 25 notes, or there are not as many names as pieces.
    """
    scored = []
    for name, piece in long_enough(pieces, names):
        notes = quantize(piece)
        nats: dict[str, float] = {
            role: float(
                -np.log((1 - UNIFORM_MIXIN) * p[FIRST:] + UNIFORM_MIXIN / GRIDS[role].size).sum()
            )
            for role, p in baseline.probabilities(places_of(notes)).items()
        }
        seconds = float(notes.start[-1] - notes.start[FIRST - 1])
        scored.append(PieceScore(notes=len(notes) - FIRST, nats=nats, name=name, seconds=seconds))
    return all_scored(scored, len(pieces))


@final
@dataclass(frozen=True, kw_only=True)
class Uniform:
    """The uniform distribution over all cells."""

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) one over the number of cells."""
        return {role: np.full(len(at), 1 / GRIDS[role].size) for role, at in places.items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Unigram:
    """The frequency of each cell in the training pieces, whatever the notes before.

    After N notes in D distinct cells, the probability :data:`NOVELTY` D / (NOVELTY D + N) is
    distributed evenly over all cells.

    Attributes:
        counts: By role, (C,) the count of each cell.
        repeats: By role, the number of notes with the cell of the note before.
        pairs: The number of notes that are not the first of their piece.
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
        """By role, (N,) the frequency of each note's cell."""
        return {role: self.distribution(role)[at] for role, at in places.items()}

    def to_json(self) -> dict[str, Any]:
        """The counts, without zeros at the end, as JSON values that a bundle stores."""
        return {
            "counts": {role: np.trim_zeros(c, "b").tolist() for role, c in self.counts.items()},
            "repeats": dict(self.repeats),
            "pairs": self.pairs,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Unigram:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: If the stored values are damaged.
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
    """(C,) the counts, padded with zeros."""
    given = np.array(counts, dtype=np.int64)
    if given.ndim != 1 or np.any(given < 0):
        raise ValueError("its counts are not a list of numbers of at least 0")
    return np.pad(given, (0, size - len(given)))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RepeatLast:
    """The cell of the note before, with the frequency of repeats in training; else a unigram.

    Attributes:
        unigram: The counts of the training pieces.
    """

    unigram: Unigram

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell; the unigram's for the first note."""
        made = self.unigram.probabilities(places)
        for role, at in places.items():
            share = self.unigram.repeats[role] / max(1, self.unigram.pairs)
            made[role][1:] *= 1 - share
            made[role][1:] += share * (at[1:] == at[:-1])
        return made


def fit_unigram(pieces: Iterable[Notes]) -> Unigram:
    """Count the cells of training pieces; empty ones add nothing."""
    counts = {role: np.zeros(grid.size, np.int64) for role, grid in GRIDS.items()}
    repeats = dict.fromkeys(GRIDS, 0)
    pairs = 0
    for piece in pieces:
        for role, at in places_of(quantize(piece)).items():
            counts[role] += np.bincount(at, minlength=GRIDS[role].size)
            repeats[role] += int((at[1:] == at[:-1]).sum())
        pairs += max(0, len(piece) - 1)
    return Unigram(counts=counts, repeats=repeats, pairs=pairs)


_HIGHEST: Final = 6

_CLASSES: Final = {
    role: octave_bins(np.arange(grid.size), 10, 4)
    if role in ("step", "duration")
    else np.arange(grid.size)
    for role, grid in GRIDS.items()
}
"""By role, (C,) the class of each cell in a context."""

_KINDS: Final = {role: int(classes.max()) + 1 for role, classes in _CLASSES.items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The counts of each cell after each context of one length.

    Attributes:
        codes: (G,) the n-grams that were seen, ascending: context times number of cells plus cell.
        ends: (G + 1,) the cumulative counts of the n-grams before each.
        cells: C, the number of cells.
    """

    codes: NDArray[np.int64]
    ends: NDArray[np.int64]
    cells: int

    @classmethod
    def of(cls, contexts: NDArray[np.int64], places: NDArray[np.int64], cells: int) -> Table:
        """Count (N,) contexts and the cells after them, given as indices."""
        codes, counts = np.unique(contexts * cells + places, return_counts=True)
        return cls(codes=codes, ends=np.concatenate([[0], np.cumsum(counts)]), cells=cells)

    def mixed(
        self,
        contexts: NDArray[np.int64],
        places: NDArray[np.int64],
        shorter: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(N,) P of cells after contexts, interpolated with P after shorter contexts.

        After a context that was seen N times, with D distinct cells following, P is
        (count + w shorter) / (N + w) with w = NOVELTY D: Witten and Bell's rule if NOVELTY is 1.
        """
        begin = np.searchsorted(self.codes, contexts * self.cells)
        end = np.searchsorted(self.codes, (contexts + 1) * self.cells)
        # Equal if the n-gram was not seen.
        code = contexts * self.cells + places
        before, after = (np.searchsorted(self.codes, code, side=s) for s in ("left", "right"))
        count = self.ends[after] - self.ends[before]
        seen = self.ends[end] - self.ends[begin]
        weight = NOVELTY * (end - begin)
        return np.asarray(
            np.where(seen > 0, (count + weight * shorter) / np.maximum(1, seen + weight), shorter)
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NGrams:
    """Predictions from the n - 1 notes before, with back-off to fewer if they were not seen.

    Contexts have pitches and velocities as they are, and times as classes: cells up to 0.1 s, then
    four classes to the octave. The prediction is always the exact cell.

    Attributes:
        unigram: The last back-off.
        tables: By role, the tables of contexts of 1, 2 ... n - 1 notes.

    Source:
        Witten and Bell: The zero-frequency problem, IEEE Transactions on Information Theory 37(4),
        1991; interpolated as in Chen and Goodman, 1999, with more weight on unseen cells.
    """

    unigram: Unigram
    tables: Mapping[Role, tuple[Table, ...]]

    @property
    def order(self) -> int:
        """n, the number of notes of an n-gram."""
        return 1 + min(len(tables) for tables in self.tables.values())

    def up_to(self, order: int) -> NGrams:
        """The same baseline with shorter contexts: `order` 2 is a bigram.

        Raises:
            ConfigError: If the order is not 1 to n.
        """
        if not 1 <= order <= self.order:
            raise ConfigError(f"the order {order} is not 1 to {self.order}")
        return replace(self, tables={role: t[: order - 1] for role, t in self.tables.items()})

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell; the first have shorter contexts."""
        made = self.unigram.probabilities(places)
        for role, at in places.items():
            for depth, table in enumerate(self.tables[role], start=1):
                contexts = _contexts(role, at, depth)
                made[role][depth:] = table.mixed(contexts, at[depth:], made[role][depth:])
        return made


def _contexts(role: Role, places: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """(N - depth,) the classes of the `depth` notes before each note, as one number."""
    classes, kinds = _CLASSES[role][places], _KINDS[role]
    code = np.zeros(max(0, len(places) - depth), np.int64)
    for back in range(depth, 0, -1):
        code = code * kinds + classes[depth - back : max(0, len(places) - back)]
    return code


def fit_ngrams(pieces: Iterable[Notes], *, order: int = 4) -> NGrams:
    """Count the n-grams of training pieces; several million notes take seconds.

    Args:
        pieces: Training pieces.
        order: n, 1 to 6; shorter n-grams are counted as well.

    Raises:
        ConfigError: If the order is out of range.
        DataError: If there is no note.
    """
    if not 1 <= order <= _HIGHEST:
        raise ConfigError(f"the order {order} is not 1 to {_HIGHEST}")
    kept = [piece for piece in pieces if len(piece)]
    if not kept:
        raise DataError(
            "there are no notes to count n-grams in", hint="give pieces that have notes"
        )
    index = np.concatenate([np.arange(len(piece)) for piece in kept])
    # Millions of notes fit into memory as 16-bit numbers.
    places = [
        {role: at.astype(np.int16) for role, at in places_of(quantize(piece)).items()}
        for piece in kept
    ]
    tables: dict[Role, tuple[Table, ...]] = {}
    for role in GRIDS:
        at = np.concatenate([one[role] for one in places]).astype(np.int64)
        tables[role] = tuple(
            Table.of(
                _contexts(role, at, depth)[index[depth:] >= depth],
                at[depth:][index[depth:] >= depth],
                GRIDS[role].size,
            )
            for depth in range(1, order)
        )
    return NGrams(unigram=fit_unigram(kept), tables=tables)
