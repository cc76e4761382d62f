"""Two ways of running a model: many lanes as tensors, or one lane in plain numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.fields import Field, Interval, Mask, Row, Rows
from notelstm.generation.choosing import Parts, check_drawn, forced_after, reweighted
from notelstm.generation.lanes import Lanes, Views
from notelstm.models.modes import in_use
from notelstm.protocols import (
    Context,
    LeanSampler,
    LeanStep,
    Legal,
    PlainPrediction,
    Prediction,
    State,
)
from notelstm.tree import index, leaf, map_tree

__all__ = ["Batched", "Engine", "Place", "Single"]

_READ: Final = 1024
"""Rows of all lanes that are read at once; more would not fit in memory."""
_FEW: Final = 4
"""Rows that are read sooner one by one."""


class Place(NamedTuple):
    """Where a model stands; nothing in it is ever changed.

    Attributes:
        context: What predicts the next row.
        state: What the next row meets.
    """

    context: Context
    state: State


class Engine(Protocol):
    """A way of running a model.

    Attributes:
        place: Where it stands; it can be set to where it stood before.
    """

    place: Place

    def using(self) -> AbstractContextManager[None]:
        """The mode in which rows are read and drawn."""
        ...

    def read(self, rows: Rows, *, alike: bool) -> None:
        """Read (T, F) rows in every lane; `alike` if all stand in the same place."""
        ...

    def draw(self, noise: NDArray[np.float64], forced: Mapping[str, float]) -> Rows:
        """Draw and read the next row of each lane, (B, F), with (B, F, 2) uniforms."""
        ...


@final
class Batched:
    """The model itself, for B lanes.

    Args:
        parts: What the session is made of.
        lanes: The lanes.
    """

    def __init__(self, parts: Parts, lanes: Lanes) -> None:
        self._parts: Final = parts
        self._lanes: Final = lanes
        self._columns: Final = {name: i for i, name in enumerate(parts.fields)}
        with in_use(parts.model):
            context, state = parts.model.start(len(lanes))
        self.place: Place = Place(index(context, (slice(None), -1)), state)
        self._device: Final = leaf(context).device
        self._bounds: Final = {
            name: self._ends([field.interval] * len(lanes))
            for name, field in parts.fields.items()
            if not field.is_categorical
        }

    def using(self) -> AbstractContextManager[None]:
        """Evaluation mode without gradients."""
        return in_use(self._parts.model)

    def read(self, rows: Rows, *, alike: bool) -> None:
        """Read the same rows in every lane."""
        lanes = len(self._lanes)
        distinct = 1 if alike else lanes
        state: State = index(self.place.state, slice(0, distinct))
        some = max(1, _READ // distinct)
        for first in range(0, len(rows), some):
            tensor = torch.from_numpy(rows[first : first + some]).to(self._device)
            batch = tensor.expand(distinct, *tensor.shape)  # (B, T, F)
            context, state = self._parts.model.forward(batch, state)
        self.place = map_tree(
            lambda t: t.expand(lanes, *t.shape[1:]),
            Place(index(context, (slice(None), -1)), state),
        )

    def draw(self, noise: NDArray[np.float64], forced: Mapping[str, float]) -> Rows:
        """Draw and read the next row of each lane."""
        model, feedback = self._parts.model, self._parts.feedback
        uniforms = torch.from_numpy(noise).to(self._device)  # (B, F, 2)
        drawn: dict[str, Tensor] = {}
        fixed = {name: self._full(name, entry) for name, entry in forced.items()}
        for name in model.order:
            if name in fixed:
                drawn[name] = fixed[name]
            else:
                drawn[name] = self._entry(name, uniforms[:, self._columns[name]], drawn, fixed)
        rows = torch.stack([drawn[name].float() for name in self._columns], dim=1)  # (B, F)
        read = rows if feedback is None else feedback(rows, tuple(self._parts.fields.values()))
        context, state = model.forward(read.unsqueeze(1), self.place.state)
        self.place = Place(index(context, (slice(None), -1)), state)
        table: Rows = rows.cpu().numpy()
        return table

    def _full(self, name: str, entry: float) -> Tensor:
        """(B,) a forced entry."""
        kind = torch.int64 if self._parts.fields[name].is_categorical else torch.float32
        return torch.full((len(self._lanes),), entry, dtype=kind, device=self._device)

    def _entry(
        self, name: str, noise: Tensor, drawn: Mapping[str, Tensor], fixed: Mapping[str, Tensor]
    ) -> Tensor:
        """(B,) an entry drawn from what is legal: class ids or values."""
        parts, field = self._parts, self._parts.fields[name]
        views = Views(self._lanes, {**drawn, **fixed} if fixed else drawn)
        prediction = parts.model.predict(name, self.place.context, drawn)
        if fixed:
            forced = {later: float(entries[0]) for later, entries in fixed.items()}
            after = forced_after(parts.model.order, name, forced)
            prediction = reweighted(parts, name, prediction, self.place.context, drawn, after)
        legal = self._legal(field, views)
        if legal is not None:
            prediction = prediction.masked(legal)
        chosen = check_drawn(parts.sampler(field, prediction, noise, views), field, len(views))
        return chosen.to(torch.int64 if field.is_categorical else torch.float32)

    def _legal(self, field: Field, views: Sequence[Any]) -> Legal | None:
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

    def _ends(self, intervals: Sequence[Any]) -> tuple[Tensor, Tensor]:
        ends = np.array(intervals, dtype=np.float32)
        low, high = torch.from_numpy(ends).to(self._device).unbind(1)
        return low, high


@final
class Single:
    """A lean copy of the model, for one lane.

    Args:
        parts: What the session is made of.
        lanes: The one lane.
        step: The copy.
    """

    def __init__(self, parts: Parts, lanes: Lanes, step: LeanStep) -> None:
        self._parts: Final = parts
        self._lanes: Final = lanes
        self._step: Final = step
        sampler = parts.sampler
        self._choose: Final[Callable[[PlainPrediction, Sequence[float]], float] | None] = (
            sampler.lean() if isinstance(sampler, LeanSampler) else None
        )
        columns = {name: i for i, name in enumerate(parts.fields)}
        self._order: Final = [
            (name, parts.fields[name], columns[name], _bounds(parts.fields[name]))
            for name in parts.model.order
        ]
        with in_use(parts.model):
            context, state = parts.model.start(1)
            start = step.enter(index(context, (slice(None), -1)), state)
        self.place: Place = Place(*start)

    def using(self) -> AbstractContextManager[None]:
        """Nothing: there is no graph and no mode."""
        return contextlib.nullcontext()

    def read(self, rows: Rows, *, alike: bool) -> None:
        """Read rows: many as the module does, few in plain numbers."""
        if len(rows) <= _FEW:
            for row in rows:
                self.place = Place(*self._step.step(row, self.place.state))
            return
        with in_use(self._parts.model):
            context, state = self._step.leave(*self.place)
            for first in range(0, len(rows), _READ):
                batch = torch.from_numpy(rows[first : first + _READ])[None]
                context, state = self._parts.model.forward(batch, state)
            self.place = Place(*self._step.enter(index(context, (slice(None), -1)), state))

    def draw(self, noise: NDArray[np.float64], forced: Mapping[str, float]) -> Rows:
        """Draw and read the next row."""
        uniforms = noise[0].tolist()
        known = dict(forced)
        context, predict = self.place.context, self._step.predict
        choose = None if forced or self._parts.grammar else self._choose
        for name, field, column, bounds in self._order:
            if choose is not None:
                said = predict(name, context, known)
                confined = said if bounds is None else said.masked(bounds)
                known[name] = choose(confined, uniforms[column])
            elif name not in forced:
                known[name] = self._entry(field, bounds, uniforms[column], known, forced)
        row: Row = np.array([known[name] for name in self._parts.fields], dtype=np.float32)
        self.place = Place(*self._step.step(self._read_of(row), self.place.state))
        return row[None]

    def _read_of(self, row: Row) -> Row:
        """What the model reads of a row."""
        if self._parts.feedback is None:
            return row
        fields = tuple(self._parts.fields.values())
        read: Row = self._parts.feedback(torch.from_numpy(row)[None], fields)[0].numpy()
        return read

    def _entry(
        self,
        field: Field,
        legal: Mask | None,
        noise: Sequence[float],
        known: Mapping[str, float],
        forced: Mapping[str, float],
    ) -> float:
        """An entry drawn from what is legal: a class id or a value."""
        said = self._step.predict(field.name, self.place.context, known)
        if self._parts.grammar:
            confined = self._lanes.trackers[0].legal(field, known)
            legal = legal if confined is None else confined
        after = forced_after(self._parts.model.order, field.name, forced) if forced else {}
        if self._choose is not None and not after:
            return self._choose(said if legal is None else said.masked(legal), noise)
        with in_use(self._parts.model):
            prediction = said.full()
            if after:
                prediction = self._reweighted(field, prediction, known, after)
            if legal is not None:
                prediction = prediction.masked(_as_tensors(legal))
            uniforms = torch.tensor([noise], dtype=torch.float64)
            views = Views(self._lanes, known)
            drawn = self._parts.sampler(field, prediction, uniforms, views)
            chosen = check_drawn(drawn, field, 1)
            return float(chosen.to(torch.int64 if field.is_categorical else torch.float32))

    def _reweighted(
        self,
        field: Field,
        prediction: Prediction,
        known: Mapping[str, float],
        after: Mapping[str, float],
    ) -> Prediction:
        context, _ = self._step.leave(*self.place)
        told = {
            spec.name: torch.tensor([known[spec.name]]).to(
                torch.int64 if spec.is_categorical else torch.float32
            )
            for _, spec, _, _ in self._order[: self._parts.model.order.index(field.name)]
        }
        return reweighted(self._parts, field.name, prediction, context, told, after)


def _bounds(field: Field) -> Interval | None:
    """What a number may be at any time."""
    return None if field.is_categorical else field.interval


def _as_tensors(legal: Mask) -> Legal:
    if isinstance(legal, Interval):
        return torch.tensor([legal.low]), torch.tensor([legal.high])
    return torch.from_numpy(np.asarray(legal))[None]
