"""Histograms of six features of a piece, on the grid on which models are scored.

A histogram sums to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError, counted
from notelstm.evaluation.grid import GRIDS, cells_of, octave_bins, quantize
from notelstm.notes import PITCH_CLASSES, Notes

__all__ = ["FEATURES", "bin_names", "excerpts", "histograms", "sounding_at_onsets", "usual_length"]

FEATURES: Final = ("pitch class", "interval", "step", "duration", "polyphony", "velocity")
"""The names of the features, in the order in which they are shown."""

_WIDEST: Final = 24
_MOST: Final = 16


def histograms(piece: Notes) -> dict[str, NDArray[np.float64]]:
    """The features of a piece of at least two notes.

    Args:
        piece: N notes.

    Returns:
        By name: ``pitch class`` (12,); ``interval`` (49,) from note to note, two octaves down to
        two up, with wider ones in the end bins; ``step`` and ``duration`` in cells up to 40 ms,
        then two bins to the octave; ``polyphony`` (16,) the number of notes that sound at each
        onset, 16 or more in the last bin; ``velocity`` (32,) classes of four.

    Raises:
        DataError: If there are fewer than two notes.
    """
    if len(piece) < 2:
        raise DataError(
            f"a piece has {counted(len(piece), 'note')}, fewer than the 2 that features need",
            hint="leave it out",
        )
    notes = quantize(piece)
    cells = cells_of(notes)
    jumps = np.diff(notes.pitch).clip(-_WIDEST, _WIDEST) + _WIDEST
    sounding = sounding_at_onsets(notes).clip(1, _MOST) - 1
    return {
        "pitch class": _shares(notes.pitch % 12, 12),
        "interval": _shares(jumps, 2 * _WIDEST + 1),
        "step": _shares(_bins(cells["step"][1:]), _BINS),
        "duration": _shares(_bins(cells["duration"]), _BINS),
        "polyphony": _shares(sounding, _MOST),
        "velocity": _shares(cells["velocity"], GRIDS["velocity"].size),
    }


def bin_names(feature: str) -> tuple[str, ...]:
    """The labels of a histogram's bins; for times, the lower bounds.

    Args:
        feature: One of :data:`FEATURES`.

    Example:
        >>> bin_names("step")[:6]
        ('0 ms', '10 ms', '20 ms', '30 ms', '40 ms', '60 ms')
    """
    if feature == "pitch class":
        return PITCH_CLASSES
    if feature == "interval":
        return tuple(f"{n:+d}" if n else "0" for n in range(-_WIDEST, _WIDEST + 1))
    if feature == "polyphony":
        return (*map(str, range(1, _MOST)), f"{_MOST}+")
    if feature == "velocity":
        return tuple(str(max(1, 4 * n)) for n in range(GRIDS["velocity"].size))
    cells = np.arange(GRIDS["step"].last + 1)
    first = np.searchsorted(_bins(cells), np.arange(_BINS))
    return tuple(f"{10 * n} ms" if n < 100 else f"{n / 100:.3g} s" for n in cells[first].tolist())


def sounding_at_onsets(notes: Notes) -> NDArray[np.int64]:
    """(N,) the number of notes that sound at each onset, those that begin there included."""
    begun = np.searchsorted(notes.start, notes.start, side="right")
    # Cells are floats: a note that ends within a microsecond of an onset has ended.
    ended = np.searchsorted(np.sort(notes.end), notes.start + 1e-6, side="right")
    return np.asarray(np.maximum(begun - ended, 1))


def _bins(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of each time in cells: single cells up to 40 ms, then two bins to the octave."""
    return octave_bins(cells.clip(0, GRIDS["step"].last), 4, 2)


_BINS: Final = int(_bins(np.array([GRIDS["step"].last]))[0]) + 1


def _shares(places: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    counts = np.bincount(places, minlength=size)
    return np.asarray(counts / counts.sum())


def usual_length(pieces: Sequence[Notes]) -> int:
    """The median number of notes.

    Raises:
        DataError: If there are no pieces, or most have fewer than two notes.
    """
    usual = int(np.median([len(piece) for piece in pieces])) if len(pieces) else 0
    if usual < 2:
        raise DataError(
            f"fewer than 2 notes in most of {counted(len(pieces), 'piece')}",
            hint="generate more notes, or check the files",
        )
    return usual


def excerpts(pieces: Sequence[Notes], notes: int) -> list[Notes]:
    """Pieces cut into consecutive excerpts of a number of notes, with unchanged times.

    A shorter piece is kept whole; a remainder at the end of a piece is left out.
    """
    cut: list[Notes] = []
    for piece in pieces:
        whole = max(1, len(piece) // notes)
        cut += [piece[k * notes : (k + 1) * notes] for k in range(whole)]
    return cut
