"""The numpy step: a model for generation on the CPU, without autograd and modules.

A session runs it instead of the module where the model offers one: one row costs a fifth of the
time. :class:`NumpyStep` is the protocol; the LSTM here serves the library's models.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, Self, TypeVar, final, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from notelstm.fields import Field, Rows
from notelstm.models.lstm import Hidden, LSTMState, normal_head
from notelstm.predictions import (
    Categorical,
    NumpyCategorical,
    NumpyNormal,
    NumpyPoint,
    NumpyPrediction,
    PointEstimate,
)
from notelstm.protocols import NoteModel, Prediction

__all__ = [
    "Array",
    "HasNumpyStep",
    "NumpyLSTM",
    "NumpyStep",
    "NumpyThreeHead",
    "initial_arrays",
    "is_float32_on_cpu",
    "linear_of",
    "map_arrays",
    "numpy_normal",
]


class NumpyStep(Protocol):
    """A model for B sequences in numpy; its predictions agree with the module's to 1e-5.

    It has contexts and states of its own: named tuples of arrays with the batch on axis 0, which
    it never changes after it has returned them.
    """

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        ...

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence, (B, F).

        Returns:
            The context that predicts the next row, and the state after this one.
        """
        ...

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field, (B,), given at least the earlier fields in the order, (B,) each."""
        ...

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """The same for one sequence, B = 1, as a numpy prediction."""
        ...


@runtime_checkable
class HasNumpyStep(Protocol):
    """A model that offers a numpy step."""

    def numpy_step(self) -> NumpyStep | None:
        """A step with a copy of the current weights; None if there is none, on a GPU for one."""
        ...


T = TypeVar("T")

Array = NDArray[np.float32]
"""float32 numbers."""

_HALF: Final = np.array(0.5, dtype=np.float32)
_SMALL: Final = 100_000
"""Weights so few that numpy, as it comes today, multiplies by them on one thread whatever it is
set to, and with less overhead than torch."""
_LINE: Final = 16
"""Numbers in a line of the processor's cache: rows of weights that begin with one are read in half
the time."""


def is_float32_on_cpu(module: nn.Module) -> bool:
    """Whether all parameters are float32 numbers on the CPU."""
    return all(p.dtype == torch.float32 and p.device.type == "cpu" for p in module.parameters())


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to each leaf of a named tuple of arrays or tensors."""
    if isinstance(tree, tuple):
        return type(tree)(*[map_arrays(function, part) for part in tree])
    return function(tree)


def initial_arrays(model: NoteModel) -> tuple[Any, Any]:
    """The initial context and state of a model for one sequence, as arrays (1, ...)."""
    context, state = model.initial_state(1)
    return (
        map_arrays(lambda tensor: tensor[:, -1].detach().numpy().copy(), context),
        map_arrays(lambda tensor: tensor.detach().numpy().copy(), state),
    )


def _sigmoid_of_half(gates: Array) -> None:
    """From tanh(x / 2) to sigmoid(x) = (tanh(x / 2) + 1) / 2, in place."""
    np.multiply(gates, _HALF, gates)
    np.add(gates, _HALF, gates)


class _Buffers(dict[int, T]):
    """Buffers by batch size. A deep copy is empty: its owner makes new ones when needed.

    Buffers are views of each other, which copies of them would no longer be.
    """

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()


@final
class _Product:
    """Products of B vectors with G matrices, in preallocated memory.

    Products are torch's, which keeps to ``torch.set_num_threads`` and is quicker with matrices than
    numpy's; small ones and all else are numpy's, which is quicker with little.

    Args:
        weights: (G, I + 1, O), of which the last row is added.
        batch_size: B.

    Attributes:
        inputs: (B, I), to be written to.
        outputs: (G, B, O), written to by `run`.
        run: Multiplies.
    """

    def __init__(self, weights: Tensor, batch_size: int) -> None:
        matrices, reads, size = weights.shape
        wide = -(-matrices * size // _LINE) * _LINE
        with torch.inference_mode(mode=False):  # what is made in that mode cannot be used outside
            left = torch.ones(batch_size, reads)
            flat, right = torch.empty(batch_size * wide), weights.detach()
            out = flat[: matrices * batch_size * size].view(matrices, batch_size, size)
            run: Callable[[], object]
            if batch_size > 1:  # several products are quicker for a batch, one is for one
                right = right.clone(memory_format=torch.contiguous_format)
                left_of_each = left.expand(matrices, batch_size, reads)
                run = functools.partial(torch.bmm, left_of_each, right, out=out)
            else:
                right = right.transpose(0, 1).reshape(reads, matrices * size)
                right = functional.pad(right, (0, wide - matrices * size)).contiguous()
                run = functools.partial(torch.mm, left, right, out=flat[None])
                if right.numel() < _SMALL:
                    run = functools.partial(left[0].numpy().dot, right.numpy(), flat.numpy())
        self.inputs: Final[Array] = left.numpy()[:, :-1]
        self.outputs: Final[Array] = out.numpy()
        self.run: Final = run


def _gate_weights(lstm: nn.LSTM, layer: int, scale: Tensor | None) -> Tensor:
    """(4, I + H + 1, H) weights of the gates: in, kept, out, new; with halves for the sigmoids."""
    w, u, a, b = (
        getattr(lstm, f"{name}_l{layer}").detach()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    w = w if scale is None else w * scale
    i, f, g, o = torch.cat([w, u, (a + b).unsqueeze(1)], dim=1).chunk(4)
    # With halves for the sigmoids one tanh serves all gates.
    return torch.stack([i / 2, f / 2, o / 2, g]).transpose(1, 2)


@final
class NumpyLSTM:
    """A batch-first LSTM, row by row.

    Args:
        lstm: The module; its weights are copied.
        scale: (I,) what inputs are multiplied by first, None for 1.
        apart: How many of the inputs, the first ones, are not given but what they add to the gates.

    Attributes:
        apart: (apart, 4 H) what they are multiplied by for that.
    """

    def __init__(self, lstm: nn.LSTM, scale: Tensor | None = None, apart: int = 0) -> None:
        self._weights: Final = [
            _gate_weights(lstm, k, None if k else scale) for k in range(lstm.num_layers)
        ]
        self.apart: Final = self._weights[0][:, :apart].transpose(0, 1).flatten(1)
        self._weights[0] = self._weights[0][:, apart:]
        self._layers: Final[_Buffers[list[_Layer]]] = _Buffers()

    def __call__(self, inputs: Array, state: Any, added: Array | None = None) -> tuple[Array, Any]:
        """Read one row.

        Args:
            inputs: (B, I).
            state: An LSTMState of arrays (B, L, H), which are left as they are.
            added: (B, 4 H) what the inputs that are not given add to the first layer's gates.

        Returns:
            (B, H) the last layer's output, and the state after the row.
        """
        h, c = state
        layers = self._layers.get(len(h))
        if layers is None:
            layers = [_Layer(weights, len(h)) for weights in self._weights]
            self._layers[len(h)] = layers
        if len(layers) == 1:
            output, cell = layers[0](inputs, h[:, 0], c[:, 0], added)
            return output, LSTMState(output[:, None], cell[:, None])  # type: ignore[arg-type]
        hs, cs = [], []
        for k, layer in enumerate(layers):
            inputs, cell = layer(inputs, h[:, k], c[:, k], None if k else added)
            hs.append(inputs)
            cs.append(cell)
        return inputs, LSTMState(np.stack(hs, axis=1), np.stack(cs, axis=1))  # type: ignore[arg-type]


@final
class _Layer:
    """One layer for B sequences: (4, I + H + 1, H) weights."""

    def __init__(self, weights: Tensor, batch_size: int) -> None:
        product = _Product(weights, batch_size)
        hidden = weights.shape[-1]
        self._inputs: Final = product.inputs[:, :-hidden]
        self._before: Final = product.inputs[:, -hidden:]
        self._multiply: Final = product.run
        self._gates: Final = product.outputs  # (4, B, H)
        self._sums: Final = self._gates.transpose(1, 0, 2)
        self._opened: Final = self._gates[:3]
        self._in, self._kept, self._out, self._new = self._gates

    def __call__(
        self, inputs: Array, h: Array, c: Array, added: Array | None
    ) -> tuple[Array, Array]:
        """From (B, I), and (B, H) outputs and cells, to new outputs and cells."""
        np.copyto(self._inputs, inputs)
        np.copyto(self._before, h)
        self._multiply()
        if added is not None:
            np.add(self._sums, added.reshape(self._sums.shape), self._sums)
        gates, new = self._gates, self._new
        np.tanh(gates, gates)
        _sigmoid_of_half(self._opened)
        np.multiply(new, self._in, new)
        cell: Array = self._kept * c
        np.add(cell, new, cell)
        output: Array = np.tanh(cell)
        np.multiply(output, self._out, output)
        return output, cell


@final
class _Linear:
    """A linear layer as a function of (B, I): (1, I + 1, O) weights, the last row is the bias."""

    def __init__(self, weights: Tensor) -> None:
        self._weights: Final = weights
        self._products: Final[_Buffers[_Product]] = _Buffers()

    def __call__(self, inputs: Array) -> Array:
        product = self._products.get(len(inputs))
        if product is None:
            product = self._products[len(inputs)] = _Product(self._weights, len(inputs))
        np.copyto(product.inputs, inputs)
        product.run()
        outputs: Array = product.outputs[0].copy()
        return outputs


def linear_of(weight: Tensor, bias: Tensor | None = None) -> Callable[[Array], Array]:
    """A linear layer as a function of (B, I).

    Args:
        weight: (O, I); it is copied.
        bias: (O,); None for zeros.
    """
    bias = torch.zeros(len(weight)) if bias is None else bias.detach()
    return _Linear(torch.cat([weight.detach(), bias.unsqueeze(1)], dim=1).t()[None])


def numpy_normal(output: Array, field: Field) -> NumpyNormal:
    """A normal distribution from the (2,) outputs of a head."""
    head = normal_head(torch.from_numpy(output), field)
    low, high = (None if end is None else float(end) for end in (head.low, head.high))
    return NumpyNormal(
        float(head.mean),
        float(head.sigma),
        -np.inf if low is None else low,
        np.inf if high is None else high,
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
    _sigmoid_of_half(confined)
    return confined
