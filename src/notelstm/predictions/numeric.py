"""Predictions of numbers: ``PointEstimate``, ``Normal`` and ``LogisticMixture``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field, Interval, Mask
from notelstm.predictions.categorical import check_target, sample_class
from notelstm.protocols import Allowed, HasLikelihood, Prediction

__all__ = [
    "LogisticMixture",
    "Normal",
    "NumpyAdapter",
    "NumpyNormal",
    "PointEstimate",
    "PointToNormal",
]


_LARGEST: Final = 80.0
"""A logarithm whose exponential does not overflow in float32."""
_TINY: Final = torch.finfo(torch.float64).tiny
_NARROWEST: Final = 1e-12
"""The minimum width of a cell, in scales, so that its logarithm has a gradient."""


def _interval(allowed: Allowed, low: Tensor | None, high: Tensor | None) -> tuple[Tensor, Tensor]:
    """The intersection of an allowed interval with that of a prediction.

    Raises:
        ShapeError: If `allowed` is a mask of classes, or the intersection is empty.
    """
    if isinstance(allowed, Tensor):
        raise ShapeError(
            "a mask of classes cannot constrain a prediction of numbers",
            hint="give the minimum and the maximum, (...) each",
        )
    least, most = allowed
    least = least if low is None else torch.maximum(least, low)
    most = most if high is None else torch.minimum(most, high)
    if bool((least > most).any()):
        raise ShapeError(
            "the interval is empty: its minimum is above its maximum",
            hint="return the prediction unchanged if no value is left",
        )
    return least, most


def _ends(like: Tensor, low: Tensor | None, high: Tensor | None) -> tuple[Tensor, Tensor]:
    """The ends of an interval, infinite if they are None."""
    return (
        torch.full_like(like, -math.inf) if low is None else low.to(like),
        torch.full_like(like, math.inf) if high is None else high.to(like),
    )


def _clipped(value: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    if low is not None:
        value = torch.maximum(value, low.to(value))
    return value if high is None else torch.minimum(value, high.to(value))


def _censored_cdf(
    below: Tensor, x: Tensor, low: Tensor | float | None, high: Tensor | None
) -> Tensor:
    """The probability of less than `x`, with values beyond the ends moved to them."""
    if low is not None:
        below = torch.where(x <= low, 0.0, below)
    return below if high is None else torch.where(x > high, 1.0, below)


@final
@dataclass(frozen=True, eq=False)
class PointEstimate(Prediction):
    """A single value without uncertainty, as the original predicts step and duration.

    It has no likelihood; :class:`PointToNormal` converts it to a
    :class:`notelstm.predictions.Normal`.

    Attributes:
        value: (...) in the field's unit.
    """

    value: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """(...) the value; the noise is not used."""
        return self.value

    def mode(self) -> Tensor:
        """(...) the value."""
        return self.value

    def constrained(self, allowed: Allowed) -> PointEstimate:
        """The value clipped to the allowed interval."""
        low, high = _interval(allowed, None, None)
        return PointEstimate(self.value.clamp(low.to(self.value), high.to(self.value)))

    def with_temperature(self, temperature: float) -> PointEstimate:
        """The same prediction: a point estimate has no uncertainty."""
        return self


@final
@dataclass(frozen=True, eq=False)
class Normal(Prediction):
    """A normal distribution, censored at the ends of the allowed interval.

    Values beyond an end become the end itself, so that a step below 0 is a chord.

    Attributes:
        mean: (...) in the field's unit.
        sigma: (...) standard deviation, above 0.
        low: (...) the minimum, or None.
        high: (...) the maximum, or None.
        cell: Width of the cell around a target whose probability is trained, in the field's unit.
    """

    mean: Tensor
    sigma: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    cell: float = 0.01

    def _below(self, x: Tensor) -> Tensor:
        z = (x.double() - self.mean.double()) / self.sigma.double()
        return _censored_cdf(torch.special.ndtr(z), x, self.low, self.high)

    def sample(self, noise: Tensor) -> Tensor:
        """(...) by the inverse of the normal distribution function, then censored."""
        z = torch.special.ndtri(noise[..., 0].double().clamp(_TINY, 1 - 1e-16))
        value = (self.mean.double() + z * self.sigma.double()).to(self.mean)
        return _clipped(value, self.low, self.high)

    def mode(self) -> Tensor:
        """(...) the mean, censored."""
        return _clipped(self.mean, self.low, self.high)

    def constrained(self, allowed: Allowed) -> Normal:
        """The same distribution, censored at the ends of the allowed interval as well."""
        low, high = _interval(allowed, self.low, self.high)
        return replace(self, low=low, high=high)

    def with_temperature(self, temperature: float) -> Normal:
        """The density to the power of 1 / temperature, which is normal, too."""
        return replace(self, sigma=self.sigma * math.sqrt(temperature))

    def support(self) -> tuple[Tensor, Tensor]:
        """The minimum and the maximum possible value, (...) each."""
        return _ends(self.mean, self.low, self.high)

    def shifted(self, by: Tensor) -> Normal:
        """The same distribution with its mean moved, between the same ends."""
        return replace(self, mean=self.mean + by.to(self.mean))

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the cell around `target` (...); the cells at the ends hold the tails."""
        check_target(target, self.mean.shape)
        half = self.cell / 2
        a = (target - half - self.mean) / self.sigma
        b = (target + half - self.mean) / self.sigma
        closed = torch.zeros_like(target, dtype=torch.bool)
        # Cells are [begin, end): one that begins at the minimum includes the values censored there.
        open_low = closed if self.low is None else target - half <= self.low
        open_high = closed if self.high is None else target + half > self.high
        return -_log_normal_mass(a, b, open_low, open_high).to(self.mean)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high); the ends include the censored values."""
        return (self._below(high) - self._below(low)).clamp_min(0)


def _log_normal_mass(a: Tensor, b: Tensor, open_low: Tensor, open_high: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)) without cancellation, for a < b; gradients stay finite in the tails.

    An open end stands for infinity; with infinite `a` or `b`, gradients would be NaN.
    """
    # By symmetry, compute in the left tail, where both log-probabilities are accurate.
    flip = ~open_low & (open_high | (a > 0))
    left, right = torch.where(flip, -b, a), torch.where(flip, -a, b)
    log_right = torch.special.log_ndtr(right)
    gap = (torch.special.log_ndtr(left) - log_right).clamp_max(-1e-6)
    mass = log_right + torch.log(-torch.expm1(gap))
    mass = torch.where(open_low | open_high, log_right, mass)
    return torch.where(open_low & open_high, torch.zeros_like(mass), mass)


@final
@dataclass(frozen=True, eq=False)
class LogisticMixture(Prediction):
    """A mixture of K logistic distributions of ``log(x - origin + offset)`` and an atom.

    The atom is at `origin`: for a step, it is a chord. Values beyond an end of the allowed interval
    become the end itself.

    Attributes:
        logits: (..., K + 1) unnormalised log-probabilities of the atom and of each component.
        mean: (..., K) the centres of the components, on the logarithmic scale.
        scale: (..., K) the logistic scales of the components, above 0.
        origin: The minimum, in the field's unit.
        low: (...) a higher minimum, or None.
        high: (...) the maximum, or None.
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
        return _clipped(value.clamp_min(self.origin), self.low, self.high)

    def sample(self, noise: Tensor) -> Tensor:
        """(...) a quantile by the second of (..., 2) uniforms, of the component by the first."""
        cdf = self.logits.softmax(-1).double().cumsum(-1)
        chosen = sample_class(cdf, noise[..., 0]).unsqueeze(-1)  # (..., 1)
        component = (chosen - 1).clamp_min(0)
        mean, scale = (p.gather(-1, component).double() for p in (self.mean, self.scale))
        at = mean + scale * torch.logit(noise[..., 1:].double())
        value = torch.where(chosen == 0, self.origin, self._value(at)).squeeze(-1)
        return self._censored(value.to(self.mean))

    def mode(self) -> Tensor:
        """(...) the most likely of the atom and the centres of the components."""
        atom = torch.full_like(self.mean[..., :1], self.origin)
        places = torch.cat([atom, self._value(self.mean)], dim=-1)  # (..., K + 1)
        values = torch.stack([self._censored(place) for place in places.unbind(-1)], dim=-1)
        best = torch.stack([self.nll(value) for value in values.unbind(-1)], dim=-1).argmin(-1)
        return values.gather(-1, best.unsqueeze(-1)).squeeze(-1)

    def constrained(self, allowed: Allowed) -> LogisticMixture:
        """The same distribution, censored at the ends of the allowed interval as well."""
        low, high = _interval(allowed, self.support()[0], self.high)
        return replace(self, low=low, high=high)

    def with_temperature(self, temperature: float) -> LogisticMixture:
        """The weights, and the tails of each component, to the power of 1 / temperature."""
        return replace(self, logits=self.logits / temperature, scale=self.scale * temperature)

    def support(self) -> tuple[Tensor, Tensor]:
        """The minimum and the maximum possible value, (...) each."""
        low, high = _ends(self.mean[..., 0], self.low, self.high)
        return low.clamp_min(self.origin), high

    def shifted(self, by: Tensor) -> LogisticMixture:
        """The same mixture with the centre of each component moved, but not below the origin."""
        middle = self.mean.exp() + by.to(self.mean).unsqueeze(-1)  # (..., K)
        return replace(self, mean=middle.clamp_min(self.offset).log())

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the cell around `target` (...); the cells at the ends hold the tails."""
        check_target(target, self.mean.shape[:-1])
        begin = target.to(self.mean) - self.cell / 2
        low = self.origin if self.low is None else self.low
        open_low = (begin < low).unsqueeze(-1)
        beyond = torch.zeros_like(begin, dtype=torch.bool)
        if self.high is not None:
            beyond = begin + self.cell > self.high
        begin = (begin - self.origin).unsqueeze(-1)  # (..., 1)
        distance = begin.clamp_min(0) + self.offset
        a = (distance.log() - self.mean) / self.scale  # (..., K)
        # The difference of the logarithms of both ends would cancel for large values.
        length = (begin.clamp_max(0) + self.cell).clamp_min(0)
        width = torch.log1p(length / distance) / self.scale
        inside = _log_logistic_mass(a, width, open_low, beyond.unsqueeze(-1))
        atom = torch.zeros_like(inside[..., :1]).masked_fill(~open_low, -math.inf)
        parts = self.logits.log_softmax(-1) + torch.cat([atom, inside], dim=-1)
        return -parts.logsumexp(-1)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high); the ends include the censored values."""
        return (self._below(high) - self._below(low)).clamp_min(0)

    def _below(self, x: Tensor) -> Tensor:
        """(...) the probability (float64) of less than `x`."""
        distance = (x.double() - self.origin).clamp_min(0).unsqueeze(-1) + self.offset
        inside = torch.sigmoid((distance.log() - self.mean.double()) / self.scale.double())
        parts = torch.cat([torch.ones_like(inside[..., :1]), inside], dim=-1)
        below = (self.logits.double().softmax(-1) * parts).sum(-1)
        return _censored_cdf(below, x, self.origin if self.low is None else self.low, self.high)


def _log_logistic_mass(a: Tensor, width: Tensor, open_low: Tensor, open_high: Tensor) -> Tensor:
    """Log-probability of [a, a + width) of a standard logistic, without cancellation.

    An open end stands for infinity.
    """
    below, above = functional.logsigmoid(a + width), functional.logsigmoid(-a)
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), whose logarithm is exact in both tails.
    both = below + above + torch.log(-torch.expm1(-width.clamp_min(_NARROWEST)))
    one = torch.where(open_low, torch.where(open_high, 0.0, below), above)
    return torch.where(open_low | open_high, one, both)


@final
@dataclass(frozen=True, kw_only=True)
class PointToNormal:
    """Replaces point predictions by normal distributions.

    Attributes:
        sigmas: By field name, the root mean square of the training residuals.
    """

    sigmas: Mapping[str, float]

    def __call__(self, field: str, prediction: Prediction) -> Prediction:
        """A prediction that has a likelihood.

        Raises:
            FieldError: If a point's field has no sigma.
        """
        if isinstance(prediction, HasLikelihood) or prediction.log_weights() is not None:
            return prediction
        if field not in self.sigmas:
            raise FieldError(
                f"the point predictions of the field {field!r} have no sigma",
                hint="call fit_sigmas(model, pieces) with training pieces, and store the result in "
                "the bundle",
            )
        value = prediction.mode()
        return Normal(value, torch.full_like(value, self.sigmas[field]))


@final
class NumpyNormal(NamedTuple):
    """A :class:`Normal` in numpy; with sigma 0, a :class:`PointEstimate`.

    Attributes:
        mean: In the field's unit.
        sigma: Standard deviation, at least 0.
        low: The minimum.
        high: The maximum.
    """

    mean: float
    sigma: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def sample(self, noise: Sequence[float]) -> float:
        """By the inverse of the normal distribution function, then censored."""
        if not self.sigma:
            return self.mode()
        at = torch.tensor(min(max(noise[0], _TINY), 1 - 1e-16), dtype=torch.float64)
        return self._censored(self.mean + float(torch.special.ndtri(at)) * self.sigma)

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """A sample: there are no separate weights."""
        return self.sample(noise)

    def mode(self) -> float:
        """The mean, censored."""
        return self._censored(self.mean)

    def _censored(self, value: float) -> float:
        # Rows are float32.
        return float(np.float32(min(max(float(np.float32(value)), self.low), self.high)))

    def constrained(self, allowed: Mask) -> NumpyNormal:
        """The same distribution, censored at the ends of the allowed interval as well.

        Raises:
            ShapeError: If it is a mask of classes, or the interval is empty.
        """
        if not isinstance(allowed, Interval):
            raise ShapeError(
                "a mask of classes cannot constrain a prediction of numbers",
                hint="give an Interval",
            )
        low, high = max(allowed.low, self.low), min(allowed.high, self.high)
        if low > high:
            raise ShapeError(f"the interval {(low, high)} is empty")
        return NumpyNormal(self.mean, self.sigma, low, high)

    def as_tensors(self) -> Prediction:
        """The same prediction as tensors."""
        mean, sigma, low, high = torch.tensor(self, dtype=torch.float32).unsqueeze(1)
        if not self.sigma:
            return PointEstimate(_clipped(mean, low, high))
        return Normal(
            mean,
            sigma,
            low=None if self.low == -math.inf else low,
            high=None if self.high == math.inf else high,
        )


@final
class NumpyAdapter(NamedTuple):
    """An adapter for any other prediction.

    Attributes:
        prediction: A prediction for one sequence, (1,).
    """

    prediction: Prediction

    def sample(self, noise: Sequence[float]) -> float:
        """A sample of the prediction."""
        return float(self.prediction.sample(torch.tensor([noise], dtype=torch.float64)))

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """A sample of the prediction by its weights."""
        return float(self.prediction.sample_weighted(torch.tensor([noise], dtype=torch.float64)))

    def mode(self) -> float:
        """The prediction's mode."""
        return float(self.prediction.mode())

    def constrained(self, allowed: Mask) -> NumpyAdapter:
        """The prediction, limited to the allowed entries."""
        tensors: Allowed
        if isinstance(allowed, Interval):
            tensors = (torch.tensor([allowed.low]), torch.tensor([allowed.high]))
        else:
            tensors = torch.from_numpy(allowed)[None]
        return NumpyAdapter(self.prediction.constrained(tensors))

    def as_tensors(self) -> Prediction:
        """The prediction itself."""
        return self.prediction
