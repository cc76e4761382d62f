"""The frame that followed the longest earlier repeat of the latest frames."""

from __future__ import annotations

import copy
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST", "Repeats"]

LONGEST: Final = 16
"""Frames of a repeat at most; longer repeats count as this long."""


@final
class Repeats:
    """Compares the latest frames of a piece with all earlier ones, frame by frame.

    For each earlier frame, the number of frames is kept that are the same up to it and up to the
    latest one. It grows by 1 where the next frame is the same too, and otherwise becomes 0, so that
    a frame takes time in proportion to the number of frames before it.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._frames: list[NDArray[np.float32]] = []
        self._known = np.zeros(64, dtype=np.int32)
        self._same = np.zeros(64, dtype=np.int32)

    def push(self, frame: NDArray[np.float32]) -> None:
        """Add the next frame, (K,)."""
        count = len(self._frames)
        if count == len(self._known):
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
            self._same = np.concatenate([self._same, np.zeros_like(self._same)])
        number = self._ids.setdefault(frame.tobytes(), len(self._ids))
        # Up to frame j, as many as up to frame j - 1 before, and one more.
        longer = np.append(0, self._same[: max(count - 1, 0)]) + 1
        self._same[:count] = np.where(self._known[:count] == number, longer[:count], 0)
        self._known[count] = number
        self._frames.append(frame)

    def next(self) -> tuple[NDArray[np.float32] | None, int]:
        """The frame after the latest of the longest repeats.

        Returns:
            The frame (K,), None without a repeat; and the number of frames that are the same, at
            most :data:`LONGEST`.
        """
        count = len(self._frames) - 1
        if count < 1:
            return None, 0
        same = np.minimum(self._same[:count], LONGEST)
        at = count - 1 - int(same[::-1].argmax())
        if not same[at]:
            return None, 0
        return self._frames[at + 1], int(same[at])

    def copy(self) -> Repeats:
        """An independent copy."""
        other = copy.copy(self)
        other._ids, other._frames = {**self._ids}, [*self._frames]
        other._known, other._same = self._known.copy(), self._same.copy()
        return other
