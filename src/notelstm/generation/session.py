"""``Session``: generation step by step, with notes fed in, fields fixed, and notes undone."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.adaptation import Adaptation, AdaptedState, Adapter
from notelstm.encoders.rows import TrackingEncoder, as_rows, label_map_of, part_map_of
from notelstm.errors import ConfigError, DataError, EncodingError, FieldError
from notelstm.fields import Field, Row, Rows
from notelstm.generation.rows import BatchNoise, RowSampler, Seed, check_fixed, check_given
from notelstm.generation.sequences import (
    Progress,
    Sequences,
    SomeSequences,
    StoppingCriteria,
    StoppingCriterion,
    Until,
)
from notelstm.labels import Given
from notelstm.models.inference import ModelRunner, ModelState, select
from notelstm.notes import Note, Notes
from notelstm.parts import classes_named
from notelstm.protocols import InputTransform, NoteEncoder, NoteModel, Sampler
from notelstm.sampling.masking import check_whole
from notelstm.sampling.tones import check_parts
from notelstm.tracker import Tracker

__all__ = ["Session", "SessionState", "Snapshot", "UndoHistory"]

_NONE: Final[Mapping[int, Row]] = {}
_DROPPED: Final = 8
"""Rows between two calls that drop the rows which can no longer be undone."""
_ROWS_PER_NOTE: Final = 32
"""Maximum number of rows that are kept for each note that can be undone."""


class SessionState(NamedTuple):
    """The state of the model between two rows, and of what adapts it, if anything does."""

    model: ModelState
    adapted: AdaptedState | None


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a session, which a session with the same parts can restore.

    Attributes:
        state: The state of the model, and the weights if the session adapts to what it is fed.
        seeds: The noise of each sequence.
        noise: The number of the next row of noise of each of the B sequences.
        trackers: The tracker of each sequence.
        identical: Whether all sequences have the same rows.
        fields: The fields of the session.
        ahead: The time of the session, less that of the notes fed, seconds.
    """

    state: SessionState
    seeds: tuple[Seed, ...]
    noise: tuple[int, ...]
    trackers: Sequence[Tracker]
    identical: bool
    fields: tuple[Field, ...]
    ahead: float


@final
class UndoHistory:
    """The last rows of one sequence, with the state of the model before each.

    Args:
        sequences: The sequences, a single one if `max_undo` is not 0.
        max_undo: The number of notes that can be undone.
    """

    def __init__(self, sequences: Sequences, max_undo: int) -> None:
        self._sequences: Final = sequences
        self.max_undo: Final = max_undo
        self._returned: set[int] = set()
        self.clear()

    def clear(self) -> None:
        """Clear the history: rows before this call cannot be undone."""
        self._steps: deque[tuple[Rows, SessionState]] = deque()
        # The tracker before the first of the steps.
        tracker = self._sequences.trackers[0]
        self._base: Tracker = tracker.copy() if self.max_undo else tracker
        self._returned.clear()

    def add(self, rows: Rows, before: SessionState) -> None:
        """Record that rows (T, F) were read by a model in the state `before`."""
        if not self.max_undo:
            return
        self._steps.append((rows, before))
        # Access flushes the trackers, so old rows are dropped several at a time, but not so many
        # that a player would notice the note that waits for it.
        if len(self._steps) % _DROPPED == 0:
            self._drop_old(self._sequences.trackers[0].num_notes)

    def _drop_old(self, num_notes: int) -> None:
        kept = self.max_undo
        while len(self._steps) > kept and (
            num_notes - self._base.num_notes > kept or len(self._steps) > kept * _ROWS_PER_NOTE
        ):
            rows, _ = self._steps[0]
            before = self._base.copy() if len(rows) > 1 else None
            self._base.extend(rows)
            if before is not None and num_notes - self._base.num_notes < kept:
                self._base = before
                return
            self._steps.popleft()

    def undo(self, num_notes: int) -> tuple[SessionState, Rows]:
        """Undo the last notes.

        Returns:
            The state of the model before the step in which the first of the notes began, and the
            rows (T, F) of that step before the note, which must be read again.

        Raises:
            ConfigError: If the history is too short.
        """
        begun: list[tuple[int, int, int]] = []
        tracker = self._base.copy()
        for i, (rows, _) in enumerate(self._steps):
            for j, row in enumerate(rows):
                number = tracker.num_notes
                tracker.push(row)
                begun += [(i, j, number)] * (tracker.num_notes - number)
        if num_notes > len(begun):
            raise ConfigError(
                f"{num_notes} notes cannot be undone, only the last {len(begun)}",
                hint="create the Session with a larger max_undo, or take a snapshot before",
            )
        step, row_number, left = begun[-num_notes]
        rows, state = self._steps[step]
        while len(self._steps) > step:
            self._steps.pop()
        tracker = self._base.copy()
        for earlier, _ in self._steps:
            tracker.extend(earlier)
        self._sequences.trackers = [tracker]
        self._returned = {number for number in self._returned if number < left}
        return state, rows[:row_number]

    def pop_finished(self) -> list[list[tuple[int, Note]]]:
        """The finished notes of each sequence that have not been returned before."""
        out = [list(tracker.pop_finished()) for tracker in self._sequences.trackers]
        if self.max_undo:
            # A note that the base has finished, too, cannot be undone and returned again.
            out[0] = [(number, note) for number, note in out[0] if number not in self._returned]
            self._returned.update(number for number, _ in out[0])
            self._returned.difference_update(number for number, _ in self._base.pop_finished())
        return out


_ROUNDED: Final = 1e-6
"""Tolerance of times in seconds, for rounding."""


@final
class Session:
    """Generation of a batch of sequences, row by row.

    On the CPU, the session runs the numpy step of the model, if it has one
    (:class:`~notelstm.models.inference.HasNumpyStep`), with a copy of the current weights. The time
    per row is constant, and so is the memory if :meth:`pop_finished` is called now and then.

    Args:
        model: The model; :attr:`~notelstm.bundle.Bundle.generation_model` of a bundle.
        encoder: Its encoder.
        sampler: The sampler, or a list with the sampler of each sequence.
        batch_size: B, the number of sequences, each with its own noise.
        seed: The random seed; equal seeds give equal music. A sequence of them is the noise of each
            sequence.
        input_transform: Maps sampled rows to the rows that the model reads; None for the same rows.
        max_undo: The number of notes that :meth:`undo` can undo, if there is one sequence.
        adapt: Settings of dynamic evaluation: a copy of the model adapts to the rows that are fed,
            after each segment of rows. The weights are part of the state of the session. None for
            fixed weights.
        sigmas: The standard deviations of point predictions, by field name, for `adapt`;
            ``sigmas`` of a :class:`~notelstm.bundle.Bundle`.
        given: The entries of given fields in new rows, by field name, until they are set to others.
            Those that the encoder's tracker derives from the rows can be left out; a label can be
            given as its text, and is none if it is left out. A list has the entries of each
            sequence.
        ends: Whether new rows may be the last of a piece, until it is set to another value; or a
            list with one value for each sequence.
        count_nats: Whether to add up :attr:`nats`.

    Raises:
        FieldError: If model and encoder have different fields, or a processor of the sampler does
            not work with the model's order of prediction.
        ConfigError: If `batch_size` is less than 1, the seed or `max_undo` is negative, `adapt`
            does not go with other settings, or a processor of the sampler names an instrument that
            the model does not have.
        DataError: If a parameter of the model is NaN or infinite.
    """

    def __init__(
        self,
        model: NoteModel,
        encoder: NoteEncoder,
        sampler: Sampler | Sequence[Sampler],
        *,
        batch_size: int = 1,
        seed: int | Sequence[Seed] = 0,
        input_transform: InputTransform | None = None,
        max_undo: int = 64,
        adapt: Adaptation | None = None,
        sigmas: Mapping[str, float] | None = None,
        given: Given | Sequence[Given] | None = None,
        ends: bool | Sequence[bool] = False,
        count_nats: bool = False,
    ) -> None:
        check_whole("batch_size", batch_size, 1)
        if not isinstance(seed, Sequence):
            check_whole("seed", seed)
            seed = [Seed(seed, i) for i in range(batch_size)]
        check_whole("max_undo", max_undo)
        _check_model(model, encoder)
        self._encoder: Final = encoder
        self._input_transform: Final = input_transform
        # Only an encoder's own tracker limits the rows that may come next.
        self._constrained: Final = isinstance(encoder, TrackingEncoder)
        self._fields: Final = {field.name: field for field in encoder.fields}
        self._labels: Final = {
            field.name: k for k, field in enumerate(encoder.fields) if field.role == "label"
        }
        self._sequences: Final = Sequences(encoder, batch_size)
        self.given = given or {}
        self._parts: Final = self._sequences.trackers[0].parts
        # The time of the session, less that of the notes fed: notes are rounded to the encoder's
        # classes, and the next ones are measured from the exact times.
        self._ahead = 0.0
        self._noise = BatchNoise(seed, len(self._fields))
        self._adapter: Adapter | None = None
        if adapt is not None:
            _check_adapt(adapt, batch_size, input_transform)
            self._adapter = Adapter(model, encoder, adapt, sigmas=sigmas)
            model = self._adapter.model
        self._field_order: Final = model.field_order
        self._runner: Final = ModelRunner(model, batch_size)
        self._count_nats: Final = count_nats
        self._nats: Final[NDArray[np.float64]] = np.zeros(batch_size)
        self._ends_of_each = [False] * batch_size
        self._ends: bool | Sequence[bool] = False
        self.sampler = sampler
        self.ends = ends
        self._history: Final = UndoHistory(self._sequences, max_undo if batch_size == 1 else 0)

    @property
    def sampler(self) -> Sampler | Sequence[Sampler]:
        """The sampler of the next rows, or of each sequence; it can be set at any time."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler | Sequence[Sampler]) -> None:
        size = len(self._sequences)
        each = cast(
            Sequence[Sampler], sampler if isinstance(sampler, list | tuple) else [sampler] * size
        )
        if len(each) != size:
            raise ConfigError(f"{len(each)} samplers are given for {size} sequences")
        for one in {id(one): one for one in each}.values():
            _check_sampler(one)
            if processors := getattr(one, "processors", ()):
                roles = [self._fields[name].role for name in self._field_order]
                check_parts(processors, self._parts, roles)
        self._sampler, self._sampler_of_each = sampler, each
        self._row_samplers = self._new_row_samplers()

    @property
    def nats(self) -> NDArray[np.float64]:
        """(B,) the nats of the sampled entries of each sequence under the model.

        They are those before processors; fields without a likelihood do not count. They are 0
        without the setting `count_nats`.
        """
        return self._nats.copy()

    @property
    def given(self) -> Given | Sequence[Given]:
        """The entries of given fields in the next rows; they can be set at any time.

        Raises:
            FieldError: If there is no such given field, or an entry is outside its range.
            ConfigError: If several values of a label match a text.
        """
        return self._given

    @given.setter
    def given(self, given: Given | Sequence[Given]) -> None:
        each = [given] * len(self._sequences) if isinstance(given, Mapping) else given
        if len(each) != len(self._sequences):
            raise FieldError(
                f"given has the entries of {len(each)} sequences, not of {len(self._sequences)}"
            )
        entries = {id(own): self._entries_of(own) for own in each}
        self._given = given
        self._given_each = [entries[id(own)] for own in each]

    def _entries_of(self, given: Given) -> dict[str, float]:
        """The given entries of a sequence, with those of all labels."""
        label_map = label_map_of(self._encoder)
        found = cast(Mapping[str, float], given)
        if label_map is not None:
            found = label_map.entries(given)
        check_given(self._fields, found)
        return {**dict.fromkeys(self._labels, 0.0), **found}

    def _labelled(self, rows: Rows, sequence: int) -> Rows:
        """Rows (T, F) with the labels of a sequence."""
        if not self._labels:
            return rows
        rows = rows.copy()
        for name, column in self._labels.items():
            rows[:, column] = self._given_each[sequence][name]
        return rows

    @property
    def ends(self) -> bool | Sequence[bool]:
        """Whether the next rows may be the last of a piece, of all sequences or of each.

        It can be set at any time. A row after the last one begins as any other.

        Raises:
            ConfigError: If it is set and the model does not predict the end of a piece.
        """
        return self._ends

    @ends.setter
    def ends(self, ends: bool | Sequence[bool]) -> None:
        size = len(self._sequences)
        each = list(ends) if isinstance(ends, Sequence) else [ends] * size
        if len(each) != size:
            raise ConfigError(f"{len(each)} values of ends are given for {size} sequences")
        if any(each) and not any(field.role == "end" for field in self._fields.values()):
            raise ConfigError(
                "the model does not predict the end of a piece",
                hint="train one with encoder.ends=true, or give a number of notes or seconds",
            )
        self._ends = ends
        if each != self._ends_of_each:
            self._ends_of_each = each
            self._row_samplers = self._new_row_samplers()

    def _new_row_samplers(self) -> list[RowSampler]:
        """For each different sampler, one of rows of its sequences with the current step."""
        numbers: dict[tuple[int, bool], list[int]] = {}
        for i, pair in enumerate(zip(self._sampler_of_each, self._ends_of_each, strict=True)):
            numbers.setdefault((id(pair[0]), pair[1]), []).append(i)
        return [
            RowSampler(
                self._field_order,
                self._runner.step,
                self._sampler_of_each[own[0]],
                SomeSequences(self._sequences, own),
                self._encoder,
                ends=ends,
                count_nats=self._count_nats,
            )
            for (_, ends), own in numbers.items()
        ]

    @property
    def _state(self) -> SessionState:
        adapted = None if self._adapter is None else self._adapter.state
        return SessionState(self._runner.state, adapted)

    def _move_to(self, state: SessionState) -> None:
        """Restore an earlier state, with its weights."""
        if self._adapter is not None and state.adapted is not None:
            before = self._adapter.state.weights
            self._adapter.state = state.adapted
            self._use_weights(before)
        self._runner.state = state.model

    def _use_weights(self, before: Sequence[Tensor]) -> None:
        """Use the weights of the adapter, if they are no longer those `before`."""
        if self._adapter is not None and self._adapter.state.weights is not before:
            self._runner.update()
            self._row_samplers = self._new_row_samplers()

    def _adapt(self, rows: Rows, *, targets: bool) -> None:
        """Give rows (T, F), at most the rest of a segment, to the adapter."""
        if self._adapter is not None:
            before = self._adapter.state.weights
            self._adapter.read(rows, targets=targets)
            self._use_weights(before)

    def _read(self, rows: Rows) -> None:
        """Read rows (T, F) that are fed, segment by segment."""
        while len(rows):
            count = len(rows) if self._adapter is None else self._adapter.room
            self._runner.read(rows[:count], identical=self._sequences.identical)
            self._adapt(rows[:count], targets=True)
            rows = rows[count:]

    @property
    def trackers(self) -> list[Tracker]:
        """The tracker of each sequence."""
        return list(self._sequences.trackers)

    def feed(self, music: Rows | Notes | Note) -> None:
        """Append rows or notes to all sequences, as if they had been sampled.

        Args:
            music: Rows (T, F), or, if the tracker of the encoder makes rows of them, notes that
                begin at the time of the session or later, in seconds. Notes are rounded by the
                encoder; the next ones are measured from the given times, so that rounding does not
                accumulate. They get the labels of the session, and the last of them is not the end
                of the piece. Where the encoder tells parts by name or track, the track of a single
                note is the class of its part.

        Raises:
            EncodingError: If rows do not fit the fields, or notes cannot be encoded.
        """
        if isinstance(music, Note):
            part_map = part_map_of(self._encoder)
            names = None if part_map is None else [part.name for part in part_map.classes]
            music = Notes.of([music], track_names=names)
        last = float(music.start[-1]) if isinstance(music, Notes) and len(music) else None
        rows = self._rows_of(music) if isinstance(music, Notes) else music
        checked = as_rows(rows, self._encoder.fields)
        if not len(checked):
            return
        before = self._state
        # If a row is not allowed, the trackers raise before the state of the session changes.
        after = self._sequences.after(checked) if self._constrained else None
        with self._runner.running():
            self._read(checked)
        if after is None:
            self._sequences.add_to_all(checked)
        else:
            self._sequences.trackers = after
        self._history.add(checked, before)
        if last is not None:
            self._ahead = self._sequences.trackers[0].time - last

    def feed_each(self, rows: Sequence[Rows]) -> None:
        """Append rows of its own to each sequence, as if they had been sampled.

        Args:
            rows: (T, F) for each sequence; T differs.

        Raises:
            EncodingError: If rows do not fit the fields.
        """
        if all(own is rows[0] for own in rows):
            self.feed(rows[0])
            return
        for own in rows:
            as_rows(own, self._encoder.fields)
        self._sequences.add_to_each(rows)
        with self._runner.running():
            self._runner.read_each(rows, identical=self._sequences.identical)

    def _rows_of(self, notes: Notes) -> Rows:
        """Encode notes as rows that continue the music so far."""
        tracker = self._sequences.trackers[0]
        time = tracker.time - self._ahead
        if not self._sequences.identical:
            raise EncodingError(
                "notes cannot be fed to sequences that differ",
                where=f"{len(self._sequences)} sequences",
                hint="feed rows",
            )
        if len(notes) and notes.start[0] < time - _ROUNDED:
            raise EncodingError(
                f"a note at {notes.start[0]:.6g} s begins before the session's time, {time:.6g} s",
                where="note 0",
                hint="feed notes in the order of their onsets",
            )
        return self._labelled(tracker.rows_of(notes, time), 0)

    def next(self, **fixed: float | str) -> Rows:
        """Sample the next row of each sequence, and read it.

        Entries of given fields replace those of the session in this row. Fixed fields are not
        sampled. The free field right before a fixed one in the order of
        prediction, if it is categorical, is sampled given the fixed one, from
        p(free) p(fixed | free). Fields before that do not depend on the fixed one; later fields do.

        Args:
            fixed: Entries (class ids or values) by field name, the same in each sequence. An
                instrument can also be given by the name of its part: ``instrument="Bass"``, and
                a label by its text.

        Returns:
            (B, F) rows.

        Raises:
            ConfigError: If there is no part of that name, or several.
            FieldError: If a fixed field does not exist, or its entry is not allowed. In both cases
                the session is unchanged.
        """
        entries = {name: self._entry(name, value) for name, value in fixed.items()}
        check_fixed(self._fields, entries)
        with self._runner.running():
            return self._sample(entries)

    def advance(self, forced: Mapping[int, Row]) -> Rows:
        """Read known rows in some sequences, and sample the next row of the others.

        Random numbers are used only for rows that are sampled. The others get the labels of the
        session.

        Args:
            forced: (F,) the next row of some sequences, by the number of the sequence.

        Returns:
            (B, F) the rows that were read.

        Raises:
            EncodingError: If a row does not fit the fields.
        """
        for row in forced.values():
            as_rows(row[None], self._encoder.fields)
        if self._labels:
            forced = {i: self._labelled(row[None], i)[0] for i, row in forced.items()}
        with self._runner.running():
            return self._sample({}, forced)

    def _entry(self, name: str, value: float | str) -> float:
        """A fixed entry; the class id of an instrument or a label that is given by name."""
        field = self._fields.get(name)
        label_map = label_map_of(self._encoder)
        if label_map is not None and field is not None and field.role == "label":
            return label_map.entries({name: value})[name]
        if not isinstance(value, str) or field is None or field.role != "instrument":
            # check_fixed refuses texts of other fields.
            return cast(float, value)
        found = classes_named(self._parts, value)
        if len(found) > 1:
            raise ConfigError(
                f"{len(found)} instruments of the model are named {value!r}",
                hint=f"give the class id: {', '.join(map(str, found))}",
            )
        return float(found[0])

    def _sample(self, fixed: dict[str, float], forced: Mapping[int, Row] = _NONE) -> Rows:
        before, at = self._state, self._noise.at
        here = {name: fixed.pop(name) for name in [*fixed] if self._fields[name].given}
        try:
            rows = self._sampled(before.model.context, fixed, here, forced)
        except FieldError:
            self._noise.at = at
            raise
        numbers = list(forced)
        if forced:
            rows[numbers] = np.stack(list(forced.values()))
            after = enumerate(self._noise.at)
            self._noise.at = [at[i] if i in forced else number for i, number in after]
        read = rows
        if self._input_transform is not None:
            read = self._input_transform(torch.from_numpy(rows), self._encoder.fields).numpy()
            read[numbers] = rows[numbers]
        self._runner.advance(read)
        if self._adapter is not None:
            self._adapt(read, targets=bool(forced) or self._adapter.settings.own_samples)
        self._sequences.add(rows)
        self._history.add(rows, before)
        return rows

    def _sampled(
        self,
        context: Any,
        fixed: Mapping[str, float],
        given: Mapping[str, float],
        forced: Mapping[int, Row],
    ) -> Rows:
        """(B, F) rows, of which those of forced sequences are not to be used."""
        each = [{**own, **given} for own in self._given_each]
        single = len(self._row_samplers) == 1
        if single and not forced and not self._count_nats:
            # For one sequence, the rest would take half as long as the model.
            return self._row_samplers[0](context, self._noise, fixed, each)
        rows: Rows = np.zeros((len(self._sequences), len(self._fields)), dtype=np.float32)
        for sample in self._row_samplers:
            numbers = sample.sequences.numbers
            sampling = [i for i in range(len(numbers)) if numbers[i] not in forced]
            if not sampling:
                continue
            own = context if single else select(context, numbers)
            rows[numbers] = sample(own, self._noise, fixed, [each[i] for i in numbers])
            if self._count_nats:
                self._nats[[numbers[i] for i in sampling]] += sample.nats[sampling]
        return rows

    def pop_finished(self) -> list[list[tuple[int, Note]]]:
        """Return the notes that have ended since the last call, and drop them.

        Returns:
            The notes of each sequence with their numbers from 0, in seconds since the start of the
            session, in the order of :meth:`notelstm.tracker.Tracker.pop_finished`.
        """
        return self._history.pop_finished()

    def snapshot(self) -> Snapshot:
        """The state of the session, which :meth:`restore` can restore any number of times."""
        return Snapshot(
            state=self._state,
            seeds=self._noise.seeds,
            noise=self._noise.at,
            trackers=[tracker.copy() for tracker in self._sequences.trackers],
            identical=self._sequences.identical,
            fields=self._encoder.fields,
            ahead=self._ahead,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Restore a snapshot: from there, the same calls give the same rows.

        Args:
            snapshot: A snapshot of this session, or of one with the same model, encoder and batch
                size, whose seed replaces that of this session.

        Raises:
            ConfigError: If the batch size, the fields or the settings of `adapt` differ.
        """
        if not isinstance(snapshot, Snapshot) or snapshot.fields != self._encoder.fields:
            raise ConfigError(
                "the snapshot has other fields than the session"
                if isinstance(snapshot, Snapshot)
                else f"{snapshot!r} is not a snapshot",
                hint="restore a snapshot of a session with the same model and encoder",
            )
        if len(snapshot.trackers) != len(self._sequences):
            raise ConfigError(
                f"the snapshot has {len(snapshot.trackers)} sequences, the session "
                f"{len(self._sequences)}"
            )
        if (snapshot.state.adapted is None) != (self._adapter is None):
            raise ConfigError(
                "only one of the snapshot and the session adapts to what is fed",
                hint="restore a snapshot of a session with the same adapt",
            )
        self._move_to(snapshot.state)
        if snapshot.seeds != self._noise.seeds:
            self._noise = BatchNoise(snapshot.seeds, len(self._fields))
        self._noise.at = snapshot.noise
        self._sequences.trackers = [tracker.copy() for tracker in snapshot.trackers]
        self._sequences.identical = snapshot.identical
        self._ahead = snapshot.ahead
        self._history.clear()

    def undo(self, num_notes: int = 1) -> None:
        """Undo the last notes, with all rows since the first of them.

        The noise is not undone, so that the next notes differ.

        Args:
            num_notes: The number of notes, sampled or fed.

        Raises:
            ConfigError: If there are fewer notes to undo.
        """
        check_whole("num_notes", num_notes, 1)
        state, rest = self._history.undo(num_notes)
        self._move_to(state)
        if len(rest):
            self.feed(rest)

    def run(
        self,
        *,
        num_notes: int | None = None,
        seconds: float | None = None,
        stopping_criterion: StoppingCriterion | None = None,
        until: Until | None = None,
    ) -> list[Notes]:
        """Sample until every sequence has met a stopping criterion.

        Args:
            num_notes: Number of new notes of each sequence, None for no limit.
            seconds: Length of the new music of each sequence, None for no limit.
            stopping_criterion: Called with the tracker of a sequence before each row; returns
                whether to stop.
            until: ``"end"`` to allow the end of the piece in this run, and to stop there; without
                a number of notes or seconds, the limit is 10,000 new notes.

        Returns:
            The new notes of each sequence; 0 s is the onset of the last note before, if there is
            one. Notes beyond the limits, such as the one that shows that the seconds are over, and
            those of sequences that run on with others, are not returned; the next run goes on after
            them.

        Raises:
            ConfigError: If no limit is given, or one is negative, infinite or NaN, or the model
                does not predict the end of a piece.
        """
        criteria = StoppingCriteria(num_notes, seconds, stopping_criterion).checked().until(until)
        if criteria == StoppingCriteria():
            raise ConfigError(
                "no limit is given", hint="give num_notes, seconds or stopping_criterion"
            )
        before = self.ends
        if until is not None:
            self.ends = True
        try:
            done = dict(self.finished([criteria] * len(self._sequences)))
        finally:
            self.ends = before
        return [done[i] for i in range(len(self._sequences))]

    def finished(self, criteria: Sequence[StoppingCriteria]) -> Iterator[tuple[int, Notes]]:
        """Sample until every sequence has met one of its criteria.

        Sequences that are done run on with the others.

        Args:
            criteria: Those of each sequence.

        Returns:
            The number of each sequence and its new notes, as soon as it is done.
        """
        # With one row per note and numbers of notes alone, no tracker is needed.
        by_rows = not self._constrained and all(
            one == StoppingCriteria(one.num_notes) for one in criteria
        )
        if by_rows:
            return self._by_rows([int(one.num_notes or 0) for one in criteria])
        return self._by_criteria(criteria)

    def _by_rows(self, counts: Sequence[int]) -> Iterator[tuple[int, Notes]]:
        sampled: list[Rows] = []
        for count in sorted(set(counts)):
            with self._runner.running():
                sampled += [self._sample({}) for _ in range(count - len(sampled))]
            # From (T, B, F); copied, since the rows of one sequence are far apart in memory.
            by_sequence = self._sequences.table(sampled).transpose(1, 0, 2).copy()
            for i, rows in enumerate(by_sequence):
                if counts[i] == count:
                    yield i, self._encoder.decode(rows)

    def _by_criteria(self, criteria: Sequence[StoppingCriteria]) -> Iterator[tuple[int, Notes]]:
        each = zip(criteria, self._sequences.trackers, strict=True)
        running = {i: Progress(own, tracker) for i, (own, tracker) in enumerate(each)}
        for num_rows in itertools.count():
            for i, progress in list(running.items()):
                tracker = self._sequences.trackers[i]
                if progress.is_over(tracker, num_rows, i):
                    del running[i]
                    yield i, progress.new_notes(tracker)
            if not running:
                return
            with self._runner.running():
                self._sample({})


def _check_adapt(
    adapt: Adaptation, batch_size: int, input_transform: InputTransform | None
) -> None:
    if not isinstance(adapt, Adaptation):
        raise ConfigError(f"adapt {adapt!r} is no Adaptation", hint="give adapt=Adaptation()")
    if batch_size > 1:
        raise ConfigError(
            f"adapt needs a batch_size of 1, not {batch_size}",
            hint="create a session for each sequence",
        )
    if adapt.own_samples and input_transform is not None:
        raise ConfigError(
            "own_samples and an input_transform contradict each other: the model would adapt to "
            "the transformed rows",
            hint="leave out one of them",
        )


def _check_sampler(sampler: object) -> None:
    if not callable(sampler) or isinstance(sampler, type):
        raise ConfigError(
            f"{sampler!r} is not a sampler object or a function", hint="give an object: Greedy()"
        )


def _check_model(model: NoteModel, encoder: NoteEncoder) -> None:
    if model.fields != encoder.fields:
        names = [", ".join(field.name for field in part.fields) for part in (model, encoder)]
        raise FieldError(
            f"the model's fields ({names[0]}) are not the encoder's ({names[1]})",
            hint="use the encoder that the model was trained with",
        )
    for name, parameter in cast(nn.Module, model).named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DataError(
                "a parameter of the model is NaN or infinite",
                where=name,
                hint="load a checkpoint from before the model diverged",
            )
