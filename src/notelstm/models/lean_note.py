"""``NoteLSTM`` in plain arrays."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.fields import Field, Rows
from notelstm.models.lean import (
    Array,
    LeanLSTM,
    linear_of,
    plain_normal,
)
from notelstm.models.lean_hearing import Hearing
from notelstm.models.lstm import Hidden, mixture_head, normal_head
from notelstm.models.note_state import NoteContext, NoteState
from notelstm.predictions import Categorical, PlainCategorical, PlainOther
from notelstm.protocols import PlainPrediction, Prediction

__all__ = ["LeanNote"]

_ROOT: Final = math.sqrt(0.5)
_ONE: Final = np.array(1.0, dtype=np.float32)


@final
class LeanNote:
    """The lean copy of a note model.

    Args:
        fields: Its fields.
        order: Their names in the order of prediction.
        embed: Its embeddings by field name.
        lstm: Its LSTM.
        heads: Its heads by field name.
        mixed: The fields that are predicted as mixtures.
        hearing: How it hears, None if it does not.
        start: Its context and state before the first row.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        order: Sequence[str],
        *,
        embed: nn.ModuleDict,
        lstm: nn.LSTM,
        heads: nn.ModuleDict,
        mixed: Set[str],
        hearing: Hearing | None,
        start: tuple[Any, Any],
    ) -> None:
        self._start: Final = start
        self._lstm: Final = LeanLSTM(lstm, apart=sum(map(_size, embed.values())))
        names = [field.name for field in fields]
        weights = self._lstm.apart.chunk(len(names))  # (E, 4 H) each
        self._told: Final = [_told(embed[n], w.t()) for n, w in zip(names, weights, strict=True)]
        first = [_first(heads[name]) for name in order]
        read = lstm.hidden_size
        # All heads read the LSTM's output, so that part of them is one layer.
        self._all: Final = linear_of(
            torch.cat([layer.weight[:, :read] for layer in first]),
            torch.cat([layer.bias for layer in first]),
        )
        self._heads: Final[dict[str, _Head]] = {}
        at = 0
        for i, (name, layer) in enumerate(zip(order, first, strict=True)):
            earlier = {known: embed[known] for known in order[:i]}
            part = slice(at, at + layer.out_features)
            self._heads[name] = _Head(heads[name], layer.weight[:, read:], earlier, part)
            at += layer.out_features
        self._last: tuple[Any, Array] = (None, np.zeros(0, dtype=np.float32))
        self._fields: Final = {field.name: field for field in fields}
        self._mixed: Final = mixed
        self._hearing: Final = hearing

    def start(self) -> tuple[Any, Any]:
        """Before the first row, in one lane."""
        return self._start

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row in each lane."""
        added = self._told[0](rows[:, 0])  # (B, 4 H)
        for i, told in enumerate(self._told[1:], 1):
            np.add(added, told(rows[:, i]), added)
        if self._hearing is None:
            hidden, state = self._lstm(rows[:, :0], state, added)
            return Hidden(hidden), state  # type: ignore[arg-type]
        sounding = self._hearing.after(rows, state.sounding)
        heard = self._hearing.heard("before", sounding)
        hidden, lstm = self._lstm(heard, state.lstm, added)
        return NoteContext(hidden, heard, sounding), NoteState(lstm, sounding)  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field given those that come earlier in the order."""
        told = {name: known[name].numpy() for name in self._heads[field].earlier}
        output = torch.from_numpy(self._said(field, context, told))
        spec = self._fields[field]
        if spec.is_categorical:
            return Categorical(output)
        return mixture_head(output, spec) if field in self._mixed else normal_head(output, spec)

    def plain(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """The same for the only lane."""
        earlier = self._heads[field].earlier
        told = {name: np.array([known[name]], dtype=np.float32) for name in earlier}
        output = self._said(field, context, told)
        spec = self._fields[field]
        if spec.is_categorical:
            return PlainCategorical(output[0])
        if field in self._mixed:
            return PlainOther(mixture_head(torch.from_numpy(output), spec))
        return plain_normal(output[0], spec)

    def _said(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, C) what the head of a field says, given (B,) entries."""
        here, sums = self._last
        if here is not context:
            sums = self._all(context.hidden)
            self._last = (context, sums)
        heard = self._hearing.heard_by(field, context, known) if self._hearing else None
        return self._heads[field](sums, known, heard)


@final
class _Head:
    """The head of one field, where the LSTM's output has been multiplied already.

    Args:
        head: The module.
        weight: (O, E ... E + S) of its first layer, for all that it reads beside the output.
        earlier: The embeddings of the fields that it knows, by name.
        part: Which of the products are its own.
    """

    def __init__(
        self, head: nn.Module, weight: Tensor, earlier: Mapping[str, nn.Module], part: slice
    ) -> None:
        self._part: Final = part
        self._last: Final = None if isinstance(head, nn.Linear) else _after_gelu(head)
        self.earlier: Final[dict[str, Callable[[NDArray[Any]], Array]]] = {}
        for name, module in earlier.items():
            size = _size(module)
            self.earlier[name] = _told(module, weight[:, :size])
            weight = weight[:, size:]
        self._heard: Final = linear_of(weight)

    def __call__(
        self, sums: Array, known: Mapping[str, NDArray[Any]], heard: Array | None
    ) -> Array:
        """(B, C) from the products, (B,) entries, and (B, S) what is heard."""
        output = sums[:, self._part].copy()
        for name, told in self.earlier.items():
            np.add(output, told(known[name]), output)
        if heard is not None:
            np.add(output, self._heard(heard), output)
        if self._last is None:
            return output
        curve = torch.erf(torch.from_numpy(output)).numpy()
        np.add(curve, _ONE, curve)
        np.multiply(output, curve, output)
        return self._last(output)


def _first(head: nn.Module) -> nn.Linear:
    """A head's first layer; over the root of 2, if a GELU comes after it."""
    if isinstance(head, nn.Linear):
        return head
    layer = copy.deepcopy(cast(nn.Linear, head.get_submodule("0")))
    # gelu(x) is x (1 + erf(x / root of 2)) / 2, so that both layers around it take a root of 2.
    with torch.no_grad():
        layer.weight.mul_(_ROOT)
        layer.bias.mul_(_ROOT)
    return layer


def _after_gelu(head: nn.Module) -> Callable[[Array], Array]:
    layer = cast(nn.Linear, head.get_submodule("2"))
    return linear_of(layer.weight * _ROOT, layer.bias)


def _size(module: nn.Module) -> int:
    """E, of an embedding."""
    weight = cast(Tensor, module.weight)  # (C, E), or (E, 1) of a linear layer
    return weight.shape[1] if isinstance(module, nn.Embedding) else weight.shape[0]


def _told(module: nn.Module, weight: Tensor) -> Callable[[NDArray[Any]], Array]:
    """What (B,) class ids, or numbers, add to a layer: (B, O).

    Args:
        module: What embeds them.
        weight: (O, E) what the layer multiplies that by.
    """
    if isinstance(module, nn.Embedding):
        table: Array = (module.weight @ weight.t()).detach().numpy()
        return lambda entries: table[entries.astype(np.intp)]
    layer = cast(nn.Linear, module)
    slope: Array = (weight @ layer.weight).t().detach().numpy()  # (1, O)
    rest: Array = (weight @ layer.bias).detach().numpy()

    def number(entries: NDArray[Any]) -> Array:
        size = np.copysign(np.log1p(10 * np.abs(entries)), entries).astype(np.float32)
        told: Array = size[:, None] * slope + rest
        return told

    return number
