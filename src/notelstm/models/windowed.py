"""The original's way of looking back: each prediction sees the last few rows and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.protocols import Context, NoteModel, Prediction
from notelstm.tree import index, join, leaf, map_tree

__all__ = ["LastRows", "Windowed"]


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
