"""Processors that remove unlikely classes: top-k, top-p, min-p.

They act on classes, by the probabilities that :class:`~notelstm.sampling.Ancestral` samples with,
and leave predictions of numbers as they are.
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
from notelstm.sampling.masking import allow_only, check_roles
from notelstm.sampling.settings import check_whole

__all__ = ["MinP", "TopK", "TopP"]


def _log_weights(prediction: Prediction, field: Field, roles: tuple[str, ...]) -> Tensor | None:
    """(B, C) log-weights of the classes; None where the processor does not apply."""
    return prediction.log_weights() if not roles or field.role in roles else None


@final
@dataclass(frozen=True, kw_only=True)
class TopK:
    """Samples from the `k` most likely classes, and those as likely as the last of them.

    Attributes:
        k: At least 1.
        roles: The roles of the fields that it changes; none for all.

    Raises:
        ConfigError: If `k` is no whole number of at least 1, or a role does not exist.
    """

    k: int = 10
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "roles", tuple(self.roles))
        check_roles(self.roles)
        check_whole("top-k", self.k, 1, 2**31)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of classes without those less likely than the k-th."""
        logits = _log_weights(prediction, field, self.roles)
        if logits is None:
            return prediction
        least = logits.topk(min(self.k, logits.shape[-1]), dim=-1).values[..., -1:]  # (B, 1)
        return allow_only(prediction, logits >= least)


@final
@dataclass(frozen=True, kw_only=True)
class TopP:
    """Samples from the fewest most likely classes that have a total probability of `p`.

    Attributes:
        p: Above 0, up to 1, which changes nothing; the likeliest class always stays.
        roles: The roles of the fields that it changes; none for all.

    Raises:
        ConfigError: If `p` is out of range, or a role does not exist.

    Source:
        Holtzman, Buys, Du, Forbes and Choi, "The curious case of neural text degeneration", 2020.
    """

    p: float = 0.95
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "roles", tuple(self.roles))
        check_roles(self.roles)
        if not 0 < self.p <= 1:
            raise ConfigError(f"top-p {self.p} is not above 0 and up to 1")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of classes without those that more than `p` is likelier than."""
        # A probability of 1 is all of it, which rounding must not take for a little less.
        logits = None if self.p == 1 else _log_weights(prediction, field, self.roles)
        if logits is None:
            return prediction
        # By logits, as the mode is chosen: probabilities may be equal where these are not.
        classes = logits.argsort(dim=-1, descending=True, stable=True)
        ordered = logits.double().softmax(-1).gather(-1, classes)  # (B, C)
        likelier = ordered.cumsum(-1) - ordered  # (B, C)
        kept = torch.zeros_like(likelier, dtype=torch.bool)
        return allow_only(prediction, kept.scatter(-1, classes, likelier < self.p))


@final
@dataclass(frozen=True, kw_only=True)
class MinP:
    """Samples from the classes that are at least `ratio` times as likely as the likeliest.

    Attributes:
        ratio: From 0, which changes nothing, to 1, which leaves the likeliest.
        roles: The roles of the fields that it changes; none for all.

    Raises:
        ConfigError: If `ratio` is out of range, or a role does not exist.

    Source:
        Nguyen, Baker, Neo, Roush, Kirsch and Shwartz-Ziv, "Turning up the heat: min-p sampling for
        creative and coherent LLM outputs", 2024.
    """

    ratio: float = 0.05
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "roles", tuple(self.roles))
        check_roles(self.roles)
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"min-p {self.ratio} is not from 0 to 1")

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction of classes without those much rarer than the likeliest."""
        logits = None if self.ratio == 0 else _log_weights(prediction, field, self.roles)
        if logits is None:
            return prediction
        top = logits.amax(-1, keepdim=True)
        return allow_only(prediction, logits >= top + math.log(self.ratio))
