"""Processors of texture: how many notes sound together, how many begin together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, final

import numpy as np
import torch

from notelstm.errors import FieldError
from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, StepTracker, Tracker, View
from notelstm.sampling.confining import allowed_in_lanes, confine, latest, told
from notelstm.sampling.settings import MOST_RECALLED, check_whole

__all__ = ["LargestChord", "PolyphonyCap", "step_tracker"]

_TOGETHER: Final = 1e-6
"""Times nearer than this are the same, as float64 has it."""
_ASKED: Final = ("place", "pace", "remaining", "overlapping")
_APART: Final = 1e-3
"""The least step that is none, where steps are numbers."""


def step_tracker(tracker: Tracker) -> StepTracker:
    """The tracker, if it knows what a step leads to.

    Raises:
        FieldError: If it does not.
    """
    # To ask for the whole protocol, as for each lane and row, takes longer than the answer.
    if all(hasattr(tracker, name) for name in _ASKED):
        return cast(StepTracker, tracker)
    raise FieldError(
        "a processor of steps needs to know what they lead to",
        got=f"a {type(tracker).__name__}, which does not say",
        hint="give the tracker what notelstm.protocols.StepTracker asks for",
    )


def _steps_from(field: Field, prediction: Prediction, least: Sequence[float]) -> Prediction:
    """The prediction of a step, confined to the least and more in each lane."""
    if isinstance(prediction, Categorical):
        values = np.array(field.values)
        return allowed_in_lanes(prediction, [values >= low - _TOGETHER for low in least])
    size = prediction.mode()
    low = torch.tensor(least, dtype=size.dtype, device=size.device)
    # A float32 just below would let a note begin before another one ends.
    low = torch.where(low.double() < size.new_tensor(least, dtype=torch.float64), _above(low), low)
    low = low.clamp(*field.interval)
    return confine(prediction, low, torch.full_like(size, field.interval.high))


def _above(value: torch.Tensor) -> torch.Tensor:
    return torch.nextafter(value, torch.full_like(value, torch.inf))


def _note_ons(field: Field, prediction: Prediction, full: Sequence[bool]) -> Prediction:
    """The prediction of an event, in full lanes without note-ons."""
    values = told(field, "pitch")
    if values is None or not any(full):
        return prediction
    return allowed_in_lanes(prediction, [np.isnan(values) | (not lane) for lane in full])


@final
@dataclass(frozen=True, kw_only=True)
class PolyphonyCap:
    """Never more than so many pitches at once.

    A step is confined to those after which fewer pitches than that still sound, so the next note
    can be any. If the step is forced, and the pitch comes after it and finds all voices taken, it
    is confined to the pitches that sound already. Of events, note-ons wait for a note-off. For the
    cap to hold whatever was drawn there must be a step as long as the longest duration: the
    encoders of the library have it, in the order of their own fields.

    Attributes:
        voices: 1 to 128; 1 makes a melody.

    Raises:
        ConfigError: If it is no whole number of these.
    """

    voices: int = 4

    def __post_init__(self) -> None:
        """Check the setting."""
        check_whole("a cap on voices", self.voices, 1, 128)

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """The prediction of a step, a pitch or an event, confined to what the cap has room for."""
        if field.role == "event":
            sounding = [view.tracker.sounding(view.tracker.clock) for view in views]
            return _note_ons(field, prediction, [len(s) >= self.voices for s in sounding])
        if field.role == "step":
            return _steps_from(field, prediction, [self._free_after(view) for view in views])
        if field.role == "pitch":
            return self._struck_again(field, prediction, views)
        return prediction

    def _free_after(self, view: View) -> float:
        """The least step after which a voice is free."""
        left: dict[int, float] = {}
        for remaining, pitch in step_tracker(view.tracker).remaining():
            left[pitch] = max(remaining, left.get(pitch, 0.0))
        return sorted([*left.values(), *[0.0] * self.voices], reverse=True)[self.voices - 1]

    def _struck_again(
        self, field: Field, prediction: Prediction, views: Sequence[View]
    ) -> Prediction:
        values = told(field, "pitch")
        if values is None:
            return prediction
        heard = [step_tracker(view.tracker).overlapping(view.known) or () for view in views]
        if all(len(pitches) < self.voices for pitches in heard):
            return prediction
        free = np.ones(len(values), dtype=np.bool_)
        return allowed_in_lanes(
            prediction,
            [free if len(p) < self.voices else np.isin(values, list(p)) for p in heard],
        )


@final
@dataclass(frozen=True, kw_only=True)
class LargestChord:
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
        check_whole("the largest chord", self.notes, 1, MOST_RECALLED)

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """The prediction of a step or an event, confined to what the chord has room for."""
        if field.role not in ("step", "event"):
            return prediction
        full = [self._is_full(view.tracker) for view in views]
        if field.role == "event":
            return _note_ons(field, prediction, full)
        if not any(full):
            return prediction
        apart = _APART
        if field.is_categorical:
            apart = min((value for value in field.values if value > 0), default=0.0)
        return _steps_from(field, prediction, [apart * lane for lane in full])

    def _is_full(self, tracker: Tracker) -> bool:
        played = latest(tracker, self.notes)
        return len(played) == self.notes and tracker.clock - played[0][0] < _TOGETHER
