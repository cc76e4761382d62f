"""The predictions of a model as numbers, and the clauses of ``check_model`` about them.

A prediction is compared by its methods, never by its class, so that a plugin's own works as well.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, final

import torch
from torch import Tensor

from notelstm import tree
from notelstm.batch import columns
from notelstm.fields import Field
from notelstm.protocols import Context, HasLikelihood, Prediction, State
from notelstm.testing.clauses import require

__all__ = ["ModelCase", "as_numbers", "noise_like", "require_in_domain"]

_LAST_UNIFORM: Final = 1 - 2**-24
"""The greatest float32 below 1."""

_UNIFORMS: Final = ((0.2371, 0.7919), (0.5123, 0.5123), (0.7919, 0.2371))
"""No simple fractions: a sample must not lie on the border between equally likely classes."""


@final
@dataclass(frozen=True)
class ModelCase:
    """The arguments of :func:`~notelstm.testing.check_model`; the model is in eval mode."""

    model: Any
    rows: Tensor
    tolerance: float
    entry_point: bool

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """The fields by name."""
        return {field.name: field for field in self.model.fields}

    def known(self, rows: Tensor) -> dict[str, Tensor]:
        """The columns of (..., F) rows by field name, class ids as whole numbers."""
        return columns(rows, self.model.fields)

    def numbers(self, context: Context, rows: Tensor, model: Any = None) -> dict[str, Tensor]:
        """The predictions of each field of (..., F) rows, as numbers (..., K)."""
        model = self.model if model is None else model
        known = self.known(rows)
        return {
            name: as_numbers(model.predict(name, context, known), self.fields[name])
            for name in self.model.field_order
        }

    def read(self, rows: Tensor, model: Any = None) -> tuple[Context, State]:
        """The contexts before each of (B, T, F) rows, (B, T, ...), and the state after all."""
        model = self.model if model is None else model
        context, state = model.initial_state(rows.shape[0])
        contexts, state = model.forward(rows, state)
        whole: Context = tree.join([context, contexts], axis=1)
        return tree.index(whole, (slice(None), slice(0, -1))), state

    def same(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], what: str) -> None:
        """Equal numbers within the tolerance, field by field."""
        for name, numbers in a.items():
            require(numbers.shape == b[name].shape, f"{what}: {name!r} has other shapes.")
            off = float((numbers - b[name]).detach().abs().max()) if numbers.numel() else 0.0
            require(off <= self.tolerance, f"{what}: {name!r} is off by {off:.3g}.")

    def heads(self) -> dict[str, Prediction]:
        """The predictions of all rows, (B, T), without gradients."""
        with torch.no_grad():
            context, _ = self.read(self.rows)
            known = self.known(self.rows)
            return {
                name: self.model.predict(name, context, known) for name in self.model.field_order
            }

    def loss(self, context: Context, rows: Tensor) -> Tensor:
        """The likelihood of the rows; the sum of squares of a prediction without a likelihood."""
        known = self.known(rows)
        terms = []
        for name in self.model.field_order:
            prediction = self.model.predict(name, context, known)
            if isinstance(prediction, HasLikelihood):
                terms.append(prediction.nll(known[name]).double().sum())
            else:
                terms.append((as_numbers(prediction, self.fields[name]) ** 2).sum())
        return torch.stack(terms).sum()


def as_numbers(prediction: Prediction, field: Field) -> Tensor:
    """(..., K) float64 results of a prediction's methods, equal for equal predictions."""
    mode = prediction.mode()
    noise = [mode.new_tensor(pair, dtype=torch.float32) for pair in _UNIFORMS]
    noise = [pair.expand(*mode.shape, 2) for pair in noise]
    weights, support = prediction.log_weights(), prediction.support()
    parts = [prediction.sample_weighted(pair) for pair in noise]
    if weights is None:
        parts += [mode, *(prediction.sample(pair) for pair in noise)]
        parts += (
            [] if support is None else [end.clamp(-1e6, 1e6).expand_as(mode) for end in support]
        )
        if isinstance(prediction, HasLikelihood):
            parts += _likelihoods(prediction, field, mode)
    numbers = torch.stack([part.double() for part in parts], dim=-1)
    if weights is None:
        return numbers
    # Logits may differ by a constant; the logarithm of 0 must not become NaN in a difference.
    log_probs = weights.double().log_softmax(-1).clamp_min(-1e4)
    return torch.cat([log_probs, numbers], dim=-1)


def _likelihoods(prediction: HasLikelihood, field: Field, mode: Tensor) -> list[Tensor]:
    """The loss of each class, or the distribution function at a few values."""
    if field.classes is not None:
        ids = (torch.full_like(mode, c) for c in range(field.classes))
        return [prediction.nll(target).clamp_max(1e4) for target in ids]
    start = field.interval.low if field.low is not None else -1.0
    below = torch.full_like(mode, -torch.inf, dtype=torch.float64)
    ends = (torch.full_like(below, start + x) for x in (0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0))
    return [prediction.interval_prob(field, below, end) for end in ends]


def noise_like(size: Tensor, seed: int = 0) -> Tensor:
    """(..., 2) uniforms for a tensor (...), both ends of [0, 1) among them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((*size.shape, 2), generator=generator)
    flat = noise.view(-1, 2)
    flat[0] = 0.0
    flat[-1] = _LAST_UNIFORM
    return noise


def require_in_domain(field: Field, samples: Tensor) -> None:
    """Fail unless each sample is an entry that the field can have."""
    require(isinstance(samples, Tensor), f"{field.name!r}: got {type(samples).__name__}.")
    if field.classes is not None:
        require(samples.dtype == torch.int64, f"{field.name!r}: class ids of {samples.dtype}.")
        inside = (samples >= 0) & (samples < field.classes)
    else:
        low, high = field.interval
        require(samples.dtype == torch.float32, f"{field.name!r}: values of {samples.dtype}.")
        inside = torch.isfinite(samples) & (samples >= low) & (samples <= high)
    require(inside.all(), f"{field.name!r}: {samples[~inside].flatten()[:1].tolist()}.")


def _samples_are_in_the_domain(case: ModelCase) -> None:
    """A sample has the shape of the prediction and is a class, or a value within the bounds."""
    for name, prediction in case.heads().items():
        field, inside = case.fields[name], prediction
        if field.classes is None:
            low, high = (torch.full_like(prediction.mode(), bound) for bound in field.interval)
            inside = prediction.constrained((low, high))
        mode = inside.mode()
        noise = noise_like(mode)
        samples = inside.sample(noise)
        for entries in (samples, mode):
            require(entries.shape == mode.shape, f"{name!r}: shape {tuple(entries.shape)}.")
            require_in_domain(field, entries)
        same = torch.equal(inside.sample(noise), samples)
        require(same, f"{name!r}: the same noise gave another sample.")


def _probabilities_sum_to_one(case: ModelCase) -> None:
    """The probabilities of adjacent intervals, and of all classes, sum to 1."""
    for name, prediction in case.heads().items():
        field, size = case.fields[name], prediction.mode()
        if not isinstance(prediction, HasLikelihood):
            continue
        if field.classes is not None:
            ids = (torch.full_like(size, c) for c in range(field.classes))
            classes = torch.stack([(-prediction.nll(c).double()).exp() for c in ids])
            _sums_to_one(f"{name!r}, its classes", classes)
        if field.edges or not field.is_categorical:
            first, last = (field.edges[0] - 1, field.edges[-1] + 1) if field.edges else (-3, 3)
            borders = [-torch.inf, *torch.linspace(first, last, 150).tolist(), torch.inf]
            ends = [torch.full(size.shape, x, dtype=torch.float64) for x in borders]
            cells = [prediction.interval_prob(field, a, b) for a, b in pairwise(ends)]
            _sums_to_one(f"{name!r}, its intervals", torch.stack(cells))


def _sums_to_one(what: str, parts: Tensor) -> None:
    require(torch.isfinite(parts).all() and (parts >= 0).all(), f"{what}: one is negative or NaN.")
    off = float((parts.sum(0) - 1).detach().abs().max())
    require(off < 1e-5, f"{what}: the sum is off by {off:.3g}.")


PREDICTION_CLAUSES = (_samples_are_in_the_domain, _probabilities_sum_to_one)
