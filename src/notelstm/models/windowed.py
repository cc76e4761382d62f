"""``Windowed``: a model whose predictions depend on the last few rows alone, as in the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.fields import Rows
from notelstm.models.inference import HasNumpyStep, NumpyStep, map_arrays
from notelstm.models.lstm import check_size
from notelstm.protocols import Context, NoteModel, Prediction
from notelstm.tree import index, join, leaf, map_tree

__all__ = ["LastRows", "NumpyWindowed", "Runs", "Windowed"]


class LastRows(NamedTuple):
    """The state of a windowed model.

    Attributes:
        rows: (B, W, F) the last rows, the newest last, after zeros.
        filled: (B,) int64 the number of rows that have been read, at most W.
    """

    rows: Tensor
    filled: Tensor


@final
class Windowed(nn.Module):
    """Runs a model from its initial state over the last `window` rows for each prediction.

    A model trained on windows of 25 rows has not seen longer contexts. Train the inner model, and
    generate and score with this one.

    Args:
        model: The inner model.
        window: W, the number of rows.

    Raises:
        ConfigError: If the window is no whole number of at least 1, or the model is not a module.
    """

    def __init__(self, model: NoteModel, window: int) -> None:
        super().__init__()
        window = check_size("window", window)
        if not isinstance(model, nn.Module):
            raise ConfigError(
                f"a {type(model).__name__} is not a torch.nn.Module",
                hint="build the model before you wrap it",
            )
        self.model: nn.Module = model
        self.window: int = window
        self.config: Final[Mapping[str, Any]] = {"model": model, "window": window}
        self.fields: Final = model.fields
        self.field_order: Final = model.field_order

    @property
    def inner(self) -> NoteModel:
        """The inner model."""
        return cast(NoteModel, self.model)

    def initial_state(self, batch_size: int) -> tuple[Context, LastRows]:
        """The initial context of the inner model, and an empty window."""
        context, _ = self.inner.initial_state(batch_size)
        rows = leaf(context).new_zeros(batch_size, self.window, len(self.fields))
        filled = torch.zeros(batch_size, dtype=torch.long, device=rows.device)
        return context, LastRows(rows, filled)

    @override
    def forward(self, rows: Tensor, state: LastRows) -> tuple[Context, LastRows]:
        """Read (B, T, F) rows, with a separate window for each."""
        batch, time, _ = rows.shape
        all_rows = torch.cat([state.rows, rows], dim=1)  # (B, W + T, F)
        # Window t ends with row t: (B, T, F, W) -> (B * T, W, F).
        windows = all_rows[:, 1:].unfold(1, self.window, 1).transpose(2, 3).flatten(0, 1)
        seen = state.filled[:, None] + torch.arange(1, time + 1, device=rows.device)  # (B, T)
        lengths = seen.clamp(max=self.window).flatten()  # (B * T,)
        parts, indices = [], []
        for length in torch.unique(lengths).tolist():
            at = (lengths == length).nonzero().squeeze(1)
            parts.append(self._last_context(windows[at, self.window - length :]))
            indices.append(at)
        back = torch.cat(indices).argsort()
        context = map_tree(
            lambda tensor: tensor[back].unflatten(0, (batch, time)), join(parts)
        )  # (B, T, ...)
        newest = LastRows(all_rows[:, time:], seen[:, -1].clamp(max=self.window))
        return context, newest

    def _last_context(self, windows: Tensor) -> Context:
        """(M, ...) contexts of the inner model after the last row of each window (M, L, F)."""
        _, state = self.inner.initial_state(windows.shape[0])
        context, _ = self.inner.forward(windows, state)
        return index(context, (slice(None), -1))

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field with the inner model."""
        return self.inner.predict(field, context, known)

    def numpy_step(self) -> NumpyWindowed | None:
        """The numpy step, if the inner model has one."""
        inner = self.model.numpy_step() if isinstance(self.model, HasNumpyStep) else None
        return None if inner is None else NumpyWindowed(inner, self.window)


class Runs(NamedTuple):
    """The states of the W windows that will include the next row.

    Attributes:
        states: (B, W, ...) of W runs of the inner model; run `k` begins with row `k`, `k + W` ...
        seen: (B,) the number of rows that have been read.
    """

    states: Any
    seen: NDArray[np.int64]


@final
class NumpyWindowed:
    """The numpy step of a windowed model.

    Every window starts from the initial state, so a row belongs to W windows with different states.
    W runs of the inner model, which begin one row apart, read the row as a batch: one step of a
    batch of W instead of W steps.

    Args:
        inner: The numpy step of the inner model.
        window: W, the number of rows of each window.
    """

    def __init__(self, inner: NumpyStep, window: int) -> None:
        self._inner: Final = inner
        self._window: Final = window
        self._context, self._initial = inner.initial_state()
        self.predict: Final = inner.predict
        self.predict_numpy: Final = inner.predict_numpy

    def initial_state(self) -> tuple[Any, Runs]:
        """The context and the state before the first row, of one sequence."""
        states = map_arrays(lambda array: array[None].repeat(self._window, axis=1), self._initial)
        return self._context, Runs(states, np.zeros(1, dtype=np.int64))

    def step(self, rows: Rows, state: Runs) -> tuple[Any, Runs]:
        """Read one row of each sequence, (B, F); the run that has read W rows restarts."""
        batch_size, window = len(rows), self._window
        contexts, states = self._inner.step(
            rows.repeat(window, axis=0),
            map_arrays(lambda array: array.reshape(-1, *array.shape[2:]), state.states),
        )
        # Sequences can have read different numbers of rows, so each has its own oldest run.
        seen = state.seen + 1  # (B,)
        first = window * np.arange(batch_size)
        restarted = first + seen % window
        oldest = np.where(seen >= window, restarted, first)
        context = map_arrays(lambda array: array[oldest], contexts)
        states = _restarted(states, restarted, self._initial)
        states = map_arrays(
            lambda array: array.reshape(batch_size, window, *array.shape[1:]), states
        )
        return context, Runs(states, seen)


def _restarted(states: Any, runs: NDArray[np.intp], initial: Any) -> Any:
    """States (B * W, ...) in which some runs are at the initial state.

    They are copies, since a step can return arrays of the state that it was given.
    """
    if isinstance(states, tuple):
        parts = zip(states, initial, strict=True)
        return type(states)(*(_restarted(part, runs, new) for part, new in parts))
    after = states.copy()
    after[runs] = initial
    return after
