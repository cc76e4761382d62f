"""Processors of polyphony: the number of notes that sound or begin at the same time."""

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
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["MaxChordSize", "MaxPolyphony"]

_ROUNDING: Final = 1e-6
"""Times that differ by less are equal up to rounding."""
_MIN_STEP: Final = 1e-3
"""The minimum step between two chords, for continuous steps."""


def _steps_from(field: Field, prediction: Prediction, least: Sequence[float]) -> Prediction:
    """Limit a step to at least `least` in each sequence."""
    if field.is_categorical:
        values = np.array(field.values)
        return constrain_classes(prediction, [values >= low - _ROUNDING for low in least])
    mode = prediction.mode()
    low = torch.tensor(least, dtype=mode.dtype, device=mode.device)
    # Rounded down to float32, a note could begin before another one ends.
    above = torch.nextafter(low, torch.full_like(low, torch.inf))
    low = torch.where(low.double() < mode.new_tensor(least, dtype=torch.float64), above, low)
    low = low.clamp(*field.interval)
    return constrain_interval(prediction, low, torch.full_like(mode, field.interval.high))


def _note_ons(field: Field, prediction: Prediction, full: Sequence[bool]) -> Prediction:
    """Remove note-ons from the events of full sequences."""
    values = class_values(field, "pitch")
    if values is None or not any(full):
        return prediction
    return constrain_classes(prediction, [np.isnan(values) | (not is_full) for is_full in full])


@final
@dataclass(frozen=True, kw_only=True)
class MaxPolyphony:
    """Limits the number of pitches that sound at the same time.

    Steps are limited to those after which fewer pitches sound, so that the next note can have any
    pitch. If the step is fixed and too short for that, the pitch is limited to those that sound
    already. For events, a note-on must wait for a note-off. The limit always holds if the longest
    step is as long as the longest duration and steps come before pitches, as in the encoders of the
    library.

    Attributes:
        notes: 1 to 128; 1 for a melody.

    Raises:
        ConfigError: If it is out of range or not a whole number.
    """

    notes: int = 4

    def __post_init__(self) -> None:
        """Check the setting."""
        check_whole("max polyphony", self.notes, 1, 128)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a step, a pitch or an event."""
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
        """The minimum step after which another pitch may sound."""
        left: dict[Tone, float] = {}
        for remaining, tone in context.tracker.remaining():
            left[tone] = max(remaining, left.get(tone, 0.0))
        return sorted([*left.values(), *[0.0] * self.notes], reverse=True)[self.notes - 1]

    def _repeated_pitch(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        values = class_values(field, "pitch")
        if values is None:
            return prediction
        overlapping = [context.tracker.overlapping(context.known) or () for context in contexts]
        if all(len(tones) < self.notes for tones in overlapping):
            return prediction
        masks = [np.ones(len(values), dtype=np.bool_) for _ in contexts]
        for i, tones in enumerate(overlapping):
            if len(tones) >= self.notes:
                masks[i] = np.isin(values, [tone.pitch for tone in tones])
        return constrain_classes(prediction, masks)


@final
@dataclass(frozen=True, kw_only=True)
class MaxChordSize:
    """Limits the number of notes that begin at the same time.

    After a full chord, the next step is not 0, and at least a millisecond for continuous steps; for
    events, a shift must come before the next note-on.

    Attributes:
        notes: 1 to 1024; 1 allows no chords.

    Raises:
        ConfigError: If it is out of range or not a whole number.
    """

    notes: int = 6

    def __post_init__(self) -> None:
        """Check the setting."""
        check_whole("max chord size", self.notes, 1, MAX_HISTORY)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a step or an event."""
        if field.role not in ("step", "event"):
            return prediction
        full = [self._is_full(context.tracker) for context in contexts]
        if field.role == "event":
            return _note_ons(field, prediction, full)
        if not any(full):
            return prediction
        step = _MIN_STEP
        if field.is_categorical:
            step = min((value for value in field.values if value > 0), default=0.0)
        return _steps_from(field, prediction, [step * is_full for is_full in full])

    def _is_full(self, tracker: Tracker) -> bool:
        latest = tracker.latest(self.notes)
        return len(latest) == self.notes and tracker.time - latest[0][0] < _ROUNDING
