"""``NoteLSTM`` for one lane in plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final, final

import numpy as np
import torch
from torch import nn

from notelstm.fields import Field, Row
from notelstm.models.lean import Array, LeanLSTM, as_arrays, as_tensors, layers_of, plain_normal
from notelstm.models.lean_hearing import Hearing
from notelstm.models.lstm import Hidden, LSTMState, mixture_head
from notelstm.models.note_state import NoteContext, NoteState
from notelstm.predictions import PlainCategorical, PlainOther
from notelstm.protocols import Context, PlainPrediction, State

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
    ) -> None:
        self._lstm: Final = LeanLSTM(lstm)
        self._names: Final = [field.name for field in fields]
        self._embed: Final = {name: _embedding(embed[name]) for name in self._names}
        self._earlier: Final = {name: tuple(order[:i]) for i, name in enumerate(order)}
        self._heads: Final = {name: layers_of(heads[name]) for name in order}
        self._fields: Final = {field.name: field for field in fields}
        self._mixed: Final = mixed
        self._hearing: Final = hearing

    def enter(self, context: Context, state: State) -> tuple[Any, Any]:
        """From tensors."""
        return as_arrays(context), as_arrays(state)

    def leave(self, context: Any, state: Any) -> tuple[Context, State]:
        """To tensors."""
        return as_tensors(context), as_tensors(state)

    def step(self, row: Row, state: Any) -> tuple[Any, Any]:
        """Read one row, in one lane or in several."""
        entries = row.tolist()
        parts = [self._embed[name](x) for name, x in zip(self._names, entries, strict=True)]
        if self._hearing is None:
            h, c = self._lstm(np.concatenate(parts), *state)
            return Hidden(h[..., -1, :]), LSTMState(h, c)  # type: ignore[arg-type]
        sounding = self._hearing.after(entries, state.sounding)
        heard = self._hearing.heard("before", sounding)
        known = np.concatenate(parts)
        if heard.ndim > 1:
            known = np.broadcast_to(known, (*heard.shape[:-1], len(known)))
        h, c = self._lstm(np.concatenate([known, heard], axis=-1), *state.lstm)
        hidden, lstm = h[..., -1, :], LSTMState(h, c)  # type: ignore[arg-type]
        return NoteContext(hidden, heard, sounding), NoteState(lstm, sounding)  # type: ignore[arg-type]

    def predict(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """Predict one field given those that come earlier in the order."""
        parts = [context.hidden, *(self._embed[name](known[name]) for name in self._earlier[field])]
        if self._hearing is not None:
            parts.append(self._hearing.heard_by(field, context, known))
        output = self._heads[field](np.concatenate(parts))
        spec = self._fields[field]
        if spec.is_categorical:
            return PlainCategorical(output)
        if field in self._mixed:
            return PlainOther(mixture_head(torch.from_numpy(output)[None], spec))
        return plain_normal(output, spec)


def _embedding(module: nn.Module) -> Callable[[float], Array]:
    """What (E,) stands for a class id, or for a number."""
    if isinstance(module, nn.Embedding):
        table: Array = module.weight.detach().numpy().copy()
        return lambda entry: table[int(entry)]
    layer = layers_of(module)

    def number(entry: float) -> Array:
        size = math.copysign(math.log1p(10 * abs(entry)), entry)
        return layer(np.array([size], dtype=np.float32))

    return number
