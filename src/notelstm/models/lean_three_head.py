"""``ThreeHeadLSTM`` for one lane in plain arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.fields import Field, Row
from notelstm.models.lean import (
    Array,
    LeanLSTM,
    as_arrays,
    as_tensors,
    numbers,
    plain_normal,
)
from notelstm.models.lstm import Hidden, LSTMState
from notelstm.predictions import PlainCategorical, PlainPoint
from notelstm.protocols import Context, PlainPrediction, State

__all__ = ["LeanThreeHead"]

_HALF: Final = np.array(0.5, dtype=np.float32)


@final
class LeanThreeHead:
    """The lean copy of a three-head model.

    Args:
        fields: Its fields.
        lstm: Its LSTM.
        scale: (F,) what rows are multiplied by.
        heads: Its heads by field name.
        sigmoid: Whether its logits are confined to (0, 1).
        point_times: Whether its times are single values.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        lstm: nn.LSTM,
        scale: Tensor,
        heads: Mapping[str, nn.Linear],
        *,
        sigmoid: bool,
        point_times: bool,
    ) -> None:
        self._lstm: Final = LeanLSTM(lstm, scale)
        # All heads read the same, so they are one layer; sigmoid(x) = (tanh(x / 2) + 1) / 2.
        halves = [0.5 if f.is_categorical and sigmoid else 1.0 for f in fields]
        pairs = list(zip((heads[f.name] for f in fields), halves, strict=True))
        self._weights: Final[Array] = numbers(torch.cat([h.weight * k for h, k in pairs]).t())
        self._bias: Final[Array] = numbers(torch.cat([h.bias * k for h, k in pairs]))
        self._says: Final[dict[str, tuple[_Says, int, int]]] = {}
        first = 0
        for field in fields:
            says: _Says = _confined if sigmoid else _classes
            if not field.is_categorical:
                says = _point if point_times else functools.partial(_normal, field)
            end = first + heads[field.name].out_features
            self._says[field.name] = (says, first, end)
            first = end
        self._last: tuple[Any, Array] = (None, self._bias)

    def enter(self, context: Context, state: State) -> tuple[Any, Any]:
        """From tensors."""
        return as_arrays(context), as_arrays(state)

    def leave(self, context: Any, state: Any) -> tuple[Context, State]:
        """To tensors."""
        return as_tensors(context), as_tensors(state)

    def step(self, row: Row, state: Any) -> tuple[Any, Any]:
        """Read one row, in one lane or in several."""
        h, c = self._lstm(row, *state)
        return Hidden(h[..., -1, :]), LSTMState(h, c)  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """Predict one field; `known` is ignored."""
        here, output = self._last
        if here is not context:
            output = context.hidden.dot(self._weights)
            output += self._bias
            self._last = (context, output)
        says, first, end = self._says[field]
        return says(output, first, end)


_Says: TypeAlias = Callable[[Array, int, int], PlainPrediction]


def _confined(output: Array, first: int, end: int) -> PlainPrediction:
    confined = np.tanh(output[first:end])
    confined *= _HALF
    confined += _HALF
    return PlainCategorical(confined, confined)


def _classes(output: Array, first: int, end: int) -> PlainPrediction:
    return PlainCategorical(output[first:end])


def _point(output: Array, first: int, _end: int) -> PlainPrediction:
    return PlainPoint(output.item(first))


def _normal(field: Field, output: Array, first: int, end: int) -> PlainPrediction:
    return plain_normal(output[first:end], field)
