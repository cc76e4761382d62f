"""``ThreeHeadLSTM``: the model of the original, one LSTM with three linear heads."""

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
    NumpyLinear,
    NumpyLSTM,
    check_size,
    initial_lstm_state,
    normal_head,
    numpy_normal,
    run_lstm,
    sigmoid_of_half,
)
from notelstm.predictions import (
    Categorical,
    NumpyCategorical,
    NumpyNormal,
    NumpyPrediction,
    PointEstimate,
)
from notelstm.protocols import Prediction

__all__ = ["NumpyThreeHeadLSTM", "ThreeHeadLSTM"]


@final
class ThreeHeadLSTM(nn.Module):
    """An LSTM with three linear heads, for one categorical and two continuous fields.

    Class ids are divided by the number of classes, as the original divides pitch by 128; numbers
    are not scaled. Parameters have the names of the original (``lstm``, ``pitch_linear``,
    ``step_linear``, ``duration_linear``), so that its checkpoints fit. The original has no
    ``initial_context``, the context before the first note.

    Args:
        fields: One categorical and two continuous fields.
        hidden_size: H, the number of LSTM units.
        num_layers: Number of LSTM layers.
        sigmoid: A fault of the original: a sigmoid of the logits, which is also used as the weights
            of sampling.
        point_estimates: A fault of the original: step and duration are point estimates. If False,
            they are normal distributions, censored at the bounds of the field.

    Raises:
        FieldError: If the fields are not one categorical and two continuous ones, or one is given.
        ConfigError: If a size is no whole number of at least 1.

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
        hidden_size = check_size("hidden_size", hidden_size)
        num_layers = check_size("num_layers", num_layers)
        kinds = sorted(field.is_categorical for field in fields)
        if kinds != [False, False, True]:
            raise FieldError(
                "a ThreeHeadLSTM has one categorical and two continuous fields, not "
                + ", ".join(
                    f"{f.name} ({'categorical' if f.is_categorical else 'continuous'})"
                    for f in fields
                ),
                hint="encode with StepDurationEncoder, or build a NoteLSTM, which takes any fields",
            )
        if any(field.given for field in fields):
            raise FieldError(
                "the heads of a ThreeHeadLSTM do not read given fields",
                hint="build a NoteLSTM, which does",
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
        self._scale: Tensor
        self.register_buffer("_scale", _scale(self.fields), persistent=False)
        self.lstm: nn.LSTM = nn.LSTM(len(self.fields), hidden_size, num_layers, batch_first=True)
        for field in self.fields:
            outputs = field.classes or (1 if point_estimates else 2)
            self.add_module(f"{field.name}_linear", nn.Linear(hidden_size, outputs))
        self.initial_context: nn.Parameter = nn.Parameter(torch.zeros(hidden_size))

    @property
    def field_order(self) -> tuple[str, ...]:
        """The names of the fields in order; heads do not depend on each other."""
        return tuple(self._by_name)

    def initial_state(self, batch_size: int) -> tuple[Hidden, LSTMState]:
        """The trained initial context, and a state of zeros."""
        return initial_lstm_state(self.initial_context, self.lstm.num_layers, batch_size)

    @override
    def forward(self, rows: Tensor, state: LSTMState) -> tuple[Hidden, LSTMState]:
        """Read (B, T, 3) rows."""
        return run_lstm(self.lstm, rows * self._scale, state)

    def predict(self, field: str, context: Hidden, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field; `known` is not used."""
        output = getattr(self, f"{field}_linear")(context.hidden)  # (..., C), 1 or 2
        spec = self._by_name[field]
        if self.config["sigmoid"] and spec.is_categorical:
            output = output.sigmoid()
        return _prediction(spec, output, self.config)

    def numpy_step(self) -> NumpyThreeHeadLSTM | None:
        """The numpy step, if the parameters are float32 tensors on the CPU."""
        return NumpyThreeHeadLSTM(self) if is_float32_on_cpu(self) else None


def _scale(fields: Sequence[Field]) -> Tensor:
    """(F,) factors of the rows."""
    return torch.tensor([1.0 / (field.classes or 1) for field in fields])


def _prediction(field: Field, output: Tensor, config: Mapping[str, Any]) -> Prediction:
    """The prediction from (..., C) outputs, after a sigmoid if there is one, or 1 or 2 outputs."""
    if field.is_categorical:
        return Categorical(output, output if config["sigmoid"] else None)
    if config["point_estimates"]:
        return PointEstimate(output.squeeze(-1))
    return normal_head(output, field)


@final
class NumpyThreeHeadLSTM:
    """The numpy step of a :class:`~notelstm.models.ThreeHeadLSTM`.

    Args:
        model: The model; its weights are copied.
    """

    def __init__(self, model: ThreeHeadLSTM) -> None:
        self._lstm: Final = NumpyLSTM(model.lstm, _scale(model.fields))
        self._initial: Final = initial_arrays(model)
        self._config: Final = model.config
        # The heads are one layer; sigmoids are computed from half of the logits.
        weights, biases, first = [], [], 0
        self._fields: Final = by_name(model.fields)
        self._parts: Final[dict[str, slice]] = {}
        self._squashed: slice = slice(0)
        for field in model.fields:
            head = cast(nn.Linear, model.get_submodule(f"{field.name}_linear"))
            part = slice(first, first + head.out_features)
            factor = 1.0
            if field.is_categorical and model.config["sigmoid"]:
                factor, self._squashed = 0.5, part
            weights.append(head.weight * factor)
            biases.append(head.bias * factor)
            self._parts[field.name] = part
            first = part.stop
        self._heads: Final = NumpyLinear(torch.cat(weights), torch.cat(biases))
        self._last: tuple[Any, Array] = (None, np.zeros(0, dtype=np.float32))

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        return self._initial

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence, (B, F)."""
        hidden, state = self._lstm(rows, state)
        return Hidden(hidden), state  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field; `known` is not used."""
        output = self._outputs(context)[:, self._parts[field]]  # (B, C), 1 or 2
        return _prediction(self._fields[field], torch.from_numpy(output), self._config)

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """Predict one field of a single sequence."""
        output = self._outputs(context)[:, self._parts[field]]  # (1, C), 1 or 2
        if self._fields[field].is_categorical:
            return NumpyCategorical(output[0], output[0] if self._config["sigmoid"] else None)
        if self._config["point_estimates"]:
            return NumpyNormal(output.item())
        return numpy_normal(output[0], self._fields[field])

    def _outputs(self, context: Any) -> Array:
        """(B, ...) the outputs of all heads."""
        here, output = self._last
        if here is not context:
            output = self._heads(context.hidden)
            squashed = output[:, self._squashed]
            np.tanh(squashed, squashed)
            sigmoid_of_half(squashed)
            self._last = (context, output)
        return output
