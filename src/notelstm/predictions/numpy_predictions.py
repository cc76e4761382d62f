"""Predictions of one sequence in numpy: they sample exactly what the tensors would sample."""

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
    """A class sampled from (C,) sums of weights, the last of which is `total`."""
    at = noise * total
    # Rounding must not carry a sample past the last class that has any weight.
    return int(cdf.searchsorted(at if at < total else math.nextafter(total, 0.0), "right"))


@functools.lru_cache(maxsize=256)  # the ends of what is allowed come again and again
def _end(value: float) -> float:
    return _single(value)


def _single(value: float) -> float:
    """The nearest number that float32 holds, which is what rows hold."""
    return float(np.float32(value))


def _ends(allowed: Mask) -> Interval:
    if not isinstance(allowed, Interval):
        raise ShapeError(
            "a mask of classes cannot constrain a prediction of numbers", hint="give an Interval"
        )
    if allowed[0] > allowed[1]:
        raise ShapeError(f"the interval {tuple(allowed)} is empty")
    return allowed


class NumpyPrediction(Protocol):
    """The predicted distribution of one field of one sequence, in numpy: quick to sample from."""

    def sample(self, noise: Sequence[float]) -> float:
        """The class id or value that the :class:`Prediction` samples with the same two uniforms."""
        ...

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """The same by the weights of the prediction, where it has weights of its own."""
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
        """A class id from the softmax, with the first of two uniforms."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max()
        cdf = np.add.accumulate(np.exp(logits, logits))
        return _sampled(cdf, cdf.item(-1), noise[0])

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """A class id in proportion to the weights, or from the softmax where there are none."""
        if self.weights is None:
            return self.sample(noise)
        cdf = np.add.accumulate(self.weights.astype(np.float64))
        total = cdf.item(-1)
        return _sampled(cdf, total, noise[0]) if total > 0 else self.sample(noise)

    def mode(self) -> float:
        """The class with the largest logit."""
        return int(self.logits.argmax())

    def constrained(self, allowed: Mask) -> NumpyCategorical:
        """No logit and no weight but those of allowed classes.

        Raises:
            ShapeError: If it is an interval, or nothing is left of what was possible.
        """
        if isinstance(allowed, Interval):
            raise ShapeError(
                "an interval cannot constrain a categorical prediction", hint="give a mask"
            )
        logits = np.where(allowed, self.logits, np.float32(-math.inf))
        if logits.max() == -math.inf:
            raise ShapeError("the mask leaves no class that was possible before")
        return NumpyCategorical(logits, None if self.weights is None else self.weights * allowed)


@final
class NumpyPoint(NamedTuple):
    """A single value; see :class:`~notelstm.predictions.PointEstimate`.

    Attributes:
        value: In the field's unit, as float32 has it.
    """

    value: float

    def sample(self, noise: Sequence[float]) -> float:
        """The value, whatever the noise."""
        return self.value

    def sample_weighted(self, noise: Sequence[float]) -> float:
        """The same: there are no weights."""
        return self.sample(noise)

    def mode(self) -> float:
        """The value."""
        return self.value

    def constrained(self, allowed: Mask) -> NumpyPoint:
        """The value cut off at the ends of what is allowed."""
        low, high = _ends(allowed)
        value = self.value
        if low <= value <= high:
            return self
        return NumpyPoint(_end(low if value < low else high))


@final
class NumpyNormal(NamedTuple):
    """A censored normal distribution; see :class:`~notelstm.predictions.Normal`.

    Attributes:
        mean: In the field's unit, as float32 has it.
        sigma: Standard deviation, above 0, as float32 has it.
        low: The least allowed value.
        high: The greatest allowed value.
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
        """The same: there are no weights."""
        return self.sample(noise)

    def mode(self) -> float:
        """The mean, censored."""
        return self._censored(self.mean)

    def constrained(self, allowed: Mask) -> NumpyNormal:
        """The same distribution with its ends moved in to what is allowed."""
        low, high = _ends(allowed)
        return self._replace(low=max(low, self.low), high=min(high, self.high))


@final
class NumpyAdapter(NamedTuple):
    """An adapter of any other prediction.

    Attributes:
        prediction: Of one sequence, (1,).
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
        """The prediction confined to what is allowed."""
        confined: Allowed
        if isinstance(allowed, Interval):
            confined = (torch.tensor([allowed.low]), torch.tensor([allowed.high]))
        else:
            confined = torch.from_numpy(allowed)[None]
        return NumpyAdapter(self.prediction.constrained(confined))
