"""Passages: when two of them are the same, in any key and tempo.

Two passages are the same if their intervals from note to note are equal, and one tempo factor
explains all steps. Notes that follow each other within 50 ms are a chord, and chords are read from
the lowest pitch up, so that rounding cannot change the order.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from notelstm.evaluation.grid import CELL, quantize
from notelstm.notes import Notes

__all__ = ["Line", "hashes_of", "line_of", "same_tempo", "tempo_bounds"]

_SLOWEST: Final = 0.4
_FASTEST: Final = 2.5
_CHORD: Final = 5
_OFF: Final = 3
_SLACK: Final = 0.1
_PAIRS: Final = 1 << 16
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)

_Bounds: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


class Line(NamedTuple):
    """A piece prepared for comparison, its notes in the order of chords and pitches.

    Attributes:
        pitch: (N,) MIDI note numbers.
        onset: (N,) the onset of each note's chord, in cells.
    """

    pitch: NDArray[np.int64]
    onset: NDArray[np.int64]

    @property
    def intervals(self) -> NDArray[np.int64]:
        """(N - 1,) from each note to the next, in semitones."""
        return np.diff(self.pitch)

    @property
    def steps(self) -> NDArray[np.float64]:
        """(N - 1,) from each note to the next, in cells."""
        return np.diff(self.onset).astype(np.float64)


def line_of(piece: Notes) -> Line:
    """The notes of a piece in the order in which they are compared."""
    notes = quantize(piece)
    cells = np.rint(notes.start / CELL).astype(np.int64)
    # The first note begins a chord, whatever its onset.
    begins = np.diff(cells, prepend=-_CHORD - 1) > _CHORD
    chord = np.cumsum(begins) - 1
    order = np.lexsort((notes.pitch, chord))
    return Line(notes.pitch[order], cells[begins][chord])


def hashes_of(values: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """(max(0, N - length + 1),) hashes of all runs of so many of (N,) values of -128 to 127."""
    shifted = (values + 128).astype(np.uint64)
    count = max(0, len(values) - length + 1)
    hashes = np.zeros(count, np.uint64)
    for k in range(length):
        hashes = hashes * _FACTOR + shifted[k : k + count]
        hashes ^= hashes >> np.uint64(29)
    return hashes


def same_tempo(
    mine: NDArray[np.float64],
    at: NDArray[np.int64],
    other: NDArray[np.float64],
    place: NDArray[np.int64],
    length: int,
) -> NDArray[np.bool_]:
    """(P,) whether one tempo factor explains the steps of each pair of runs.

    Args:
        mine: Steps, in cells.
        at: (P,) the first step of each run in them.
        other: Steps to compare with.
        place: (P,) the first step of each run in those.
        length: The number of steps of a run.
    """
    left, right = (sliding_window_view(steps, length) for steps in (mine, other))
    fits = np.zeros(len(at), np.bool_)
    for first in range(0, len(at), _PAIRS):
        some = slice(first, first + _PAIRS)
        low, high = tempo_bounds(left[at[some]], right[place[some]])
        fits[some] = low.max(-1) <= high.min(-1)
    return fits


def tempo_bounds(mine: NDArray[np.float64], other: NDArray[np.float64]) -> _Bounds:
    """The least and the greatest factor that explains each step, given in cells.

    A step of `other` cells, played f times as slow, takes f `other` cells. Either step may be off
    by some cells: onsets are rounded, the first note of a chord may differ, and performances vary.
    """
    low = ((1 - _SLACK) * mine - _OFF) / (other + _OFF)
    with np.errstate(divide="ignore"):
        high = np.where(other > _OFF, ((1 + _SLACK) * mine + _OFF) / (other - _OFF), np.inf)
    return np.maximum(low, _SLOWEST), np.minimum(high, _FASTEST)
