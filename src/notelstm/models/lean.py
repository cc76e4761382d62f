"""LSTM and layers in plain arrays, for one lane or many: no autograd, no modules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, final

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
    "layers_of",
    "linear_of",
    "map_arrays",
    "plain_normal",
    "start_of",
]

Array = NDArray[np.float32]
"""float32 numbers."""

_HALF: Final = np.array(0.5, dtype=np.float32)


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
    np.multiply(gates, _HALF, out=gates)
    np.add(gates, _HALF, out=gates)


@final
class _Product:
    """Products of B lanes with G matrices, in memory of its own.

    Products are torch's, which keeps to ``torch.set_num_threads`` and is quicker with matrices than
    numpy's; all else is numpy's, which is quicker with little.

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
        joined = np.ones((lanes, reads), dtype=np.float32)
        self.inputs: Final = joined[:, :-1]
        self.outputs: Final[Array] = np.empty((matrices, lanes, size), dtype=np.float32)
        with torch.inference_mode(mode=False):  # what is made in that mode cannot be used outside
            left, out = torch.from_numpy(joined), torch.from_numpy(self.outputs)
            right = weights.detach().clone(memory_format=torch.contiguous_format)
            self.run: Final[Callable[[], object]] = (
                # One lane is quicker as one product, many are as several.
                functools.partial(
                    torch.mm,
                    left,
                    right.transpose(0, 1).reshape(reads, matrices * size),
                    out=out.view(1, matrices * size),
                )
                if lanes == 1
                else functools.partial(
                    torch.bmm, left.expand(matrices, lanes, reads), right, out=out
                )
            )


@final
class LeanLSTM:
    """A batch-first LSTM, row by row.

    Args:
        lstm: The module; its weights are copied.
        scale: (I,) what inputs are multiplied by first, None for 1.
    """

    def __init__(self, lstm: nn.LSTM, scale: Tensor | None = None) -> None:
        self._weights: Final[list[Tensor]] = []
        for k in range(lstm.num_layers):
            w, u, a, b = (
                getattr(lstm, f"{name}_l{k}").detach()
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            if k == 0 and scale is not None:
                w = w * scale
            joined = torch.cat([w, u, (a + b).unsqueeze(1)], dim=1)  # (4 H, I + H + 1)
            i, f, g, o = joined.chunk(4)
            # With halves for the sigmoids one tanh serves all gates.
            self._weights.append(torch.stack([i / 2, f / 2, o / 2, g]).transpose(1, 2))
        self._layers: Final[dict[int, list[_Layer]]] = {}  # by lanes

    def __call__(self, inputs: Array, state: Any) -> tuple[Array, Any]:
        """Read one row.

        Args:
            inputs: (B, I).
            state: An LSTMState of arrays (B, L, H), which are left as they are.

        Returns:
            (B, H) the last layer's output, and the state after the row.
        """
        h, c = state
        layers = self._layers.get(len(h))
        if layers is None:
            layers = [_Layer(weights, len(h)) for weights in self._weights]
            self._layers[len(h)] = layers
        hs, cs = [], []
        for k, layer in enumerate(layers):
            inputs, cell = layer(inputs, h[:, k], c[:, k])
            hs.append(inputs)
            cs.append(cell)
        if len(hs) == 1:
            return inputs, LSTMState(inputs[:, None], cs[0][:, None])  # type: ignore[arg-type]
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
        self._opened: Final = self._gates[:3]
        self._in, self._kept, self._out, self._new = self._gates

    def __call__(self, inputs: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """From (B, I), and (B, H) outputs and cells, to new outputs and cells."""
        self._inputs[...] = inputs
        self._before[...] = h
        self._multiply()
        np.tanh(self._gates, out=self._gates)
        halved(self._opened)
        np.multiply(self._new, self._in, out=self._new)
        cell: Array = self._kept * c
        np.add(cell, self._new, out=cell)
        output: Array = np.tanh(cell)
        np.multiply(output, self._out, out=output)
        return output, cell


def linear_of(weight: Tensor, bias: Tensor) -> Callable[[Array], Array]:
    """A linear layer as a function of (B, I).

    Args:
        weight: (O, I); it is copied.
        bias: (O,).
    """
    weights = torch.cat([weight.detach(), bias.detach().unsqueeze(1)], dim=1).t()[None]
    products: dict[int, _Product] = {}  # by lanes

    def linear(inputs: Array) -> Array:
        product = products.get(len(inputs))
        if product is None:
            product = products[len(inputs)] = _Product(weights, len(inputs))
        product.inputs[...] = inputs
        product.run()
        outputs: Array = product.outputs[0].copy()
        return outputs

    return linear


def layers_of(head: nn.Module) -> Callable[[Array], Array]:
    """A linear layer, or two with a GELU between them, as a function of (B, I)."""
    if isinstance(head, nn.Linear):
        return linear_of(head.weight, head.bias)
    first, last = layers_of(head.get_submodule("0")), layers_of(head.get_submodule("2"))

    def two(inputs: Array) -> Array:
        return last(functional.gelu(torch.from_numpy(first(inputs))).numpy())

    return two


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
