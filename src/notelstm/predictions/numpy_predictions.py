"""Predictions for one sequence in numpy, with the same samples as those of tensors."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ShapeError
from notelstm.fields import Interval, Mask
from notelstm.protocols import Allowed, Prediction

__all__ = ["NumpyAdapter", "NumpyCategorical", "NumpyNormal", "NumpyPoint", "NumpyPrediction"]

_TINY: Final = torch.finfo(torch.float64).tiny


def _sampled(cdf: NDArray[np.float64], total: float, noise: float) -> int:
    """A class sampled from (C,) cumulative weights, the last of which is `total`."""
    at = noise * total
    # Rounding must not select a class beyond the last one with a weight.
    return int(cdf.searchsorted(at if at < total else math.nextafter(total, 0.0), "right"))


def _single(value: float) -> float:
    """The nearest float32 number; rows are float32."""
    return float(np.float32(value))


_end = functools.lru_cache(maxsize=256)(_single)
"""Cached, since the ends of allowed intervals repeat."""


def _ends(allowed: Mask) -> Interval:
    if not isinstance(allowed, Interval):
        raise ShapeError(
            "a mask of classes cannot constrain a prediction of numbers", hint="give an Interval"
        )
    if allowed[0] > allowed[1]:
        raise ShapeError(f"the interval {tuple(allowed)} is empty")
    return allowed


class NumpyPrediction(Protocol):
    """The predicted distribution of one field for one sequence, in numpy."""

    def sample(self, noise: Sequence[float]) -> float:
        """Sample a class id or value with two uniforms, as :meth:`Prediction.sample` does."""
        ...

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """Sample in proportion to separate weights, if the prediction has any."""
        ...

    def mode(self) -> float:
        """The most likely class id or value."""
        ...

    def constrained(self, allowed: Mask) -> Self:
        """The same prediction, limited to the allowed entries."""
        ...


@final
class NumpyCategorical(NamedTuple):
    """One of C classes; see :class:`~notelstm.predictions.Categorical`.

    Attributes:
        logits: (C,) float32.
        weights: (C,) float32 for weighted sampling, or None.
    """

    logits: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def sample(self, noise: Sequence[float]) -> float:
        """A class id from the softmax."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max()
        cdf = np.add.accumulate(np.exp(logits, logits))
        return _sampled(cdf, cdf.item(-1), noise[0])

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """A class id in proportion to the weights, or from the softmax without them."""
        if self.weights is None:
            return self.sample(noise)
        cdf = np.add.accumulate(self.weights.astype(np.float64))
        total = cdf.item(-1)
        return _sampled(cdf, total, noise[0]) if total > 0 else self.sample(noise)

    def mode(self) -> float:
        """The class with the largest logit."""
        return int(self.logits.argmax())

    def constrained(self, allowed: Mask) -> NumpyCategorical:
        """The same prediction without the classes that are not allowed.

        Raises:
            ShapeError: If it is an interval, or leaves no possible class.
        """
        if isinstance(allowed, Interval):
            raise ShapeError(
                "an interval cannot constrain a categorical prediction", hint="give a mask"
            )
        logits = np.where(allowed, self.logits, np.float32(-math.inf))
        if logits.max() == -math.inf:
            raise ShapeError("the mask leaves no possible class")
        return NumpyCategorical(logits, None if self.weights is None else self.weights * allowed)


@final
class NumpyPoint(NamedTuple):
    """A single value; see :class:`~notelstm.predictions.PointEstimate`.

    Attributes:
        value: In the field's unit, a float32 number.
    """

    value: float

    def sample(self, noise: Sequence[float]) -> float:
        """The value; the noise is not used."""
        return self.value

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """A sample: there are no separate weights."""
        return self.sample(noise)

    def mode(self) -> float:
        """The value."""
        return self.value

    def constrained(self, allowed: Mask) -> NumpyPoint:
        """The value clipped to the allowed interval."""
        low, high = _ends(allowed)
        value = self.value
        if low <= value <= high:
            return self
        return NumpyPoint(_end(low if value < low else high))


@final
class NumpyNormal(NamedTuple):
    """A censored normal distribution; see :class:`~notelstm.predictions.Normal`.

    Attributes:
        mean: In the field's unit, a float32 number.
        sigma: Standard deviation, above 0, a float32 number.
        low: The minimum.
        high: The maximum.
    """

    mean: float
    sigma: float
    low: float = -math.inf
    high: float = math.inf

    def _censored(self, value: float) -> float:
        return _single(min(max(_single(value), self.low), self.high))

    def sample(self, noise: Sequence[float]) -> float:
        """By the inverse of the normal distribution function, then censored."""
        at = torch.tensor(min(max(noise[0], _TINY), 1 - 1e-16), dtype=torch.float64)
        return self._censored(self.mean + float(torch.special.ndtri(at)) * self.sigma)

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """A sample: there are no separate weights."""
        return self.sample(noise)

    def mode(self) -> float:
        """The mean, censored."""
        return self._censored(self.mean)

    def constrained(self, allowed: Mask) -> NumpyNormal:
        """The same distribution, censored at the ends of the allowed interval as well."""
        low, high = _ends(allowed)
        return self._replace(low=max(low, self.low), high=min(high, self.high))


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
