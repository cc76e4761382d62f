"""LSTM and layers for one lane in plain arrays: no autograd, no modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from notelstm.fields import Field
from notelstm.models.lstm import normal_head
from notelstm.predictions import PlainNormal

__all__ = [
    "Array",
    "LeanLSTM",
    "as_arrays",
    "as_tensors",
    "is_plain",
    "layers_of",
    "map_arrays",
    "numbers",
    "plain_normal",
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
        return type(tree)(*(map_arrays(function, part) for part in tree))
    return function(tree)


def as_arrays(tree: Any) -> Any:
    """The only lane of a tree of tensors (1, ...), as a tree of arrays (...)."""
    return map_arrays(lambda tensor: tensor[0].detach().numpy().copy(), tree)


def as_tensors(tree: Any) -> Any:
    """The inverse of :func:`as_arrays`."""
    return map_arrays(lambda array: torch.from_numpy(array.copy())[None], tree)


def numbers(tensor: Tensor) -> Array:
    """A copy that no training changes."""
    copied: Array = tensor.detach().numpy().copy(order="C")
    return copied


@final
class LeanLSTM:
    """A batch-first LSTM, row by row.

    Args:
        lstm: The module; its weights are copied.
        scale: (I,) what inputs are multiplied by first, None for 1.
    """

    def __init__(self, lstm: nn.LSTM, scale: Tensor | None = None) -> None:
        self._layers: Final[list[Array]] = []
        # What a layer reads: inputs, outputs of the row before, and 1 for the bias; by lanes.
        self._joined: Final[dict[tuple[int, ...], list[Array]]] = {}
        for k in range(lstm.num_layers):
            w, u, a, b = (
                getattr(lstm, f"{name}_l{k}").detach()
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            if k == 0 and scale is not None:
                w = w * scale
            joined = torch.cat([w, u, (a + b).unsqueeze(1)], dim=1)  # (4 H, I + H + 1)
            i, f, g, o = joined.chunk(4)
            # sigmoid(x) = (tanh(x / 2) + 1) / 2, so one tanh serves all gates.
            self._layers.append(numbers(torch.cat([i / 2, f / 2, o / 2, g]).t()))
        self._hidden: Final = lstm.hidden_size

    def __call__(self, inputs: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """Read one row.

        Args:
            inputs: (I,) or (..., I).
            h: (..., L, H) outputs; leading axes are lanes that read the same.
            c: (..., L, H) cells.

        Returns:
            The new outputs and cells.
        """
        lanes = h.shape[:-2]
        joined = self._joined.get(lanes)
        if joined is None:
            joined = [np.ones((*lanes, len(w)), dtype=np.float32) for w in self._layers]
            self._joined[lanes] = joined
        hs, cs = [], []
        for k, weights in enumerate(self._layers):
            inputs, cell = self._layer(weights, joined[k], inputs, h[..., k, :], c[..., k, :])
            hs.append(inputs)
            cs.append(cell)
        if len(hs) == 1:
            return hs[0][..., None, :], cs[0][..., None, :]
        return np.stack(hs, axis=-2), np.stack(cs, axis=-2)

    def _layer(
        self, weights: Array, joined: Array, inputs: Array, h: Array, c: Array
    ) -> tuple[Array, Array]:
        size = self._hidden
        joined[..., : -size - 1] = inputs
        joined[..., -size - 1 : -1] = h
        gates: Array = joined.dot(weights)  # (..., 4 H)
        np.tanh(gates, out=gates)
        opened = gates[..., : 3 * size]
        opened *= _HALF
        opened += _HALF
        new = gates[..., 3 * size :]
        new *= opened[..., :size]
        cell = opened[..., size : 2 * size] * c
        cell += new
        output: Array = np.tanh(cell)
        output *= opened[..., 2 * size :]
        return output, cell


def layers_of(head: nn.Module, scale: float = 1.0) -> Callable[[Array], Array]:
    """A linear layer, or two with a GELU between them, as a function of (I,).

    Args:
        head: The module.
        scale: What the outputs are multiplied by.
    """
    if isinstance(head, nn.Linear):
        weights, bias = numbers(head.weight.t() * scale), numbers(head.bias * scale)

        def linear(inputs: Array) -> Array:
            output: Array = inputs.dot(weights)
            output += bias
            return output

        return linear
    first, last = layers_of(head.get_submodule("0")), layers_of(head.get_submodule("2"), scale)

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
