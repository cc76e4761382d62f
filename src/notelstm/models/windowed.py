"""The original's way of looking back: each prediction sees the last few rows and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.fields import Field, Row
from notelstm.models.lean import map_arrays
from notelstm.protocols import (
    Context,
    LeanModel,
    LeanStep,
    NoteModel,
    PlainPrediction,
    Prediction,
    State,
)
from notelstm.tree import index, join, leaf, map_tree

__all__ = ["LastRows", "LeanWindowed", "Runs", "Windowed"]


class LastRows(NamedTuple):
    """The state of a windowed model.

    Attributes:
        rows: (B, W, F) the last rows, the newest last; zeros where there were none yet.
        filled: (B,) int64 how many of them are real.
    """

    rows: Tensor
    filled: Tensor


@final
class Windowed(nn.Module):
    """A model that runs another one afresh over the last `window` rows for each prediction.

    A model trained on windows of 25 has never seen a longer past; this keeps it from one. Train
    the inner model, generate and score with this one.

    Args:
        model: The model.
        window: W, rows that it sees.

    Raises:
        ConfigError: If the window is less than 1.
    """

    def __init__(self, model: NoteModel, window: int) -> None:
        super().__init__()
        if window < 1:
            raise ConfigError("a window holds at least 1 row", got=f"{window}")
        if not isinstance(model, nn.Module):
            raise ConfigError("a model is a torch.nn.Module", got=type(model).__name__)
        self.model: nn.Module = model
        self.window: int = window
        self.config: Final[Mapping[str, Any]] = {"model": model, "window": window}

    @property
    def inner(self) -> NoteModel:
        """The model that runs in the window."""
        return cast(NoteModel, self.model)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The inner model's fields."""
        return self.inner.fields

    @property
    def order(self) -> tuple[str, ...]:
        """The inner model's order."""
        return self.inner.order

    def start(self, batch: int) -> tuple[Context, LastRows]:
        """The inner model's start, and an empty window."""
        context, _ = self.inner.start(batch)
        rows = leaf(context).new_zeros(batch, self.window, len(self.fields))
        filled = torch.zeros(batch, dtype=torch.long, device=rows.device)
        return context, LastRows(rows, filled)

    @override
    def forward(self, rows: Tensor, state: LastRows) -> tuple[Context, LastRows]:
        """Read (B, T, F) rows, each through a window of its own."""
        batch, time, _ = rows.shape
        everything = torch.cat([state.rows, rows], dim=1)  # (B, W + T, F)
        # Window t ends with row t: (B, T, F, W) -> (B * T, W, F).
        windows = everything[:, 1:].unfold(1, self.window, 1).transpose(2, 3).flatten(0, 1)
        seen = state.filled[:, None] + torch.arange(1, time + 1, device=rows.device)  # (B, T)
        lengths = seen.clamp(max=self.window).flatten()  # (B * T,)
        parts, places = [], []
        for length in torch.unique(lengths).tolist():
            place = (lengths == length).nonzero().squeeze(1)
            parts.append(self._last_context(windows[place, self.window - length :]))
            places.append(place)
        back = torch.cat(places).argsort()
        context = map_tree(
            lambda tensor: tensor[back].unflatten(0, (batch, time)), join(parts)
        )  # (B, T, ...)
        newest = LastRows(everything[:, time:], seen[:, -1].clamp(max=self.window))
        return context, newest

    def _last_context(self, windows: Tensor) -> Context:
        """The inner model's context after the last row of each of (M, L, F) windows: (M, ...)."""
        _, state = self.inner.start(windows.shape[0])
        context, _ = self.inner.forward(windows, state)
        return index(context, (slice(None), -1))

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """The inner model's prediction."""
        return self.inner.predict(field, context, known)

    def lean(self) -> LeanWindowed | None:
        """A copy in plain arrays, if the inner model has one."""
        inner = self.model.lean() if isinstance(self.model, LeanModel) else None
        if inner is None:
            return None
        context, state = self.inner.start(1)
        here = index(context, (slice(None), -1))
        return LeanWindowed(inner, here, state, window=self.window, fields=len(self.fields))


class Runs(NamedTuple):
    """Where each of the windows stands that the next row will be in.

    Attributes:
        states: Of W runs of the inner model, (W, ...); run `k` began with row `k`, `k + W` ...
        rows: The last rows, at most W.
        seen: How many rows came.
    """

    states: Any
    rows: tuple[Row, ...]
    seen: int


@final
class LeanWindowed:
    """The lean copy of a windowed model.

    The window that ends with a row shares no state with the one before it, since each begins
    afresh; but all windows that will hold a row read it at the same time. So W runs go side by
    side, each begun one row after the other, and a row costs one step of W lanes, not W steps.

    Args:
        inner: The lean copy of the model inside, whose `step` reads a row in many lanes.
        context: The context of the model inside at the start, (1, ...).
        state: Its state at the start, (1, ...).
        window: W, rows that each run sees.
        fields: F, how many fields a row has.
    """

    def __init__(
        self, inner: LeanStep, context: Context, state: State, *, window: int, fields: int
    ) -> None:
        self._inner: Final = inner
        self._window: Final = window
        self._fields: Final = fields
        self._start, self._fresh = inner.enter(context, state)

    def enter(self, context: Context, state: LastRows) -> tuple[Any, Runs]:
        """From tensors: the rows of the window are read again."""
        here = self._start
        runs = Runs(map_arrays(lambda a: np.repeat(a[None], self._window, 0), self._fresh), (), 0)
        filled = int(state.filled[0])
        for row in state.rows[0, self._window - filled :].numpy():
            here, runs = self.step(row.copy(), runs)
        return here, runs

    def leave(self, context: Any, state: Runs) -> tuple[Context, LastRows]:
        """To tensors."""
        inner, _ = self._inner.leave(context, self._fresh)
        rows = np.zeros((1, self._window, self._fields), dtype=np.float32)
        for i, row in enumerate(reversed(state.rows)):
            rows[0, -1 - i] = row
        return inner, LastRows(torch.from_numpy(rows), torch.tensor([len(state.rows)]))

    def step(self, row: Row, state: Runs) -> tuple[Any, Runs]:
        """Read one row: the oldest run has then seen a whole window, and begins anew."""
        contexts, states = self._inner.step(row, state.states)
        seen = state.seen + 1
        slot = seen % self._window
        oldest = slot if seen >= self._window else 0
        context = map_arrays(lambda array: array[oldest].copy(), contexts)
        _put(states, slot, self._fresh)
        return context, Runs(states, (*state.rows, row)[-self._window :], seen)

    def predict(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """The prediction of the model inside."""
        return self._inner.predict(field, context, known)


def _put(states: Any, slot: int, fresh: Any) -> None:
    """Begin the run in one slot anew, in place: the states are nobody else's yet."""
    if isinstance(states, tuple):
        for part, new in zip(states, fresh, strict=True):
            _put(part, slot, new)
    else:
        states[slot] = fresh
