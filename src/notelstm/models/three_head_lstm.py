"""The original's model: one LSTM, three linear heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import FieldError
from notelstm.fields import Field, Rows, by_name
from notelstm.models.inference import Array, initial_arrays, is_float32_on_cpu
from notelstm.models.lstm import (
    Hidden,
    LSTMState,
    NumpyLSTM,
    check_sizes,
    initial_lstm_state,
    linear_of,
    normal_head,
    numpy_normal,
    run_lstm,
    sigmoid_of_half,
)
from notelstm.predictions import (
    Categorical,
    NumpyCategorical,
    NumpyPoint,
    NumpyPrediction,
    PointEstimate,
)
from notelstm.protocols import Prediction

__all__ = ["NumpyThreeHead", "ThreeHeadLSTM"]


@final
class ThreeHeadLSTM(nn.Module):
    """An LSTM whose output feeds three linear layers: one field of classes, two of numbers.

    Class ids are divided by the number of classes before the LSTM reads them, as the original
    divides pitch by 128; numbers are read as they are. Parameters are named as in the original
    (``lstm``, ``pitch_linear``, ``step_linear``, ``duration_linear``), so its checkpoints fit;
    ``initial_context``, the context before the first note, is new: the original has none.

    Args:
        fields: One categorical and two continuous fields.
        hidden_size: H, the LSTM's units.
        num_layers: LSTM layers.
        sigmoid: The original's fault of that name: logits confined to (0, 1), whose values are
            also the weights of the draw.
        point_estimates: The original's fault of that name: step and duration are single values. If
            False, each is a normal distribution, censored at the field's bounds.

    Raises:
        FieldError: If the fields do not fit.
        ConfigError: If a size is less than 1.

    Example:
        >>> from notelstm.encoders import StepDurationEncoder
        >>> model = ThreeHeadLSTM(fields=StepDurationEncoder().fields)
        >>> context, state = model.initial_state(batch_size=2)
        >>> context, state = model(torch.zeros(2, 25, 3), state)
        >>> model.predict("pitch", context, {}).probabilities.shape
        torch.Size([2, 25, 128])
    """

    def __init__(
        self,
        *,
        fields: Sequence[Field],
        hidden_size: int = 128,
        num_layers: int = 1,
        sigmoid: bool = True,
        point_estimates: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(hidden_size=hidden_size, num_layers=num_layers)
        kinds = sorted(field.is_categorical for field in fields)
        if kinds != [False, False, True]:
            raise FieldError(
                "a ThreeHeadLSTM has one categorical and two continuous fields, not "
                + ", ".join(
                    f"{f.name} ({'categorical' if f.is_categorical else 'continuous'})"
                    for f in fields
                ),
                hint="encode with StepDurationEncoder, or build a NoteLSTM, which fits any fields",
            )
        self.fields: Final = tuple(fields)
        self.config: Final[Mapping[str, Any]] = {
            "fields": self.fields,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "sigmoid": sigmoid,
            "point_estimates": point_estimates,
        }
        self._by_name: Final = by_name(self.fields)
        self._sigmoid: Final = sigmoid
        self._point_estimates: Final = point_estimates
        scale = torch.tensor([1.0 / (field.classes or 1) for field in self.fields])
        self._scale: Tensor
        self.register_buffer("_scale", scale, persistent=False)
        self.lstm: nn.LSTM = nn.LSTM(len(self.fields), hidden_size, num_layers, batch_first=True)
        for field in self.fields:
            outputs = field.classes or (1 if point_estimates else 2)
            self.add_module(f"{field.name}_linear", nn.Linear(hidden_size, outputs))
        self.initial_context: nn.Parameter = nn.Parameter(torch.zeros(hidden_size))

    @property
    def field_order(self) -> tuple[str, ...]:
        """The fields as they come: no head depends on another."""
        return tuple(self._by_name)

    def initial_state(self, batch_size: int) -> tuple[Hidden, LSTMState]:
        """The trained context before the first row, and a state of zeros."""
        return initial_lstm_state(self.initial_context, self.lstm.num_layers, batch_size)

    @override
    def forward(self, rows: Tensor, state: LSTMState) -> tuple[Hidden, LSTMState]:
        """Read (B, T, 3) rows."""
        return run_lstm(self.lstm, rows * self._scale, state)

    def predict(self, field: str, context: Hidden, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field; `known` is ignored, the heads do not depend on each other."""
        output = getattr(self, f"{field}_linear")(context.hidden)  # (..., C), 1 or 2
        spec = self._by_name[field]
        if spec.is_categorical:
            if not self._sigmoid:
                return Categorical(output)
            confined = output.sigmoid()
            return Categorical(confined, weights=confined)
        if self._point_estimates:
            return PointEstimate(output.squeeze(-1))
        return normal_head(output, spec)

    def numpy_step(self) -> NumpyThreeHead | None:
        """The numpy step, for float32 parameters on the CPU."""
        if not is_float32_on_cpu(self):
            return None
        return NumpyThreeHead(
            self.fields,
            self.lstm,
            self._scale,
            {f.name: cast(nn.Linear, getattr(self, f"{f.name}_linear")) for f in self.fields},
            initial=initial_arrays(self),
            sigmoid=self._sigmoid,
            point_estimates=self._point_estimates,
        )


@final
class NumpyThreeHead:
    """The numpy step of a :class:`~notelstm.models.ThreeHeadLSTM`.

    Args:
        fields: Its fields.
        lstm: Its LSTM.
        scale: (F,) what rows are multiplied by.
        heads: Its heads by field name.
        initial: Its context and state before the first row.
        sigmoid: Whether its logits are squashed to (0, 1).
        point_estimates: Whether step and duration are point estimates.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        lstm: nn.LSTM,
        scale: Tensor,
        heads: Mapping[str, nn.Linear],
        *,
        initial: tuple[Any, Any],
        sigmoid: bool,
        point_estimates: bool,
    ) -> None:
        self._lstm: Final = NumpyLSTM(lstm, scale)
        self._initial: Final = initial
        self._sigmoid: Final = sigmoid
        self._point_estimates: Final = point_estimates
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

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        return self._initial

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence."""
        hidden, state = self._lstm(rows, state)
        return Hidden(hidden), state  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field; `known` is ignored."""
        spec, first, end = self._outputs[field]
        output = self._head_outputs(context)[:, first:end]  # (B, C), 1 or 2
        if not spec.is_categorical:
            number = torch.from_numpy(output)
            return (
                PointEstimate(number[:, 0]) if self._point_estimates else normal_head(number, spec)
            )
        if not self._sigmoid:
            return Categorical(torch.from_numpy(output))
        confined = torch.from_numpy(_sigmoid(output))
        return Categorical(confined, confined)

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """The same for one sequence."""
        spec, first, end = self._outputs[field]
        here, output = self._last
        if here is not context:
            output = self._head_outputs(context)  # (1, ...)
        if not spec.is_categorical:
            if self._point_estimates:
                return NumpyPoint(output.item(first))
            return numpy_normal(output[0, first:end], spec)
        if not self._sigmoid:
            return NumpyCategorical(output[0, first:end])
        confined = _sigmoid(output[0, first:end])
        return NumpyCategorical(confined, confined)

    def _head_outputs(self, context: Any) -> Array:
        """(B, ...) the outputs of all heads."""
        here, output = self._last
        if here is not context:
            output = self._heads(context.hidden)
            self._last = (context, output)
        return output


def _sigmoid(half: Array) -> Array:
    """The sigmoid of twice a number."""
    confined: Array = np.tanh(half)
    sigmoid_of_half(confined)
    return confined
