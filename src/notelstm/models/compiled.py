"""``ThreeHeadLSTM`` with a whole row, its draw included, in one call of machine code."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from notelstm.errors import MissingExtraError
from notelstm.fields import Field, Interval, Rows
from notelstm.models.lstm import Hidden, LSTMState
from notelstm.protocols import Precision, Rule

__all__ = ["CompiledThreeHead", "Joined"]

_LINE: Final = 16
"""Columns in a line of the processor's cache; products of whole lines are quicker."""
_TINY: Final = torch.finfo(torch.float64).tiny


class Joined(NamedTuple):
    """The weights of a three-head model as a compiled step reads them.

    Attributes:
        fields: (3,) its fields.
        outputs: (3,) how many outputs the head of each has.
        weights: (H, P) what the LSTM's output is multiplied by: for the gates in, kept, out
            (halved) and new, 4 H columns, then for the heads; what is over fills up a line of the
            cache.
        added: (P,) what is added to that.
        inputs: (3, 4 H) what a row's entries are multiplied by for the gates.
        sigmoid: Whether logits are confined to (0, 1); then their columns are halved.
        point_times: Whether times are single values.
    """

    fields: tuple[Field, ...]
    outputs: tuple[int, ...]
    weights: Tensor
    added: NDArray[np.float32]
    inputs: NDArray[np.float32]
    sigmoid: bool
    point_times: bool

    @classmethod
    def of(
        cls,
        fields: Sequence[Field],
        gates: Tensor,
        heads: Tensor,
        outputs: Sequence[int],
        *,
        sigmoid: bool,
        point_times: bool,
    ) -> Joined:
        """Join the weights.

        Args:
            fields: Three fields.
            gates: (4, 3 + H + 1, H) weights of the gates: of a row, of the output before, added.
            heads: (H + 1, O) weights of all heads, and what is added.
            outputs: How many of the O outputs are each field's.
            sigmoid: See the attribute.
            point_times: See the attribute.
        """
        inputs = gates[:, : len(fields)].transpose(0, 1).flatten(1)
        recurrent = gates[:, len(fields) :].transpose(0, 1).flatten(1)
        weights = torch.cat([recurrent, heads], dim=1)
        weights = functional.pad(weights, (0, -weights.shape[1] % _LINE))
        return cls(
            tuple(fields),
            tuple(outputs),
            weights[:-1].contiguous(),
            weights[-1].contiguous().numpy(),
            inputs.contiguous().numpy(),
            sigmoid,
            point_times,
        )


@final
class _Product:
    """(B, P) products of outputs with the weights, in memory of its own.

    In bytes they are products of whole numbers, which a processor made for it does four times as
    fast: outputs of an LSTM are in (-1, 1), and each column of weights has a scale of its own.

    Args:
        weights: (H, P).
        lanes: B.
        most: What stands for 1; 0 for numbers as they are.

    Attributes:
        inputs: (B, H), to be written to.
        said: (B, P), written to by `run`.
        scale: (P,) what it is to be multiplied by.
        run: Multiplies.
    """

    def __init__(self, weights: Tensor, lanes: int, most: int) -> None:
        self._most: Final = most
        kind, wide = (torch.int8, torch.int32) if most else (torch.float32, torch.float32)
        with torch.inference_mode(mode=False):  # what is made in that mode cannot be used outside
            left = torch.zeros(lanes, len(weights), dtype=kind)
            out = torch.empty(lanes, weights.shape[1], dtype=wide)
            scale = torch.ones(weights.shape[1])
            if most:
                top = weights.abs().amax(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
                weights, scale = (weights / top * most).round().to(kind), top / most**2
            multiply = torch._int_mm if most else torch.mm
            self.run: Final = functools.partial(multiply, left, weights, out=out)
        self.inputs: Final[NDArray[Any]] = left.numpy()
        self.said: Final[NDArray[Any]] = out.numpy()
        self.scale: Final[NDArray[np.float32]] = scale.numpy()

    def take(self, outputs: NDArray[np.float32]) -> None:
        """Write (B, H) outputs to the inputs."""
        np.copyto(
            self.inputs, np.rint(outputs * self._most) if self._most else outputs, casting="unsafe"
        )


@final
class CompiledThreeHead:
    """Draws and reads rows in B lanes; a copy belongs to one thread.

    One product a row serves both the heads, which say what comes next, and the gates that will
    read it.

    Args:
        joined: The weights.
        rule: How entries are chosen.
        ends: What each number is confined to, by field name.
        lanes: B.
        precision: Of the products. ``"int8"`` is quicker and near: outputs of the LSTM are off by
            about a hundredth.

    Raises:
        MissingExtraError: If numba is not installed.
    """

    def __init__(
        self,
        joined: Joined,
        rule: Rule,
        ends: Mapping[str, Interval],
        lanes: int,
        precision: Precision,
    ) -> None:
        try:
            from notelstm.models import kernels
        except ImportError as error:
            raise MissingExtraError(
                "a compiled step needs the extra compiled",
                got=str(error),
                hint="run pip install 'notelstm[compiled]'",
            ) from error
        rounded = precision == "int8"
        self._turn: Final = kernels.turn
        self._kind: Final = (
            {"ancestral": 0, "weighted": kernels.WEIGHTED, "greedy": kernels.GREEDY}[rule]
            + kernels.SIGMOID * joined.sigmoid
            + kernels.NORMAL * (not joined.point_times)
            + kernels.ROUNDED * rounded
        )
        self._joined: Final = joined
        self._product: Final = _Product(joined.weights, lanes, kernels.MOST * rounded)
        self._scales: Final = np.stack([self._product.scale, joined.added])
        self._sent: NDArray[np.float32] | None = None  # the outputs that are in its inputs
        self._gates: Final = 4 * len(joined.weights)
        firsts = self._gates + np.cumsum((0, *joined.outputs[:-1]))
        # The field of classes comes first.
        order = sorted(range(3), key=lambda i: not joined.fields[i].is_categorical)
        numbers = order[1:]
        self._places: Final = np.array(
            [(i, firsts[i], joined.outputs[i]) for i in order], dtype=np.int64
        )
        self._ends: Final = np.array(
            [ends[joined.fields[i].name] for i in numbers], dtype=np.float32
        )
        self._normal: Final = [] if joined.point_times or rule == "greedy" else numbers

    def __call__(
        self, context: Any, state: Any, noise: NDArray[np.float64]
    ) -> tuple[Rows, Any, Any]:
        """Draw the next row of each lane and read it.

        Args:
            context: What predicts the row.
            state: What the row meets.
            noise: (B, 3, 2) uniforms.

        Returns:
            (B, 3) rows, and the context and state after them.
        """
        h, c = state
        product, told = self._product, context.hidden
        if h.item(0) == 0 and not h.any():
            self._begin(told)
        else:
            if told is not self._sent:
                product.take(told)
            product.run()
        uniforms = noise[:, :, 0]
        if self._normal:
            uniforms = _standardised(uniforms, self._normal)
        rows = np.empty((len(told), 3), dtype=np.float32)
        hidden, after = np.empty((2, *told.shape), dtype=np.float32)
        self._turn(
            product.said,
            self._scales,
            self._places,
            self._kind,
            self._ends,
            self._joined.inputs,
            c[:, 0],
            uniforms,
            rows,
            hidden,
            after,
            product.inputs,
        )
        self._sent = hidden
        return rows, Hidden(hidden), LSTMState(hidden[:, None], after[:, None])

    def _begin(self, begin: NDArray[np.float32]) -> None:
        """Say what is trained to come first, whatever its size; and nothing of what was before."""
        said = torch.mm(torch.from_numpy(begin), self._joined.weights).numpy()
        said[:, : self._gates] = 0
        np.copyto(self._product.said, said / self._product.scale, casting="unsafe")


def _standardised(uniforms: NDArray[np.float64], columns: Sequence[int]) -> NDArray[np.float64]:
    """(B, 3) uniforms of which some columns have become standard normal numbers."""
    made = uniforms.copy()
    confined = torch.from_numpy(uniforms[:, columns]).clamp(_TINY, 1 - 1e-16)
    made[:, columns] = torch.special.ndtri(confined).numpy()
    return made
