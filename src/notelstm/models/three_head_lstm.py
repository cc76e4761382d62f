"""The original's model: one LSTM, three linear heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import FieldError
from notelstm.fields import Field, by_name
from notelstm.models.lstm import (
    Hidden,
    LSTMState,
    check_sizes,
    initial_lstm_state,
    normal_head,
    run_lstm,
)
from notelstm.models.numpy_step import NumpyThreeHead, initial_arrays, is_float32_on_cpu
from notelstm.predictions import Categorical, PointEstimate
from notelstm.protocols import Prediction

__all__ = ["ThreeHeadLSTM"]


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
