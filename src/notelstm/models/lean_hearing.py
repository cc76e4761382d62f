"""What is sounding, for one lane in plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from notelstm.models.lean import Array, layers_of
from notelstm.models.sounding import AROUND, CHORD, LONGEST, SCALE, Sounding, SoundingClock

__all__ = ["Hearing"]

_REACH: Final = AROUND // 2
_TIMES: Final = np.arange(LONGEST + 1, dtype=np.float32)
"""Every time that can be told, in thousandths; features are looked up, not computed."""


@final
class Hearing:
    """Follows what is sounding, and hears it as the heads do.

    Args:
        clock: The module that follows.
        hear: The layers that hear, by place.
        place_of: Which of them the head of each field listens to.
    """

    def __init__(
        self, clock: SoundingClock, hear: nn.ModuleDict, place_of: Mapping[str, str]
    ) -> None:
        self._clock: Final = clock
        self._place_of: Final = dict(place_of)
        self._hear: Final[dict[str, Callable[[Array], Array]]] = {
            place: layers_of(layer) for place, layer in hear.items()
        }
        # (thousandths of each class, or none), for the step and the duration
        self._steps, self._durations = clock.tables()
        whole = math.log1p(LONGEST / SCALE)
        longer = np.log1p(_TIMES / np.float32(SCALE)) / np.float32(whole)
        self._longer: Final = longer.astype(np.float32)
        self._lately: Final = (1 - longer).astype(np.float32)
        width = LONGEST + LONGEST / CHORD * _TIMES
        self._just: Final = ((LONGEST - _TIMES) / width).astype(np.float32)
        self._last: tuple[Any, ...] = (None,)
        self._heard: Array = np.zeros(0, dtype=np.float32)

    def after(self, entries: Sequence[float], before: Any) -> Any:
        """What is sounding at the onset of a row, its own note included; (..., P)."""
        pitch, step, duration = (entries[i] for i in self._clock.columns)
        left, since = _later(before, _thousandths(self._steps, step))
        at = int(pitch)
        left[..., at] = np.maximum(left[..., at], _thousandths(self._durations, duration))
        since[..., at] = 0
        return Sounding(left, since)  # type: ignore[arg-type]

    def heard(self, place: str, sounding: Any) -> Array:
        """(..., S) of what is sounding."""
        left, since = sounding
        parts = (left > 0, self._longer[left], self._lately[since], self._just[since])
        return self._hear[place](np.concatenate(parts, axis=-1, dtype=np.float32))

    def heard_by(self, field: str, context: Any, known: Mapping[str, float]) -> Array:
        """(S,) what the head of a field hears."""
        place, clock = self._place_of[field], self._clock
        if place == "before":
            heard: Array = context.heard
            return heard
        pitch = int(known[clock.pitch]) if place == "around" else None
        # Several heads hear the same of one row.
        key = (context, place, known[clock.step], pitch)
        if context is not self._last[0] or key[1:] != self._last[1:]:
            left, since = _later(context.sounding, _thousandths(self._steps, known[clock.step]))
            if pitch is not None:
                left, since = _around(left, pitch, 0), _around(since, pitch, LONGEST)
            self._last, self._heard = key, self.heard(place, (left, since))
        return self._heard


def _later(sounding: Any, wait: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    left, since = sounding
    return np.maximum(left - np.int32(wait), 0), np.minimum(since + np.int32(wait), LONGEST)


def _around(times: NDArray[np.int32], pitch: int, silence: int) -> NDArray[np.int32]:
    near = np.full(AROUND, silence, dtype=np.int32)
    low, high = max(0, pitch - _REACH), min(len(times), pitch + _REACH + 1)
    near[low - pitch + _REACH : high - pitch + _REACH] = times[low:high]
    return near


def _thousandths(table: Sequence[int], entry: float) -> int:
    """What a class id or a number stands for."""
    return table[int(entry)] if table else min(max(round(entry * 1000), 0), LONGEST)
