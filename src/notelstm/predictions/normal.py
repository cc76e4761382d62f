"""``Normal``: a censored normal distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions.checks import bounds, ordered, same_shape
from notelstm.protocols import Allowed, Prediction

__all__ = ["Normal"]


@final
@dataclass(frozen=True, eq=False)
class Normal(Prediction):
    """A normal distribution, censored where it leaves the allowed interval.

    What would fall beyond an end falls on the end itself, so that a step below 0 is a chord.

    Attributes:
        mean: (...) in the field's unit.
        sigma: (...) standard deviation, above 0.
        low: (...) the least allowed value, or None.
        high: (...) the greatest allowed value, or None.
        cell: Width of the cell around a target whose probability is trained, in the field's unit.
    """

    mean: Tensor
    sigma: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    cell: float = 0.01

    def _censored(self, value: Tensor) -> Tensor:
        if self.low is not None:
            value = torch.maximum(value, self.low.to(value))
        return value if self.high is None else torch.minimum(value, self.high.to(value))

    def _below(self, x: Tensor) -> Tensor:
        z = (x.double() - self.mean.double()) / self.sigma.double()
        below: Tensor = torch.special.ndtr(z)
        return below

    def sample(self, noise: Tensor) -> Tensor:
        """(...) by the inverse of the normal distribution function, then censored."""
        tiny = torch.finfo(torch.float64).tiny
        z = torch.special.ndtri(noise[..., 0].double().clamp(tiny, 1 - 1e-16))
        return self._censored((self.mean.double() + z * self.sigma.double()).to(self.mean))

    def mode(self) -> Tensor:
        """(...) the mean, censored."""
        return self._censored(self.mean)

    def constrained(self, allowed: Allowed) -> Normal:
        """The same distribution with its ends moved in to what is allowed."""
        low, high = bounds(allowed)
        if self.low is not None:
            low = torch.maximum(low, self.low)
        if self.high is not None:
            high = torch.minimum(high, self.high)
        ordered(low, high)
        return replace(self, low=low, high=high)

    def with_temperature(self, temperature: float) -> Normal:
        """The density to the power of 1 / temperature, which is again normal."""
        return replace(self, sigma=self.sigma * math.sqrt(temperature))

    def support(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest possible value, (...) each."""
        ends = ((self.low, -math.inf), (self.high, math.inf))
        low, high = (
            torch.full_like(self.mean, infinite) if end is None else end.to(self.mean)
            for end, infinite in ends
        )
        return low, high

    def shifted(self, by: Tensor) -> Normal:
        """The same distribution with its mean moved; its ends stay."""
        return replace(self, mean=self.mean + by.to(self.mean))

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the cell around `target` (...); the cells at the ends hold the tails."""
        same_shape("the target", self.mean, target)
        half = self.cell / 2
        a = (target - half - self.mean) / self.sigma
        b = (target + half - self.mean) / self.sigma
        closed = torch.zeros_like(target, dtype=torch.bool)
        # Cells are [low, high): one that begins at the least value holds what was censored there.
        open_low = closed if self.low is None else target - half <= self.low
        open_high = closed if self.high is None else target + half > self.high
        return -_log_normal_mass(a, b, open_low, open_high).to(self.mean)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high); the ends hold what was censored."""
        upper, lower = self._below(high), self._below(low)
        if self.low is not None:
            upper = torch.where(high <= self.low, torch.zeros_like(upper), upper)
            lower = torch.where(low <= self.low, torch.zeros_like(lower), lower)
        if self.high is not None:
            upper = torch.where(high > self.high, torch.ones_like(upper), upper)
            lower = torch.where(low > self.high, torch.ones_like(lower), lower)
        return (upper - lower).clamp_min(0)


def _log_normal_mass(a: Tensor, b: Tensor, open_low: Tensor, open_high: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)) without cancellation, for a < b; gradients stay finite in the tails.

    Where an end is open the mass reaches out to infinity. Infinite `a` or `b` would say the same,
    but their gradients are NaN.
    """
    # By symmetry work in the left tail, where both log-probabilities are accurate.
    flip = ~open_low & (open_high | (a > 0))
    left, right = torch.where(flip, -b, a), torch.where(flip, -a, b)
    log_right = torch.special.log_ndtr(right)
    gap = (torch.special.log_ndtr(left) - log_right).clamp_max(-1e-6)
    mass = log_right + torch.log(-torch.expm1(gap))
    mass = torch.where(open_low | open_high, log_right, mass)
    return torch.where(open_low & open_high, torch.zeros_like(mass), mass)
