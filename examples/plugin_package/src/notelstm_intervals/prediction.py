"""A prediction: a mixture of categorical distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ShapeError
from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Allowed, Prediction

__all__ = ["CategoricalMixture", "MixtureHead"]


@final
@dataclass(frozen=True, eq=False)
class CategoricalMixture(Prediction):
    """A mixture of K categorical distributions over the same C classes.

    It inherits the defaults of `support` and `shifted`, which are for numbers, from
    :class:`notelstm.protocols.Prediction`. With `log_weights` and `add_log_weights` it works with
    all processors; with `nll` and `interval_prob` it can be trained and scored.

    Attributes:
        log_shares: (..., K) log-probability of each component.
        log_probs: (..., K, C) log-probability of each class in each component.
    """

    log_shares: Tensor
    log_probs: Tensor

    def log_weights(self) -> Tensor:
        """(..., C) log-probability of each class, summed over the components."""
        return torch.logsumexp(self.log_shares.unsqueeze(-1) + self.log_probs, dim=-2)

    def add_log_weights(self, log_weights: Tensor) -> CategoricalMixture:
        """Reweight each component, and the components by their remaining weights."""
        joint = self.log_probs + log_weights.to(self.log_probs).unsqueeze(-2)  # (..., K, C)
        total = joint.logsumexp(-1)  # (..., K)
        shares = (self.log_shares + total).log_softmax(-1)
        # A component without a possible class has a share of 0.
        probs = joint - total.masked_fill(total == -math.inf, 0.0).unsqueeze(-1)
        return CategoricalMixture(shares, probs)

    def sample(self, noise: Tensor) -> Tensor:
        """(...) class ids, with the first of (..., 2) uniforms."""
        return Categorical(self.log_weights()).sample(noise)

    def mode(self) -> Tensor:
        """(...) the most likely class."""
        return self.log_weights().argmax(-1)

    def constrained(self, allowed: Allowed) -> CategoricalMixture:
        """The mixture limited to the allowed classes.

        Raises:
            ShapeError: If it is an interval, or leaves no possible class.
        """
        if not isinstance(allowed, Tensor):
            raise ShapeError(
                "an interval cannot constrain a mixture of classes", hint="give a mask"
            )
        if not bool((allowed & (self.log_weights() > -math.inf)).any(-1).all()):
            raise ShapeError("the mask of a row leaves no possible class")
        zeros = torch.zeros_like(self.log_probs[..., 0, :])
        return self.add_log_weights(zeros.masked_fill(~allowed, -math.inf))

    def with_temperature(self, temperature: float) -> CategoricalMixture:
        """The probabilities to the power of 1 / temperature, as one component."""
        log_probs = (self.log_weights() / temperature).log_softmax(-1)
        return CategoricalMixture(torch.zeros_like(log_probs[..., :1]), log_probs.unsqueeze(-2))

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the class ids `target` (...)."""
        return Categorical(self.log_weights()).nll(target)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high), with each class uniform over its width."""
        return Categorical(self.log_weights()).interval_prob(field, low, high)


class MixtureHead(nn.Module):
    """A linear head that predicts a :class:`CategoricalMixture`.

    Args:
        inputs: H, the number of inputs.
        classes: C.
        components: K.
    """

    def __init__(self, inputs: int, classes: int, components: int) -> None:
        super().__init__()
        self._components = components
        self.shares = nn.Linear(inputs, components)
        self.probs = nn.Linear(inputs, components * classes)

    @override
    def forward(self, hidden: Tensor) -> CategoricalMixture:
        """The prediction from (..., H)."""
        probs = self.probs(hidden).unflatten(-1, (self._components, -1)).log_softmax(-1)
        return CategoricalMixture(self.shares(hidden).log_softmax(-1), probs)
