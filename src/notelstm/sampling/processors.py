"""Processors of any field: temperature, truncation (top-k, top-p, min-p), least durations.

A processor changes the prediction that the sampler chooses from, and never removes the last entry
that was possible. If two processors have no entry in common, the earlier one wins. Order them like
this: limits that must hold (a scale, a range, a polyphony limit), changes of the weights
(temperature, penalties), truncation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import (
    allow_only,
    check_number,
    check_roles,
    check_whole,
    constrain_interval,
)

__all__ = ["MinDuration", "MinP", "Temperature", "TopK", "TopP", "allow_only"]


@final
@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Flatter predictions above 1, sharper below.

    Attributes:
        temperature: From 1e-6 to 1e6; 1 changes nothing. For 0, use the Greedy sampler.
        roles: The roles of the fields that it changes, empty for all but the end of a piece.
    """

    temperature: float = 1.0
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", check_roles(self.roles))
        # Beyond this range, float32 does not distinguish unlikely from masked classes.
        check_number("temperature", self.temperature, 1e-6, 1e6, "use the greedy sampler for 0")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Apply the temperature to fields of these roles."""
        if self.temperature == 1 or not _applies(field, self.roles):
            return prediction
        return prediction.with_temperature(self.temperature)


@final
@dataclass(frozen=True, kw_only=True)
class MinDuration:
    """A minimum duration; notes of zero duration would be lost in a MIDI file.

    Attributes:
        seconds: The minimum, from 0 to 3600. Of a field of numbers up to less than that, all become
            the greatest; one of shorter classes does not change.
    """

    seconds: float = 0.01

    def __post_init__(self) -> None:
        check_number("min duration", self.seconds, 0, 3600)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit the durations of fields in seconds."""
        if field.role != "duration" or field.unit != "s":
            return prediction
        if field.is_categorical:
            return allow_only(prediction, torch.tensor(field.values) >= self.seconds)
        mode, high = prediction.mode(), field.interval.high
        low = torch.full_like(mode, min(self.seconds, high))
        return constrain_interval(prediction, low, torch.full_like(mode, high))


def _applies(field: Field, roles: tuple[str, ...]) -> bool:
    """Whether a processor of these roles changes a field."""
    # An end is so unlikely at each note that truncation would exclude it for good.
    return field.role in roles if roles else field.role != "end"


def _log_weights(prediction: Prediction, field: Field, roles: tuple[str, ...]) -> Tensor | None:
    """(B, C) log-weights of the classes; None where the processor does not apply."""
    return prediction.log_weights() if _applies(field, roles) else None


@final
@dataclass(frozen=True, kw_only=True)
class TopK:
    """Samples from the `k` most likely classes, and those as likely as the last of them.

    Attributes:
        k: At least 1.
        roles: The roles of the fields that it changes, empty for all but the end of a piece.
    """

    k: int = 10
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", check_roles(self.roles))
        check_whole("top-k", self.k, 1, 2**31)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Remove the classes that are less likely than the k-th."""
        logits = _log_weights(prediction, field, self.roles)
        if logits is None:
            return prediction
        least = logits.topk(min(self.k, logits.shape[-1]), dim=-1).values[..., -1:]  # (B, 1)
        return allow_only(prediction, logits >= least)


@final
@dataclass(frozen=True, kw_only=True)
class TopP:
    """Samples from the fewest most likely classes with a total probability of `p`.

    Attributes:
        p: Above 0, up to 1, which changes nothing; the most likely class always stays.
        roles: The roles of the fields that it changes, empty for all but the end of a piece.

    Source:
        Holtzman, Buys, Du, Forbes and Choi, "The curious case of neural text degeneration", 2020.
    """

    p: float = 0.95
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", check_roles(self.roles))
        if not 0 < self.p <= 1:
            raise ConfigError(f"top-p {self.p} is not above 0 and up to 1")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Remove the least likely classes, beyond a total probability of `p`."""
        # Rounding of the cumulative sum must not remove classes at p = 1.
        logits = None if self.p == 1 else _log_weights(prediction, field, self.roles)
        if logits is None:
            return prediction
        # Sorted by logits, as the mode is chosen: probabilities may be equal where logits are not.
        classes = logits.argsort(dim=-1, descending=True, stable=True)
        ordered = logits.double().softmax(-1).gather(-1, classes)  # (B, C)
        above = ordered.cumsum(-1) - ordered  # (B, C)
        kept = torch.zeros_like(above, dtype=torch.bool)
        return allow_only(prediction, kept.scatter(-1, classes, above < self.p))


@final
@dataclass(frozen=True, kw_only=True)
class MinP:
    """Samples from the classes that are at least `ratio` times as likely as the most likely.

    Attributes:
        ratio: From 0, which changes nothing, to 1, which keeps the most likely class.
        roles: The roles of the fields that it changes, empty for all but the end of a piece.

    Source:
        Nguyen, Baker, Neo, Roush, Kirsch and Shwartz-Ziv, "Turning up the heat: min-p sampling for
        creative and coherent LLM outputs", 2024.
    """

    ratio: float = 0.05
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", check_roles(self.roles))
        check_number("min-p", self.ratio, 0, 1)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Remove the classes that are less than `ratio` times as likely as the most likely."""
        logits = None if self.ratio == 0 else _log_weights(prediction, field, self.roles)
        if logits is None:
            return prediction
        top = logits.amax(-1, keepdim=True)
        return allow_only(prediction, logits >= top + math.log(self.ratio))
