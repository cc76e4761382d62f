"""What is sounding, in plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.fields import Rows
from notelstm.models.lean import Array, linear_of
from notelstm.models.sounding import AROUND, CHORD, LONGEST, SCALE, Sounding, SoundingClock

__all__ = ["Hearing"]

_Times = NDArray[np.int32]
_REACH: Final = AROUND // 2
_NEAR: Final = np.arange(AROUND)
_TIMES: Final = np.arange(LONGEST + 1, dtype=np.float32)
"""Every time that can be told, in thousandths; features are looked up, not computed."""


class _Asked(NamedTuple):
    """What was asked last: several heads hear the same of one row."""

    context: Any
    place: str
    step: bytes
    pitch: bytes
    heard: Array


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
            place: linear_of(cast(Tensor, layer.weight), cast(Tensor, layer.bias))
            for place, layer in hear.items()
        }
        # (thousandths of each class, or none), for the step and the duration
        self._steps, self._durations = (np.array(t, dtype=np.int32) for t in clock.tables())
        whole = math.log1p(LONGEST / SCALE)
        longer = np.log1p(_TIMES / np.float32(SCALE)) / np.float32(whole)
        self._longer: Final = longer.astype(np.float32)
        self._lately: Final = (1 - longer).astype(np.float32)
        width = LONGEST + LONGEST / CHORD * _TIMES
        self._just: Final = ((LONGEST - _TIMES) / width).astype(np.float32)
        self._last: _Asked | None = None

    def after(self, rows: Rows, before: Any) -> Any:
        """What is sounding at the onset of rows (B, F), their own notes included; (B, P)."""
        pitch, step, duration = (rows[:, i] for i in self._clock.columns)
        left, since = _later(before, _thousandths(self._steps, step))
        at = np.arange(len(rows)), pitch.astype(np.intp)
        left[at] = np.maximum(left[at], _thousandths(self._durations, duration))
        since[at] = 0
        return Sounding(left, since)  # type: ignore[arg-type]

    def heard(self, place: str, sounding: Any) -> Array:
        """(B, S) of what is sounding."""
        left, since = sounding
        parts = (left > 0, self._longer[left], self._lately[since], self._just[since])
        return self._hear[place](np.concatenate(parts, axis=1, dtype=np.float32))

    def heard_by(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, S) what the head of a field hears."""
        place, clock = self._place_of[field], self._clock
        if place == "before":
            heard: Array = context.heard
            return heard
        step = known[clock.step]
        pitch = known[clock.pitch] if place == "around" else step[:0]
        asked = _Asked(context, place, step.tobytes(), pitch.tobytes(), context.heard)
        last = self._last
        if last is None or context is not last.context or asked[1:4] != last[1:4]:
            left, since = _later(context.sounding, _thousandths(self._steps, step))
            if place == "around":
                left, since = _around(left, pitch, 0), _around(since, pitch, LONGEST)
            last = self._last = asked._replace(heard=self.heard(place, (left, since)))
        return last.heard


def _later(sounding: Any, wait: _Times) -> tuple[_Times, _Times]:
    """After a wait of (B,) thousandths."""
    left, since = sounding
    by = wait[:, None]
    return np.maximum(left - by, 0), np.minimum(since + by, LONGEST)


def _around(times: _Times, pitch: NDArray[Any], silence: int) -> _Times:
    """(B, AROUND) of (B, P) times."""
    padded = np.full((len(times), times.shape[1] + AROUND), silence, dtype=np.int32)
    padded[:, _REACH : _REACH + times.shape[1]] = times
    at = pitch.astype(np.intp)[:, None] + _NEAR
    near: _Times = padded[np.arange(len(times))[:, None], at]
    return near


def _thousandths(table: _Times, entries: NDArray[Any]) -> _Times:
    """(B,) what class ids or numbers stand for."""
    if len(table):
        return np.asarray(table[entries.astype(np.intp)])
    whole = np.rint(entries.astype(np.float64) * 1000)
    return np.clip(whole, 0, LONGEST).astype(np.int32)
