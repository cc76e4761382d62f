"""A sampler and a processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.protocols import Prediction, Processor, SamplingContext
from notelstm.sampling import allow_only

__all__ = ["BestOfTwo", "SmallLeaps"]


@final
@dataclass(frozen=True, kw_only=True)
class BestOfTwo:
    """Samples twice and keeps the more likely entry.

    Attributes:
        processors: Applied in order before sampling.
    """

    processors: tuple[Processor, ...] = ()

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """(B,) entries sampled with (B, 2) noise, one uniform for each of the two samples."""
        for processor in self.processors:
            prediction = processor(field, prediction, contexts)
        first, second = prediction.sample(noise), prediction.sample(noise.flip(-1))
        better = _likelihood(prediction, first) >= _likelihood(prediction, second)
        return torch.where(better, first, second)


def _likelihood(prediction: Prediction, entries: Tensor) -> Tensor:
    """(B,) numbers that increase with the likelihood of (B,) entries."""
    log_weights = prediction.log_weights()
    if log_weights is not None:
        return log_weights.gather(-1, entries.unsqueeze(-1)).squeeze(-1)
    return -(entries - prediction.mode()).abs()


@final
@dataclass(frozen=True, kw_only=True)
class SmallLeaps:
    """Limits leaps to `semitones`, if one of these intervals is possible.

    Attributes:
        semitones: The widest interval, at least 0.

    Raises:
        ConfigError: If it is negative.
    """

    semitones: int = 12

    def __post_init__(self) -> None:
        """Check the setting."""
        if self.semitones < 0:
            raise ConfigError(f"semitones {self.semitones} is less than 0")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit the fields of intervals."""
        if field.unit != "semitone":
            return prediction
        leap = torch.tensor(field.values).abs()  # (C,)
        return allow_only(prediction, leap <= self.semitones)
