"""What heads say of a field: ``Categorical``, ``Point`` and ``Normal``.

All are values: each method returns a new one. Draws use the inverse distribution function of
uniforms given from outside, so equal predictions and equal noise give equal draws, alone or in a
batch. Shapes: any leading shape (...), classes last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field
from notelstm.protocols import Legal

__all__ = ["Categorical", "Normal", "Point"]


def _same_shape(what: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ShapeError(
            f"{what} has the shape of the prediction, {tuple(a.shape)}",
            got=f"{tuple(b.shape)}",
            fix="squeeze or select so that both are equal; nothing is broadcast",
        )


def _bounds(legal: Legal) -> tuple[Tensor, Tensor]:
    if isinstance(legal, Tensor):
        raise ShapeError("a continuous field is confined to an interval", got="a mask of classes")
    return legal


def _ordered(low: Tensor, high: Tensor) -> None:
    if bool((low > high).any()):
        raise ShapeError(
            "an interval leaves at least one value",
            got="one whose low is above its high",
            fix="let the processor leave the prediction as it is there",
        )


def _inverse_cdf(weights: Tensor, noise: Tensor) -> Tensor:
    """Draw from (..., C) weights that need not sum to 1 with (...) uniforms."""
    cdf = weights.double().cumsum(-1)  # (..., C)
    total = cdf[..., -1]
    # Rounding must not carry a draw past the last class that has any weight.
    at = torch.minimum(noise.double() * total, torch.nextafter(total, torch.zeros_like(total)))
    return (cdf <= at.unsqueeze(-1)).sum(-1)  # (...)


@final
@dataclass(frozen=True, eq=False)
class Categorical:
    """One of C classes.

    Attributes:
        logits: (..., C) unnormalised log-probabilities: what is trained and scored.
        weights: (..., C) non-negative weights for the weighted draw of
            :class:`notelstm.sampling.Weighted`, where they differ from the softmax of the logits.
    """

    logits: Tensor
    weights: Tensor | None = None

    @property
    def probabilities(self) -> Tensor:
        """(..., C) the softmax of the logits."""
        return self.logits.softmax(-1)

    def draw(self, noise: Tensor) -> Tensor:
        """(...) class ids drawn from the softmax, with the first of (..., 2) uniforms."""
        return _inverse_cdf(self.probabilities, noise[..., 0])

    def draw_weighted(self, noise: Tensor) -> Tensor:
        """(...) class ids drawn in proportion to `weights`, or to the softmax where there are none.

        Weights that are all 0, because a mask left only classes whose weight is too small for
        float32, say nothing of what is left; the softmax does.
        """
        if self.weights is None:
            return self.draw(noise)
        some = self.weights.amax(-1, keepdim=True) > 0
        return _inverse_cdf(torch.where(some, self.weights, self.probabilities), noise[..., 0])

    def mode(self) -> Tensor:
        """(...) the class with the largest logit."""
        return self.logits.argmax(-1)

    def masked(self, legal: Legal) -> Categorical:
        """No logit and no weight but those of legal classes.

        Args:
            legal: (..., C) bool; at least one True in each row where a class was possible before.

        Raises:
            ShapeError: If it is an interval, or nothing is left of what was possible.
        """
        if not isinstance(legal, Tensor):
            raise ShapeError("a categorical field is confined to classes", got="an interval")
        if not bool((legal & (self.logits > -math.inf)).any(-1).all()):
            raise ShapeError(
                "a mask leaves at least one class that was possible before",
                got="a row without any",
                fix="mask with notelstm.sampling.allow_only, which then keeps what was possible",
            )
        weights = None if self.weights is None else self.weights * legal
        return Categorical(self.logits.masked_fill(~legal, -math.inf), weights)

    def tempered(self, temperature: float) -> Categorical:
        """Logits over `temperature`, relative weights to the power of its inverse."""
        # From a largest logit of 0 and weight of 1 no temperature makes all of them over- or
        # underflow; the quotient of two small numbers needs float64.
        top = self.logits.amax(-1, keepdim=True)
        logits = ((self.logits - top).double() / temperature).to(self.logits)
        if self.weights is None:
            return Categorical(logits)
        largest = self.weights.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return Categorical(logits, (self.weights / largest) ** (1 / temperature))

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the class ids `target` (...)."""
        _same_shape("the target", self.logits[..., 0], target)
        flat = self.logits.reshape(-1, self.logits.shape[-1])
        losses = functional.cross_entropy(flat, target.reshape(-1).long(), reduction="none")
        return losses.reshape(target.shape)

    def mass(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high): each class is spread evenly over its width.

        The first and last class reach out to the infinities.

        Raises:
            FieldError: If the classes of `field` have no edges.
        """
        if not field.edges:
            raise FieldError("classes with a width have edges", where=f"field {field.name!r}")
        edges = torch.tensor(field.edges, dtype=torch.float64, device=self.logits.device)
        cdf = self.logits.double().softmax(-1).cumsum(-1)  # (..., C)
        cdf = functional.pad(cdf, (1, 0))  # (..., C + 1): below each edge

        def below(x: Tensor) -> Tensor:
            at = x.double()
            c = (torch.searchsorted(edges, at.contiguous(), right=True) - 1).clamp(
                0, len(field.edges) - 2
            )
            left, right = edges[c], edges[c + 1]
            share = ((at.clamp(left, right) - left) / (right - left)).clamp(0, 1)
            lower = cdf.gather(-1, c.unsqueeze(-1)).squeeze(-1)
            upper = cdf.gather(-1, c.unsqueeze(-1) + 1).squeeze(-1)
            return lower + share * (upper - lower)

        top = torch.where(high >= edges[-1], torch.ones_like(high).double(), below(high))
        return (top - below(low)).clamp_min(0)


@final
@dataclass(frozen=True, eq=False)
class Point:
    """A single value, without a word on how sure it is: the original's step and duration.

    It has no likelihood; :class:`notelstm.evaluation.Spread` makes a :class:`Normal` of it.

    Attributes:
        value: (...) in the field's unit.
    """

    value: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """(...) the value, whatever the noise."""
        return self.value

    def mode(self) -> Tensor:
        """(...) the value."""
        return self.value

    def masked(self, legal: Legal) -> Point:
        """The value cut off at the ends of what is legal."""
        low, high = _bounds(legal)
        _ordered(low, high)
        return Point(self.value.clamp(low.to(self.value), high.to(self.value)))

    def tempered(self, temperature: float) -> Point:
        """The same: a point has no spread."""
        return self


@final
@dataclass(frozen=True, eq=False)
class Normal:
    """A normal distribution, censored where it leaves the legal interval.

    What would fall beyond an end falls on the end itself, so that a step below 0 is a chord.

    Attributes:
        mean: (...) in the field's unit.
        sigma: (...) standard deviation, above 0.
        low: (...) the least legal value, or None.
        high: (...) the greatest legal value, or None.
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

    def draw(self, noise: Tensor) -> Tensor:
        """(...) by the inverse of the normal distribution function, then censored."""
        tiny = torch.finfo(torch.float64).tiny
        z = torch.special.ndtri(noise[..., 0].double().clamp(tiny, 1 - 1e-16))
        return self._censored((self.mean.double() + z * self.sigma.double()).to(self.mean))

    def mode(self) -> Tensor:
        """(...) the mean, censored."""
        return self._censored(self.mean)

    def masked(self, legal: Legal) -> Normal:
        """The same distribution with its ends moved in to what is legal."""
        low, high = _bounds(legal)
        if self.low is not None:
            low = torch.maximum(low, self.low)
        if self.high is not None:
            high = torch.minimum(high, self.high)
        _ordered(low, high)
        return replace(self, low=low, high=high)

    def tempered(self, temperature: float) -> Normal:
        """The density to the power of 1 / temperature, which is again normal."""
        return replace(self, sigma=self.sigma * math.sqrt(temperature))

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the cell around `target` (...); the cells at the ends hold the tails."""
        _same_shape("the target", self.mean, target)
        half = self.cell / 2
        a = (target - half - self.mean) / self.sigma
        b = (target + half - self.mean) / self.sigma
        closed = torch.zeros_like(target, dtype=torch.bool)
        # Cells are [low, high): one that begins at the least value holds what was censored there.
        open_low = closed if self.low is None else target - half <= self.low
        open_high = closed if self.high is None else target + half > self.high
        return -_log_normal_mass(a, b, open_low, open_high).to(self.mean)

    def mass(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
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
