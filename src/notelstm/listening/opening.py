"""The opening of unconditional pieces, which may be silent at first."""

from __future__ import annotations

from typing import Final

import numpy as np

from notelstm.errors import ConfigError
from notelstm.notes import Notes

__all__ = ["trim_opening"]

_LARGEST_SHARE: Final = 0.25
"""The largest share of its notes that a piece may lose; a piece that would lose more is sparse."""


def trim_opening(notes: Notes, *, max_wait: float = 2.0, stray_notes: int = 8) -> Notes:
    """Remove the silence before the music from a piece, and stray notes in that silence.

    A model that generates without a prompt may begin with a long rest, or with a note or two and
    then a rest. If no note starts for more than `max_wait` seconds after one of the first
    `stray_notes` notes, the notes before that rest are removed, and the opening that remains is
    treated in the same way. The piece then starts at 0 s. A piece that would lose more than a
    quarter of its notes loses none, only the silence before the first.

    Args:
        notes: The piece.
        max_wait: The longest time between two onsets in an opening, seconds, above 0.
        stray_notes: The number of notes in an opening, at least 1.

    Returns:
        The last notes of the piece, shifted to start at 0 s.

    Raises:
        ConfigError: If `max_wait` or `stray_notes` is out of range.

    Example:
        >>> piece = Notes(start=[3, 14, 14.5, 15, 15.5], end=[4, 15, 15, 16, 17], pitch=60)
        >>> trim_opening(piece).start.tolist()
        [0.0, 0.5, 1.0, 1.5]
    """
    if not max_wait > 0:
        raise ConfigError(f"max_wait {max_wait} is out of range", hint="use seconds above 0")
    if stray_notes < 1:
        raise ConfigError(f"stray_notes {stray_notes} is out of range", hint="use 1 or more")
    if not len(notes):
        return notes
    first = 0
    rests = np.flatnonzero(np.diff(notes.start) > max_wait) + 1  # the notes after a rest
    for after in rests.tolist():
        if after - first <= stray_notes:
            first = after
    if first > _LARGEST_SHARE * len(notes):
        first = 0
    return notes[first:].shifted(-float(notes.start[first]))
