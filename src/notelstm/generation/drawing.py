"""Drawing a row, field by field: as tensors for many lanes, or one lane in plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.fields import Field, Interval, Mask, Rows
from notelstm.generation.forcing import forced_after, reweighted
from notelstm.generation.lanes import Lanes, Views
from notelstm.generation.parts import Parts, check_drawn, check_legal
from notelstm.generation.steps import ModuleStep, Place, Step
from notelstm.protocols import LeanStep, Legal, PlainPrediction, Prediction

__all__ = ["Choice", "PlainDraw", "TensorDraw"]

Choice: TypeAlias = Callable[[PlainPrediction, Sequence[float]], float]
"""How a sampler chooses from plain numbers, with two uniforms."""


@final
class TensorDraw:
    """Draws a row in each of B lanes.

    Args:
        parts: What the session is made of.
        lanes: The lanes.
        step: What predicts.
    """

    def __init__(self, parts: Parts, lanes: Lanes, step: Step) -> None:
        self._parts: Final = parts
        self._lanes: Final = lanes
        self._step: Final = step
        self._device: Final = step.device if isinstance(step, ModuleStep) else None
        self._columns: Final = {name: i for i, name in enumerate(parts.fields)}
        self._bounds: Final = {
            name: self._ends([field.interval] * len(lanes))
            for name, field in parts.fields.items()
            if not field.is_categorical
        }

    def __call__(
        self, place: Place, noise: NDArray[np.float64], forced: Mapping[str, float]
    ) -> Rows:
        """(B, F) rows, with (B, F, 2) uniforms."""
        uniforms = torch.from_numpy(noise).to(self._device)
        fixed = {name: self._full(name, entry) for name, entry in forced.items()}
        drawn: dict[str, Tensor] = {}
        rows = np.empty((len(self._lanes), len(self._columns)), dtype=np.float32)
        for name in self._parts.model.order:
            column = self._columns[name]
            if name in fixed:
                drawn[name] = fixed[name]
                if self._parts.grammar:
                    field = self._parts.fields[name]
                    views = Views(self._lanes, drawn)
                    check_legal(fixed[name], field, self._legal(field, views))
            else:
                said = self._said(name, place.context, drawn, fixed)
                drawn[name] = self._chosen(name, said, uniforms[:, column], {**drawn, **fixed})
            rows[:, column] = drawn[name].cpu().numpy()
        return rows

    def _full(self, name: str, entry: float) -> Tensor:
        """(B,) a forced entry."""
        kind = torch.int64 if self._parts.fields[name].is_categorical else torch.float32
        return torch.full((len(self._lanes),), entry, dtype=kind, device=self._device)

    def _said(
        self,
        name: str,
        context: Any,
        known: Mapping[str, Tensor],
        fixed: Mapping[str, Tensor],
    ) -> Prediction:
        """What is predicted of a field, given the earlier ones and those forced right after it."""
        predict = self._step.predict
        prediction = predict(name, context, known)
        if not fixed:
            return prediction
        after = forced_after(self._parts.model.order, name, fixed)
        return reweighted(predict, name, prediction, context, known, after)

    def _chosen(
        self, name: str, prediction: Prediction, noise: Tensor, known: Mapping[str, Tensor]
    ) -> Tensor:
        """(B,) entries drawn from what is legal: class ids or values."""
        field, views = self._parts.fields[name], Views(self._lanes, known)
        legal = self._legal(field, views)
        if legal is not None:
            prediction = prediction.masked(legal)
        chosen = self._parts.sampler(field, prediction, noise, views)
        kind = torch.int64 if field.is_categorical else torch.float32
        return check_drawn(chosen, field, len(views)).to(kind)

    def _legal(self, field: Field, views: Views) -> Legal | None:
        """What can be decoded next, for all lanes."""
        if not self._parts.grammar:
            return None if field.is_categorical else self._bounds[field.name]
        masks = [view.tracker.legal(field, view.known) for view in views]
        if not field.is_categorical:
            return self._ends([field.interval if m is None else m for m in masks])
        if all(mask is None for mask in masks):
            return None
        anything = np.ones(field.classes or 0, dtype=np.bool_)
        stacked = np.stack([anything if m is None else np.asarray(m) for m in masks])
        return torch.from_numpy(stacked).to(self._device)

    def _ends(self, intervals: Sequence[Mask]) -> tuple[Tensor, Tensor]:
        ends = np.array(intervals, dtype=np.float32)
        low, high = torch.from_numpy(ends).to(self._device).unbind(1)
        return low, high


@final
class PlainDraw:
    """Draws a row in the only lane, with nothing forced.

    Args:
        parts: What the session is made of.
        lanes: The one lane.
        step: What predicts.
        choose: How the sampler chooses.
    """

    def __init__(self, parts: Parts, lanes: Lanes, step: LeanStep, choose: Choice) -> None:
        self._lanes: Final = lanes
        self._step: Final = step
        self._choose: Final = choose
        self._grammar: Final = parts.grammar
        names = list(parts.fields)
        self._order: Final = [
            (name, parts.fields[name], names.index(name), _bounds(parts.fields[name]))
            for name in parts.model.order
        ]

    def __call__(self, place: Place, noise: Sequence[Sequence[float]]) -> Rows:
        """(1, F) rows, with (F, 2) uniforms."""
        context, plain, choose = place.context, self._step.plain, self._choose
        row = [0.0] * len(noise)
        known: dict[str, float] = {}
        for name, field, column, bounds in self._order:
            said = plain(name, context, known)
            legal: Mask | None = bounds
            if self._grammar:
                told = self._lanes.trackers[0].legal(field, known)
                legal = bounds if told is None else told
            if legal is not None:
                said = said.masked(legal)
            row[column] = known[name] = choose(said, noise[column])
        return np.array([row], dtype=np.float32)


def _bounds(field: Field) -> Interval | None:
    """What a number may be at any time."""
    return None if field.is_categorical else field.interval
