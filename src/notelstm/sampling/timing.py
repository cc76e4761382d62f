"""Processors of time: onsets on a grid, the number of notes per second, and the time of the end."""

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
    allow_only,
    check_number,
    check_whole,
    class_values,
    constrain_interval,
)
from notelstm.sampling.tones import ByInstrument
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = ["MAX_SECONDS", "EndAt", "GridSnap", "NoteDensity"]

MAX_SECONDS: Final = 1e6
"""The latest time of an end."""

_ROUNDING: Final = 1e-6
_FINEST: Final = 1e-3
_MAX_CORRECTION: Final = 4.0
"""Mean steps by which one step compensates for those before."""


def _nearest(values: NDArray[np.float64], origin: float, grid: float) -> NDArray[np.bool_]:
    """(C,) 0 and, of ascending values, those nearest to a grid line, for a step from `origin`."""
    first = math.ceil((values[0] + origin) / grid - _ROUNDING)
    last = max(first, math.floor((values[-1] + origin) / grid + _ROUNDING))
    lines = np.arange(first, last + 1) * grid - origin
    middles = (values[1:] + values[:-1]) / 2
    # The previous note may be off its line, since it was rounded to a class; chords stay together.
    allowed: NDArray[np.bool_] = values == 0
    allowed[np.searchsorted(middles, lines - _ROUNDING)] = True
    return allowed


@functools.lru_cache(maxsize=64)
def _values(field: Field) -> NDArray[np.float64]:
    """(C,) the values of the classes of a field."""
    return np.array(field.values)


@functools.lru_cache(maxsize=64)
def _note_classes(field: Field) -> NDArray[np.intp] | None:
    """The classes of a step or a position with a note, all but a rest; None unless they ascend."""
    rest = [] if field.rest is None else [field.rest]
    classes = np.delete(np.arange(len(field.values)), rest)
    return classes if np.all(np.diff(np.array(field.values)[classes]) > 0) else None


@final
@dataclass(frozen=True, kw_only=True)
class GridSnap:
    """Quantizes onsets to a grid, as closely as the encoder's classes allow.

    Steps are limited to 0 and the classes nearest to a grid line, measured from the onset of the
    previous note, so that errors do not accumulate. A continuous step is set to the one that leads
    to the first line at or after its most likely value. In beats, lines are counted from bar lines,
    and positions are limited as well; a bar should have a whole number of lines. For events,
    note-ons are limited to the times nearest to lines, as are note-offs, unless they follow the
    longest shift.

    Attributes:
        grid: Distance between lines, 0.001 to 3600.
        unit: The unit of the grid, ``"s"`` or ``"beat"``; fields in other units do not change.
    """

    grid: float = 0.125
    unit: str = "s"

    def __post_init__(self) -> None:
        check_number("grid", self.grid, _FINEST, 3600)
        if self.unit not in ("s", "beat"):
            raise ConfigError(f"unknown unit {self.unit!r} of a grid", hint="choose s or beat")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a step, a position or an event to the grid."""
        if field.role == "event":
            return self._events(field, prediction, contexts) if self.unit == "s" else prediction
        if field.unit != self.unit or field.role not in ("step", "position"):
            return prediction
        origins = [0.0] * len(contexts)
        if field.role == "step":
            origins = [context.tracker.position for context in contexts]
        if field.is_categorical:
            classes = _note_classes(field)
            if classes is None:
                return prediction
            values = _values(field)[classes]
            masks = np.ones((len(origins), len(field.values)), dtype=np.bool_)
            for mask, start in zip(masks, origins, strict=True):
                mask[classes] = _nearest(values, start, self.grid)
            return allow_only(prediction, masks)
        mode = prediction.mode()
        origin = torch.tensor(origins, dtype=torch.float64, device=mode.device)
        # A line before the mode could be below the minimum that another processor has set.
        number = ((mode.double() + origin) / self.grid - _ROUNDING).ceil()
        lines = (number * self.grid - origin).clamp(*field.interval).to(mode)
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
        return allow_only(prediction, masks)


@final
@dataclass(frozen=True, kw_only=True)
class NoteDensity(ByInstrument):
    """Steers the number of notes per second by the latest notes.

    The time that the latest notes took is compared with their time at `notes_per_second`. If they
    were too fast or too slow, steps become less likely the further they are from the one that
    compensates, at most four mean steps longer. The centre of a prediction of numbers moves towards
    that step, by at most one mean step; point estimates do not change. For events, note-ons become
    more or less likely.

    With several instruments, each of those that it acts on has the target. The instruments that
    were too slow become more likely, those that were too fast less; steps are steered towards the
    total of the targets and of the current notes of the other instruments. Note-ons are those of
    the latest instrument event.

    Attributes:
        notes_per_second: The target, 0.001 to 1000.
        strength: Strength of the correction, from 0, which changes nothing, to 1000.
        history: Number of the latest notes that count, 1 to 1024.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    notes_per_second: float = 4.0
    strength: float = 4.0
    history: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("notes_per_second", self.notes_per_second, 1e-3, 1e3)
        check_number("strength", self.strength, 0, 1e3)
        check_whole("history", self.history, 1, MAX_HISTORY)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Steer a step, an instrument or an event towards the target."""
        if field.role not in ("step", "instrument", "event") or self.strength == 0:
            return prediction
        if field.role == "instrument":
            weights = np.stack([self._weights(context.tracker) for context in contexts])
            return prediction.add_log_weights(torch.from_numpy(weights))
        if field.role == "event":
            return self._weighted_events(field, prediction, contexts)
        selected = [self.selected(context.tracker.parts) for context in contexts]
        if not any(which.any() for which in selected):
            return prediction
        return self._steered(field, prediction, contexts, selected)

    def _steered(
        self,
        field: Field,
        prediction: Prediction,
        contexts: Sequence[SamplingContext],
        selected: Sequence[NDArray[np.bool_]],
    ) -> Prediction:
        """A step, steered towards the total."""
        paces = [self._pace(c.tracker, s) for c, s in zip(contexts, selected, strict=True)]
        share, total = np.array(paces).T  # (B,)
        pressure = np.abs(self.strength * np.log(share))
        mean = 1 / (total * [c.tracker.seconds_per_unit for c in contexts])
        missing = (1 - share) * self.history
        ahead = np.clip(missing, -_MAX_CORRECTION, _MAX_CORRECTION)  # (B,) mean steps
        if not field.is_categorical:
            # A larger shift would move the tail much too far.
            shift = np.minimum(ahead, 1) * np.minimum(pressure, 1) * mean
            return prediction.shifted(torch.from_numpy(shift).float())
        target = np.maximum(1 + ahead, 0) * mean
        away = np.abs(_values(field) - target[:, None]) / mean[:, None]  # (B, C)
        return prediction.add_log_weights(torch.from_numpy(-pressure[:, None] * away).float())

    def _pace(self, tracker: Tracker, selected: NDArray[np.bool_]) -> tuple[float, float]:
        """The share of the selected instruments; their target and the notes per second of others.

        The share is the time of their latest notes, relative to their time at the target.
        """
        latest = tracker.latest(self.history if len(selected) == 1 else MAX_HISTORY)
        mine = [onset for onset, tone in latest if selected[tone.instrument]][-self.history :]
        target = int(selected.sum()) * self.notes_per_second
        since = mine[0] if len(mine) == self.history else latest[0][0] if latest else 0.0
        others = sum(onset >= since and not selected[tone.instrument] for onset, tone in latest)
        seconds = tracker.time - since
        total = target + (others / seconds if seconds > 0 else 0.0)
        return self._share(tracker, mine, target), total

    def _weighted_events(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Note-ons of the latest instrument and events of instruments, as their instruments."""
        note_on, instruments = (class_values(field, role) for role in ("pitch", "instrument"))
        if note_on is None or instruments is None:
            return prediction
        table = np.zeros((len(contexts), len(note_on)), dtype=np.float32)
        chosen = ~np.isnan(instruments)
        for row, context in zip(table, contexts, strict=True):
            weights = self._weights(context.tracker)
            k = self.next_instrument(field, context)
            if k is not None:
                row[~np.isnan(note_on)] = weights[k]
            row[chosen] = weights[instruments[chosen].astype(np.intp)]
        return prediction.add_log_weights(torch.from_numpy(table))

    def _weights(self, tracker: Tracker) -> NDArray[np.float32]:
        """(I,) instruments that were too slow are more likely, those that were too fast less."""
        weights = np.zeros(len(tracker.parts), dtype=np.float32)
        for k, notes in self.latest(tracker, self.history).items():
            share = self._share(tracker, [onset for onset, _ in notes], self.notes_per_second)
            weights[k] = self.strength * math.log(share)
        return weights

    def _share(self, tracker: Tracker, onsets: Sequence[float], notes_per_second: float) -> float:
        """The time of the latest notes, relative to their time at the target."""
        time = tracker.time - onsets[0] if len(onsets) == self.history else tracker.time
        # Before the start, notes count as if at the target; + 1, since a chord takes no time.
        missing = self.history - max(len(onsets), 1)
        return (time * notes_per_second + missing + 1) / self.history


_RECENT: Final = 64
"""Number of the latest notes from which the notes per second are counted."""
_DENSITY: Final = 8.0
"""Notes per second before any are counted."""


@final
@dataclass(frozen=True, kw_only=True)
class EndAt:
    """Ends the piece at about a time; generate with ``until="end"``.

    Before `seconds` - `within`, no note is the last one; the first note at or after `seconds` +
    `within` is. Between these times the end is sampled, at the places that are endings for the
    model. It expects an end once in thousands of notes, and here one is wanted among the n notes
    that are still expected: with h the probability of an end at each of them, it is sampled in
    proportion to h if the odds h / (1 - h) are multiplied by `typical_notes` / n, where 1 /
    `typical_notes` is the mean of h.

    Attributes:
        seconds: The time of the last onset, counted from the start of the sequence, prompt
            included, at least 0.
        within: Half the length of the window, seconds, at least 0.
        typical_notes: The number of notes of a typical piece, at least 1; 1 leaves the
            probabilities in the window as they are.
    """

    seconds: float = 60.0
    within: float = 4.0
    typical_notes: float = 1000.0

    def __post_init__(self) -> None:
        # Twice, since the time is counted from the end of a prompt.
        check_number("seconds", self.seconds, 0, 2 * MAX_SECONDS)
        check_number("within", self.within, 0, MAX_SECONDS)
        check_number("typical_notes", self.typical_notes, 1, 1e9)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Exclude the end, force it, or multiply its odds."""
        if field.role != "end":
            return prediction
        left = [self.seconds + self.within - _onset(context) for context in contexts]
        allowed = [(s > _ROUNDING, s <= 2 * self.within + _ROUNDING) for s in left]
        odds = [(0.0, self._log_factor(*pair)) for pair in zip(contexts, left, strict=True)]
        weighted = prediction.add_log_weights(torch.tensor(odds, dtype=torch.float32))
        return allow_only(weighted, torch.tensor(allowed))

    def _log_factor(self, context: SamplingContext, left: float) -> float:
        """The logarithm of the factor of the odds, if the window is open for `left` seconds."""
        tracker = context.tracker
        latest = tracker.latest(_RECENT)
        seconds = tracker.time - latest[0][0] if latest else 0.0
        density = (len(latest) - 1) / seconds if seconds > 0 else _DENSITY
        return max(0.0, math.log(self.typical_notes / max(1.0, density * left)))


def _onset(context: SamplingContext) -> float:
    """The onset of the next note, seconds, whose step is known if it comes before the end."""
    tracker = context.tracker
    step = next((f for f in tracker.fields if f.role == "step" and f.name in context.known), None)
    if step is None:
        return tracker.time
    return tracker.time + step.value_of(context.known[step.name]) * tracker.seconds_per_unit
