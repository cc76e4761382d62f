"""Processors of polyphony: how many notes sound together, how many begin together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch

from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import (
    check_whole,
    class_values,
    constrain_classes,
    constrain_interval,
)
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = ["MaxChordSize", "MaxPolyphony"]

_TOGETHER: Final = 1e-6
"""Times nearer than this are the same, as float64 has it."""
_APART: Final = 1e-3
"""The least step that is none, where steps are numbers."""


def _steps_from(field: Field, prediction: Prediction, least: Sequence[float]) -> Prediction:
    """The prediction of a step, limited to the least value and above in each sequence."""
    if field.is_categorical:
        values = np.array(field.values)
        return constrain_classes(prediction, [values >= low - _TOGETHER for low in least])
    size = prediction.mode()
    low = torch.tensor(least, dtype=size.dtype, device=size.device)
    # A float32 just below would let a note begin before another one ends.
    low = torch.where(low.double() < size.new_tensor(least, dtype=torch.float64), _above(low), low)
    low = low.clamp(*field.interval)
    return constrain_interval(prediction, low, torch.full_like(size, field.interval.high))


def _above(value: torch.Tensor) -> torch.Tensor:
    return torch.nextafter(value, torch.full_like(value, torch.inf))


def _note_ons(field: Field, prediction: Prediction, full: Sequence[bool]) -> Prediction:
    """The prediction of an event, without note-ons in full sequences."""
    values = class_values(field, "pitch")
    if values is None or not any(full):
        return prediction
    return constrain_classes(prediction, [np.isnan(values) | (not is_full) for is_full in full])


@final
@dataclass(frozen=True, kw_only=True)
class MaxPolyphony:
    """Never more than so many pitches at once.

    A step is limited to those after which fewer pitches still sound, so that the next note can have
    any pitch. If the step is fixed, and so many pitches sound at the next onset, the pitch is
    limited to those that sound already. Of events, note-ons wait for a note-off. For the
    limit to hold in every case there must be a step as long as the longest duration: the
    encoders of the library have it, in the order of their own fields.

    Attributes:
        notes: 1 to 128; 1 makes a melody.

    Raises:
        ConfigError: If it is no whole number of these.
    """

    notes: int = 4

    def __post_init__(self) -> None:
        """Check the setting."""
        check_whole("max polyphony", self.notes, 1, 128)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a step, a pitch or an event, confined to what the cap has room for."""
        if field.role == "event":
            sounding = [context.tracker.sounding(context.tracker.time) for context in contexts]
            return _note_ons(field, prediction, [len(s) >= self.notes for s in sounding])
        if field.role == "step":
            return _steps_from(
                field, prediction, [self._free_after(context) for context in contexts]
            )
        if field.role == "pitch":
            return self._repeated_pitch(field, prediction, contexts)
        return prediction

    def _free_after(self, context: SamplingContext) -> float:
        """The least step after which another pitch may sound."""
        left: dict[int, float] = {}
        for remaining, pitch in context.tracker.remaining():
            left[pitch] = max(remaining, left.get(pitch, 0.0))
        return sorted([*left.values(), *[0.0] * self.notes], reverse=True)[self.notes - 1]

    def _repeated_pitch(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        values = class_values(field, "pitch")
        if values is None:
            return prediction
        overlapping = [context.tracker.overlapping(context.known) or () for context in contexts]
        if all(len(pitches) < self.notes for pitches in overlapping):
            return prediction
        free = np.ones(len(values), dtype=np.bool_)
        return constrain_classes(
            prediction,
            [free if len(p) < self.notes else np.isin(values, list(p)) for p in overlapping],
        )


@final
@dataclass(frozen=True, kw_only=True)
class MaxChordSize:
    """Never more than so many notes that begin together.

    When the chord is full, the next step is not 0; of events, a shift comes before the next
    note-on. Steps that are numbers are a millisecond or more then.

    Attributes:
        notes: 1 to 1024; 1 allows no chords.

    Raises:
        ConfigError: If it is no whole number of these.
    """

    notes: int = 6

    def __post_init__(self) -> None:
        """Check the setting."""
        check_whole("max chord size", self.notes, 1, MAX_HISTORY)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a step or an event, confined to what the chord has room for."""
        if field.role not in ("step", "event"):
            return prediction
        full = [self._is_full(context.tracker) for context in contexts]
        if field.role == "event":
            return _note_ons(field, prediction, full)
        if not any(full):
            return prediction
        apart = _APART
        if field.is_categorical:
            apart = min((value for value in field.values if value > 0), default=0.0)
        return _steps_from(field, prediction, [apart * is_full for is_full in full])

    def _is_full(self, tracker: Tracker) -> bool:
        played = tracker.latest(self.notes)
        return len(played) == self.notes and tracker.time - played[0][0] < _TOGETHER
