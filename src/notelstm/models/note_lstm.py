"""``NoteLSTM``: a likelihood model of any fields, each predicted given those before it."""

from __future__ import annotations

import copy
import math
import numbers
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, Rows, by_name, known_before, predicted
from notelstm.models.anticipated import (
    ALIGNED,
    AnticipatedContext,
    AnticipatingClock,
    AnticipatingState,
    Begun,
    Due,
    IntervalLayer,
    Merged,
)
from notelstm.models.inference import Array, initial_arrays, is_float32_on_cpu
from notelstm.models.lstm import (
    Hidden,
    LSTMState,
    NumpyLinear,
    NumpyLSTM,
    check_size,
    initial_lstm_state,
    mixture_head,
    normal_head,
    numpy_normal,
    run_lstm,
    run_lstm_cell,
    run_lstm_to,
    whole,
)
from notelstm.models.memory import Memory, NumpyMemory, WithMemory
from notelstm.models.sounding import (
    AROUND,
    FEATURES,
    SAME,
    Anticipated,
    NoteContext,
    NoteState,
    NumpySounding,
    Sounding,
    SoundingClock,
    later,
    sounding_features,
)
from notelstm.models.voices import NumpyVoices, VoiceLayer, voices_of, voices_of_rows
from notelstm.predictions import Categorical, NumpyAdapter, NumpyCategorical, NumpyPrediction
from notelstm.protocols import NoteModel, Prediction
from notelstm.tree import index, map_tree

__all__ = ["NoteLSTM", "NumpyNoteLSTM"]


_Context: TypeAlias = Hidden | NoteContext | AnticipatedContext
_State: TypeAlias = LSTMState | NoteState | AnticipatingState
"""The context and the state without a memory: without a clock, with one, and with given notes."""


@final
class NoteLSTM(nn.Module):
    """An LSTM with chained heads: p(a), p(b | a), p(c | a, b) and so on, for any fields.

    Class ids are embedded. Numbers are scaled to ``sign(x) log1p(10 |x|)``, which resolves
    milliseconds and keeps minutes small. Each head is a small network over the output of the LSTM,
    the given fields of the same row, and those that come earlier in the order. Numbers are
    predicted as censored normal distributions, or as mixtures on a logarithmic scale with an atom
    for chords.

    With `sounding_features`, further inputs are the time that each pitch will still sound and the
    time since its last onset, computed from the rows. The LSTM and its heads read them at the
    previous onset. Heads after the step read them at the next onset, and heads after the pitch read
    the two octaves around it. With a field of the role instrument, heads after the instrument read
    the notes of the same instrument apart from those of the others, of which all those that sound
    are one group, drums among them. A linear layer reduces them to 2 E features.

    With a field of the role origin and sounding-note features, the LSTM and the memory read given
    notes when they begin, and the heads know of them before, by the time until the next one of each
    pitch begins. All heads have as inputs whether and how soon a given note of each instrument is
    to come, and features of the first given notes of each instrument in their order: a layer over
    the embeddings of their steps, pitches and durations. Heads of steps, durations and instruments
    have four more outputs, the gates of
    features of their classes, such as that a given note begins at the end of a step: see
    :meth:`~notelstm.models.anticipated.AnticipatingClock.aligned`. To the logits of the pitch, an
    :class:`~notelstm.models.anticipated.IntervalLayer` adds those of the intervals to the notes
    that sound and to those to come, with as many gates as more outputs.

    With `voice_leading`, a :class:`~notelstm.models.voices.VoiceLayer` adds logits of the intervals
    to the latest notes of each instrument, with gates as well.

    With a memory, earlier passages of the piece like the present one vote for each field of the
    next note. With p the shares of the votes for each class, a head adds ``g log(p + 0.01)`` to its
    logits; the gate g is one more output of the head, which also reads how good and how many the
    votes are. The state then holds the last notes.

    Args:
        fields: Any fields.
        field_order: The names of the fields that are not given in the order of prediction; None
            for the order of the columns. The end of a piece is last if it is not named.
        hidden_size: H, the number of LSTM units.
        num_layers: Number of LSTM layers.
        embedding_dim: E, the size of the embedding of each field.
        head_size: Size of the hidden layer of each head, None for `hidden_size`; 0 for linear
            heads.
        sounding_features: Whether the model has features of the sounding notes, which need exactly
            one field each of the roles pitch (in classes), step and duration (in the same unit).
        time_distribution: The distribution of numbers with a minimum: ``"normal"`` or
            ``"mixture"``.
        num_components: K, the number of components of each mixture.
        dropout: The dropout probability of the outputs of each LSTM layer, at least 0 and below 1.
        memory_window: W, the number of latest notes that the memory compares, at least 2; 0 for
            no memory. It needs exactly one field of the role pitch, in classes.
        voice_leading: Whether the pitch depends on what each single instrument played last, for
            music of a few voices. It needs `sounding_features`, and a step and an instrument that
            are predicted before the pitch.

    Raises:
        FieldError: If `field_order` does not name each predicted field once, a name cannot be that
            of a module, or the memory or the voice leading does not work with these fields.
        ConfigError: If a size is no whole number of at least 1 (`head_size`: 0), or `dropout` is
            out of range.
    """

    def __init__(
        self,
        *,
        fields: Sequence[Field],
        field_order: Sequence[str] | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        embedding_dim: int = 32,
        head_size: int | None = None,
        sounding_features: bool = False,
        time_distribution: Literal["normal", "mixture"] = "normal",
        num_components: int = 8,
        dropout: float = 0.0,
        memory_window: int = 0,
        voice_leading: bool = False,
    ) -> None:
        super().__init__()
        hidden_size = check_size("hidden_size", hidden_size)
        num_layers = check_size("num_layers", num_layers)
        embedding_dim = check_size("embedding_dim", embedding_dim)
        num_components = check_size("num_components", num_components)
        memory_window = whole("memory_window", memory_window)
        if time_distribution not in ("normal", "mixture"):
            raise ConfigError(
                f"unknown time distribution {time_distribution!r}", hint="choose normal or mixture"
            )
        if head_size is not None:
            head_size = check_size("head_size", head_size, least=0)
        is_number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
        if not (is_number and 0 <= dropout < 1):
            raise ConfigError(f"dropout {dropout!r} is not at least 0 and less than 1")
        self._by_name: Final = _named(fields)
        names = [field.name for field in predicted(fields)]
        if field_order is not None:
            ends = (field.name for field in predicted(fields) if field.role == "end")
            field_order = (*field_order, *(name for name in ends if name not in field_order))
        if field_order is not None and sorted(field_order) != sorted(names):
            raise FieldError(
                f"the field order {tuple(field_order)} does not name each field once",
                hint="set field_order to an order of all fields, or to none for this one: "
                + ", ".join(names),
            )
        self.fields: Final = tuple(fields)
        self.field_order: Final = tuple(names if field_order is None else field_order)
        self.inputs: Final = known_before(fields, self.field_order)
        self.config: Final[Mapping[str, Any]] = {
            "fields": self.fields,
            "field_order": self.field_order,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "embedding_dim": embedding_dim,
            "head_size": head_size,
            "sounding_features": sounding_features,
            "time_distribution": time_distribution,
            "num_components": num_components,
            "dropout": dropout,
            "memory_window": memory_window,
            "voice_leading": voice_leading,
        }
        self.embed: nn.ModuleDict = nn.ModuleDict(
            {
                f.name: nn.Embedding(f.classes, embedding_dim)
                if f.classes
                else nn.Linear(1, embedding_dim)
                for f in self.fields
            }
        )
        input_size = embedding_dim * len(self.fields)
        added_inputs, added_context = self._add_note_layers(embedding_dim, sounding_features)
        context_size = hidden_size + added_context
        self.voices: VoiceLayer | None = None
        if voice_leading:
            self.voices = _voice_layer(self.clock, self.inputs)
        self.lstm: nn.LSTM = nn.LSTM(
            input_size + added_inputs,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.dropout: nn.Dropout = nn.Dropout(dropout)
        self.memory: Memory | None = (
            Memory(self.fields, self.field_order, memory_window) if memory_window else None
        )
        self.heads: nn.ModuleDict = nn.ModuleDict()
        self._add_heads(context_size, hidden_size if head_size is None else head_size)
        self.initial_context: nn.Parameter = nn.Parameter(torch.zeros(hidden_size))
        self._due_before: Final = _LatestPair()

    def _add_note_layers(self, embedding_dim: int, sounding_features: bool) -> tuple[int, int]:
        """Add the layers of the notes that sound and of those that are given.

        Returns:
            The sizes of their inputs to the LSTM and to each head.
        """
        self.clock: SoundingClock | AnticipatingClock | None = None
        if sounding_features:
            given = any(field.role == "origin" for field in self.fields)
            anticipating = AnticipatingClock.of(self.fields) if given else None
            self.clock = anticipating or SoundingClock.of(self.fields)
        self.sounding_layers: nn.ModuleDict = nn.ModuleDict()
        self.intervals: IntervalLayer | None = None
        self.coming: nn.Linear | None = None
        if self.clock is None:
            return 0, 0
        size = 2 * embedding_dim  # S; larger ones do not pay for their time
        keys = [_feature_key(self.clock, self.field_order, name) for name in self.field_order]
        for at in dict.fromkeys(["before", *keys]):
            pitches = AROUND if at.removesuffix(SAME) == "around" else self.clock.pitches
            groups = self.clock.num_groups(known=at.endswith(SAME))
            self.sounding_layers[at] = nn.Linear(FEATURES * pitches * groups, size)
        if not isinstance(self.clock, AnticipatingClock):
            return size, size
        key = _feature_key(self.clock, self.field_order, self.clock.pitch)
        groups = self.clock.num_groups(known=key.endswith(SAME))
        self.intervals = IntervalLayer(groups, self.clock.pitches)
        coming, inputs = _COMING * embedding_dim, len(self.clock.coming_fields) * embedding_dim
        self.coming = nn.Linear(self.clock.num_slots * inputs, coming)
        return size, size + self._num_ahead() + coming

    def _add_heads(self, context_size: int, width: int) -> None:
        """Add the heads, with hidden layers of a width, over contexts of a size."""
        for name in self.field_order:
            size = context_size + self.config["embedding_dim"] * len(self.inputs[name])
            outputs, gates = self._outputs(name), self._num_gates(name)
            voices = self._num_voices(name)
            outputs += voices
            if self.memory is None:
                self.heads[name] = _head(size, width, outputs, gates)
            else:
                self.heads[name] = _head_with_memory(size, width, outputs, self.memory, name, gates)
            if self.intervals is not None and name == self._clock.pitch:
                with torch.no_grad():
                    _layers(self.heads[name])[-1].bias[-gates:] = 1
            if voices:
                with torch.no_grad():
                    nn.init.normal_(_layers(self.heads[name])[-1].bias[outputs - voices : outputs])
            if self._by_name[name].role == "end":
                # Otherwise it would at first take over the training of the layers below.
                with torch.no_grad():
                    _layers(self.heads[name])[-1].bias[:2] = torch.tensor([0.0, _INITIAL_END])

    def _outputs(self, field: str) -> int:
        """The number of outputs of the head of a field."""
        components = self.config["num_components"]
        mixture = _is_mixture(self.config["time_distribution"], self._by_name[field])
        return self._by_name[field].classes or (3 * components + 1 if mixture else 2)

    def _num_voices(self, field: str) -> int:
        """The number of outputs of the head of a field for voice leading."""
        if self.voices is None or field != self._clock.pitch:
            return 0
        return self.voices.num_gates

    def _num_ahead(self) -> int:
        """The number of features of the instruments of given notes to come."""
        clock = self.clock
        return 2 * clock.clock.instruments if isinstance(clock, AnticipatingClock) else 0

    def _is_aligned(self, field: str) -> bool:
        """Whether the head of a field has outputs for classes that end with given notes."""
        return isinstance(self.clock, AnticipatingClock) and self.clock.is_aligned(field)

    def _num_gates(self, field: str) -> int:
        """The number of outputs of the head of a field for given notes to come."""
        if self.intervals is not None and field == self._clock.pitch:
            return self.intervals.num_gates
        return ALIGNED * self._is_aligned(field)

    @property
    def _clock(self) -> Any:
        """The clock of a model with sounding-note features, a SoundingClock or the like."""
        return self.clock

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        """The trained initial context, and a state of zeros, silence and no notes."""
        context, state = self._initial_state(batch_size)
        if self.memory is None:
            return context, state
        votes, notes = self.memory.initial_state(batch_size)
        return WithMemory(context, votes), WithMemory(state, notes)

    def _initial_state(self, batch_size: int) -> tuple[_Context, _State]:
        """The initial context and state without the memory."""
        context, state = initial_lstm_state(self.initial_context, self.lstm.num_layers, batch_size)
        if self.clock is None:
            return context, state
        silence = self._clock.initial_state(batch_size)
        before = map_tree(lambda t: t.unsqueeze(1), self._clock.now(silence))  # (B, 1, I P)
        features = self._features("before", self._clock.groups(before))  # (B, 1, S)
        if not isinstance(self.clock, AnticipatingClock):
            return NoteContext(context.hidden, features, before), NoteState(state, silence)
        none, due = map_tree(lambda t: t.unsqueeze(1), state), self.clock.none_due(batch_size, 1)
        found = AnticipatedContext(context.hidden, features, before, none, due)
        return found, AnticipatingState(state, silence, context.hidden[:, 0])

    def _features(self, at: str, groups: Sequence[Sounding | Anticipated]) -> Tensor:
        """(..., S) the sounding-note features by their key, of groups of instruments."""
        layer = self.sounding_layers[at]
        features = [sounding_features(sounding) for sounding in groups]
        joined = features[0] if len(features) == 1 else torch.cat(features, dim=-1)
        reduced: Tensor = layer(joined.to(self.initial_context))
        return reduced

    def _features_for(
        self, field: str, context: NoteContext, known: Mapping[str, Tensor]
    ) -> Tensor:
        """(..., S) the features of the head of a field."""
        key = _feature_key(self._clock, self.field_order, field)
        if key == "before":
            return context.features
        groups, key = self._groups_for(field, context.sounding, known)
        return self._features(key, groups)

    def _groups_for(
        self, field: str, sounding: Any, known: Mapping[str, Tensor]
    ) -> tuple[Sequence[Any], str]:
        """The sounding notes that the head of a field reads, by group, and the key of them."""
        clock = self._clock
        key = _feature_key(clock, self.field_order, field)
        instrument = known[str(clock.instrument)] if key.endswith(SAME) else None
        groups = clock.groups(sounding, instrument)
        at = key.removesuffix(SAME)
        if at == "around":
            pitch = known[clock.pitch].long()
            groups = [group.around(pitch) for group in groups]
        if at != "before":
            wait = clock.wait(known[clock.step])
            groups = [group.later(wait) for group in groups]
        return groups, key

    def _embedded(self, name: str, entries: Tensor) -> Tensor:
        """(..., E) from (...) class ids or numbers."""
        if self._by_name[name].is_categorical:
            inputs = entries.long()
        else:
            size = torch.log1p(10 * entries.abs()).unsqueeze(-1)
            inputs = torch.copysign(size, entries.unsqueeze(-1)).to(self.initial_context)
        embedded: Tensor = self.embed[name](inputs)
        return embedded

    @override
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        """Read (B, T, F) rows."""
        model = state if self.memory is None else state.model
        merged = None
        if isinstance(model, AnticipatingState):
            merged = cast(AnticipatingClock, self.clock).merge(rows, model.sounding)
        context, after = self._read(rows, model, merged)
        if self.memory is None:
            return context, after
        if merged is None:
            votes, notes = self.memory(rows, state.memory)
        else:
            votes, notes = self.memory.read_merged(merged, state.memory)
        return WithMemory(context, votes), WithMemory(after, notes)

    def _read(self, rows: Tensor, state: _State, merged: Merged | None) -> tuple[_Context, _State]:
        """Read (B, T, F) rows without the memory, and the notes that begin at them."""
        if isinstance(state, LSTMState):
            context, state = run_lstm(self.lstm, self._inputs(rows), state)  # (B, T, H)
            return Hidden(self.dropout(context.hidden)), state
        sounding, last = self._clock.read(rows, state.sounding)  # (B, T, I P)
        features = self._features("before", self._clock.groups(sounding))  # (B, T, S)
        if not isinstance(state, AnticipatingState):
            context, lstm = run_lstm(self.lstm, self._inputs(rows, features), state.lstm)
            output = self.dropout(context.hidden)  # (B, T, H)
            return NoteContext(output, features, sounding), NoteState(lstm, last)
        clock = cast(AnticipatingClock, self.clock)
        if merged is None:
            context, lstm = run_lstm(self.lstm, self._inputs(rows, features), state.lstm)
            hidden, due = context.hidden, clock.none_due(*rows.shape[:2])
            # Without given notes, nothing is read from the states at the rows.
            states = map_tree(lambda t: torch.zeros_like(t[:, None]), lstm)
            states = map_tree(lambda t: t.expand(-1, rows.shape[1], -1, -1), states)
        else:
            begun = clock.groups(clock.at(merged, state.sounding, sounding))
            inputs = self._inputs(merged.rows, self._features("before", begun))
            numbers = torch.cat([merged.latest, merged.counts.unsqueeze(1)], dim=1)
            all_states = run_lstm_to(self.lstm, inputs, numbers, state.lstm)
            states, lstm = (index(all_states, (slice(None), at)) for at in (slice(-1), -1))
            read = (merged.latest > 0).unsqueeze(-1)
            hidden = torch.where(read, states.h[:, :, -1], state.hidden.unsqueeze(1))
            due = merged.due
            waits = (due.wait[..., :1] > 0).unsqueeze(-1)
            states = map_tree(lambda t: torch.where(waits, t, 0.0), states)
        found = AnticipatedContext(self.dropout(hidden), features, sounding, states, due)
        return found, AnticipatingState(lstm, last, hidden[:, -1].to(state.hidden))

    def _inputs(self, rows: Tensor, *features: Tensor) -> Tensor:
        """(B, T, I) the inputs of the LSTM from (B, T, F) rows and features."""
        columns = [self._embedded(f.name, rows[..., i]) for i, f in enumerate(self.fields)]
        return torch.cat([*columns, *features], dim=-1)

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field, given those that come earlier in the order."""
        votes = None
        if self.memory is not None:
            votes = self.memory.votes(field, context.memory, known)
            context = context.model
        hidden, entries, coming = context.hidden, known, None
        if isinstance(context, AnticipatedContext):
            step = known[self._clock.step] if self._clock.step in self.inputs[field] else None
            hidden, since, coming = self._ahead_of(context, step)
            if since is not None:
                entries = {**known, self._clock.step: since}
        inputs = [hidden, *(self._embedded(name, entries[name]) for name in self.inputs[field])]
        if not isinstance(context, Hidden):
            inputs.append(self._features_for(field, context, known))
        if coming is not None:
            inputs.append(self._clock.ahead(context.sounding).to(self.initial_context))
            inputs.append(coming)
        if votes is not None:
            inputs.append(votes.features.to(self.initial_context))
        output = self.heads[field](torch.cat(inputs, dim=-1))  # (..., C) or (..., 2)
        # Under autocast, outputs have half precision, which is too coarse for a likelihood.
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        added, num_gates = None, self._num_gates(field)
        if num_gates:
            output, gates = output[..., :-num_gates], output[..., -num_gates:]
            added = self._from_given(field, context.sounding, known, gates)
        shares = None
        if votes is not None and votes.log_shares is not None:
            output, shares = output[..., :-1], output[..., -1:] * votes.log_shares
        voices = self._num_voices(field)
        if voices:
            output, gates = output[..., :-voices], output[..., -voices:]
            output = output + self._voice_leading(context.sounding, known, gates)
        if shares is not None:
            output = output + shares
        if added is not None:
            output = output + added
        return _prediction(self.config["time_distribution"], self._by_name[field], output)

    def _ahead_of(
        self, context: AnticipatedContext, step: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """What heads know of the given notes before and after the next note.

        Args:
            context: The context.
            step: (...) the entries of the step of the next note, None if it is not known.

        Returns:
            (..., H) the output of the LSTM, (...) the step since the last note that it has read,
            and (..., C) features of the notes to come after the next one.
        """
        if step is None:
            return context.hidden, None, self._features_of_coming(context.due, None)
        if not bool((context.due.wait > 0).any()):
            return context.hidden, step, self._features_of_coming(context.due, None)
        found = self._due_before.get(context.hidden, step)
        if found is None:
            wait = cast(AnticipatingClock, self.clock).wait(step)
            coming = self._features_of_coming(context.due, wait)
            found = self._read_due(context, step, wait), coming
            self._due_before.put(context.hidden, step, found)
        read, coming = found
        hidden, since = (context.hidden, step) if read is None else read
        return hidden, since, coming

    def _features_of_coming(self, due: Due, wait: Tensor | None) -> Tensor:
        """(..., C) features of the given notes to come after (...) thousandths, None for 0."""
        layer, clock = cast(nn.Linear, self.coming), cast(AnticipatingClock, self.clock)
        features = functional.gelu(layer.bias).expand(*due.wait.shape[:-1], -1)
        at = (due.wait > 0).any(-1)
        if bool(at.any()):
            some = index(due, at)  # (N, K)
            moved = torch.zeros_like(some.wait[:, 0]) if wait is None else wait[at]
            slot, entries = clock.coming(some, moved)
            found: Tensor = layer.bias
            for i, table in enumerate(self._coming_tables()):
                # Of no note, the last row, which is 0.
                place = slot * (len(table) // clock.num_slots) + entries[..., i].long()
                place = place.masked_fill(slot < 0, len(table) - 1)
                found = found + functional.embedding(place, table).sum(-2)
            features = features.index_put((at,), functional.gelu(found).to(features))
        kept: Tensor = self.dropout(features)
        return kept

    def _coming_tables(self) -> list[Tensor]:
        """What the class ids of each field of notes to come add: (slots classes + 1, C) each.

        They are the products of the embeddings with the layer, which is the same for many notes.
        """
        layer, clock = cast(nn.Linear, self.coming), cast(AnticipatingClock, self.clock)
        shape = clock.num_slots, len(clock.coming_fields), -1, layer.out_features
        weights = layer.weight.t().reshape(shape)  # (slots, fields, E, C)
        tables = []
        for i, name in enumerate(clock.coming_fields):
            embedded = cast(Tensor, self.embed[name].weight)
            products = (embedded @ weights[:, i]).flatten(0, 1)
            tables.append(functional.pad(products, (0, 0, 0, 1)))
        return tables

    def _read_due(
        self, context: AnticipatedContext, step: Tensor, wait: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Read the given notes that begin at the next note or before it, as :meth:`forward` does.

        So all heads after the step know what has been read, whether a note before theirs is given
        or written.

        Args:
            context: The context.
            step: (...) the entries of the step of the next note.
            wait: (...) its thousandths.

        Returns:
            (..., H) the output of the LSTM after them, and (...) the step since the last of them;
            None if there are none.
        """
        clock = cast(AnticipatingClock, self.clock)
        begins = (context.due.wait > 0) & (context.due.wait <= wait.unsqueeze(-1))  # (..., K)
        if clock.rest is not None:
            begins &= (step != clock.rest).unsqueeze(-1)
        if not bool(begins.any()):
            return None
        at = begins.any(-1)
        some = index(context, at)  # (N, ...)
        begins, wait = begins[at], wait[at]
        state, last = some.lstm, torch.zeros_like(wait)
        for k in range(begins.shape[-1]):
            here = begins[:, k].nonzero().squeeze(-1)
            if not len(here):
                continue
            passed = some.due.wait[here, k]
            rows = clock.as_read(some.due.rows[here, k], passed - last[here])
            now = clock.groups(index(some.sounding, here).later(passed))
            inputs = self._inputs(rows, self._features("before", now))
            after = run_lstm_cell(self.lstm, inputs, index(state, here))
            pairs = zip(state, after, strict=True)
            state = LSTMState(*(old.index_put((here,), new) for old, new in pairs))
            last = last.index_put((here,), passed.to(last))
        hidden = self.dropout(state.h[:, -1]).to(context.hidden)
        since = clock.step_classes(wait - last).to(step)
        return context.hidden.index_put((at,), hidden), step.index_put((at,), since)

    def _from_given(
        self, field: str, sounding: Anticipated, known: Mapping[str, Tensor], gates: Tensor
    ) -> Tensor:
        """(..., C) what is added to the logits of a step, a duration, an instrument or a pitch."""
        clock = cast(AnticipatingClock, self.clock)
        if self._is_aligned(field):
            if clock.step in self.inputs[field]:
                sounding = sounding.later(clock.wait(known[clock.step]))
            features = clock.aligned(field, sounding).to(gates)
            return (gates.unsqueeze(-2) @ features).squeeze(-2)
        groups, _ = self._groups_for(field, sounding, known)
        logits: Tensor = cast(IntervalLayer, self.intervals)(groups, gates)
        return logits

    def _voice_leading(
        self, sounding: Sounding | Anticipated, known: Mapping[str, Tensor], gates: Tensor
    ) -> Tensor:
        """(..., P) what is added to the logits of the pitch."""
        clock, layer = self._clock, cast(VoiceLayer, self.voices)
        there = sounding.later(clock.wait(known[clock.step]))
        logits: Tensor = layer(
            voices_of(there, layer.instruments), known[clock.instrument].long(), gates
        )
        return logits

    def grow_from(self, model: NoteModel) -> None:
        """Copy the weights of a model of fewer fields, or without a memory.

        Its other settings are the same, except for the dropout.

        Weights of fields that the other model lacks keep their initial values, and so do those of a
        memory, the gates of whose votes are 0.1. The inputs that they add to other layers, and the
        features of given notes, have no influence at first. So the predictions of the
        fields that both have are equal at first, for rows without given notes.

        Args:
            model: A model with the same weights otherwise. Its fields have the names of some of the
                fields of this model, as many classes, and the same order of prediction.

        Raises:
            RuntimeError: If it has other weights.
        """
        given = cast(nn.Module, model).state_dict()
        if not isinstance(model, NoteLSTM) or (self.memory is None and model.memory is not None):
            self.load_state_dict(given)
            return
        self._check_grows_from(model)
        inputs, smaller_inputs = self._input_blocks(), model._input_blocks()
        outputs, smaller_outputs = self._output_blocks(), model._output_blocks()
        with torch.no_grad():
            for name, weights in self.state_dict().items():
                if name not in given:
                    continue
                if name in inputs:
                    weights.zero_()
                rows = _shared(outputs.get(name), smaller_outputs.get(name))
                columns = _shared(inputs.get(name), smaller_inputs.get(name))
                for own_rows, other_rows in rows:
                    for own, other in columns if weights.dim() > 1 else [(..., ...)]:
                        at, of = ((own_rows, own), (other_rows, other))
                        weights[at] = given[name][of]

    def _check_grows_from(self, model: NoteLSTM) -> None:
        """Raise a RuntimeError unless the layers of a smaller model have the same sizes."""
        problems = [
            f"{name} {model.config[name]} instead of {own}"
            for name, own in self.config.items()
            if name not in ("fields", "field_order", "dropout", "memory_window")
            and own != model.config[name]
        ]
        own = {field.name: (field.role, field.classes, field.given) for field in self.fields}
        problems += [
            f"the field {f.name}"
            for f in model.fields
            if own.get(f.name) != (f.role, f.classes, f.given)
        ]
        order = [name for name in self.field_order if name in model.field_order]
        if order != list(model.field_order):
            problems.append(f"the field order {', '.join(model.field_order)}")
        if problems:
            raise RuntimeError(f"a NoteLSTM that has {'; '.join(problems)}")

    def _input_blocks(self) -> dict[str, dict[str, int]]:
        """By the name of the weights of a layer with several inputs: the name and size of each."""
        size = self.config["embedding_dim"]
        sounding = {} if self.clock is None else {"sounding": 2 * size}
        fields = {f"field {field.name}": size for field in self.fields}
        blocks = {"lstm.weight_ih_l0": {**fields, **sounding}}
        for name, head in self.heads.items():
            known = {f"field {earlier}": size for earlier in self.inputs[name]}
            inputs = {"hidden": self.lstm.hidden_size, **known}
            votes = {} if self.memory is None else {"votes": self.memory.num_features(name)}
            ahead = {}
            if self.coming is not None:
                ahead = {"ahead": self._num_ahead(), "coming": self.coming.out_features}
            first = "weight" if isinstance(head, nn.Linear) else "0.weight"
            blocks[f"heads.{name}.{first}"] = {**inputs, **sounding, **ahead, **votes}
        return blocks

    def _output_blocks(self) -> dict[str, dict[str, int]]:
        """By the name of the weights of the last layer of a head: the name and size of each."""
        blocks = {}
        for name, head in self.heads.items():
            sizes = {"classes": self._outputs(name) + self._num_voices(name)}
            if self.memory is not None and self.memory.has_votes(name):
                sizes["votes"] = 1
            if self._num_gates(name):
                sizes["given"] = self._num_gates(name)
            last = "" if isinstance(head, nn.Linear) else "2."
            for kind in ("weight", "bias"):
                blocks[f"heads.{name}.{last}{kind}"] = sizes
        return blocks

    def numpy_step(self) -> NumpyNoteLSTM | None:
        """The numpy step, if the parameters are float32 tensors on the CPU."""
        return NumpyNoteLSTM(self) if is_float32_on_cpu(self) else None


def _shared(
    own: Mapping[str, int] | None, other: Mapping[str, int] | None
) -> list[tuple[slice, slice]]:
    """The places of the blocks that two layers share, in each of them; all, if there are none."""
    if own is None or other is None:
        return [(slice(None), slice(None))]
    at = dict(zip(other, _slices(other.values()), strict=True))
    places = zip(own, _slices(own.values()), strict=True)
    return [(place, at[name]) for name, place in places if name in at]


def _slices(sizes: Iterable[int]) -> Iterator[slice]:
    """The places of blocks that follow each other."""
    begin = 0
    for size in sizes:
        yield slice(begin, begin + size)
        begin += size


def _head_with_memory(
    inputs: int, width: int, outputs: int, memory: Memory, field: str, aligned: int
) -> nn.Module:
    """A head that also reads the features of the votes, with a gate behind its outputs."""
    num_features, gated = memory.num_features(field), memory.has_votes(field)
    head = _head(inputs + num_features, width, outputs, gated + aligned)
    first, last = _layers(head)
    with torch.no_grad():
        first.weight[:, inputs:] = 0
        if gated:
            last.bias[outputs] = _INITIAL_GATE
    return head


class _LatestPair:
    """The result for the latest pair of tensors, while they are in use; copies are empty.

    A result must not refer to the tensors, or they would stay in use.
    """

    def __init__(self) -> None:
        self._of: tuple[Any, ...] = ()

    def get(self, a: Tensor, b: Tensor) -> Any:
        """The result for these tensors, if they are the latest; None otherwise."""
        of = self._of
        if of and of[0]() is a and of[1]() is b and of[2] == torch.is_grad_enabled():
            return of[3]
        return None

    def put(self, a: Tensor, b: Tensor, result: object) -> None:
        """Keep a result."""

        def forget(reference: object) -> None:
            if self._of and reference in self._of[:2]:
                self._of = ()

        keys = weakref.ref(a, forget), weakref.ref(b, forget)
        self._of = (*keys, torch.is_grad_enabled(), result)

    def __reduce__(self) -> tuple[type[_LatestPair], tuple[()]]:
        return _LatestPair, ()


def _voice_layer(clock: Any, inputs: Mapping[str, Sequence[str]]) -> VoiceLayer:
    """The layer of voice leading, with the clock and the earlier fields of each head."""
    if clock is None or clock.instrument is None:
        raise FieldError(
            "voice_leading needs sounding_features and a field of the role instrument",
            hint="set sounding_features=True, and parts of the encoder",
        )
    if not {clock.step, clock.instrument} <= set(inputs[clock.pitch]):
        raise FieldError(
            f"voice_leading needs {clock.step} and {clock.instrument} before {clock.pitch}",
            hint=f"set a field_order that begins with {clock.step}, {clock.instrument}",
        )
    own = clock.clock if isinstance(clock, AnticipatingClock) else clock
    return VoiceLayer(own.instruments, clock.pitches)


def _layers(head: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The first and the last layer of a head, which can be the same."""
    layers = [head] if isinstance(head, nn.Linear) else list(head.children())
    return cast(nn.Linear, layers[0]), cast(nn.Linear, layers[-1])


def _named(fields: Sequence[Field]) -> dict[str, Field]:
    named = by_name(fields)
    taken = [name for name in named if hasattr(nn.ModuleDict, name)]
    if taken:
        raise FieldError(
            f"the field name {taken[0]!r} is a method of torch.nn.ModuleDict",
            hint="give the field another name",
        )
    return named


def _feature_key(
    clock: SoundingClock | AnticipatingClock, field_order: Sequence[str], field: str
) -> str:
    """The key in `sounding_layers` of the features of the head of a field."""
    earlier = field_order[: field_order.index(field)]
    same = SAME if clock.instrument in earlier else ""
    if clock.step not in earlier:
        return "before" + same
    return ("around" if clock.pitch in earlier else "there") + same


def _is_mixture(time_distribution: str, field: Field) -> bool:
    """Whether a continuous field is predicted as a mixture."""
    return time_distribution == "mixture" and field.low is not None


def _prediction(time_distribution: str, field: Field, output: Tensor) -> Prediction:
    """The prediction of a field from the (..., C) output of its head."""
    if field.is_categorical:
        return Categorical(output)
    if _is_mixture(time_distribution, field):
        return mixture_head(output, field)
    return normal_head(output, field)


def _head(inputs: int, width: int, outputs: int, gates: int) -> nn.Module:
    """A head whose last outputs, the gates of what is added to the others, are 0 at first."""
    outputs += gates
    head = (
        nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))
        if width
        else nn.Linear(inputs, outputs)
    )
    if gates:
        last = _layers(head)[1]
        with torch.no_grad():
            last.weight[-gates:] = 0
            last.bias[-gates:] = 0
    return head


_COMING: Final = 3
"""The number of features of given notes to come, by the size of an embedding."""
_INITIAL_GATE: Final = 0.1
_INITIAL_END: Final = -7.0
"""The log-odds of an end before training: about one in a thousand notes."""
_ROOT: Final = math.sqrt(0.5)
_ONE: Final = np.array(1.0, dtype=np.float32)


@final
class NumpyNoteLSTM:
    """The numpy step of a :class:`~notelstm.models.NoteLSTM`.

    Args:
        model: The model; its weights are copied.
    """

    def __init__(self, model: NoteLSTM) -> None:
        embed, heads, field_order = model.embed, model.heads, model.field_order
        self._initial: Final = initial_arrays(model)
        self._lstm: Final = NumpyLSTM(model.lstm, num_external=sum(map(_size, embed.values())))
        names = [field.name for field in model.fields]
        weights = self._lstm.external_weights.chunk(len(names))  # (E, 4 H) each
        self._inputs: Final = [
            _input_contribution(embed[n], w.t()) for n, w in zip(names, weights, strict=True)
        ]
        first = [_first(heads[name]) for name in field_order]
        hidden_size = model.lstm.hidden_size
        # The first layers of all heads are one layer over the output of the LSTM.
        self._all: Final = NumpyLinear(
            torch.cat([layer.weight[:, :hidden_size] for layer in first]),
            torch.cat([layer.bias for layer in first]),
        )
        self._heads: Final[dict[str, _Head]] = {}
        at = 0
        for name, layer in zip(field_order, first, strict=True):
            earlier = {known: embed[known] for known in model.inputs[name]}
            part = slice(at, at + layer.out_features)
            self._heads[name] = _Head(heads[name], layer.weight[:, hidden_size:], earlier, part)
            at += layer.out_features
        none = np.zeros(0, dtype=np.float32)
        self._last: tuple[Any, Array, Array] = (None, none, none)
        self._last_ahead: tuple[Any, bytes, Any] = (None, b"", None)
        self._columns: Final = model.fields
        self._fields: Final = by_name(model.fields)
        self._times: Final[str] = model.config["time_distribution"]
        self._sounding: NumpySounding | None = None
        self._anticipating: AnticipatingClock | None = None
        if model.clock is not None:
            keys = {name: _feature_key(model.clock, field_order, name) for name in field_order}
            given = model.clock if isinstance(model.clock, AnticipatingClock) else None
            clock = model.clock.clock if isinstance(model.clock, AnticipatingClock) else model.clock
            after = None if given is None else given.after
            self._sounding = NumpySounding(clock, model.sounding_layers, keys, after)
            self._anticipating = given
        self._num_gates: Final = {name: model._num_gates(name) for name in field_order}
        self._intervals: NumpyLinear | None = None
        self._coming: _NumpyComing | None = None
        if model.coming is not None:
            self._coming = _NumpyComing(model.coming.bias, model._coming_tables())
        if model.intervals is not None:
            self._intervals = NumpyLinear(model.intervals.matrix().t())
        self._clock: Final[Any] = model.clock
        self._voices: Final = None if model.voices is None else NumpyVoices(model.voices)
        self._memory: Final = None if model.memory is None else NumpyMemory(model.memory)

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        return self._initial

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence, (B, F)."""
        model = state if self._memory is None else state.model
        begun = None
        if self._anticipating is not None:
            begun = self._anticipating.begun(rows, model.sounding)
        context, after = self._read(rows, model, begun)
        if self._memory is None:
            return context, after
        if begun is None:
            votes, notes = self._memory.step(rows, state.memory)
        else:
            votes, notes = self._memory.step_begun(begun, state.memory)
        return WithMemory(context, votes), WithMemory(after, notes)

    def _read(self, rows: Rows, state: Any, begun: Sequence[Begun] | None) -> tuple[Any, Any]:
        """Read one row of each sequence without the memory, and the notes that begin with it."""
        if self._sounding is None:
            hidden, state = self._lstm(rows[:, :0], state, self._added(rows))
            return Hidden(hidden), state  # type: ignore[arg-type]
        sounding, last = self._sounding.read(rows, state.sounding)
        features = self._sounding.features("before", self._sounding.groups(sounding))
        if begun is None:
            hidden, lstm = self._lstm(features, state.lstm, self._added(rows))
        else:
            hidden, lstm = self._read_begun(
                begun, features, state.hidden, state.lstm, state.sounding.now
            )
        if self._anticipating is None:
            return NoteContext(hidden, features, sounding), NoteState(lstm, last)  # type: ignore[arg-type]
        due = self._anticipating.due_of(last)
        found = AnticipatedContext(hidden, features, sounding, lstm, due)  # type: ignore[arg-type]
        return found, AnticipatingState(lstm, last, hidden)  # type: ignore[arg-type]

    def _added(self, rows: Rows) -> Array:
        """(B, 4 H) the contribution of rows (B, F) to the gates of the first layer."""
        added = self._inputs[0](rows[:, 0])
        for i, inputs in enumerate(self._inputs[1:], 1):
            np.add(added, inputs(rows[:, i]), added)
        return added

    def _read_begun(
        self, begun: Sequence[Begun], features: Array, hidden: Array, lstm: Any, now: Any
    ) -> tuple[Array, Any]:
        """Read notes that begin, one after another, in those sequences where they do.

        Args:
            begun: The notes.
            features: (B, S) those of the notes at the onset of the row itself.
            hidden: (B, H) the output before.
            lstm: The state before.
            now: (B, I P) each, the sounding notes before.
        """
        sounding = cast(NumpySounding, self._sounding)
        for note in begun:
            if not note.there.any():
                continue
            here = features
            if note.passed is not None:
                here = sounding.features("before", sounding.groups(later(now, note.passed)))
            output, after = self._lstm(here, lstm, self._added(note.rows))
            there = note.there[:, None]
            hidden = np.where(there, output, hidden)
            parts = zip(after, lstm, strict=True)
            lstm = LSTMState(*(np.where(there[..., None], a, b) for a, b in parts))
        return hidden, lstm

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field, given those that come earlier in the order."""
        inputs = {name: known[name].numpy() for name in self._heads[field].earlier}
        output = torch.from_numpy(self._head_logits(field, context, inputs))
        return _prediction(self._times, self._fields[field], output)

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """Predict one field of a single sequence."""
        earlier = self._heads[field].earlier
        inputs = {name: np.array([known[name]], dtype=np.float32) for name in earlier}
        output = self._head_logits(field, context, inputs)
        spec = self._fields[field]
        if spec.is_categorical:
            return NumpyCategorical(output[0])
        if _is_mixture(self._times, spec):
            return NumpyAdapter(mixture_head(torch.from_numpy(output), spec))
        return numpy_normal(output[0], spec)

    def _head_logits(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, C) the logits of the head of a field, given (B,) entries."""
        votes = None
        if self._memory is not None:
            votes = self._memory.votes(field, context.memory, known)
            context = context.model
        here, sums, ahead = self._last
        if here is not context:
            sums = self._all(context.hidden)
            if self._anticipating is not None:
                ahead = self._anticipating.ahead_rows(context.sounding)
            self._last = (context, sums, ahead)
        entries = known
        features = [] if votes is None else [votes.features]
        if self._anticipating is not None:
            step = known.get(self._anticipating.step)
            read, coming = self._ahead_of(context, step)
            features[:0] = ahead, coming
            if read is not None:
                sums, since = read
                entries = {**known, self._anticipating.step: since}
        if self._sounding is not None:
            features.insert(0, self._sounding.features_for(field, context, known))
        output = self._heads[field](sums, entries, features)
        added = None
        num_gates = self._num_gates[field]
        if num_gates:
            output, gates = output[:, :-num_gates], output[:, -num_gates:]
            added = self._from_given(field, context.sounding, known, gates)
        shares = None
        if votes is not None and votes.log_shares is not None:
            output, shares = output[:, :-1], output[:, -1:] * votes.log_shares
        if self._voices is not None and field == self._clock.pitch:
            num_voices = self._voices.num_gates
            output, gates = output[:, :-num_voices], output[:, -num_voices:]
            output = output + self._voice_leading(context.sounding, known, gates)
        if shares is not None:
            output = output + shares
        return output if added is None else output + added

    def _ahead_of(
        self, context: Any, step: NDArray[Any] | None
    ) -> tuple[tuple[Array, NDArray[Any]] | None, Array]:
        """What heads know of the given notes before and after the next note.

        Args:
            context: The context.
            step: (B,) the entries of the step of the next note, None if it is not known.

        Returns:
            (B, O) the products of the output after the notes before with the first layers of the
            heads, and (B,) the step since the last of them, None if there are none; and (B, C)
            features of those to come.
        """
        key = b"" if step is None else step.tobytes()
        of, last_key, found = self._last_ahead
        if of is context and last_key == key:
            return cast("tuple[tuple[Array, NDArray[Any]] | None, Array]", found)
        clock = cast(AnticipatingClock, self._anticipating)
        begun, wait = None, np.zeros(len(context.due.wait), dtype=np.int32)
        if step is not None:
            begun, wait = clock.begun_before(context.due, step), clock.moved(step)
        coming = cast(_NumpyComing, self._coming)(clock, context.due, wait)
        read = None
        if begun is not None:
            notes, since = begun
            hidden, _ = self._read_begun(
                notes, context.features, context.hidden, context.lstm, context.sounding
            )
            read = self._all(hidden), since
        self._last_ahead = context, key, (read, coming)
        return read, coming

    def _voice_leading(
        self, sounding: Any, known: Mapping[str, NDArray[Any]], gates: Array
    ) -> Array:
        """(B, P) what is added to the logits of the pitch."""
        clock, layer = self._clock, cast(NumpyVoices, self._voices)
        there = later(sounding, clock.moved(known[clock.step]))
        return layer(voices_of_rows(there, layer.instruments), known[clock.instrument], gates)

    def _from_given(
        self, field: str, sounding: Any, known: Mapping[str, NDArray[Any]], gates: Array
    ) -> Array:
        """(B, C) what is added to the logits of a field."""
        clock, notes = cast(AnticipatingClock, self._anticipating), self._sounding
        if not clock.is_aligned(field):
            groups = cast(NumpySounding, notes).groups_for(field, sounding, known)
            features = np.concatenate(
                [cast(NumpySounding, notes).interval_features(group) for group in groups], axis=1
            )  # (B, G, P)
            return cast(NumpyLinear, self._intervals)(
                (features * gates[:, :, None]).reshape(len(gates), -1)
            )
        if clock.step in self._heads[field].earlier:
            sounding = later(sounding, clock.moved(known[clock.step]))
        found: Array = (gates[:, None] @ clock.aligned_rows(field, sounding))[:, 0]
        return found


class _NumpyComing:
    """The features of the first given notes to come, in numpy.

    Args:
        bias: (C,) the bias of the layer.
        tables: What the class ids of each field add.
    """

    def __init__(self, bias: Tensor, tables: Sequence[Tensor]) -> None:
        self._bias: Final[Array] = (bias * _ROOT).detach().numpy()
        self._none: Final = _gelu(self._bias.copy()) * _ROOT
        self._tables: Final[list[Array]] = [(of * _ROOT).detach().numpy() for of in tables]

    def __call__(self, clock: AnticipatingClock, due: Any, wait: NDArray[np.int32]) -> Array:
        """(B, C) from (B, K) notes to come and (B,) thousandths that pass first."""
        if not due.wait.any():
            return np.broadcast_to(self._none, (len(wait), len(self._none)))
        slot, entries = clock.coming_rows(due, wait)
        found = np.broadcast_to(self._bias, (len(wait), len(self._bias)))
        for i, table in enumerate(self._tables):
            place = slot * (len(table) // clock.num_slots) + entries[..., i].astype(np.intp)
            found = found + table[np.where(slot < 0, len(table) - 1, place)].sum(axis=1)
        features: Array = _gelu(found) * _ROOT
        return features


@final
class _Head:
    """The head of one field, after the product of its first layer with the output of the LSTM.

    Args:
        head: The module.
        weight: (O, E + ... + E + S) the weights of the other inputs of its first layer.
        earlier: The embeddings of the earlier fields, by name.
        part: The columns of the product that belong to the head.
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
        self._features: Final = NumpyLinear(weight)

    def __call__(
        self, sums: Array, known: Mapping[str, NDArray[Any]], features: Sequence[Array]
    ) -> Array:
        """(B, C) from the products, (B,) entries, and features, (B, S) in all."""
        output = sums[:, self._part].copy()
        for name, inputs in self.earlier.items():
            np.add(output, inputs(known[name]), output)
        if features:
            joined = features[0] if len(features) == 1 else np.concatenate(features, axis=1)
            np.add(output, self._features(joined), output)
        return output if self._last is None else self._last(_gelu(output))


def _gelu(inputs: Array) -> Array:
    """GELUs of (B, O) inputs, both divided by the root of 2, in place.

    gelu(x) = x (1 + erf(x / sqrt(2))) / 2, so that the layers before and after take a root of 2
    each.
    """
    gate = torch.erf(torch.from_numpy(inputs)).numpy()
    np.add(gate, _ONE, gate)
    np.multiply(inputs, gate, inputs)
    return inputs


def _first(head: nn.Module) -> nn.Linear:
    """The first layer of a head, divided by the root of 2 if a GELU follows."""
    if isinstance(head, nn.Linear):
        return head
    layer = copy.deepcopy(cast(nn.Linear, head.get_submodule("0")))
    with torch.no_grad():
        layer.weight.mul_(_ROOT)
        layer.bias.mul_(_ROOT)
    return layer


def _after_gelu(head: nn.Module) -> Callable[[Array], Array]:
    layer = cast(nn.Linear, head.get_submodule("2"))
    return NumpyLinear(layer.weight * _ROOT, layer.bias)


def _size(module: nn.Module) -> int:
    """E, the size of an embedding."""
    weight = cast(Tensor, module.weight)  # (C, E), or (E, 1) of a linear layer
    return weight.shape[1] if isinstance(module, nn.Embedding) else weight.shape[0]


def _input_contribution(module: nn.Module, weight: Tensor) -> Callable[[NDArray[Any]], Array]:
    """The contribution of (B,) class ids or numbers to a layer: (B, O).

    Args:
        module: Their embedding.
        weight: (O, E) the weights of the layer.
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
