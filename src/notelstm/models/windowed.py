"""The original's context: each prediction depends on the last few rows and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.fields import Field, Rows
from notelstm.models.inference import HasNumpyStep, NumpyStep, map_arrays
from notelstm.predictions import NumpyPrediction
from notelstm.protocols import Context, NoteModel, Prediction
from notelstm.tree import index, join, leaf, map_tree

__all__ = ["LastRows", "NumpyWindowed", "Runs", "Windowed"]


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
            raise ConfigError(f"window {window} is less than 1")
        if not isinstance(model, nn.Module):
            raise ConfigError(
                f"a {type(model).__name__} is not a torch.nn.Module",
                hint="build the model before you wrap it",
            )
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
    def field_order(self) -> tuple[str, ...]:
        """The inner model's order."""
        return self.inner.field_order

    def initial_state(self, batch_size: int) -> tuple[Context, LastRows]:
        """The inner model's start, and an empty window."""
        context, _ = self.inner.initial_state(batch_size)
        rows = leaf(context).new_zeros(batch_size, self.window, len(self.fields))
        filled = torch.zeros(batch_size, dtype=torch.long, device=rows.device)
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
        _, state = self.inner.initial_state(windows.shape[0])
        context, _ = self.inner.forward(windows, state)
        return index(context, (slice(None), -1))

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """The inner model's prediction."""
        return self.inner.predict(field, context, known)

    def numpy_step(self) -> NumpyWindowed | None:
        """The numpy step, if the inner model has one."""
        inner = self.model.numpy_step() if isinstance(self.model, HasNumpyStep) else None
        return None if inner is None else NumpyWindowed(inner, self.window)


class Runs(NamedTuple):
    """Where each of the windows stands that the next row will be in.

    Attributes:
        states: Of W runs of the inner model, (B, W, ...); run `k` began with row `k`, `k + W` ...
        seen: (B,) how many rows were read, the same for each sequence.
    """

    states: Any
    seen: NDArray[np.int64]


@final
class NumpyWindowed:
    """The numpy step of a windowed model.

    The window that ends with a row shares no state with the one before it, since each begins
    afresh; but all windows that will hold a row read it at the same time. So W runs go side by
    side, each begun one row after the other, and a row costs one step of a batch of W, not W steps.

    Args:
        inner: The numpy step of the inner model.
        window: W, rows that each run sees.
    """

    def __init__(self, inner: NumpyStep, window: int) -> None:
        self._inner: Final = inner
        self._window: Final = window
        self._context, self._fresh = inner.initial_state()

    def initial_state(self) -> tuple[Any, Runs]:
        """The context and the state before the first row, of one sequence: all runs are fresh."""
        states = map_arrays(lambda array: array[None].repeat(self._window, axis=1), self._fresh)
        return self._context, Runs(states, np.zeros(1, dtype=np.int64))

    def step(self, rows: Rows, state: Runs) -> tuple[Any, Runs]:
        """Read one row of each sequence; the oldest run has then read a window and restarts."""
        batch_size, window = len(rows), self._window
        contexts, states = self._inner.step(
            rows.repeat(window, axis=0),
            map_arrays(lambda array: array.reshape(-1, *array.shape[2:]), state.states),
        )
        seen = state.seen.item(0) + 1
        anew = seen % window
        oldest = anew if seen >= window else 0
        context = map_arrays(lambda array: array[oldest::window].copy(), contexts)
        _begin(states, slice(anew, None, window), self._fresh)
        states = map_arrays(
            lambda array: array.reshape(batch_size, window, *array.shape[1:]), states
        )
        return context, Runs(states, state.seen + 1)

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """The prediction of the model inside."""
        return self._inner.predict(field, context, known)

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """The prediction of the model inside."""
        return self._inner.predict_numpy(field, context, known)


def _begin(states: Any, runs: slice, fresh: Any) -> None:
    """Begin some runs anew, in place: the states (B * W, ...) are nobody else's yet."""
    if isinstance(states, tuple):
        for part, new in zip(states, fresh, strict=True):
            _begin(part, runs, new)
    else:
        states[runs] = fresh
