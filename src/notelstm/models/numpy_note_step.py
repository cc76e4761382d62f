"""The numpy step of ``NoteLSTM``, with its sounding-note features."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.fields import Field, Rows
from notelstm.models.lstm import Hidden, mixture_head, normal_head
from notelstm.models.numpy_step import Array, NumpyLSTM, linear_of, numpy_normal
from notelstm.models.sounding import (
    AROUND,
    CHORD,
    LONGEST,
    SCALE,
    NoteContext,
    NoteState,
    Sounding,
    SoundingClock,
)
from notelstm.predictions import Categorical, NumpyAdapter, NumpyCategorical, NumpyPrediction
from notelstm.protocols import Prediction

__all__ = ["NumpyNote", "NumpySounding"]

_Times = NDArray[np.int32]
_REACH: Final = AROUND // 2
_NEAR: Final = np.arange(AROUND)
_TIMES: Final = np.arange(LONGEST + 1, dtype=np.float32)
"""Every time in thousandths; features are looked up, not computed."""


class _Request(NamedTuple):
    """The latest request: several heads share the features of one row."""

    context: Any
    place: str
    step: bytes
    pitch: bytes
    features: Array


@final
class NumpySounding:
    """The sounding-note features of one model in numpy.

    Args:
        clock: The module that tracks sounding notes.
        layers: The linear layers of the features, by place.
        place_of: The place of the head of each field.
    """

    def __init__(
        self, clock: SoundingClock, layers: nn.ModuleDict, place_of: Mapping[str, str]
    ) -> None:
        self._clock: Final = clock
        self._place_of: Final = dict(place_of)
        self._layers: Final[dict[str, Callable[[Array], Array]]] = {
            place: linear_of(cast(Tensor, layer.weight), cast(Tensor, layer.bias))
            for place, layer in layers.items()
        }
        # (thousandths of each class, or none), for the step and the duration
        self._steps, self._durations = (np.array(t, dtype=np.int32) for t in clock.tables())
        whole = math.log1p(LONGEST / SCALE)
        longer = np.log1p(_TIMES / np.float32(SCALE)) / np.float32(whole)
        self._longer: Final = longer.astype(np.float32)
        self._lately: Final = (1 - longer).astype(np.float32)
        width = LONGEST + LONGEST / CHORD * _TIMES
        self._just: Final = ((LONGEST - _TIMES) / width).astype(np.float32)
        self._last: _Request | None = None

    def after(self, rows: Rows, before: Any) -> Any:
        """The sounding notes at the onset of rows (B, F), their own included; (B, P)."""
        pitch, step, duration = (rows[:, i] for i in self._clock.columns)
        left, since = _later(before, _thousandths(self._steps, step))
        at = np.arange(len(rows)), pitch.astype(np.intp)
        left[at] = np.maximum(left[at], _thousandths(self._durations, duration))
        since[at] = 0
        return Sounding(left, since)  # type: ignore[arg-type]

    def features(self, place: str, sounding: Any) -> Array:
        """(B, S) the features at a place."""
        left, since = sounding
        parts = (left > 0, self._longer[left], self._lately[since], self._just[since])
        return self._layers[place](np.concatenate(parts, axis=1, dtype=np.float32))

    def features_for(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, S) the features of the head of a field."""
        place, clock = self._place_of[field], self._clock
        if place == "before":
            features: Array = context.features
            return features
        step = known[clock.step]
        pitch = known[clock.pitch] if place == "around" else step[:0]
        request = _Request(context, place, step.tobytes(), pitch.tobytes(), context.features)
        last = self._last
        if last is None or context is not last.context or request[1:4] != last[1:4]:
            left, since = _later(context.sounding, _thousandths(self._steps, step))
            if place == "around":
                left, since = _around(left, pitch, 0), _around(since, pitch, LONGEST)
            last = self._last = request._replace(features=self.features(place, (left, since)))
        return last.features


def _later(sounding: Any, wait: _Times) -> tuple[_Times, _Times]:
    """After a wait of (B,) thousandths."""
    left, since = sounding
    by = wait[:, None]
    return np.maximum(left - by, 0), np.minimum(since + by, LONGEST)


def _around(times: _Times, pitch: NDArray[Any], silence: int) -> _Times:
    """(B, AROUND) of (B, P) times."""
    padded = np.full((len(times), times.shape[1] + AROUND), silence, dtype=np.int32)
    padded[:, _REACH : _REACH + times.shape[1]] = times
    at = pitch.astype(np.intp)[:, None] + _NEAR
    near: _Times = padded[np.arange(len(times))[:, None], at]
    return near


def _thousandths(table: _Times, entries: NDArray[Any]) -> _Times:
    """(B,) the time of class ids or numbers."""
    if len(table):
        return np.asarray(table[entries.astype(np.intp)])
    whole = np.rint(entries.astype(np.float64) * 1000)
    return np.clip(whole, 0, LONGEST).astype(np.int32)


_ROOT: Final = math.sqrt(0.5)
_ONE: Final = np.array(1.0, dtype=np.float32)


@final
class NumpyNote:
    """The numpy step of a :class:`~notelstm.models.NoteLSTM`.

    Args:
        fields: Its fields.
        order: Their names in the order of prediction.
        embed: Its embeddings by field name.
        lstm: Its LSTM.
        heads: Its heads by field name.
        mixed: The fields that are predicted as mixtures.
        sounding: Its sounding-note features, None if it has none.
        initial: Its context and state before the first row.
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
        sounding: NumpySounding | None,
        initial: tuple[Any, Any],
    ) -> None:
        self._initial: Final = initial
        self._lstm: Final = NumpyLSTM(lstm, apart=sum(map(_size, embed.values())))
        names = [field.name for field in fields]
        weights = self._lstm.apart.chunk(len(names))  # (E, 4 H) each
        self._inputs: Final = [
            _input_contribution(embed[n], w.t()) for n, w in zip(names, weights, strict=True)
        ]
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
        self._sounding: Final = sounding

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        return self._initial

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence."""
        added = self._inputs[0](rows[:, 0])  # (B, 4 H)
        for i, inputs in enumerate(self._inputs[1:], 1):
            np.add(added, inputs(rows[:, i]), added)
        if self._sounding is None:
            hidden, state = self._lstm(rows[:, :0], state, added)
            return Hidden(hidden), state  # type: ignore[arg-type]
        sounding = self._sounding.after(rows, state.sounding)
        features = self._sounding.features("before", sounding)
        hidden, lstm = self._lstm(features, state.lstm, added)
        return NoteContext(hidden, features, sounding), NoteState(lstm, sounding)  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field given those that come earlier in the order."""
        inputs = {name: known[name].numpy() for name in self._heads[field].earlier}
        output = torch.from_numpy(self._head_logits(field, context, inputs))
        spec = self._fields[field]
        if spec.is_categorical:
            return Categorical(output)
        return mixture_head(output, spec) if field in self._mixed else normal_head(output, spec)

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """The same for one sequence."""
        earlier = self._heads[field].earlier
        inputs = {name: np.array([known[name]], dtype=np.float32) for name in earlier}
        output = self._head_logits(field, context, inputs)
        spec = self._fields[field]
        if spec.is_categorical:
            return NumpyCategorical(output[0])
        if field in self._mixed:
            return NumpyAdapter(mixture_head(torch.from_numpy(output), spec))
        return numpy_normal(output[0], spec)

    def _head_logits(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, C) the logits of the head of a field, given (B,) entries."""
        here, sums = self._last
        if here is not context:
            sums = self._all(context.hidden)
            self._last = (context, sums)
        features = self._sounding.features_for(field, context, known) if self._sounding else None
        return self._heads[field](sums, known, features)


@final
class _Head:
    """The head of one field, where the LSTM's output has been multiplied already.

    Args:
        head: The module.
        weight: (O, E ... E + S) of its first layer, for its inputs beside the output.
        earlier: The embeddings of the earlier fields, by name.
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
            self.earlier[name] = _input_contribution(module, weight[:, :size])
            weight = weight[:, size:]
        self._features: Final = linear_of(weight)

    def __call__(
        self, sums: Array, known: Mapping[str, NDArray[Any]], features: Array | None
    ) -> Array:
        """(B, C) from the products, (B,) entries, and (B, S) features."""
        output = sums[:, self._part].copy()
        for name, inputs in self.earlier.items():
            np.add(output, inputs(known[name]), output)
        if features is not None:
            np.add(output, self._features(features), output)
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


def _input_contribution(module: nn.Module, weight: Tensor) -> Callable[[NDArray[Any]], Array]:
    """The contribution of (B,) class ids or numbers to a layer: (B, O).

    Args:
        module: Their embedding.
        weight: (O, E) of the layer.
    """
    if isinstance(module, nn.Embedding):
        table: Array = (module.weight @ weight.t()).detach().numpy()
        return lambda entries: table[entries.astype(np.intp)]
    layer = cast(nn.Linear, module)
    slope: Array = (weight @ layer.weight).t().detach().numpy()  # (1, O)
    rest: Array = (weight @ layer.bias).detach().numpy()

    def number(entries: NDArray[Any]) -> Array:
        size = np.copysign(np.log1p(10 * np.abs(entries)), entries).astype(np.float32)
        contribution: Array = size[:, None] * slope + rest
        return contribution

    return number
