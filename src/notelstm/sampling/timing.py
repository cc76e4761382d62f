"""Processors of time: onsets on a grid, and how many notes there are in a second."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import (
    check_number,
    check_whole,
    class_values,
    constrain_classes,
    constrain_interval,
)
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = ["GridSnap", "NoteDensity"]

_ROUNDING: Final = 1e-6
_FINEST: Final = 1e-3
_AT_ONCE: Final = 4.0
"""Mean steps by which one step makes up for those before; it takes several to make up for more."""


def _nearest(values: NDArray[np.float64], place: float, grid: float) -> NDArray[np.bool_]:
    """(C,) 0, and the ascending values that are nearest to a line, counted from `place`."""
    first = math.ceil((values[0] + place) / grid - _ROUNDING)
    last = max(first, math.floor((values[-1] + place) / grid + _ROUNDING))
    lines = np.arange(first, last + 1) * grid - place
    middles = (values[1:] + values[:-1]) / 2
    # A class may have put the note before beside its line: its chord stays with it.
    allowed: NDArray[np.bool_] = values == 0
    allowed[np.searchsorted(middles, lines - _ROUNDING)] = True
    return allowed


@functools.lru_cache(maxsize=64)
def _ascending(field: Field) -> bool:
    return bool(np.all(np.diff(field.values) > 0))


@final
@dataclass(frozen=True, kw_only=True)
class GridSnap:
    """Onsets on a grid, as near as the encoder's classes allow.

    A step is confined to 0 and the classes nearest to a line of the grid, seen from where the note
    before was put, so what they are off does not add up; a step that is a number becomes the one
    that leads to the first line at or after its most likely value. In beats lines are counted from
    bar lines, which holds where a bar has a whole number of them, and positions are confined too.
    Of events, note-ons come at the cells nearest to lines, and so do note-offs that follow another
    wait than the longest.

    Attributes:
        grid: From line to line, 0.001 to 3600.
        unit: Of the grid: ``"s"`` or ``"beat"``. Fields in another unit stay as they are.

    Raises:
        ConfigError: If the grid is too fine or the unit another.
    """

    grid: float = 0.125
    unit: str = "s"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_number("grid", self.grid, _FINEST, 3600)
        if self.unit not in ("s", "beat"):
            raise ConfigError(f"unknown unit {self.unit!r} of a grid", hint="choose s or beat")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a step, a position or an event, confined to the grid."""
        if field.role == "event":
            return self._events(field, prediction, contexts) if self.unit == "s" else prediction
        if field.unit != self.unit or field.role not in ("step", "position"):
            return prediction
        places = [0.0] * len(contexts)
        if field.role == "step":
            places = [context.tracker.position for context in contexts]
        if field.is_categorical:
            if not _ascending(field):
                return prediction
            values = np.array(field.values)
            masks = [_nearest(values, place, self.grid) for place in places]
            return constrain_classes(prediction, masks)
        mode = prediction.mode()
        place = torch.tensor(places, dtype=torch.float64, device=mode.device)
        # A line before the value could be before what it was confined to.
        number = ((mode.double() + place) / self.grid - _ROUNDING).ceil()
        lines = (number * self.grid - place).clamp(*field.interval).to(mode)
        return constrain_interval(prediction, lines, lines)

    def _events(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        waits, note_on = class_values(field, "step"), class_values(field, "pitch")
        if waits is None or note_on is None or np.isnan(waits).all():
            return prediction
        shifts = np.flatnonzero(~np.isnan(waits))
        shifts = shifts[waits[shifts].argsort()]
        cell = waits[shifts[0]]
        masks = []
        for context in contexts:
            clock = context.tracker.time
            off = abs(clock - round(clock / self.grid) * self.grid)
            allowed = np.isnan(note_on) | (off <= cell / 2 + _ROUNDING)
            allowed[shifts] = _nearest(waits[shifts], clock, self.grid)
            allowed[shifts[-1]] = True
            masks.append(allowed)
        return constrain_classes(prediction, masks)


@final
@dataclass(frozen=True, kw_only=True)
class NoteDensity:
    """More or fewer notes per second, by changing each step according to the latest notes.

    The duration of the latest notes is compared with their duration at `notes_per_second`. Where
    they came too fast or too slowly, a step becomes less likely the further it is from the one that
    would make up for it, at most four mean steps longer. For predictions of numbers the centre
    moves towards it, at most one mean step later; point estimates stay. For events, note-ons become
    more or less likely.

    Attributes:
        notes_per_second: Notes a second, 0.001 to 1000.
        strength: How much it bends, from 0, which changes nothing, to 1000.
        history: How many of the latest notes count, 1 to 1024.

    Raises:
        ConfigError: If a setting is out of range.
    """

    notes_per_second: float = 4.0
    strength: float = 4.0
    history: int = 16

    def __post_init__(self) -> None:
        """Check the settings."""
        check_number("notes_per_second", self.notes_per_second, 1e-3, 1e3)
        check_number("strength", self.strength, 0, 1e3)
        check_whole("history", self.history, 1, MAX_HISTORY)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a step or an event, bent towards the rate."""
        if field.role not in ("step", "event") or self.strength == 0:
            return prediction
        # (B,) the time that the latest notes took, as a share of what they should have taken.
        share = torch.tensor([self._share(context.tracker) for context in contexts])
        pressure = self.strength * share.log()
        if field.role == "event":
            note_on = class_values(field, "pitch")
            if note_on is None:
                return prediction
            return prediction.add_log_weights(
                pressure[:, None] * torch.from_numpy(~np.isnan(note_on))
            )
        mean = 1 / (
            self.notes_per_second
            * torch.tensor([context.tracker.seconds_per_unit for context in contexts])
        )
        ahead = ((1 - share) * self.history).clamp(-_AT_ONCE, _AT_ONCE)  # (B,) mean steps
        if not field.is_categorical:
            # Where a middle is moved by more, its tail goes much too far.
            return prediction.shifted(ahead.clamp(max=1) * pressure.abs().clamp(max=1) * mean)
        wanted = (1 + ahead).clamp(min=0)[:, None] * mean[:, None]
        away = (torch.tensor(field.values) - wanted).abs() / mean[:, None]  # (B, C)
        return prediction.add_log_weights(-pressure.abs()[:, None] * away)

    def _share(self, tracker: Tracker) -> float:
        played = tracker.latest(self.history)
        took = tracker.time - played[0][0] if len(played) == self.history else tracker.time
        # As if it had gone on at this rate before the start. A chord of all of them takes no time.
        missing = self.history - max(len(played), 1)
        return (took * self.notes_per_second + missing + 1) / self.history
