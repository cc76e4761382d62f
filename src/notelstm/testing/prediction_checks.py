"""The clauses of ``check_model`` that look at what its heads say, and predictions as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions import Categorical, LogisticMixture, Normal, PointEstimate
from notelstm.protocols import HasLikelihood, Prediction
from notelstm.testing.clauses import require

__all__ = ["PREDICTION_CLAUSES", "Heads", "as_numbers", "noise_like", "require_in_domain"]

_LAST_UNIFORM = 1 - 2**-24
"""The greatest float32 below 1."""


@final
@dataclass(frozen=True)
class Heads:
    """What a model says of its fields.

    Attributes:
        fields: By name.
        predict: Predicts all of them, (B, T) each.
    """

    fields: Mapping[str, Field]
    predict: Callable[[], Mapping[str, Prediction]]


def as_numbers(prediction: Prediction, field: Field) -> Tensor:
    """Everything that a prediction says, (..., K), to be compared with another's."""
    if isinstance(prediction, Categorical):
        # Logits that differ by a constant say the same; what is impossible must not give NaN.
        parts = [prediction.logits.log_softmax(-1).clamp_min(-1e4)]
        parts += [] if prediction.weights is None else [prediction.weights]
        return torch.cat(parts, dim=-1)
    if isinstance(prediction, Normal):
        return torch.stack([prediction.mean, prediction.sigma], dim=-1)
    if isinstance(prediction, LogisticMixture):
        weights = prediction.logits.log_softmax(-1).clamp_min(-1e4)
        return torch.cat([weights, prediction.mean, prediction.scale], dim=-1)
    if isinstance(prediction, PointEstimate):
        return prediction.value.unsqueeze(-1)
    mode = prediction.mode()
    parts = [mode.float()]
    if isinstance(prediction, HasLikelihood):
        targets = [mode]
        if field.classes is not None:
            targets = [torch.full_like(mode, c) for c in range(field.classes)]
        parts += [prediction.nll(target).clamp_max(1e4) for target in targets]
    else:
        parts += [prediction.sample(mode.new_full((*mode.shape, 2), u)) for u in (0.25, 0.5, 0.75)]
    return torch.stack([part.float() for part in parts], dim=-1)


def noise_like(size: Tensor, seed: int = 0) -> Tensor:
    """(..., 2) uniforms for a tensor (...), both ends of [0, 1) among them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((*size.shape, 2), generator=generator)
    flat = noise.view(-1, 2)
    flat[0] = 0.0
    flat[-1] = _LAST_UNIFORM
    return noise


def require_in_domain(field: Field, drawn: Tensor) -> None:
    """Fail unless each entry is one that the field can hold."""
    require(isinstance(drawn, Tensor), f"{field.name!r}: got {type(drawn).__name__}.")
    if field.classes is not None:
        require(drawn.dtype == torch.int64, f"{field.name!r}: class ids of {drawn.dtype}.")
        inside = (drawn >= 0) & (drawn < field.classes)
    else:
        low, high = field.interval
        require(drawn.dtype == torch.float32, f"{field.name!r}: values of {drawn.dtype}.")
        inside = torch.isfinite(drawn) & (drawn >= low) & (drawn <= high)
    require(inside.all(), f"{field.name!r}: {drawn[~inside].flatten()[:1].tolist()}.")


def _confined(prediction: Prediction, field: Field) -> Prediction:
    """Without the values that a continuous field cannot hold."""
    if field.is_categorical:
        return prediction
    size = prediction.mode()
    low, high = (torch.full_like(size, bound) for bound in field.interval)
    return prediction.constrained((low, high))


def _draws_are_in_the_domain(heads: Heads) -> None:
    """A draw has the prediction's shape and is a class of the field, or a value within bounds."""
    for name, prediction in heads.predict().items():
        field = heads.fields[name]
        confined = _confined(prediction, field)
        size = confined.mode()
        noise = noise_like(size)
        for drawn in (confined.sample(noise), size):
            require(drawn.shape == size.shape, f"{name!r}: shape {tuple(drawn.shape)}.")
            require_in_domain(field, drawn)
        again = confined.sample(noise)
        require(torch.equal(confined.sample(noise), again), f"{name!r}: same noise, other draw.")


def _probabilities_sum_to_one(heads: Heads) -> None:
    """The probabilities of all cells of a field, and of all its classes, sum to 1."""
    for name, prediction in heads.predict().items():
        field = heads.fields[name]
        if not isinstance(prediction, HasLikelihood):
            continue
        size = prediction.mode()
        if field.classes is not None:
            ids = [torch.full_like(size, c) for c in range(field.classes)]
            classes = torch.stack([(-prediction.nll(c).double()).exp() for c in ids])
            _sums_to_one(f"{name!r}, its classes", classes)
        if field.edges or not field.is_categorical:
            ends = torch.linspace(-3, 3, 150).tolist()
            if field.edges:
                ends = torch.linspace(field.edges[0] - 1, field.edges[-1] + 1, 150).tolist()
            borders = [float("-inf"), *ends, float("inf")]
            at = [torch.full(size.shape, x, dtype=torch.float64) for x in borders]
            cells = [prediction.interval_prob(field, a, b) for a, b in pairwise(at)]
            _sums_to_one(f"{name!r}, its cells", torch.stack(cells))


def _sums_to_one(what: str, parts: Tensor) -> None:
    require(torch.isfinite(parts).all() and (parts >= 0).all(), f"{what}: one is negative or NaN.")
    off = float((parts.sum(0) - 1).detach().abs().max())
    require(off < 1e-5, f"{what}: the sum is off by {off:.3g}.")


PREDICTION_CLAUSES: tuple[Callable[[Heads], None], ...] = (
    _draws_are_in_the_domain,
    _probabilities_sum_to_one,
)
"""What holds for the heads of every model."""
