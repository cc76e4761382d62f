"""A likelihood model of any encoder's fields, each predicted from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, by_name
from notelstm.models.lean import is_plain, start_of
from notelstm.models.lean_hearing import Hearing
from notelstm.models.lean_note import LeanNote
from notelstm.models.lstm import (
    Hidden,
    LSTMState,
    check_sizes,
    mixture_head,
    normal_head,
    run_lstm,
    start_lstm,
)
from notelstm.models.note_state import NoteContext, NoteState
from notelstm.models.sounding import AROUND, FEATURES, Sounding, SoundingClock, features
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction

__all__ = ["NoteLSTM"]


@final
class NoteLSTM(nn.Module):
    """An LSTM with chained heads: p(a), p(b | a), p(c | a, b) and so on, for any fields.

    Class ids are embedded; numbers enter as ``log1p(10 |x|)`` with their sign, which tells
    milliseconds apart and keeps minutes small. Each head is a small network over the LSTM's output
    and the fields of the same row that come earlier in the order. Numbers are predicted as censored
    normals, or as mixtures on a logarithmic scale that know a chord from a short step.

    With `sounding` the model also hears: of each pitch, how long it will still sound and how long
    ago it was struck, followed exactly through the rows. The LSTM and its heads hear what sounds at
    the onset before; heads that know the step hear what sounds at the onset to come, those that
    know the pitch as well hear two octaves around it. What is heard is 2 E wide.

    Args:
        fields: Any fields.
        order: Their names in the order of prediction; None for the order of the columns.
        hidden: H, the LSTM's units.
        layers: LSTM layers.
        embedding: E, the width of each field's embedding.
        head: Width of the heads' hidden layer, None for `hidden`; 0 for linear heads.
        sounding: Whether the model hears what is sounding. It makes no difference to fields that
            do not say it: those without one field each of the roles pitch (in classes), step and
            duration (in one unit).
        times: How numbers with a least value are predicted: ``"normal"`` or ``"mixture"``.
        components: K, of each mixture.
        dropout: Share of each LSTM layer's outputs that is dropped in training, at least 0 and
            below 1.

    Raises:
        FieldError: If `order` does not name each field once, or a name cannot be a module's.
        ConfigError: If a size is less than 1 (`head`: 0), or `dropout` is not a share.
    """

    def __init__(
        self,
        *,
        fields: Sequence[Field],
        order: Sequence[str] | None = None,
        hidden: int = 256,
        layers: int = 1,
        embedding: int = 32,
        head: int | None = None,
        sounding: bool = False,
        times: Literal["normal", "mixture"] = "normal",
        components: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(hidden=hidden, layers=layers, embedding=embedding, components=components)
        if times not in ("normal", "mixture"):
            raise ConfigError("times are 'normal' or 'mixture'", got=repr(times))
        if head is not None and head < 0:
            raise ConfigError("head is at least 0, or None", got=f"{head}")
        if not 0 <= dropout < 1:
            raise ConfigError("dropout is at least 0 and less than 1", got=f"{dropout}")
        self._by_name: Final = _named(fields)
        names = list(self._by_name)
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
            "head": head,
            "sounding": sounding,
            "times": times,
            "components": components,
            "dropout": dropout,
        }
        self.embed: nn.ModuleDict = nn.ModuleDict(
            {
                f.name: nn.Embedding(f.classes, embedding) if f.classes else nn.Linear(1, embedding)
                for f in self.fields
            }
        )
        heard = 2 * embedding  # S; wider ones cost more time than they earn
        self.clock: SoundingClock | None = SoundingClock.of(fields) if sounding else None
        self.hear: nn.ModuleDict = nn.ModuleDict()
        inputs, known = embedding * len(names), hidden
        if self.clock is not None:
            for at in {"before": 0, **dict.fromkeys(map(self._place, self.order))}:
                pitches = AROUND if at == "around" else self.clock.pitches
                self.hear[at] = nn.Linear(FEATURES * pitches, heard)
            inputs, known = inputs + heard, known + heard
        self.lstm: nn.LSTM = nn.LSTM(
            inputs, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout: nn.Dropout = nn.Dropout(dropout)
        self._mixed: Final = {
            f.name for f in self.fields if times == "mixture" and f.low is not None
        }
        width = hidden if head is None else head
        self.heads: nn.ModuleDict = nn.ModuleDict(
            {
                name: _head(known + embedding * i, width, self._outputs(name, components))
                for i, name in enumerate(self.order)
            }
        )
        self.begin: nn.Parameter = nn.Parameter(torch.zeros(hidden))

    def _outputs(self, field: str, components: int) -> int:
        """How many numbers the head of a field gives."""
        return self._by_name[field].classes or (3 * components + 1 if field in self._mixed else 2)

    def _place(self, field: str) -> str:
        """What the head of a field hears, by the fields it knows: a name in `hear`."""
        clock, earlier = self._clock, self.order[: self.order.index(field)]
        if clock.step not in earlier:
            return "before"
        return "around" if clock.pitch in earlier else "there"

    @property
    def _clock(self) -> SoundingClock:
        """The clock of a model that hears."""
        return cast(SoundingClock, self.clock)

    def start(self, batch: int) -> tuple[Hidden | NoteContext, LSTMState | NoteState]:
        """The trained context before the first row, and a state of zeros and silence."""
        context, state = start_lstm(self.begin, self.lstm.num_layers, batch)
        if self.clock is None:
            return context, state
        silence = self.clock.start(batch)  # (B, P)
        before = Sounding(*(times.unsqueeze(1) for times in silence))  # (B, 1, P)
        heard = self._heard("before", before)  # (B, 1, S)
        return NoteContext(context.hidden, heard, before), NoteState(state, silence)

    def _heard(self, at: str, sounding: Sounding) -> Tensor:
        """(..., S) of what is sounding."""
        heard: Tensor = self.hear[at](features(sounding).to(self.begin))
        return heard

    def _heard_by(self, field: str, context: NoteContext, known: Mapping[str, Tensor]) -> Tensor:
        """(..., S) what the head of a field hears."""
        place, sounding = self._place(field), context.sounding
        if place == "before":
            return context.heard
        if place == "around":
            sounding = sounding.around(known[self._clock.pitch].long())
        return self._heard(place, sounding.later(self._clock.wait(known[self._clock.step])))

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
    def forward(
        self, rows: Tensor, state: LSTMState | NoteState
    ) -> tuple[Hidden | NoteContext, LSTMState | NoteState]:
        """Read (B, T, F) rows."""
        columns = [self._embedded(f.name, rows[..., i]) for i, f in enumerate(self.fields)]
        if isinstance(state, LSTMState):
            context, state = run_lstm(self.lstm, torch.cat(columns, dim=-1), state)  # (B, T, H)
            return Hidden(self.dropout(context.hidden)), state
        sounding = self._clock.forward(rows, state.sounding)  # (B, T, P)
        heard = self._heard("before", sounding)  # (B, T, S)
        context, lstm = run_lstm(self.lstm, torch.cat([*columns, heard], dim=-1), state.lstm)
        last = Sounding(*(times[:, -1] for times in sounding))
        hidden = self.dropout(context.hidden)  # (B, T, H)
        return NoteContext(hidden, heard, sounding), NoteState(lstm, last)

    def predict(
        self, field: str, context: Hidden | NoteContext, known: Mapping[str, Tensor]
    ) -> Prediction:
        """Predict one field given those that come earlier in the order."""
        earlier = self.order[: self.order.index(field)]
        inputs = [context.hidden, *(self._embedded(name, known[name]) for name in earlier)]
        if isinstance(context, NoteContext):
            inputs.append(self._heard_by(field, context, known))
        output = self.heads[field](torch.cat(inputs, dim=-1))  # (..., C) or (..., 2)
        # Under autocast heads answer in half precision, too coarse for a likelihood.
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        spec = self._by_name[field]
        if spec.is_categorical:
            return Categorical(output)
        return mixture_head(output, spec) if field in self._mixed else normal_head(output, spec)

    def lean(self) -> LeanNote | None:
        """A copy in plain arrays, of float32 numbers on the CPU."""
        if not is_plain(self):
            return None
        hearing = None
        if self.clock is not None:
            places = {name: self._place(name) for name in self.order}
            hearing = Hearing(self.clock, self.hear, places)
        return LeanNote(
            self.fields,
            self.order,
            embed=self.embed,
            lstm=self.lstm,
            heads=self.heads,
            mixed=self._mixed,
            hearing=hearing,
            start=start_of(self),
        )


def _named(fields: Sequence[Field]) -> dict[str, Field]:
    named = by_name(fields)
    taken = [name for name in named if hasattr(nn.ModuleDict, name)]
    if taken:
        raise FieldError(
            "a NoteLSTM's fields are not named like a method of torch.nn.ModuleDict",
            got=", ".join(taken),
            hint="give the fields other names",
        )
    return named


def _head(inputs: int, width: int, outputs: int) -> nn.Module:
    if not width:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))
