"""``ThreeHeadLSTM`` in plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.fields import Field, Rows
from notelstm.models.lean import (
    Array,
    LeanLSTM,
    halved,
    linear_of,
    plain_normal,
)
from notelstm.models.lstm import Hidden, normal_head
from notelstm.predictions import Categorical, PlainCategorical, PlainPoint, Point
from notelstm.protocols import PlainPrediction, Prediction

__all__ = ["LeanThreeHead"]


@final
class LeanThreeHead:
    """The lean copy of a three-head model.

    Args:
        fields: Its fields.
        lstm: Its LSTM.
        scale: (F,) what rows are multiplied by.
        heads: Its heads by field name.
        start: Its context and state before the first row.
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
        start: tuple[Any, Any],
        sigmoid: bool,
        point_times: bool,
    ) -> None:
        self._lstm: Final = LeanLSTM(lstm, scale)
        self._start: Final = start
        self._sigmoid: Final = sigmoid
        self._point_times: Final = point_times
        # All heads read the same, so they are one layer; half of a logit goes into its tanh.
        halves = [0.5 if f.is_categorical and sigmoid else 1.0 for f in fields]
        pairs = list(zip((heads[f.name] for f in fields), halves, strict=True))
        weight = torch.cat([head.weight * k for head, k in pairs]).detach()
        bias = torch.cat([head.bias * k for head, k in pairs]).detach()
        self._heads: Final = linear_of(weight, bias)
        self._outputs: Final[dict[str, tuple[Field, int, int]]] = {}
        first = 0
        for field in fields:
            end = first + heads[field.name].out_features
            self._outputs[field.name] = (field, first, end)
            first = end
        self._last: tuple[Any, Array] = (None, np.zeros(0, dtype=np.float32))

    def start(self) -> tuple[Any, Any]:
        """Before the first row, in one lane."""
        return self._start

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row in each lane."""
        hidden, state = self._lstm(rows, state)
        return Hidden(hidden), state  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field; `known` is ignored."""
        spec, first, end = self._outputs[field]
        output = self._said(context)[:, first:end]  # (B, C), 1 or 2
        if not spec.is_categorical:
            number = torch.from_numpy(output)
            return Point(number[:, 0]) if self._point_times else normal_head(number, spec)
        if not self._sigmoid:
            return Categorical(torch.from_numpy(output))
        confined = torch.from_numpy(_sigmoid(output))
        return Categorical(confined, confined)

    def plain(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """The same for the only lane."""
        spec, first, end = self._outputs[field]
        here, output = self._last
        if here is not context:
            output = self._said(context)  # (1, ...)
        if not spec.is_categorical:
            if self._point_times:
                return PlainPoint(output.item(first))
            return plain_normal(output[0, first:end], spec)
        if not self._sigmoid:
            return PlainCategorical(output[0, first:end])
        confined = _sigmoid(output[0, first:end])
        return PlainCategorical(confined, confined)

    def _said(self, context: Any) -> Array:
        """(B, ...) what all heads say."""
        here, output = self._last
        if here is not context:
            output = self._heads(context.hidden)
            self._last = (context, output)
        return output


def _sigmoid(half: Array) -> Array:
    """The sigmoid of twice a number."""
    confined: Array = np.tanh(half)
    halved(confined)
    return confined
