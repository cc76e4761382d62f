"""``NoteLSTM`` in plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.fields import Field, Rows
from notelstm.models.lean import (
    Array,
    LeanLSTM,
    layers_of,
    plain_normal,
)
from notelstm.models.lean_hearing import Hearing
from notelstm.models.lstm import Hidden, mixture_head, normal_head
from notelstm.models.note_state import NoteContext, NoteState
from notelstm.predictions import Categorical, PlainCategorical, PlainOther
from notelstm.protocols import PlainPrediction, Prediction

__all__ = ["LeanNote"]


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
        self._lstm: Final = LeanLSTM(lstm)
        self._names: Final = [field.name for field in fields]
        self._embed: Final = {name: _embedding(embed[name]) for name in self._names}
        self._earlier: Final = {name: tuple(order[:i]) for i, name in enumerate(order)}
        self._heads: Final = {name: layers_of(heads[name]) for name in order}
        self._fields: Final = {field.name: field for field in fields}
        self._mixed: Final = mixed
        self._hearing: Final = hearing

    def start(self) -> tuple[Any, Any]:
        """Before the first row, in one lane."""
        return self._start

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row in each lane."""
        parts = [self._embed[name](rows[:, i]) for i, name in enumerate(self._names)]
        if self._hearing is None:
            hidden, state = self._lstm(np.concatenate(parts, axis=1), state)
            return Hidden(hidden), state  # type: ignore[arg-type]
        sounding = self._hearing.after(rows, state.sounding)
        heard = self._hearing.heard("before", sounding)
        hidden, lstm = self._lstm(np.concatenate([*parts, heard], axis=1), state.lstm)
        return NoteContext(hidden, heard, sounding), NoteState(lstm, sounding)  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field given those that come earlier in the order."""
        told = {name: known[name].numpy() for name in self._earlier[field]}
        output = torch.from_numpy(self._said(field, context, told))
        spec = self._fields[field]
        if spec.is_categorical:
            return Categorical(output)
        return mixture_head(output, spec) if field in self._mixed else normal_head(output, spec)

    def plain(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """The same for the only lane."""
        told = {name: np.array([known[name]], dtype=np.float32) for name in self._earlier[field]}
        output = self._said(field, context, told)
        spec = self._fields[field]
        if spec.is_categorical:
            return PlainCategorical(output[0])
        if field in self._mixed:
            return PlainOther(mixture_head(torch.from_numpy(output), spec))
        return plain_normal(output[0], spec)

    def _said(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, C) what the head of a field says, given (B,) entries."""
        parts = [context.hidden, *(self._embed[name](known[name]) for name in known)]
        if self._hearing is not None:
            parts.append(self._hearing.heard_by(field, context, known))
        return self._heads[field](np.concatenate(parts, axis=1))


def _embedding(module: nn.Module) -> Callable[[NDArray[Any]], Array]:
    """What (B, E) stands for (B,) class ids, or numbers."""
    if isinstance(module, nn.Embedding):
        table: Array = module.weight.detach().numpy().copy()
        return lambda entries: table[entries.astype(np.intp)]
    layer = layers_of(module)

    def number(entries: NDArray[Any]) -> Array:
        size = np.log1p(10 * np.abs(entries))
        return layer(np.copysign(size, entries)[:, None].astype(np.float32))

    return number
