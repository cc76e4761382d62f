"""``ModelCase``: the predictions of a model after given rows, as numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from notelstm import tree
from notelstm.batch import columns
from notelstm.fields import Field
from notelstm.protocols import Context, HasLikelihood, Prediction, State
from notelstm.testing.clauses import require
from notelstm.testing.prediction_checks import as_numbers

__all__ = ["ModelCase"]


@final
@dataclass(frozen=True)
class ModelCase:
    """A model under test.

    Attributes:
        model: The model, in eval mode.
        rows: (B, T, F) rows to read.
        tolerance: The greatest difference between equal numbers, relative to those above 1.
        entry_point: Whether the model has an entry point.
    """

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
            scale = b[name].detach().abs().clamp_min(1)
            off = (
                float(((numbers - b[name]).detach().abs() / scale).max()) if scale.numel() else 0.0
            )
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
