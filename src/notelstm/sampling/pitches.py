"""Processors that limit pitches, tempos and other values, and scales by name.

Those of notes act on the instruments that they name, or on all that are not percussion.
"""

from __future__ import annotations

import abc
import functools
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, Role
from notelstm.parts import Part
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import allow_only, check_roles, class_values, constrain_interval
from notelstm.sampling.tones import ByInstrument, ToneLimit, Waits, pitches_of

__all__ = [
    "MODES",
    "ForbidValues",
    "PitchRange",
    "Scale",
    "TempoRange",
    "note_number",
    "pitch_classes",
]

MODES: Final[dict[str, tuple[int, ...]]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "pentatonic": (0, 2, 4, 7, 9),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "major blues": (0, 2, 3, 4, 7, 9),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "octatonic": (0, 2, 3, 5, 6, 8, 9, 11),
    "chromatic": tuple(range(12)),
}
"""Semitones above the tonic by the name of the mode; melodic minor is the ascending form."""

_OF_NOTES: Final = ("pitch", "velocity", "duration")
"""The roles whose values belong to the instrument of a note."""

_LETTERS: Final = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SIGNS: Final = {"#": 1, "♯": 1, "b": -1, "♭": -1}
_TONIC: Final = r"([A-Ga-g])(##|bb|[#b♯♭])?"
_SCALE: Final = re.compile(rf"{_TONIC}(m)?(?:[ _-]+(.+))?")
_NOTE: Final = re.compile(rf"{_TONIC}(-?\d+)")


def _semitones(letter: str, signs: str | None) -> int:
    return _LETTERS[letter.lower()] + sum(_SIGNS[sign] for sign in signs or "")


def pitch_classes(name: str) -> frozenset[int]:
    """The pitch classes of a scale, 0 for C to 11 for B.

    Args:
        name: A tonic and one of :data:`MODES`, such as ``"D dorian"``; a tonic alone is major, with
            an ``m`` minor. Or twelve digits from C, 1 for each note of the scale.

    Raises:
        ConfigError: If there is no such scale.

    Example:
        >>> sorted(pitch_classes("F# minor"))
        [1, 2, 4, 6, 8, 9, 11]
        >>> sorted(pitch_classes("100010010000"))
        [0, 4, 7]
    """
    text = name.strip() if isinstance(name, str) else ""
    if re.fullmatch("[01]{12}", text) and "1" in text:
        return frozenset(k for k, digit in enumerate(text) if digit == "1")
    found = _SCALE.fullmatch("c chromatic" if text.lower() == "chromatic" else text)
    if found is not None:
        letter, signs, minor, mode = found.groups()
        mode = "minor" if minor else re.sub("[ _-]+", " ", mode or "major").strip().lower()
        if mode in MODES and not (minor and found[4]):
            tonic = _semitones(letter, signs)
            return frozenset((tonic + step) % 12 for step in MODES[mode])
    raise ConfigError(
        f"no such scale: {name!r}",
        hint='give a tonic and a mode or twelve digits from C, "F# minor" or "101011010101"; '
        f"the modes are {', '.join(MODES)}",
    )


def note_number(name: str | int) -> int:
    """The MIDI note number of a name such as ``"C4"`` (60), ``"F#2"``, ``"Bb-1"``, or of a number.

    Raises:
        ConfigError: If it is neither, or is not from 0 to 127.

    Example:
        >>> note_number("A0"), note_number("C8"), note_number(60)
        (21, 108, 60)
    """
    number = -1
    if not isinstance(name, str):
        # A float from an array or from JSON may be whole.
        number = int(name) if isinstance(name, numbers.Real) and name % 1 == 0 else -1
    elif name.strip().isdecimal():
        number = int(name)
    elif (found := _NOTE.fullmatch(name.strip())) is not None:
        number = 12 * (int(found[3]) + 1) + _semitones(found[1], found[2])
    if not 0 <= number <= 127:
        raise ConfigError(
            f"no such pitch: {name!r}",
            hint="give a MIDI note number from 0 to 127 or a name from C-1 to G9",
        )
    return number


@functools.lru_cache(maxsize=64)
def _between(field: Field, role: Role, low: float, high: float) -> NDArray[np.bool_] | None:
    """(C,) the classes with a value in [low, high], or else the nearest one."""
    values = class_values(field, role)
    if values is None:
        return None
    without = np.isnan(values)
    inside = (values >= low) & (values <= high)
    if not inside.any() and not without.all():
        inside[np.nanargmin(np.abs(values - (low + high) / 2))] = True
    return without | inside


def _limited(
    field: Field,
    role: Role,
    prediction: Prediction,
    low: float,
    high: float,
    acting: Sequence[bool] = (),
) -> Prediction:
    """Limit a value to [low, high], in the sequences that are `acting` or, without any, in all."""
    allowed = _between(field, role, low, high)
    if allowed is not None:
        return allow_only(prediction, allowed)
    if field.role != role or field.is_categorical:
        return prediction
    mode = prediction.mode()
    limited = torch.tensor(acting or [True] * len(mode), device=mode.device)
    ends = (
        torch.where(limited, float(np.clip(end, *field.interval)), bound).to(torch.float32)
        for end, bound in zip((low, high), field.interval, strict=True)
    )
    return constrain_interval(prediction, *ends)


@dataclass(frozen=True, kw_only=True)
class _PitchFilter(ByInstrument, ToneLimit):
    """Limits the pitches of some instruments to the same ones at any time."""

    @abc.abstractmethod
    def _allowed(self, field: Field) -> NDArray[np.bool_] | None:
        """(C,) the allowed classes of a field of pitches or events; None for other fields."""

    @override
    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a note."""
        if contexts:
            return super().__call__(field, prediction, contexts)
        # Without contexts, there are no instruments and no limits of the next note.
        allowed = self._allowed(field)
        return prediction if allowed is None else allow_only(prediction, allowed)

    def waits(self, context: SamplingContext) -> Waits:
        """Infinite for the pitches that are not allowed."""
        return _filter_waits(self, context.tracker.fields, context.tracker.parts)


@functools.lru_cache(maxsize=64)
def _filter_waits(limit: _PitchFilter, fields: Sequence[Field], parts: Sequence[Part]) -> Waits:
    """(I, 128) the waits of a filter for the notes of a tracker, which do not change."""
    waits = np.zeros((len(parts), 128))
    for field in fields:
        allowed = limit._allowed(field) if field.role in ("pitch", "event") else None
        if allowed is not None:
            closed = np.zeros(128, dtype=np.bool_)
            closed[pitches_of(field)[~allowed]] = True
            waits[limit.selected(parts)[:, None] & closed] = np.inf
    waits.setflags(write=False)
    return waits


@final
@dataclass(frozen=True, kw_only=True)
class PitchRange(_PitchFilter):
    """Limits pitches to a range; for events, it acts on note-ons.

    Attributes:
        low: The lowest pitch, a MIDI note number or a name such as ``"C2"``.
        high: The highest pitch.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    low: int | str = 0
    high: int | str = 127

    def __post_init__(self) -> None:
        super().__post_init__()
        if note_number(self.low) > note_number(self.high):
            raise ConfigError(
                f"the range from {self.low} to {self.high} is empty",
                hint="give the lower pitch as low",
            )

    @override
    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a note to the range."""
        if field.role != "pitch" or field.is_categorical:
            return super().__call__(field, prediction, contexts)
        acting = self.acts_on(field, contexts)
        return _limited(field, "pitch", prediction, *self._ends, acting)

    @property
    def _ends(self) -> tuple[int, int]:
        return note_number(self.low), note_number(self.high)

    @override
    def _allowed(self, field: Field) -> NDArray[np.bool_] | None:
        return _between(field, "pitch", *self._ends)


@final
@dataclass(frozen=True, kw_only=True)
class TempoRange:
    """Limits the tempo, for encoders that have one; a narrow range sets it.

    Attributes:
        slowest: Quarter notes per minute, above 0.
        fastest: Quarter notes per minute, at least `slowest`. If no class is in the range, the
            nearest one is allowed.
    """

    slowest: float = 40.0
    fastest: float = 240.0

    def __post_init__(self) -> None:
        if not 0 < self.slowest <= self.fastest < float("inf"):
            raise ConfigError(
                f"the tempo range from {self.slowest} to {self.fastest} is empty or not above 0",
                hint="give the slower tempo as slowest, in quarter notes per minute",
            )

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a tempo to the range."""
        return _limited(field, "tempo", prediction, self.slowest, self.fastest)


@functools.lru_cache(maxsize=64)
def _in_scale(field: Field, name: str) -> NDArray[np.bool_] | None:
    values = class_values(field, "pitch")
    if values is None:
        return None
    return np.isnan(values) | np.isin(values % 12, sorted(pitch_classes(name)))


@final
@dataclass(frozen=True, kw_only=True)
class Scale(_PitchFilter):
    """Limits pitches to a scale; for events, it acts on note-ons.

    Attributes:
        name: A tonic and a mode, such as ``"D dorian"``, ``"F# minor"``,
            ``"Eb major pentatonic"`` or ``"A blues"``, or twelve digits from C, 1 for each note of
            the scale. See :func:`~notelstm.sampling.pitches.pitch_classes`.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    name: str = "C major"

    def __post_init__(self) -> None:
        super().__post_init__()
        pitch_classes(self.name)

    @override
    def _allowed(self, field: Field) -> NDArray[np.bool_] | None:
        return _in_scale(field, self.name)


@functools.lru_cache(maxsize=64)
def _not_among(field: Field, role: Role, forbidden: tuple[float, ...]) -> NDArray[np.bool_] | None:
    values = class_values(field, role)
    if values is None:
        return None
    if not field.edges:
        found = np.isclose(values[:, None], np.array(forbidden), rtol=0, atol=1e-6)  # (C, K)
    else:
        low, high = np.array(field.edges[:-1])[:, None], np.array(field.edges[1:])[:, None]
        found = (low <= np.array(forbidden)) & (np.array(forbidden) < high)
    return np.asarray(~found.any(axis=1))


@final
@dataclass(frozen=True, kw_only=True)
class ForbidValues(_PitchFilter):
    """Forbids values of classes: pitches, velocities, durations ...

    Attributes:
        role: The role of the fields; for events, note-ons are pitches and shifts are steps.
        values: The forbidden values, in the field's unit; each forbids the class that it is in.
        instruments: For pitches, velocities and durations, the names of the parts that it acts on;
            none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    role: str = "pitch"
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            # The digits of a text are no sequence of numbers.
            values = None if isinstance(self.values, str) else tuple(map(float, self.values))
        except (OverflowError, TypeError, ValueError):
            values = None
        if values is None:
            raise ConfigError(
                f"forbidden values {self.values!r} are not a sequence of numbers",
                hint="give a tuple, (60, 61)",
            )
        object.__setattr__(self, "values", values)
        check_roles([self.role])
        if not np.isfinite(self.values).all():
            raise ConfigError(f"forbidden values {self.values} are not all finite")
        if self.role not in _OF_NOTES and (self.instruments or self.drums):
            raise ConfigError(
                f"values of the role {self.role!r} are not those of an instrument",
                hint="leave out instruments and drums",
            )

    @override
    def check_parts(self, parts: Sequence[Part], roles: Sequence[Role]) -> None:
        """Check that the parts exist, and that velocities can be forbidden for them alone.

        Raises:
            ConfigError: If a part does not exist.
            FieldError: If the model predicts the instrument after the value, or its velocities are
                events, which are not of one instrument.
        """
        super().check_parts(parts, roles)
        if self.role in ("velocity", "duration") and not self.selected(parts).all():
            self.require_instrument_before(cast(Role, self.role), roles)
            if self.role == "velocity" and "event" in roles:
                raise FieldError(
                    "a velocity event holds for the notes of all instruments that follow it, so "
                    "velocities cannot be forbidden for some of them",
                    hint="name all instruments, and add drums=True",
                )

    @override
    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Remove the forbidden classes."""
        if self.role == "pitch":
            return super().__call__(field, prediction, contexts)
        allowed = _not_among(field, cast(Role, self.role), self.values)
        if allowed is None:
            return prediction
        if self.role not in _OF_NOTES or not contexts:
            return allow_only(prediction, allowed)
        acting = np.array(self.acts_on(field, contexts))
        return allow_only(prediction, allowed | ~acting[:, None])

    @override
    def _allowed(self, field: Field) -> NDArray[np.bool_] | None:
        return _not_among(field, "pitch", self.values) if self.role == "pitch" else None
