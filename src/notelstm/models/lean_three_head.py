"""``ThreeHeadLSTM`` for one lane in plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
from torch import Tensor, nn

from notelstm.fields import Field, Row
from notelstm.models.lean import (
    Array,
    LeanLSTM,
    as_arrays,
    as_tensors,
    layers_of,
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
        self._says: Final[dict[str, Callable[[Array], PlainPrediction]]] = {}
        for field in fields:
            head = heads[field.name]
            if field.is_categorical:
                self._says[field.name] = _confined(head) if sigmoid else _classes(head)
            else:
                self._says[field.name] = _point(head) if point_times else _normal(head, field)

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
        return self._says[field](context.hidden)


def _confined(head: nn.Linear) -> Callable[[Array], PlainPrediction]:
    halves = layers_of(head, 0.5)

    def says(hidden: Array) -> PlainPrediction:
        confined = np.tanh(halves(hidden))
        confined *= _HALF
        confined += _HALF
        return PlainCategorical(confined, confined)

    return says


def _classes(head: nn.Linear) -> Callable[[Array], PlainPrediction]:
    logits = layers_of(head)
    return lambda hidden: PlainCategorical(logits(hidden))


def _point(head: nn.Linear) -> Callable[[Array], PlainPrediction]:
    weights = head.weight.detach().numpy()[0].copy()
    bias = head.bias.detach().numpy()[0]
    return lambda hidden: PlainPoint(float(hidden.dot(weights) + bias))


def _normal(head: nn.Linear, field: Field) -> Callable[[Array], PlainPrediction]:
    output = layers_of(head)
    return lambda hidden: plain_normal(output(hidden), field)
