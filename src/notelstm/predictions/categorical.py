"""``Categorical``: one of several classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field
from notelstm.predictions.checks import same_shape, sample_class
from notelstm.protocols import Allowed, Prediction

__all__ = ["Categorical"]


@final
@dataclass(frozen=True, eq=False)
class Categorical(Prediction):
    """One of C classes.

    Attributes:
        logits: (..., C) unnormalised log-probabilities: what is trained and scored.
        weights: (..., C) non-negative weights for the weighted sampling of
            :class:`notelstm.sampling.Weighted`, where they differ from the softmax of the logits.
    """

    logits: Tensor
    weights: Tensor | None = None

    @property
    def probabilities(self) -> Tensor:
        """(..., C) the softmax of the logits."""
        return self.logits.softmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """(...) class ids sampled from the softmax, with the first of (..., 2) uniforms."""
        return sample_class(self._shares.cumsum(-1), noise[..., 0])

    @property
    def _shares(self) -> Tensor:
        """(..., C) float64 what the softmax is proportional to."""
        logits = self.logits.double()
        return (logits - logits.amax(-1, keepdim=True)).exp()

    def sample_weighted(self, noise: Tensor) -> Tensor:
        """(...) class ids sampled in proportion to `weights`, or from the softmax without them.

        Weights that are all 0, because a mask left only classes whose weight is too small for
        float32, do not order what is left; the softmax does.
        """
        if self.weights is None:
            return self.sample(noise)
        cdf = self.weights.cumsum(-1, dtype=torch.float64)
        some = cdf[..., -1:] > 0
        if not bool(some.all()):
            cdf = torch.where(some, cdf, self._shares.cumsum(-1))
        return sample_class(cdf, noise[..., 0])

    def mode(self) -> Tensor:
        """(...) the class with the largest logit."""
        return self.logits.argmax(-1)

    def constrained(self, allowed: Allowed) -> Categorical:
        """No logit and no weight but those of allowed classes.

        Args:
            allowed: (..., C) bool; at least one True in each row where a class was possible before.

        Raises:
            ShapeError: If it is an interval, or nothing is left of what was possible.
        """
        if not isinstance(allowed, Tensor):
            raise ShapeError(
                "an interval cannot constrain a categorical prediction",
                hint="give a mask of its classes, (..., C) bool",
            )
        if not bool((allowed & (self.logits > -math.inf)).any(-1).all()):
            raise ShapeError(
                "the mask of a row leaves no class that was possible before",
                hint="use notelstm.sampling.allow_only, which then keeps the possible classes",
            )
        weights = None if self.weights is None else self.weights * allowed
        return Categorical(self.logits.masked_fill(~allowed, -math.inf), weights)

    def with_temperature(self, temperature: float) -> Categorical:
        """Logits over `temperature`, relative weights to the power of its inverse."""
        # From a largest logit of 0 and weight of 1 no temperature makes all of them over- or
        # underflow; the quotient of two small numbers needs float64.
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
        """The same classes with more or less weight; the weights of weighted sampling as well."""
        weights = self.weights
        return Categorical(
            self.logits + log_weights.to(self.logits),
            None if weights is None else weights * log_weights.to(weights).exp(),
        )

    def nll(self, target: Tensor) -> Tensor:
        """(...) nats of the class ids `target` (...)."""
        same_shape("the target", self.logits[..., 0], target)
        flat = self.logits.reshape(-1, self.logits.shape[-1])
        losses = functional.cross_entropy(flat, target.reshape(-1).long(), reduction="none")
        return losses.reshape(target.shape)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability of [low, high): each class is spread evenly over its width.

        The first and last class reach out to the infinities.

        Raises:
            FieldError: If the classes of `field` have no edges.
        """
        if not field.edges:
            raise FieldError(
                "the field has no edges, so that its classes have no width",
                where=f"field {field.name!r}",
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
