"""Predictions for one sequence in numpy, with the same samples as those of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ShapeError
from notelstm.fields import Interval, Mask
from notelstm.protocols import Allowed, Prediction

__all__ = ["NumpyAdapter", "NumpyCategorical", "NumpyPoint", "NumpyPrediction"]


def _sampled(cdf: NDArray[np.float64], total: float, noise: float) -> int:
    """A class sampled from (C,) cumulative weights, the last of which is `total`."""
    at = noise * total
    # Rounding must not select a class beyond the last one with a weight.
    return int(cdf.searchsorted(at if at < total else math.nextafter(total, 0.0), "right"))


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
        """The value; the noise is not used."""
        return self.value

    def mode(self) -> float:
        """The value."""
        return self.value

    def constrained(self, allowed: Mask) -> NumpyPoint:
        """The value clipped to the allowed interval.

        Raises:
            ShapeError: If it is a mask of classes, or the interval is empty.
        """
        if not isinstance(allowed, Interval):
            raise ShapeError(
                "a mask of classes cannot constrain a prediction of numbers",
                hint="give an Interval",
            )
        low, high = allowed
        if low > high:
            raise ShapeError(f"the interval {tuple(allowed)} is empty")
        return NumpyPoint(float(np.float32(min(max(self.value, low), high))))


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
