"""Predictions of one lane in plain numbers: what is drawn is what the tensors would draw."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ShapeError
from notelstm.fields import Interval, Mask
from notelstm.protocols import Legal, Prediction

__all__ = ["PlainCategorical", "PlainNormal", "PlainOther", "PlainPoint"]

_TINY: Final = torch.finfo(torch.float64).tiny


def _drawn(cdf: NDArray[np.float64], total: float, noise: float) -> int:
    """A class drawn from (C,) sums of weights, the last of which is `total`."""
    at = noise * total
    # Rounding must not carry a draw past the last class that has any weight.
    return int(cdf.searchsorted(at if at < total else math.nextafter(total, 0.0), "right"))


@functools.lru_cache(maxsize=256)  # the ends of what is legal come again and again
def _end(value: float) -> float:
    return _single(value)


def _single(value: float) -> float:
    """The nearest number that float32 holds, which is what rows hold."""
    return float(np.float32(value))


def _ends(legal: Mask) -> Interval:
    if not isinstance(legal, Interval):
        raise ShapeError("a continuous field is confined to an interval", got="a mask of classes")
    if legal[0] > legal[1]:
        raise ShapeError("an interval leaves at least one value", got=f"{legal}")
    return legal


@final
class PlainCategorical(NamedTuple):
    """One of C classes; see :class:`~notelstm.predictions.Categorical`.

    Attributes:
        logits: (C,) float32.
        weights: (C,) float32 for the weighted draw, or None.
    """

    logits: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def draw(self, noise: Sequence[float]) -> float:
        """A class id from the softmax, with the first of two uniforms."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max()
        cdf = np.add.accumulate(np.exp(logits, logits))
        return _drawn(cdf, cdf.item(-1), noise[0])

    def draw_weighted(self, noise: Sequence[float]) -> float:
        """A class id in proportion to the weights, or from the softmax where there are none."""
        if self.weights is None:
            return self.draw(noise)
        cdf = np.add.accumulate(self.weights.astype(np.float64))
        total = cdf.item(-1)
        return _drawn(cdf, total, noise[0]) if total > 0 else self.draw(noise)

    def mode(self) -> float:
        """The class with the largest logit."""
        return int(self.logits.argmax())

    def masked(self, legal: Mask) -> PlainCategorical:
        """No logit and no weight but those of legal classes.

        Raises:
            ShapeError: If it is an interval, or nothing is left of what was possible.
        """
        if isinstance(legal, Interval):
            raise ShapeError("a categorical field is confined to classes", got="an interval")
        logits = np.where(legal, self.logits, np.float32(-math.inf))
        if logits.max() == -math.inf:
            raise ShapeError(
                "a mask leaves at least one class that was possible before", got="none left"
            )
        return PlainCategorical(logits, None if self.weights is None else self.weights * legal)


@final
class PlainPoint(NamedTuple):
    """A single value; see :class:`~notelstm.predictions.Point`.

    Attributes:
        value: In the field's unit, as float32 has it.
    """

    value: float

    def draw(self, noise: Sequence[float]) -> float:
        """The value, whatever the noise."""
        return self.value

    def mode(self) -> float:
        """The value."""
        return self.value

    def masked(self, legal: Mask) -> PlainPoint:
        """The value cut off at the ends of what is legal."""
        low, high = _ends(legal)
        value = self.value
        if low <= value <= high:
            return self
        return PlainPoint(_end(low if value < low else high))


@final
class PlainNormal(NamedTuple):
    """A censored normal distribution; see :class:`~notelstm.predictions.Normal`.

    Attributes:
        mean: In the field's unit, as float32 has it.
        sigma: Standard deviation, above 0, as float32 has it.
        low: The least legal value.
        high: The greatest legal value.
    """

    mean: float
    sigma: float
    low: float = -math.inf
    high: float = math.inf

    def _censored(self, value: float) -> float:
        return _single(min(max(_single(value), self.low), self.high))

    def draw(self, noise: Sequence[float]) -> float:
        """By the inverse of the normal distribution function, then censored."""
        at = torch.tensor(min(max(noise[0], _TINY), 1 - 1e-16), dtype=torch.float64)
        return self._censored(self.mean + float(torch.special.ndtri(at)) * self.sigma)

    def mode(self) -> float:
        """The mean, censored."""
        return self._censored(self.mean)

    def masked(self, legal: Mask) -> PlainNormal:
        """The same distribution with its ends moved in to what is legal."""
        low, high = _ends(legal)
        return self._replace(low=max(low, self.low), high=min(high, self.high))


@final
class PlainOther(NamedTuple):
    """Any other prediction, which draws as it always does.

    Attributes:
        prediction: For a batch of one lane, (1,).
    """

    prediction: Prediction

    def draw(self, noise: Sequence[float]) -> float:
        """What the prediction draws."""
        return float(self.prediction.draw(torch.tensor([noise], dtype=torch.float64)))

    def mode(self) -> float:
        """The prediction's mode."""
        return float(self.prediction.mode())

    def masked(self, legal: Mask) -> PlainOther:
        """The prediction confined to what is legal."""
        confined: Legal
        if isinstance(legal, Interval):
            confined = (torch.tensor([legal.low]), torch.tensor([legal.high]))
        else:
            confined = torch.from_numpy(legal)[None]
        return PlainOther(self.prediction.masked(confined))
