"""Parts that the LSTM models share, as torch modules and in numpy."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self, TypeVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.models.inference import Array
from notelstm.predictions import LogisticMixture, Normal, NumpyNormal

__all__ = [
    "Hidden",
    "LSTMState",
    "NumpyLSTM",
    "NumpyLinear",
    "check_size",
    "initial_lstm_state",
    "mixture_head",
    "normal_head",
    "numpy_normal",
    "run_lstm",
    "run_lstm_cell",
    "run_lstm_to",
    "sigmoid_of_half",
    "whole",
]

_SHORT: Final = 0.02
_LONG: Final = 5.0


class Hidden(NamedTuple):
    """The context of an LSTM before a row: (B, T, H) the last layer's output."""

    hidden: Tensor


class LSTMState(NamedTuple):
    """The outputs and the cells of an LSTM with L layers, (B, L, H) each."""

    h: Tensor
    c: Tensor


def whole(name: str, value: object) -> int:
    """A setting as an int; a ConfigError if it is no whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigError(f"{name} {value!r} is not a whole number")
    return int(value)


def check_size(name: str, value: object, least: int = 1) -> int:
    """A size as an int; a ConfigError if it is no whole number of at least `least`."""
    size = whole(name, value)
    if size < least:
        raise ConfigError(f"{name} {size} is less than {least}")
    return size


def initial_lstm_state(
    initial_context: Tensor, layers: int, batch_size: int
) -> tuple[Hidden, LSTMState]:
    """The initial context (H,), repeated for each sequence, and a state of zeros."""
    hidden = initial_context.expand(batch_size, 1, -1)  # (B, 1, H)
    zeros = initial_context.new_zeros(batch_size, layers, initial_context.shape[0])
    return Hidden(hidden), LSTMState(zeros, zeros)


def run_lstm(lstm: nn.LSTM, inputs: Tensor, state: LSTMState) -> tuple[Hidden, LSTMState]:
    """Run a batch-first LSTM over (B, T, I) inputs, from a state with the batch first."""
    h, c = (part.transpose(0, 1).contiguous() for part in state)  # (L, B, H), as torch has it
    output, last = lstm(inputs, (h, c))  # (B, T, H)
    # Under autocast, the new state has half precision; the state keeps its type.
    return Hidden(output), LSTMState(*(part.transpose(0, 1).to(state.h) for part in last))


def run_lstm_to(lstm: nn.LSTM, inputs: Tensor, numbers: Tensor, state: LSTMState) -> LSTMState:
    """Run a batch-first LSTM, and return its state after any numbers of inputs.

    torch returns the outputs h of the last layer at each input, and the cells at the end alone.
    With all h, the gates at all inputs are one product, and only the sum of the cells,
    ``c = f c + i g``, is left to compute one after another.

    Args:
        lstm: The LSTM.
        inputs: (B, N, I).
        numbers: (B, T) integers, from 0 to N.
        state: The state before.

    Returns:
        The states after so many inputs, (B, T, L, H) each.
    """
    hs, cs = [], []
    for k in range(lstm.num_layers):
        h, c = (part[:, k].to(inputs) for part in state)
        weights = _weights(lstm, k)
        if k:
            inputs = functional.dropout(inputs, lstm.dropout, lstm.training)
        outputs = inputs.new_zeros(*inputs.shape[:2], lstm.hidden_size)
        if inputs.shape[1]:
            start = (h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous())
            outputs, *_ = torch.lstm(
                inputs, start, list(weights), True, 1, 0.0, lstm.training, False, True
            )
        before = torch.cat([h.unsqueeze(1), outputs[:, :-1]], dim=1)
        w, u, a, b = weights
        gates = functional.linear(inputs, w, a + b) + functional.linear(before, u)
        i, f, g, _ = gates.chunk(4, dim=-1)
        kept, new = torch.sigmoid(f).unbind(1), (torch.sigmoid(i) * torch.tanh(g)).unbind(1)
        cells = [c]
        for keep, add in zip(kept, new, strict=True):
            cells.append(torch.addcmul(add, keep, cells[-1]))
        hs.append(torch.cat([h.unsqueeze(1), outputs], dim=1))
        cs.append(torch.stack(cells, dim=1))
        inputs = outputs
    at = numbers.unsqueeze(-1).expand(-1, -1, lstm.hidden_size)
    # Under autocast, the new state has half precision; the state keeps its type.
    found = [[part.gather(1, at).to(state.h) for part in parts] for parts in (hs, cs)]
    return LSTMState(*(torch.stack(parts, dim=2) for parts in found))


def run_lstm_cell(lstm: nn.LSTM, inputs: Tensor, state: LSTMState) -> LSTMState:
    """The state after one row of inputs, (B, I), from a state with the batch first."""
    hs, cs = [], []
    for k in range(lstm.num_layers):
        if k:
            inputs = functional.dropout(inputs, lstm.dropout, lstm.training)
        h, c = (part[:, k].to(inputs) for part in state)
        inputs, cell = torch.lstm_cell(inputs, (h, c), *_weights(lstm, k))
        hs.append(inputs)
        cs.append(cell)
    return LSTMState(*(torch.stack(parts, dim=1).to(state.h) for parts in (hs, cs)))


def _weights(lstm: nn.LSTM, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The weights of the inputs and of the outputs before, and the biases of both."""
    w, u, a, b = (
        getattr(lstm, f"{name}_l{layer}")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return w, u, a, b


def mixture_head(output: Tensor, field: Field) -> LogisticMixture:
    """A mixture of times from (..., 3 K + 1) outputs, for a continuous field with a minimum."""
    components = output.shape[-1] // 3
    logits, mean, scale = torch.split(output, [components + 1, components, components], dim=-1)
    # The initial centres cover the usual times, so that the components stay apart in training.
    centres = torch.linspace(
        math.log(_SHORT), math.log(_LONG), components, dtype=mean.dtype, device=mean.device
    )
    return LogisticMixture(
        logits,
        mean + centres,
        functional.softplus(scale) + 1e-3,
        origin=field.interval.low,
        high=None if field.high is None else torch.full_like(mean[..., 0], field.high),
    )


def normal_head(output: Tensor, field: Field) -> Normal:
    """A normal distribution from (..., 2) outputs, censored at the bounds of a continuous field."""
    mean, scale = output.unbind(-1)
    # Without a minimum of sigma, the likelihood of a repeated value would be unbounded.
    sigma = functional.softplus(scale) + 1e-3
    return Normal(
        mean,
        sigma,
        low=None if field.low is None else mean.new_tensor(field.low),
        high=None if field.high is None else mean.new_tensor(field.high),
    )


T = TypeVar("T")
_HALF: Final = np.array(0.5, dtype=np.float32)
_SMALL: Final = 100_000
"""Number of weights below which numpy multiplies on one thread, with less overhead than torch."""
_LINE: Final = 16
"""Numbers in a cache line; rows of weights that are aligned to one are read in half the time."""


def sigmoid_of_half(gates: Array) -> None:
    """From tanh(x / 2) to sigmoid(x) = (tanh(x / 2) + 1) / 2, in place."""
    np.multiply(gates, _HALF, gates)
    np.add(gates, _HALF, gates)


class _Buffers(dict[int, T]):
    """Buffers by batch size. Deep copies are empty, since copied buffers would not share memory."""

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()


@final
class _Product:
    """Products of B vectors with G matrices, in preallocated memory.

    Large products run in torch, which respects ``torch.set_num_threads``; small ones run in numpy,
    which has less overhead.

    Args:
        weights: (G, I + 1, O), with the biases as the last row.
        batch_size: B.

    Attributes:
        inputs: (B, I), written by the caller.
        outputs: (G, B, O), written by `run`.
        run: Computes the outputs.
    """

    def __init__(self, weights: Tensor, batch_size: int) -> None:
        matrices, reads, size = weights.shape
        wide = -(-matrices * size // _LINE) * _LINE
        with torch.inference_mode(mode=False):  # inference tensors cannot be used outside of it
            left = torch.ones(batch_size, reads)
            flat, right = torch.empty(batch_size * wide), weights.detach()
            out = flat[: matrices * batch_size * size].view(matrices, batch_size, size)
            run: Callable[[], object]
            if batch_size > 1:  # G products are faster for a batch, a single one for one sequence
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
    """(4, I + H + 1, H) weights of the input, forget, output and cell gates, sigmoids halved."""
    w, u, a, b = (weight.detach() for weight in _weights(lstm, layer))
    w = w if scale is None else w * scale
    i, f, g, o = torch.cat([w, u, (a + b).unsqueeze(1)], dim=1).chunk(4)
    # sigmoid(x) = (tanh(x / 2) + 1) / 2, so that one tanh serves all gates.
    return torch.stack([i / 2, f / 2, o / 2, g]).transpose(1, 2)


@final
class NumpyLSTM:
    """A batch-first LSTM, row by row.

    Args:
        lstm: The module; its weights are copied.
        scale: (I,) factors of the inputs, None for 1.
        num_external: Number of the first inputs that the caller multiplies by `external_weights`.

    Attributes:
        external_weights: (num_external, 4 H) their weights.
    """

    def __init__(self, lstm: nn.LSTM, scale: Tensor | None = None, num_external: int = 0) -> None:
        self._weights: Final = [
            _gate_weights(lstm, k, None if k else scale) for k in range(lstm.num_layers)
        ]
        external = self._weights[0][:, :num_external]
        self.external_weights: Final = external.transpose(0, 1).flatten(1)
        self._weights[0] = self._weights[0][:, num_external:]
        self._layers: Final[_Buffers[list[_Layer]]] = _Buffers()

    def __call__(self, inputs: Array, state: Any, added: Array | None = None) -> tuple[Array, Any]:
        """Read one row, and return the output of the last layer, (B, H), and the new state.

        Args:
            inputs: (B, I).
            state: An LSTMState of arrays (B, L, H), not changed in place.
            added: (B, 4 H) the contribution of the external inputs to the gates of the first layer.
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
        self._previous: Final = product.inputs[:, -hidden:]
        self._multiply: Final = product.run
        self._gates: Final = product.outputs  # (4, B, H)
        self._sums: Final = self._gates.transpose(1, 0, 2)
        self._sigmoids: Final = self._gates[:3]
        self._in, self._forget, self._out, self._new = self._gates

    def __call__(
        self, inputs: Array, h: Array, c: Array, added: Array | None
    ) -> tuple[Array, Array]:
        """New outputs and cells (B, H) from inputs (B, I) and the previous outputs and cells."""
        np.copyto(self._inputs, inputs)
        np.copyto(self._previous, h)
        self._multiply()
        if added is not None:
            np.add(self._sums, added.reshape(self._sums.shape), self._sums)
        gates, new = self._gates, self._new
        np.tanh(gates, gates)
        sigmoid_of_half(self._sigmoids)
        np.multiply(new, self._in, new)
        cell: Array = self._forget * c
        np.add(cell, new, cell)
        output: Array = np.tanh(cell)
        np.multiply(output, self._out, output)
        return output, cell


@final
class NumpyLinear:
    """A linear layer as a function of (B, I).

    Args:
        weight: (O, I); it is copied.
        bias: (O,); None for zeros.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        bias = torch.zeros(len(weight)) if bias is None else bias.detach()
        rows = torch.cat([weight.detach(), bias.unsqueeze(1)], dim=1).t()  # (I + 1, O)
        self._weights: Final = rows[None]
        self._products: Final[_Buffers[_Product]] = _Buffers()

    def __call__(self, inputs: Array) -> Array:
        """(B, O) from (B, I)."""
        product = self._products.get(len(inputs))
        if product is None:
            product = self._products[len(inputs)] = _Product(self._weights, len(inputs))
        np.copyto(product.inputs, inputs)
        product.run()
        outputs: Array = product.outputs[0].copy()
        return outputs


def numpy_normal(output: Array, field: Field) -> NumpyNormal:
    """A normal distribution from the (2,) outputs of a head."""
    head = normal_head(torch.from_numpy(output), field)
    return NumpyNormal(float(head.mean), float(head.sigma), *field.interval)
