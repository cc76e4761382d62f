"""Limits of the next note by instrument: the wait of each tone.

A note has a step, an instrument and a pitch, which are predicted one after another. A limit on
notes holds only if no field is chosen with which no allowed note is left: once a step of 0 is
chosen, an encoder that sorts the notes of a chord allows only later instruments and higher pitches,
and those may be forbidden. So a processor that limits notes gives the **wait** of each tone, the
minimum step after which it may begin: 0 if it may begin at once, infinity if it may not begin. The
rule of the encoder is a wait as well, and the wait under several limits is their maximum. Whatever
the order of prediction, a field is then limited to the entries with which the row can be completed
to a tone whose wait is at most its step.
"""

from __future__ import annotations

import abc
import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, Role, predicted
from notelstm.parts import Part, classes_named
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import allow_only, class_values, constrain_interval
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = [
    "MIN_STEP",
    "ROUNDING",
    "ByInstrument",
    "ToneLimit",
    "Waits",
    "check_parts",
    "known_entry",
    "limit_tones",
    "look_ahead",
    "part_names",
    "pitches_of",
    "selected_parts",
    "shortest_step",
]

Waits: TypeAlias = NDArray[np.float64]
"""(I, 128) the wait of each pitch of each of I instruments, in the unit of the step."""

ROUNDING: Final = 1e-6
"""Times that differ by less are equal up to rounding."""
MIN_STEP: Final = 1e-3
"""The minimum step between two chords, for continuous steps."""
_ROLES: Final[tuple[Role, ...]] = ("step", "instrument", "pitch")


@runtime_checkable
class ToneLimit(Protocol):
    """A processor that limits the next note; a subclass only needs :meth:`waits`.

    Samplers consider all of their limits together before the last of step, instrument and pitch is
    chosen, so that two limits that can both hold do.
    """

    @abc.abstractmethod
    def waits(self, context: SamplingContext) -> Waits:
        """(I, 128) the wait of each tone, given the sequence and the fixed entries of the row."""

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a step, an instrument, a pitch or an event."""
        return limit_tones(field, prediction, contexts, (self,))


@runtime_checkable
class _HasParts(Protocol):
    """A processor that can check its settings against the parts of a model."""

    def check_parts(self, parts: Sequence[Part], roles: Sequence[Role]) -> None: ...


def check_parts(processors: object, parts: Sequence[Part], roles: Sequence[Role]) -> None:
    """Check the settings of processors before the first row is sampled.

    Args:
        processors: The processors of a sampler; anything but a tuple is not checked.
        parts: The part of each instrument.
        roles: The roles of the fields in the order of prediction.

    Raises:
        ConfigError: If a part does not exist.
        FieldError: If a processor does not work with the order of prediction.
    """
    for processor in processors if isinstance(processors, tuple) else ():
        if isinstance(processor, _HasParts):
            processor.check_parts(parts, roles)


def part_names(setting: str, names: object) -> tuple[str, ...]:
    """The names of parts as a tuple; a ConfigError if they are not a sequence of texts."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{setting} {names!r} is not a sequence of names", hint="give a tuple, ('Bass',)"
        )
    return tuple(names)


@functools.lru_cache(maxsize=256)
def selected_parts(
    parts: Sequence[Part], instruments: tuple[str, ...], *, drums: bool = False
) -> NDArray[np.bool_]:
    """(I,) the parts that a processor acts on.

    Args:
        parts: The part of each instrument, a tuple.
        instruments: The names of parts; none for all that are not percussion.
        drums: Whether percussion is added.

    Raises:
        ConfigError: If there is no such part.
    """
    percussion = np.array([part.drum for part in parts])
    found = ~percussion if not instruments else np.zeros(len(parts), dtype=np.bool_)
    for name in instruments:
        found[list(classes_named(parts, name))] = True
    if drums:
        found |= percussion
    found.setflags(write=False)
    return found


@dataclass(frozen=True, kw_only=True)
class ByInstrument:
    """The settings of processors that act on the notes of some instruments.

    Attributes:
        instruments: The names of parts, in upper or lower case; none for all that are not
            percussion.
        drums: Whether it also acts on percussion.

    Raises:
        ConfigError: If a setting has another type.
    """

    instruments: tuple[str, ...] = ()
    drums: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "instruments", part_names("instruments", self.instruments))
        if not isinstance(self.drums, bool):
            raise ConfigError(f"drums {self.drums!r} is not true or false")

    def check_parts(self, parts: Sequence[Part], roles: Sequence[Role]) -> None:
        """Check that the parts exist, else raise a ConfigError; see :func:`check_parts`."""
        self.selected(parts)

    def selected(self, parts: Sequence[Part]) -> NDArray[np.bool_]:
        """(I,) the parts that it acts on."""
        return selected_parts(tuple(parts), self.instruments, drums=self.drums)

    def latest(self, tracker: Tracker, count: int) -> dict[int, list[tuple[float, int]]]:
        """Onset (s) and pitch of the latest notes of each part that it acts on, by class, in order.

        Args:
            tracker: The tracker of the sequence.
            count: The maximum number for each part. If there are several parts, these are among the
                latest :data:`~notelstm.tracker.MAX_HISTORY` notes of all.
        """
        selected = self.selected(tracker.parts)
        found: dict[int, list[tuple[float, int]]] = {
            k: [] for k in np.flatnonzero(selected).tolist()
        }
        for onset, tone in tracker.latest(count if len(selected) == 1 else MAX_HISTORY):
            if tone.instrument in found:
                found[tone.instrument].append((onset, tone.pitch))
        return {k: notes[-count:] for k, notes in found.items()}

    def acts_on(self, field: Field, contexts: Sequence[SamplingContext]) -> list[bool]:
        """Whether the next note of each sequence is of a part that it acts on.

        Raises:
            FieldError: If the instrument is predicted after `field`.
        """
        acting = []
        for context in contexts:
            selected = self.selected(context.tracker.parts)
            k = 0 if selected.all() else self.next_instrument(field, context)
            acting.append(k is not None and bool(selected[k]))
        return acting

    def next_instrument(self, field: Field, context: SamplingContext) -> int | None:
        """The class id of the next note's instrument, 0 without instruments.

        For events, it is that of the latest instrument event, None before the first one.

        Raises:
            FieldError: If it is predicted after `field`.
        """
        if len(context.tracker.parts) == 1:
            return 0
        instrument = known_entry(context, "instrument")
        if instrument is not None:
            return int(instrument)
        if field.role != "event":
            raise self._too_early(field.role)
        return context.tracker.instrument

    def require_instrument_before(self, role: Role, roles: Sequence[Role]) -> None:
        """Check that the instrument is predicted before the field of a role.

        Raises:
            FieldError: If it is not.
        """
        if role in roles and "instrument" in roles[roles.index(role) :]:
            raise self._too_early(role)

    def _too_early(self, role: Role) -> FieldError:
        return FieldError(
            f"{type(self).__name__} acts on the {role} of an instrument, but the model predicts "
            f"the {role} before the instrument",
            hint="use a model with the instrument earlier in its field_order",
        )


def _field_of(tracker: Tracker, role: Role) -> Field | None:
    return next((f for f in tracker.fields if f.role == role and not f.given), None)


def known_entry(context: SamplingContext, role: Role) -> float | None:
    """The entry of the field of a role, None if it is not fixed or there is no such field."""
    field = _field_of(context.tracker, role)
    return None if field is None else context.known.get(field.name)


def shortest_step(tracker: Tracker) -> float:
    """The shortest step that is not 0, in the unit of the step."""
    field = _field_of(tracker, "step")
    return MIN_STEP if field is None else _shortest(field)


@functools.lru_cache(maxsize=64)
def _shortest(step: Field) -> float:
    if not step.is_categorical:
        return MIN_STEP
    return min((value for value in step.values if value > 0), default=0.0)


def _encoder_waits(context: SamplingContext) -> Waits:
    """The waits by the rule of the encoder: the tones that it excludes after a step of 0."""
    tracker = context.tracker
    waits = np.zeros((len(tracker.parts), 128))
    step, instrument, pitch = (_field_of(tracker, role) for role in _ROLES)
    if step is None or pitch is None or not pitch.is_categorical:
        return waits
    zero = _zero(step)
    if zero is None:
        return waits
    names = {field.name for field in (instrument, pitch) if field is not None}
    known = {name: entry for name, entry in context.known.items() if name not in names}
    known[step.name] = zero
    excluded = shortest_step(tracker)
    possible = None if instrument is None else tracker.allowed(instrument, known)
    for k in range(len(waits)):
        if possible is not None and not possible[k]:
            waits[k] = excluded
            continue
        here = known if instrument is None else {**known, instrument.name: float(k)}
        mask = tracker.allowed(pitch, here)
        if mask is not None:
            waits[k, pitches_of(pitch)[~np.asarray(mask, dtype=np.bool_)]] = excluded
    return waits


@functools.lru_cache(maxsize=64)
def _zero(step: Field) -> float | None:
    """The entry of a step of 0, None if there is none."""
    if not step.is_categorical:
        return 0.0
    return float(step.values.index(0.0)) if 0.0 in step.values else None


@functools.lru_cache(maxsize=64)
def pitches_of(field: Field) -> NDArray[np.intp]:
    """(C,) the MIDI note number of each class of a pitch or an event; 0 for classes without one."""
    return np.clip(np.nan_to_num(_values(field, "pitch")), 0, 127).astype(np.intp)


def _reach(context: SamplingContext) -> float:
    """The longest wait that the next note can have: its step, or the longest one."""
    field = _field_of(context.tracker, "step")
    if field is None:
        return ROUNDING
    entry = context.known.get(field.name)
    if entry is not None:
        return field.value_of(entry) + ROUNDING
    return _longest(field)


@functools.lru_cache(maxsize=64)
def _longest(step: Field) -> float:
    longest = max(step.values) if step.values else step.interval.high
    # An infinite wait never ends, however long the step.
    return min(longest + ROUNDING, sys.float_info.max)


def _open_waits(
    field: Field, context: SamplingContext, limits: Sequence[ToneLimit]
) -> Waits | None:
    """The waits of the tones that the fixed entries leave open; None if they are all 0."""
    waits = functools.reduce(np.maximum, (limit.waits(context) for limit in limits))
    if not waits.any():
        return None
    # Without instruments, the encoder has already excluded its pitches from the prediction, if the
    # step is 0; if not, they wait for no longer than any step.
    if len(waits) > 1 or field.role != "pitch":
        waits = np.maximum(waits, _encoder_waits(context))
    instrument, pitch = (known_entry(context, role) for role in ("instrument", "pitch"))
    if instrument is not None and len(waits) > 1:
        waits = waits[int(instrument)][None]
    if pitch is not None:
        pitches = _field_of(context.tracker, "pitch")
        assert pitches is not None
        waits = waits[:, int(np.clip(pitches.value_of(pitch), 0, 127))][:, None]
    return waits


def limit_tones(
    field: Field,
    prediction: Prediction,
    contexts: Sequence[SamplingContext],
    limits: Sequence[ToneLimit],
) -> Prediction:
    """Limit a step, an instrument, a pitch or an event to the tones under all of the limits.

    Args:
        field: The field; others do not change.
        prediction: Its prediction for (B,) sequences.
        contexts: The context of each.
        limits: At least one. Where no tone is allowed by all of them, nothing changes.
    """
    if field.role not in (*_ROLES, "event") or not contexts:
        return prediction
    if field.role in ("pitch", "event") and class_values(field, "pitch") is None:
        return prediction
    found = [_open_waits(field, context, limits) for context in contexts]
    if all(waits is None for waits in found):
        return prediction
    if field.role == "step":
        return _steps_from(field, prediction, found)
    masks = []
    for context, waits in zip(contexts, found, strict=True):
        allowed = np.ones(field.classes or 0, dtype=np.bool_)
        if waits is not None and field.role == "event":
            allowed = _allowed_events(field, context.tracker, waits <= ROUNDING)
        elif waits is not None and (field.role == "pitch" or len(waits) == field.classes):
            is_pitch = field.role == "pitch"
            by_class = waits.min(axis=0)[pitches_of(field)] if is_pitch else waits.min(axis=1)
            allowed = by_class <= _reach(context)
        masks.append(allowed)
    return allow_only(prediction, masks)


def _allowed_events(field: Field, tracker: Tracker, begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(C,) the events after which the limits hold.

    Note-ons are those of the latest instrument event. An instrument may be chosen if one of its
    notes may begin now, or if it has notes to end.

    Args:
        field: The field of events.
        tracker: The notes of the sequence.
        begins: (I, 128) the tones that may begin now.
    """
    allowed = np.ones(field.classes or 0, dtype=np.bool_)
    note_on = np.asarray(~np.isnan(_values(field, "pitch")))
    instrument = 0 if len(begins) == 1 else tracker.instrument
    mine = np.asarray(begins.any(axis=0) if instrument is None else begins[instrument])
    allowed[note_on] = mine[pitches_of(field)[note_on]]
    useful = np.asarray(begins.any(axis=1))
    useful[[tone.instrument for tone in tracker.sounding(tracker.time)]] = True
    classes = _values(field, "instrument")
    chosen = ~np.isnan(classes)
    allowed[chosen] = useful[classes[chosen].astype(np.intp)]
    return allowed


def _values(field: Field, role: Role) -> NDArray[np.float64]:
    """(C,) the value of each class of a pitch or an event for a role."""
    values = class_values(field, role)
    assert values is not None
    return values


def _steps_from(field: Field, prediction: Prediction, waits: Sequence[Waits | None]) -> Prediction:
    """Limit a step to at least the shortest wait in each sequence, unless no tone is allowed."""
    least = [0.0 if w is None or not math.isfinite(w.min()) else float(w.min()) for w in waits]
    if not any(least):
        return prediction
    if field.is_categorical:
        values = np.array(field.values)
        if field.rest is not None:
            # A rest begins no note.
            values[field.rest] = np.inf
        return allow_only(prediction, [values >= low - ROUNDING for low in least])
    mode = prediction.mode()
    low = torch.tensor(least, dtype=mode.dtype, device=mode.device)
    # Rounded down to float32, a note could begin before another one ends.
    above = torch.nextafter(low, torch.full_like(low, torch.inf))
    low = torch.where(low.double() < mode.new_tensor(least, dtype=torch.float64), above, low)
    low = low.clamp(*field.interval)
    return constrain_interval(prediction, low, torch.full_like(mode, field.interval.high))


def look_ahead(
    field: Field,
    prediction: Prediction,
    contexts: Sequence[SamplingContext],
    limits: Sequence[ToneLimit],
) -> Prediction:
    """Limit a field by all limits together, if another field of the note is chosen later.

    One after another, limits allow a field with which a note under each of them is left, but
    perhaps none under all of them.
    """
    if len(limits) < 2 or field.role not in _ROLES or not contexts:
        return prediction
    known, fields = contexts[0].known, contexts[0].tracker.fields
    later = [f for f in predicted(fields) if f.role in _ROLES and f.name not in known]
    later = [f for f in later if f.role != field.role]
    if not later:
        return prediction
    if len(contexts[0].tracker.parts) == 1 and not any(
        _encoder_waits(context).any() for context in contexts
    ):
        # The wait of a pitch does not depend on its step.
        return prediction
    return limit_tones(field, prediction, contexts, limits)
