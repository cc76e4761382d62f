"""Processors: each changes what is predicted of a field, for the sampler to choose from.

A processor never removes the last entry that was possible before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, View

__all__ = ["ShortestDuration", "Temperature", "allow_only"]


def allow_only(prediction: Categorical, allowed: Tensor) -> Categorical:
    """Keep allowed classes; where none of them was possible, keep everything.

    Args:
        prediction: (B, C).
        allowed: (B, C) or (C,) bool.
    """
    possible = prediction.logits > -torch.inf
    left = possible & allowed
    return prediction.masked(torch.where(left.any(-1, keepdim=True), left, possible))


@final
@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Flatter draws above 1, sharper below.

    Attributes:
        temperature: Above 0; 1 changes nothing. For 0, use the Greedy sampler.

    Raises:
        ConfigError: If it is not above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(
                "a temperature is above 0",
                got=f"{self.temperature}",
                fix="use the greedy sampler for 0",
            )

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """The prediction of any field, tempered."""
        return prediction if self.temperature == 1 else prediction.tempered(self.temperature)


@final
@dataclass(frozen=True, kw_only=True)
class ShortestDuration:
    """No note shorter than `seconds`: notes of no length vanish from a MIDI file.

    Attributes:
        seconds: The least duration, at least 0.

    Raises:
        ConfigError: If it is negative or not finite.
    """

    seconds: float = 0.01

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.seconds < float("inf"):
            raise ConfigError("a shortest duration is at least 0", got=f"{self.seconds}")

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """The prediction of a duration in seconds, cut off below; others as they are."""
        if field.role != "duration" or field.unit != "s":
            return prediction
        if isinstance(prediction, Categorical):
            long_enough = torch.tensor(field.values, device=prediction.logits.device)
            return allow_only(prediction, long_enough >= self.seconds)
        size = prediction.mode()
        low = torch.full_like(size, self.seconds)
        return prediction.masked((low, torch.full_like(size, field.interval.high)))
