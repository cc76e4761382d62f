"""LSTM and layers in plain arrays, for one lane or many: no autograd, no modules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from notelstm.fields import Field
from notelstm.models.lstm import LSTMState, normal_head
from notelstm.predictions import PlainNormal
from notelstm.protocols import NoteModel

__all__ = [
    "Array",
    "LeanLSTM",
    "halved",
    "is_plain",
    "joined_gates",
    "linear_of",
    "map_arrays",
    "plain_normal",
    "start_of",
]

Array = NDArray[np.float32]
"""float32 numbers."""

T = TypeVar("T")

_HALF: Final = np.array(0.5, dtype=np.float32)
_SMALL: Final = 100_000
"""Weights so few that numpy, as it comes today, multiplies by them on one thread whatever it is
set to, and with less ado than torch."""
_LINE: Final = 16
"""Numbers in a line of the processor's cache: rows of weights that begin with one are read in half
the time."""


def is_plain(module: nn.Module) -> bool:
    """Whether all parameters are float32 numbers on the CPU."""
    return all(p.dtype == torch.float32 and p.device.type == "cpu" for p in module.parameters())


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to each leaf of a named tuple of arrays or tensors."""
    if isinstance(tree, tuple):
        return type(tree)(*[map_arrays(function, part) for part in tree])
    return function(tree)


def start_of(model: NoteModel) -> tuple[Any, Any]:
    """The context and the state that a model starts one lane with, as arrays (1, ...)."""
    context, state = model.start(1)
    return (
        map_arrays(lambda tensor: tensor[:, -1].detach().numpy().copy(), context),
        map_arrays(lambda tensor: tensor.detach().numpy().copy(), state),
    )


def halved(gates: Array) -> None:
    """From tanh(x / 2) to sigmoid(x) = (tanh(x / 2) + 1) / 2, in place."""
    np.multiply(gates, _HALF, gates)
    np.add(gates, _HALF, gates)


class _Buffers(dict[int, T]):
    """Buffers by the number of lanes. A deep copy is empty: its owner makes new ones when needed.

    Buffers are views of each other, which copies of them would no longer be.
    """

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()


@final
class _Product:
    """Products of B lanes with G matrices, in memory of its own.

    Products are torch's, which keeps to ``torch.set_num_threads`` and is quicker with matrices than
    numpy's; small ones and all else are numpy's, which is quicker with little.

    Args:
        weights: (G, I + 1, O), of which the last row is added.
        lanes: B.

    Attributes:
        inputs: (B, I), to be written to.
        outputs: (G, B, O), written to by `run`.
        run: Multiplies.
    """

    def __init__(self, weights: Tensor, lanes: int) -> None:
        matrices, reads, size = weights.shape
        wide = -(-matrices * size // _LINE) * _LINE
        with torch.inference_mode(mode=False):  # what is made in that mode cannot be used outside
            left = torch.ones(lanes, reads)
            flat, right = torch.empty(lanes * wide), weights.detach()
            out = flat[: matrices * lanes * size].view(matrices, lanes, size)
            run: Callable[[], object]
            if lanes > 1:  # several products are quicker for many lanes, one is for one
                right = right.clone(memory_format=torch.contiguous_format)
                left_of_each = left.expand(matrices, lanes, reads)
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


def joined_gates(lstm: nn.LSTM, layer: int, scale: Tensor | None) -> Tensor:
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
class LeanLSTM:
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
            joined_gates(lstm, k, None if k else scale) for k in range(lstm.num_layers)
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
    """One layer for B lanes: (4, I + H + 1, H) weights."""

    def __init__(self, weights: Tensor, lanes: int) -> None:
        product = _Product(weights, lanes)
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
        halved(self._opened)
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


def plain_normal(output: Array, field: Field) -> PlainNormal:
    """A normal distribution from the (2,) outputs of a head."""
    head = normal_head(torch.from_numpy(output), field)
    low, high = (None if end is None else float(end) for end in (head.low, head.high))
    return PlainNormal(
        float(head.mean),
        float(head.sigma),
        -np.inf if low is None else low,
        np.inf if high is None else high,
    )
