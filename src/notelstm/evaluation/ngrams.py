"""``NGrams``: what follows the same few notes in the training pieces, with back-off.

Each field is predicted from the same field of the n - 1 notes before: pitch and velocity as they
are, times as classes that are cells up to 0.1 s and then four to the octave, so that contexts come
again. What is predicted is always the exact cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError
from notelstm.evaluation.baselines import NOVELTY, Places, Unigram, fit_unigram
from notelstm.evaluation.grid import GRIDS, places_of, quantize
from notelstm.fields import Role
from notelstm.notes import Notes

__all__ = ["NGrams", "Table", "fit_ngrams"]

_FINE: Final = 10
_OCTAVE: Final = 4
_HIGHEST: Final = 6


def _classes(role: Role) -> NDArray[np.int64]:
    """(C,) what a context knows of each place of a role."""
    place = np.arange(GRIDS[role].size)
    if role in ("pitch", "velocity"):
        return place
    octaves = np.log2(np.maximum(place, _FINE) / _FINE)
    return np.where(place < _FINE, place, _FINE + np.floor(_OCTAVE * octaves).astype(np.int64))


_CLASSES: Final = {role: _classes(role) for role in GRIDS}
_KINDS: Final = {role: int(classes.max()) + 1 for role, classes in _CLASSES.items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """How often each cell came after each context of a certain length.

    Attributes:
        codes: (G,) the n-grams that were seen, ascending: context times number of cells plus cell.
        ends: (G + 1,) how often those before each were seen, all together.
        cells: C, the number of cells.
    """

    codes: NDArray[np.int64]
    ends: NDArray[np.int64]
    cells: int

    @classmethod
    def of(cls, contexts: NDArray[np.int64], places: NDArray[np.int64], cells: int) -> Table:
        """Count (N,) contexts, each with what came after it, a place among so many cells."""
        codes, counts = np.unique(contexts * cells + places, return_counts=True)
        return cls(codes=codes, ends=np.concatenate([[0], np.cumsum(counts)]), cells=cells)

    def mixed(
        self,
        contexts: NDArray[np.int64],
        places: NDArray[np.int64],
        shorter: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(N,) P of places after contexts, mixed with what shorter contexts say of them.

        After a context that was seen N times, with D distinct cells following, P is
        (count + w shorter) / (N + w) with w = NOVELTY D: Witten and Bell's rule where NOVELTY is 1.
        """
        begin = np.searchsorted(self.codes, contexts * self.cells)
        end = np.searchsorted(self.codes, (contexts + 1) * self.cells)
        # The place after the n-gram, if it is there.
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
    """A baseline that knows the n - 1 notes before, and backs off where it never saw them.

    Attributes:
        unigram: What it falls back to in the end.
        tables: By role, those of contexts of 1, 2 ... n - 1 notes.

    Source:
        Witten and Bell: The zero-frequency problem, IEEE Transactions on Information Theory 37(4),
        1991; interpolated as in Chen and Goodman, 1999, with more weight on what is new.
    """

    unigram: Unigram
    tables: Mapping[Role, tuple[Table, ...]]

    @property
    def order(self) -> int:
        """n: of how many notes an n-gram is."""
        return 1 + min(len(tables) for tables in self.tables.values())

    def up_to(self, order: int) -> NGrams:
        """The same with shorter contexts: `order` 2 is a bigram.

        Raises:
            ConfigError: If it has no such order.
        """
        if not 1 <= order <= self.order:
            raise ConfigError(f"the order {order} is not 1 to {self.order}")
        return replace(self, tables={role: t[: order - 1] for role, t in self.tables.items()})

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell; the first notes know fewer before."""
        made = self.unigram.probabilities(places)
        for role, at in places.items():
            for depth, table in enumerate(self.tables[role], start=1):
                contexts = _contexts(role, at, depth)
                made[role][depth:] = table.mixed(contexts, at[depth:], made[role][depth:])
        return made


def _contexts(role: Role, places: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """(N - depth,) the `depth` notes before each note but the first, as one number."""
    classes, kinds = _CLASSES[role][places], _KINDS[role]
    code = np.zeros(max(0, len(places) - depth), np.int64)
    for back in range(depth, 0, -1):
        code = code * kinds + classes[depth - back : max(0, len(places) - back)]
    return code


def fit_ngrams(pieces: Iterable[Notes], *, order: int = 4) -> NGrams:
    """Count the n-grams of training pieces; those of several million notes take seconds.

    Args:
        pieces: Training pieces.
        order: n, 1 to 6; shorter n-grams are counted too.

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
    columns = _gathered(kept)
    index = np.concatenate([np.arange(len(piece)) for piece in kept])
    tables: dict[Role, tuple[Table, ...]] = {}
    for role, column in columns.items():
        at = column.astype(np.int64)
        tables[role] = tuple(
            Table.of(
                _contexts(role, at, depth)[index[depth:] >= depth],
                at[depth:][index[depth:] >= depth],
                GRIDS[role].size,
            )
            for depth in range(1, order)
        )
    return NGrams(unigram=fit_unigram(kept), tables=tables)


def _gathered(pieces: Iterable[Notes]) -> dict[Role, NDArray[np.int16]]:
    """By role, the places of all notes, one piece after the other."""
    parts: dict[Role, list[NDArray[np.int16]]] = {role: [] for role in GRIDS}
    for piece in pieces:
        for role, at in places_of(quantize(piece)).items():
            parts[role].append(at.astype(np.int16))
    return {role: np.concatenate(columns) for role, columns in parts.items()}
