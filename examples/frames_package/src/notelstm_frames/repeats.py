"""The frame that followed the earlier passage which is most like the latest frames."""

from __future__ import annotations

import copy
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "Repeats"]

LEVELS: Final = 16
"""The greatest level of likeness, that of a long exact repeat."""

_DECAY: Final = 0.8
"""The factor by which a frame counts less than the next one."""

_MISMATCH: Final = 0.3
"""The likeness of frames without a common pitch, below 0; that of equal frames is 1."""

_LEAST: Final = 4
"""Passages of this level or less are not copied; the level of one equal frame is 3."""


@final
class Repeats:
    """Compares the latest frames of a piece with each earlier passage.

    The share s of the pitches of two frames that they have in common is 1 for equal frames, also
    silent ones. A passage that ends at frame j is as like the latest frames, up to frame i, as ::

        L[j] = max(0, 0.8 * L[j - 1] + 1.3 * s(j, i) - 0.3)

    with the L[j - 1] of frame i - 1. Where a repeat differs in some pitches or in a frame, it is
    thus still found. A frame takes time in proportion to the number of frames before it.

    Args:
        pitches: P, the number of pitches.
    """

    def __init__(self, pitches: int) -> None:
        self._pitches: Final = pitches
        self._frames: list[NDArray[np.float32]] = []
        self._rolls = np.zeros((64, pitches), dtype=np.float32)
        self._sizes = np.zeros(64, dtype=np.float32)
        self._likeness = np.zeros(0)

    def push(self, frame: NDArray[np.float32]) -> None:
        """Add the next frame, (K,) pitches, and P for none."""
        count = len(self._frames)
        if count == len(self._rolls):
            self._rolls = np.concatenate([self._rolls, np.zeros_like(self._rolls)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
        pitches = frame[frame < self._pitches].astype(np.int64)
        common = self._rolls[:count, pitches].sum(axis=1)
        either = self._sizes[:count] + len(pitches) - common
        share = np.where(either > 0, common / np.maximum(either, 1), 1.0)
        before = np.append(0.0, self._likeness)[:count]
        alike = (1 + _MISMATCH) * share - _MISMATCH
        self._likeness = np.maximum(_DECAY * before + alike, 0)
        self._rolls[count, pitches] = 1
        self._sizes[count] = len(pitches)
        self._frames.append(frame)

    def next(self) -> tuple[NDArray[np.float32] | None, int]:
        """The frame after the passage that is most alike, the latest of several.

        Returns:
            The frame (K,), None without a passage that is like enough; and the level of the
            likeness, at most LEVELS, 0 without a frame.
        """
        levels = self._likeness * (1 - _DECAY) * LEVELS
        if not levels.size or levels.max() <= _LEAST:
            return None, 0
        at = len(levels) - 1 - int(levels[::-1].argmax())
        return self._frames[at + 1], round(levels[at])

    def copy(self) -> Repeats:
        """An independent copy."""
        other = copy.copy(self)
        other._frames = [*self._frames]
        other._rolls, other._sizes = self._rolls.copy(), self._sizes.copy()
        return other
