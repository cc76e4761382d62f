"""Processors that limit values: of pitch, of tempo, of any role."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ConfigError
from notelstm.fields import Field, Role
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import (
    check_roles,
    class_values,
    constrain_classes,
    constrain_interval,
)
from notelstm.sampling.scales import note_number, pitch_classes

__all__ = ["ForbidValues", "PitchRange", "Scale", "TempoRange"]


@functools.lru_cache(maxsize=64)
def _between(field: Field, role: Role, low: float, high: float) -> NDArray[np.bool_] | None:
    """(C,) the classes whose value lies between; the nearest one if there is none."""
    values = class_values(field, role)
    if values is None:
        return None
    silent = np.isnan(values)
    inside = (values >= low) & (values <= high)
    if not inside.any() and not silent.all():
        inside[np.nanargmin(np.abs(values - (low + high) / 2))] = True
    return silent | inside


def _kept_between(
    field: Field, role: Role, prediction: Prediction, low: float, high: float
) -> Prediction:
    allowed = _between(field, role, low, high)
    if allowed is not None:
        return constrain_classes(prediction, allowed)
    if field.role != role or field.is_categorical:
        return prediction
    ends = (float(np.clip(end, *field.interval)) for end in (low, high))
    size = prediction.mode()
    least, most = (torch.full_like(size, end, dtype=torch.float32) for end in ends)
    return constrain_interval(prediction, least, most)


@final
@dataclass(frozen=True, kw_only=True)
class PitchRange:
    """No note below `low` or above `high`; of events, it acts on note-ons.

    Attributes:
        low: The lowest pitch, a MIDI note number or a name such as ``"C2"``.
        high: The highest.

    Raises:
        ConfigError: If one is no pitch, or `low` is above `high`.
    """

    low: int | str = 0
    high: int | str = 127

    def __post_init__(self) -> None:
        """Check the settings."""
        if note_number(self.low) > note_number(self.high):
            raise ConfigError(
                f"the range from {self.low} to {self.high} is empty",
                hint="give the lower pitch as low",
            )

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a pitch, confined to the range."""
        low, high = note_number(self.low), note_number(self.high)
        return _kept_between(field, "pitch", prediction, low, high)


@final
@dataclass(frozen=True, kw_only=True)
class TempoRange:
    """No tempo outside a range, for encoders that have one; a narrow range sets the tempo.

    Attributes:
        slowest: Quarter notes a minute, above 0.
        fastest: The same, at least `slowest`. Where no class lies between, the nearest one is kept.

    Raises:
        ConfigError: If the range is empty.
    """

    slowest: float = 40.0
    fastest: float = 240.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.slowest <= self.fastest < float("inf"):
            raise ConfigError(
                f"the tempo range from {self.slowest} to {self.fastest} is empty or not above 0",
                hint="give the slower tempo as slowest, in quarter notes a minute",
            )

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a tempo, confined to the range."""
        return _kept_between(field, "tempo", prediction, self.slowest, self.fastest)


@functools.lru_cache(maxsize=64)
def _in_scale(field: Field, name: str) -> NDArray[np.bool_] | None:
    values = class_values(field, "pitch")
    if values is None:
        return None
    return np.isnan(values) | np.isin(values % 12, sorted(pitch_classes(name)))


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """No note outside a scale; of events, it acts on note-ons.

    Attributes:
        name: A tonic and a mode, ``"D dorian"``, ``"F# minor"``, ``"Eb major pentatonic"``,
            ``"A blues"``; or twelve digits from C on, 1 for each note of the scale. See
            :func:`~notelstm.sampling.scales.pitch_classes`.

    Raises:
        ConfigError: If there is no such scale.
    """

    name: str = "C major"

    def __post_init__(self) -> None:
        """Check the setting."""
        pitch_classes(self.name)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a pitch class id, confined to the scale."""
        allowed = _in_scale(field, self.name)
        return prediction if allowed is None else constrain_classes(prediction, allowed)


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
class ForbidValues:
    """Certain values never: pitches, velocities, durations ...; acts on classes.

    Attributes:
        role: The role of the fields; for events, note-ons are pitches, shifts steps.
        values: What is forbidden, in the field's unit; of classes with a width, those that a value
            lies in.

    Raises:
        ConfigError: If there is no such role, or a value is not finite.
    """

    role: str = "pitch"
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        if isinstance(self.values, str):
            raise ConfigError(
                f"forbidden values {self.values!r} are not a sequence of numbers",
                hint="give a tuple, (60, 61)",
            )
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        check_roles([self.role])
        if not np.isfinite(self.values).all():
            raise ConfigError(f"forbidden values {self.values} are not all finite")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of classes of the role, without those that are forbidden."""
        allowed = _not_among(field, cast(Role, self.role), self.values)
        return prediction if allowed is None else constrain_classes(prediction, allowed)
