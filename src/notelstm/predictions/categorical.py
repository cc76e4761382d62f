"""``Categorical``: one of several classes, as tensors and, for one sequence, in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field, Interval, Mask
from notelstm.protocols import Allowed, Prediction

__all__ = [
    "Categorical",
    "NumpyCategorical",
    "NumpyPrediction",
    "check_target",
    "in_numpy",
    "sample_class",
]


def check_target(target: Tensor, shape: Sequence[int]) -> None:
    """Check that a target has the shape (...) of its prediction.

    Raises:
        ShapeError: If it has another shape.
    """
    if target.shape != shape:
        raise ShapeError(
            f"the target has shape {tuple(target.shape)}, the prediction {tuple(shape)}",
            hint="squeeze or index one of them: shapes are not broadcast",
        )


def sample_class(cdf: Tensor, noise: Tensor) -> Tensor:
    """(...) classes sampled with (...) uniforms.

    Args:
        cdf: (..., C) float64 cumulative weights of the classes, not normalised.
        noise: (...) in [0, 1).
    """
    total = cdf[..., -1]
    # Rounding must not select a class beyond the last one with a weight.
    at = torch.minimum(noise.double() * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf.contiguous(), at.unsqueeze(-1), right=True).squeeze(-1)


@final
@dataclass(frozen=True, eq=False)
class Categorical(Prediction):
    """One of C classes.

    Attributes:
        logits: (..., C) unnormalised log-probabilities, which are trained and scored.
        weights: (..., C) non-negative weights that :class:`notelstm.sampling.Weighted` samples
            with, None for the softmax of the logits.
    """

    logits: Tensor
    weights: Tensor | None = None

    @property
    def probabilities(self) -> Tensor:
        """(..., C) the softmax of the logits."""
        return self.logits.softmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """(...) class ids sampled from the softmax, with the first of (..., 2) uniforms."""
        return sample_class(self._exponentials.cumsum(-1), noise[..., 0])

    @property
    def _exponentials(self) -> Tensor:
        """(..., C) float64 exponentials of the logits, not normalised."""
        logits = self.logits.double()
        return (logits - logits.amax(-1, keepdim=True)).exp()

    def sample_weighted(self, noise: Tensor) -> Tensor:
        """(...) class ids sampled in proportion to `weights`, or from the softmax without them.

        If all weights are 0, because a mask left only classes with weights that underflow in
        float32, the softmax is used.
        """
        if self.weights is None:
            return self.sample(noise)
        cdf = self.weights.cumsum(-1, dtype=torch.float64)
        some = cdf[..., -1:] > 0
        if not bool(some.all()):
            cdf = torch.where(some, cdf, self._exponentials.cumsum(-1))
        return sample_class(cdf, noise[..., 0])

    def mode(self) -> Tensor:
        """(...) the class with the largest logit."""
        return self.logits.argmax(-1)

    def constrained(self, allowed: Allowed) -> Categorical:
        """The same prediction without the classes that are not allowed.

        Args:
            allowed: (..., C) bool, with at least one class of each row that was possible before.

        Raises:
            ShapeError: If it is an interval, or leaves no possible class.
        """
        if not isinstance(allowed, Tensor):
            raise ShapeError(
                "an interval cannot constrain a categorical prediction",
                hint="give a mask of its classes, (..., C) bool",
            )
        if not bool((allowed & (self.logits > -math.inf)).any(-1).all()):
            raise ShapeError(
                "the mask of a row leaves no possible class",
                hint="use notelstm.sampling.allow_only, which then keeps all possible classes",
            )
        weights = None if self.weights is None else self.weights * allowed
        return Categorical(self.logits.masked_fill(~allowed, -math.inf), weights)

    def with_temperature(self, temperature: float) -> Categorical:
        """Logits divided by `temperature`, weights to the power of its inverse."""
        # With a maximum logit of 0 and a maximum weight of 1, no temperature makes all of them
        # overflow or underflow; the quotient of two small numbers needs float64.
        top = self.logits.amax(-1, keepdim=True)
        logits = ((self.logits - top).double() / temperature).to(self.logits)
        if self.weights is None:
            return Categorical(logits)
        largest = self.weights.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return Categorical(logits, (self.weights / largest) ** (1 / temperature))

    def log_weights(self) -> Tensor:
        """(..., C) the logits."""
        return self.logits

    def add_log_weights(self, log_weights: Tensor) -> Categorical:
        """The same prediction with numbers added to the logits and to the log of `weights`."""
        logits, weights = self.logits + log_weights.to(self.logits), self.weights
        if weights is None:
            return Categorical(logits)
        # With a factor of 1 for the class that gains most, none overflows, nor do all underflow.
        added = log_weights.to(weights).expand_as(weights).masked_fill(weights == 0, -math.inf)
        top = added.amax(-1, keepdim=True)
        factors = (added - top.masked_fill(top == -math.inf, 0)).exp()
        return Categorical(logits, weights * factors)

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the class ids `target` (...)."""
        check_target(target, self.logits.shape[:-1])
        # A reshape to the same shape would be one more step of the backward pass.
        flat = target.ndim == 1
        logits = self.logits if flat else self.logits.reshape(-1, self.logits.shape[-1])
        classes = (target if flat else target.reshape(-1)).long()
        losses = functional.cross_entropy(logits, classes, reduction="none")
        return losses if flat else losses.reshape(target.shape)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high), with each class uniform over its width.

        The first and last class extend to infinity.

        Raises:
            FieldError: If the classes of `field` have no edges.
        """
        if not field.edges:
            raise FieldError(
                "the field has no edges",
                where=f"field {field.name!r}",
                hint="give the field edges, so that its classes have widths",
            )
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

    def as_tensors(self) -> Prediction:
        """The same prediction as tensors for a batch of one sequence, (1,)."""
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

    def as_tensors(self) -> Categorical:
        """The same prediction as tensors, which share its memory."""
        weights = None if self.weights is None else torch.from_numpy(self.weights)[None]
        return Categorical(torch.from_numpy(self.logits)[None], weights)


def in_numpy(prediction: Prediction, field: Field) -> NumpyCategorical | None:
    """A prediction of classes of one sequence in numpy, which samples faster; None for others."""
    if not isinstance(prediction, Categorical):
        return None
    logits, weights = prediction.logits, prediction.weights
    if logits.shape != (1, field.classes) or logits.dtype != torch.float32:
        return None
    return NumpyCategorical(logits.numpy()[0], None if weights is None else weights.numpy()[0])


def _sampled(cdf: NDArray[np.float64], total: float, noise: float) -> int:
    """A class sampled from (C,) cumulative weights, the last of which is `total`."""
    at = noise * total
    # Rounding must not select a class beyond the last one with a weight.
    return int(cdf.searchsorted(at if at < total else math.nextafter(total, 0.0), "right"))
