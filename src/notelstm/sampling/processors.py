"""Processors of any field's prediction, and of durations.

Each processor changes what is predicted of a field, for the sampler to choose from, and never
removes the last entry that was possible before it. So where two of them leave nothing in common,
the earlier one wins: give those that must hold first (a scale, a range, a polyphony limit), then
those that bend what is left (temperature, penalties), then those that cut off what is unlikely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import allow_only, check_roles, constrain_interval
from notelstm.sampling.settings import check_number

__all__ = ["MinDuration", "Temperature", "allow_only"]


@final
@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Flatter predictions above 1, sharper below.

    Attributes:
        temperature: From 1e-6 to 1e6; 1 changes nothing. For 0, use the Greedy sampler.
        roles: The roles of the fields that it changes; none for all.

    Raises:
        ConfigError: If it is out of range, or a role does not exist.
    """

    temperature: float = 1.0
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "roles", tuple(self.roles))
        check_roles(self.roles)
        # Beyond, float32 cannot tell what is likely from what is masked.
        check_number("temperature", self.temperature, 1e-6, 1e6, "use the greedy sampler for 0")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a field of these roles with the temperature."""
        if self.temperature == 1 or (self.roles and field.role not in self.roles):
            return prediction
        return prediction.with_temperature(self.temperature)


@final
@dataclass(frozen=True, kw_only=True)
class MinDuration:
    """No note shorter than `seconds`: notes of no length vanish from a MIDI file.

    Attributes:
        seconds: The least duration, from 0 to 3600.

    Raises:
        ConfigError: If it is out of range.
    """

    seconds: float = 0.01

    def __post_init__(self) -> None:
        """Check the setting."""
        check_number("min duration", self.seconds, 0, 3600)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of a duration in seconds, cut off below; others as they are."""
        if field.role != "duration" or field.unit != "s":
            return prediction
        if field.is_categorical:
            return allow_only(prediction, torch.tensor(field.values) >= self.seconds)
        size = prediction.mode()
        low = torch.full_like(size, self.seconds)
        return constrain_interval(prediction, low, torch.full_like(size, field.interval.high))
