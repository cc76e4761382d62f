"""``LogisticMixture``: a time, on a logarithmic scale, that may be none at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional

from notelstm.fields import Field
from notelstm.predictions.checks import bounds, ordered, same_shape, sample_class
from notelstm.protocols import Allowed, Prediction

__all__ = ["LogisticMixture"]

_LARGEST: Final = 80.0
"""The logarithm of a value that float32 can hold."""
_NARROWEST: Final = 1e-12
"""Scales of a cell, so that the logarithm has a gradient."""


@final
@dataclass(frozen=True, eq=False)
class LogisticMixture(Prediction):
    """A mixture of K logistic distributions of ``log(x - origin + offset)`` and an atom.

    The atom sits on `origin`: as a step it is a chord. What would fall beyond an end falls on the
    end itself.

    Attributes:
        logits: (..., K + 1) unnormalised log-probabilities: of the atom, then of each component.
        mean: (..., K) where each component has its middle, on the logarithmic scale.
        scale: (..., K) the components' logistic scale, above 0.
        origin: The least value, in the field's unit.
        low: (...) the least allowed value, None for `origin`.
        high: (...) the greatest allowed value, or None.
        offset: Added before the logarithm, in the field's unit; the scale is linear well below it
            and logarithmic above.
        cell: Width of the cell around a target whose probability is trained, in the field's unit.

    Source:
        Discretised logistic mixtures: Salimans, Karpathy, Chen and Kingma, "PixelCNN++", 2017.
    """

    logits: Tensor
    mean: Tensor
    scale: Tensor
    origin: float = 0.0
    low: Tensor | None = None
    high: Tensor | None = None
    offset: float = 0.01
    cell: float = 0.01

    def _value(self, at: Tensor) -> Tensor:
        """From the logarithmic scale to the field's unit."""
        return at.clamp_max(_LARGEST).exp() - self.offset + self.origin

    def _censored(self, value: Tensor) -> Tensor:
        value = value.clamp_min(self.origin)
        if self.low is not None:
            value = torch.maximum(value, self.low.to(value))
        return value if self.high is None else torch.minimum(value, self.high.to(value))

    def sample(self, noise: Tensor) -> Tensor:
        """(...) a component by the first of (..., 2) uniforms, its quantile by the second."""
        cdf = self.logits.softmax(-1).double().cumsum(-1)
        chosen = sample_class(cdf, noise[..., 0]).unsqueeze(-1)  # (..., 1)
        component = (chosen - 1).clamp_min(0)
        mean, scale = (p.gather(-1, component).double() for p in (self.mean, self.scale))
        at = mean + scale * torch.logit(noise[..., 1:].double())
        value = torch.where(chosen == 0, self.origin, self._value(at)).squeeze(-1)
        return self._censored(value.to(self.mean))

    def mode(self) -> Tensor:
        """(...) the likeliest cell among the atom's and those in the components' middles."""
        atom = torch.full_like(self.mean[..., :1], self.origin)
        places = torch.cat([atom, self._value(self.mean)], dim=-1)  # (..., K + 1)
        values = torch.stack([self._censored(place) for place in places.unbind(-1)], dim=-1)
        best = torch.stack([self.nll(value) for value in values.unbind(-1)], dim=-1).argmin(-1)
        return values.gather(-1, best.unsqueeze(-1)).squeeze(-1)

    def constrained(self, allowed: Allowed) -> LogisticMixture:
        """The same distribution with its ends moved in to what is allowed."""
        low, high = bounds(allowed)
        low = low.clamp_min(self.origin)
        if self.low is not None:
            low = torch.maximum(low, self.low)
        if self.high is not None:
            high = torch.minimum(high, self.high)
        ordered(low, high)
        return replace(self, low=low, high=high)

    def with_temperature(self, temperature: float) -> LogisticMixture:
        """The weights to the power of 1 / temperature, and so each component's tails."""
        return replace(self, logits=self.logits / temperature, scale=self.scale * temperature)

    def support(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest possible value, (...) each."""
        size = self.mean[..., 0]
        low = torch.full_like(size, self.origin) if self.low is None else self.low.to(size)
        return low, torch.full_like(size, math.inf) if self.high is None else self.high.to(size)

    def shifted(self, by: Tensor) -> LogisticMixture:
        """The same mixture with the centre of each component moved, none below the least value."""
        middle = self.mean.exp() + by.to(self.mean).unsqueeze(-1)  # (..., K)
        return replace(self, mean=middle.clamp_min(self.offset).log())

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the cell around `target` (...); the cells at the ends hold the tails."""
        same_shape("the target", self.mean[..., 0], target)
        begin = target.to(self.mean) - self.cell / 2
        low = self.origin if self.low is None else self.low
        open_low = (begin < low).unsqueeze(-1)
        beyond = torch.zeros_like(begin, dtype=torch.bool)
        if self.high is not None:
            beyond = begin + self.cell > self.high
        begin = (begin - self.origin).unsqueeze(-1)  # (..., 1)
        distance = begin.clamp_min(0) + self.offset
        a = (distance.log() - self.mean) / self.scale  # (..., K)
        # As a difference of logarithms the width of a late cell would have no digits left.
        length = (begin.clamp_max(0) + self.cell).clamp_min(0)
        width = torch.log1p(length / distance) / self.scale
        inside = _log_logistic_mass(a, width, open_low, beyond.unsqueeze(-1))
        atom = torch.zeros_like(inside[..., :1]).masked_fill(~open_low, -math.inf)
        parts = self.logits.log_softmax(-1) + torch.cat([atom, inside], dim=-1)
        return -parts.logsumexp(-1)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high); the ends hold what was censored."""
        return (self._below(high.double()) - self._below(low.double())).clamp_min(0)

    def _below(self, x: Tensor) -> Tensor:
        """(...) the probability (float64) of less than `x`."""
        distance = (x - self.origin).clamp_min(0).unsqueeze(-1) + self.offset
        inside = torch.sigmoid((distance.log() - self.mean.double()) / self.scale.double())
        parts = torch.cat([torch.ones_like(inside[..., :1]), inside], dim=-1)
        below = (self.logits.double().softmax(-1) * parts).sum(-1)
        below = torch.where(x <= (self.origin if self.low is None else self.low), 0.0, below)
        return below if self.high is None else torch.where(x > self.high, 1.0, below)


def _log_logistic_mass(a: Tensor, width: Tensor, open_low: Tensor, open_high: Tensor) -> Tensor:
    """Logarithm of a standard logistic's mass from `a` to `a + width`, without cancellation.

    Where an end is open the mass reaches out to infinity.
    """
    below, above = functional.logsigmoid(a + width), functional.logsigmoid(-a)
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), whose logarithm is exact in both tails.
    both = below + above + torch.log(-torch.expm1(-width.clamp_min(_NARROWEST)))
    one = torch.where(open_low, torch.where(open_high, 0.0, below), above)
    return torch.where(open_low | open_high, one, both)
