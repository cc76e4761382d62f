"""A likelihood model of any encoder's fields, each predicted from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, by_name
from notelstm.models.lstm import Hidden, LSTMState, check_sizes, normal_head, run_lstm, start_lstm
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction

__all__ = ["NoteLSTM"]


@final
class NoteLSTM(nn.Module):
    """An LSTM with chained heads: p(a), p(b | a), p(c | a, b) and so on, for any fields.

    Class ids are embedded; numbers enter as ``log1p(10 |x|)`` with their sign, which tells
    milliseconds apart and keeps minutes small. Each head is a small network over the LSTM's output
    and the fields of the same row that come earlier in the order. Numbers are predicted as censored
    normals.

    Args:
        fields: Any fields.
        order: Their names in the order of prediction; None for the order of the columns.
        hidden: H, the LSTM's units.
        layers: LSTM layers.
        embedding: E, the width of each field's embedding.
        dropout: Share of the LSTM's outputs that is dropped in training, at least 0 and below 1.

    Raises:
        FieldError: If `order` does not name each field once, or a name cannot be a module's.
        ConfigError: If a size is less than 1, or `dropout` is not a share.
    """

    def __init__(
        self,
        *,
        fields: Sequence[Field],
        order: Sequence[str] | None = None,
        hidden: int = 256,
        layers: int = 1,
        embedding: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(hidden=hidden, layers=layers, embedding=embedding)
        if not 0 <= dropout < 1:
            raise ConfigError("dropout is at least 0 and less than 1", got=f"{dropout}")
        self._by_name: Final = by_name(fields)
        names = list(self._by_name)
        taken = [name for name in names if hasattr(nn.ModuleDict, name)]
        if taken:
            raise FieldError(
                "a NoteLSTM's fields are not named like a method of torch.nn.ModuleDict",
                got=", ".join(taken),
                fix="give the fields other names",
            )
        if order is not None and sorted(order) != sorted(names):
            raise FieldError("the order names each field once", got=f"{order}", where=f"{names}")
        self.fields: Final = tuple(fields)
        self.order: Final = tuple(names if order is None else order)
        self.config: Final[Mapping[str, Any]] = {
            "fields": self.fields,
            "order": self.order,
            "hidden": hidden,
            "layers": layers,
            "embedding": embedding,
            "dropout": dropout,
        }
        self.embed: nn.ModuleDict = nn.ModuleDict(
            {
                f.name: nn.Embedding(f.classes, embedding) if f.classes else nn.Linear(1, embedding)
                for f in self.fields
            }
        )
        self.lstm: nn.LSTM = nn.LSTM(embedding * len(names), hidden, layers, batch_first=True)
        self.dropout: nn.Dropout = nn.Dropout(dropout)
        self.heads: nn.ModuleDict = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(hidden + embedding * i, hidden),
                    nn.GELU(),
                    nn.Linear(hidden, self._by_name[name].classes or 2),
                )
                for i, name in enumerate(self.order)
            }
        )
        self.begin: nn.Parameter = nn.Parameter(torch.zeros(hidden))

    def start(self, batch: int) -> tuple[Hidden, LSTMState]:
        """The trained context before the first row, and a state of zeros."""
        return start_lstm(self.begin, self.lstm.num_layers, batch)

    def _embedded(self, name: str, entries: Tensor) -> Tensor:
        """(..., E) from (...) class ids or numbers."""
        if self._by_name[name].is_categorical:
            inputs = entries.long()
        else:
            size = torch.log1p(10 * entries.abs()).unsqueeze(-1)
            inputs = torch.copysign(size, entries.unsqueeze(-1)).to(self.begin)
        embedded: Tensor = self.embed[name](inputs)
        return embedded

    @override
    def forward(self, rows: Tensor, state: LSTMState) -> tuple[Hidden, LSTMState]:
        """Read (B, T, F) rows."""
        columns = [self._embedded(f.name, rows[..., i]) for i, f in enumerate(self.fields)]
        context, state = run_lstm(self.lstm, torch.cat(columns, dim=-1), state)  # (B, T, H)
        return Hidden(self.dropout(context.hidden)), state

    def predict(self, field: str, context: Hidden, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field given those that come earlier in the order."""
        earlier = self.order[: self.order.index(field)]
        inputs = [context.hidden, *(self._embedded(name, known[name]) for name in earlier)]
        output = self.heads[field](torch.cat(inputs, dim=-1))  # (..., C) or (..., 2)
        spec = self._by_name[field]
        if spec.is_categorical:
            return Categorical(output)
        return normal_head(output, spec)
