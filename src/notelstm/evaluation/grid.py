"""The grid on which all models are scored: the cells, and the cell of each note.

Times are in cells of 10 ms, velocities in classes of four. The support of a step is 0 to 30 s, of a
duration 10 ms to 30 s; the cells at the ends take the tails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.fields import Role
from notelstm.notes import Notes
from notelstm.parts import PartMap

__all__ = [
    "CELL",
    "FIRST",
    "GRIDS",
    "UNIFORM_MIXIN",
    "Grid",
    "cells_of",
    "octave_bins",
    "places_of",
    "quantize",
]

CELL: Final = 0.01
"""Width of a cell of time, seconds."""

FIRST: Final = 25
"""The first note of a piece that is scored, so that every model has the same context."""

UNIFORM_MIXIN: Final = 1e-9
"""The share of the uniform distribution in every probability, so that no score is infinite."""

_LONGEST: Final = 3000


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells of one role: cell k spans ``[(k - shift) width, (k + 1 - shift) width)``.

    Attributes:
        first: The first cell, with everything below it.
        last: The last cell, with everything above it.
        width: Width of a cell, in the field's unit.
        shift: 0.5 if cell k is centred on k widths, 0 if it begins there.
    """

    first: int
    last: int
    width: float
    shift: float

    @property
    def size(self) -> int:
        """The number of cells."""
        return self.last - self.first + 1

    def places(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) the index of each cell in the support, 0 to `size` - 1."""
        return np.asarray(cells.clip(self.first, self.last) - self.first)

    def bounds(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) the bounds of each cell, infinite at the ends of the support."""
        clipped = cells.clip(self.first, self.last)
        low = (clipped - self.shift) * self.width
        high = (clipped + 1 - self.shift) * self.width
        low = np.where(clipped == self.first, -np.inf, low)
        return low, np.where(clipped == self.last, np.inf, high)


GRIDS: Final[dict[Role, Grid]] = {
    "pitch": Grid(first=0, last=127, width=1.0, shift=0.5),
    "step": Grid(first=0, last=_LONGEST, width=CELL, shift=0.5),
    "duration": Grid(first=1, last=_LONGEST, width=CELL, shift=0.5),
    "velocity": Grid(first=0, last=31, width=4.0, shift=0.0),
}
"""The grid of each role that is scored."""


def cells_of(notes: Notes) -> dict[Role, NDArray[np.int64]]:
    """By role, (N,) the cell of each note of a sorted piece; the first step is 0.

    Onsets, not steps, are rounded, so errors do not add up.
    """
    onset = np.rint(notes.start / CELL).astype(np.int64)
    return {
        "pitch": notes.pitch,
        "step": np.diff(onset, prepend=onset[:1]),
        "duration": np.maximum(1, np.rint(notes.duration / CELL)).astype(np.int64),
        "velocity": notes.velocity // 4,
    }


def places_of(notes: Notes, parts: PartMap | None = None) -> dict[Role, NDArray[np.int64]]:
    """By role, (N,) the index in the support of each note's cell, for a sorted piece.

    Args:
        notes: N notes.
        parts: Their instruments; the index of one is its class.

    Raises:
        EncodingError: If the part map refuses a note.
    """
    cells = cells_of(notes)
    places = {role: grid.places(cells[role]) for role, grid in GRIDS.items()}
    return places if parts is None else {**places, "instrument": parts.classes_of(notes)}


def octave_bins(cells: NDArray[np.int64], fine: int, per_octave: int) -> NDArray[np.int64]:
    """The bin of each time in cells: `fine` single cells first, then some bins to the octave."""
    octaves = np.log2(np.maximum(cells, fine) / fine)
    return np.where(cells < fine, cells, fine + np.floor(per_octave * octaves).astype(np.int64))


def quantize(notes: Notes) -> Notes:
    """The piece with onsets and durations on the grid, sorted by onset and pitch.

    The tempo map and the instruments are kept.
    """
    onset = np.rint(notes.start / CELL).astype(np.int64)
    duration = np.maximum(1, np.rint(notes.duration / CELL)).astype(np.int64)
    start = np.multiply(onset, CELL, dtype=np.float64)
    end = np.multiply(onset + duration, CELL, dtype=np.float64)
    return replace(notes, start=start, end=end).by_pitch()
