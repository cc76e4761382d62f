"""The grid on which all models are compared: what a cell is, and where each note falls.

Times are in cells of 10 ms, velocities in classes of four. Support of a step: 0 to 30 s; of a
duration: 10 ms to 30 s. The cells at the ends take the tails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.fields import Role
from notelstm.notes import Notes

__all__ = ["CELL", "FIRST", "UNIFORM_MIXIN", "GRIDS", "Cells", "Grid", "cells_of", "places_of", "quantize"]

CELL: Final = 0.01
"""Seconds in a cell of time."""

FIRST: Final = 25
"""The first note of a piece that is scored, so that every model has as much context."""

UNIFORM_MIXIN: Final = 1e-9
"""The share of the uniform distribution in every probability, so that no score is infinite."""

_LONGEST: Final = 3000


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells of one role: cell k spans ``[(k - shift) width, (k + 1 - shift) width)``.

    Attributes:
        first: The first cell; it takes all below.
        last: The last cell; it takes all above.
        width: Of a cell, in the field's unit.
        shift: 0.5 where cell k is centred on k widths, 0 where it begins there.
    """

    first: int
    last: int
    width: float
    shift: float

    @property
    def size(self) -> int:
        """How many cells there are."""
        return self.last - self.first + 1

    def places(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) each cell's place in the support, 0 to `size` - 1."""
        return np.asarray(cells.clip(self.first, self.last) - self.first)

    def bounds(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) where each cell begins and ends, infinite at the ends of the support."""
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
"""The grid of each role that is measured."""


class Cells(NamedTuple):
    """Where each note of a piece falls, (N,) each.

    Attributes:
        pitch: MIDI note number.
        step: Difference of consecutive onset cells; the first is 0.
        duration: At least 1.
        velocity: Velocity // 4.
    """

    pitch: NDArray[np.int64]
    step: NDArray[np.int64]
    duration: NDArray[np.int64]
    velocity: NDArray[np.int64]


def cells_of(notes: Notes) -> Cells:
    """The cells of a piece whose notes are in order; whole onsets are rounded, so steps add up."""
    onset = np.rint(notes.start / CELL).astype(np.int64)
    return Cells(
        pitch=notes.pitch,
        step=np.diff(onset, prepend=onset[:1]),
        duration=np.maximum(1, np.rint(notes.duration / CELL)).astype(np.int64),
        velocity=notes.velocity // 4,
    )


def places_of(notes: Notes) -> dict[Role, NDArray[np.int64]]:
    """By role, (N,) the places in the support of the cells of a piece whose notes are in order."""
    cells = cells_of(notes)
    return {role: grid.places(getattr(cells, role)) for role, grid in GRIDS.items()}


def quantize(notes: Notes) -> Notes:
    """The piece as it is measured: onsets and durations on the grid, by onset and pitch.

    The beat map and the instruments stay.
    """
    onset = np.rint(notes.start / CELL).astype(np.int64)
    duration = np.maximum(1, np.rint(notes.duration / CELL)).astype(np.int64)
    start = np.multiply(onset, CELL, dtype=np.float64)
    end = np.multiply(onset + duration, CELL, dtype=np.float64)
    return replace(notes, start=start, end=end).by_pitch()
