"""Notes that are given to a model before they sound: the times until then, and their onsets.

Rows with a column of the role ``origin`` hold given notes some time before their onset: see
:class:`~notelstm.encoders.AnticipatingEncoder`. Until its onset, a given note is in the features of
a model, as the time until its pitch begins. From its onset on it sounds as others do, and the LSTM
and the memory read it there, between the notes that are written before and after: see
:meth:`AnticipatingClock.merge`. So they read the music in its order, whether or not parts of it are
given.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from notelstm.fields import Field, Rows
from notelstm.models.lstm import LSTMState
from notelstm.models.sounding import (
    AROUND,
    FAR,
    FEATURES,
    LONGEST,
    NEAR,
    Anticipated,
    Sounding,
    SoundingClock,
    nearness,
    running_max,
    sounding_features,
    times_of,
    times_of_rows,
)

__all__ = [
    "ALIGNED",
    "CHANNELS",
    "DUE",
    "KEPT",
    "SLOTS",
    "AnticipatedContext",
    "AnticipatedState",
    "AnticipatingClock",
    "AnticipatingState",
    "Begun",
    "Due",
    "IntervalLayer",
    "Merged",
]

KEPT: Final = 256
"""R, the number of the latest given notes that the state keeps until they begin."""

DUE: Final = 16
"""K, the number of given notes that are read once the step of the next note is known."""

SLOTS: Final = 32
"""The number of slots of the notes to come that several instruments share."""

ALIGNED: Final = 4
"""The number of features of each class in :meth:`AnticipatingClock.aligned`."""


class AnticipatedState(NamedTuple):
    """The sounding notes at the last row, and the latest given notes.

    Attributes:
        now: (B, I P) each.
        wait: (B, R) int32 the time until each of the latest given notes begins, the latest at the
            end; 0 if it has begun, or if there is none.
        rows: (B, R, F) float32 their rows.
    """

    now: Anticipated
    wait: Tensor
    rows: Tensor


class Due(NamedTuple):
    """The first given notes that are still to come.

    Attributes:
        wait: (..., K) int32 the time until each begins, 0 for none.
        rows: (..., K, F) float32 their rows.
    """

    wait: Tensor
    rows: Tensor


class AnticipatedContext(NamedTuple):
    """The context of a model that reads given notes when they begin.

    Attributes:
        hidden: As of a :class:`~notelstm.models.sounding.NoteContext`, as are `features` and
            `sounding`.
        features: (B, T, S).
        sounding: (B, T, I P) each.
        lstm: (B, T, L, H) each, the state of the LSTM; zeros where no note is due.
        due: The notes that the LSTM reads next, if the step leads to their onsets or beyond.
    """

    hidden: Tensor
    features: Tensor
    sounding: Anticipated
    lstm: LSTMState
    due: Due


class AnticipatingState(NamedTuple):
    """The state of a model that reads given notes when they begin.

    Attributes:
        lstm: The state of the LSTM after the latest note that has begun.
        sounding: That of the clock after the last row.
        hidden: (B, H) the output of the LSTM at that note.
    """

    lstm: LSTMState
    sounding: AnticipatedState
    hidden: Tensor


class Merged(NamedTuple):
    """Given and written notes that begin at some rows (B, T, F), in the order of their onset.

    Sequence i has ``counts[i]`` of them; the others are anything.

    Attributes:
        rows: (B, N, F) their rows, as if all were written: the step is from the onset of the note
            before, given or written.
        entries: (B, N, F) their rows with the steps that they had, from the last written note.
        counts: (B,) the number of them.
        latest: (B, T) the number of those that have begun at each row.
        place: (B, N) the number of rows read at the last row that is known before each of them,
            or with it if it is written.
        passed: (B, N) thousandths from that row to the onset.
        due: (B, T, K) the given notes that are still to come at each row.
    """

    rows: Tensor
    entries: Tensor
    counts: Tensor
    latest: Tensor
    place: Tensor
    passed: Tensor
    due: Due


class Begun(NamedTuple):
    """A note of each sequence that begins, in numpy.

    Attributes:
        rows: (B, F) as those of :class:`Merged`.
        entries: (B, F) likewise.
        there: (B,) bool, which of the sequences have such a note.
        passed: (B,) thousandths since the row before; None at the onset of the row itself.
    """

    rows: Rows
    entries: Rows
    there: NDArray[np.bool_]
    passed: NDArray[np.int32] | None


class _Timeline(NamedTuple):
    """The given notes of a state, followed by the rows (B, T, F): L = R + T notes.

    Attributes:
        clock: (B, T) the time after each row.
        onset: (B, L) of each note.
        rows: (B, L, F).
        given: (B, L) whether a note is given, and had not begun before.
        first: (B, L) the row at which it begins, T or more for none.
        until: (B, L) the last row at which it is to come.
        begins: (B, L) whether it begins at one of the rows.
    """

    clock: Tensor
    onset: Tensor
    rows: Tensor
    given: Tensor
    first: Tensor
    until: Tensor
    begins: Tensor


@final
class AnticipatingClock(nn.Module):
    """Tracks the sounding notes, and the given ones to come, through rows with an origin.

    It has the attributes and methods of a :class:`~notelstm.models.sounding.SoundingClock`.

    Of more than :data:`KEPT` given notes that have not begun, the first ones are forgotten.

    Args:
        clock: The clock of the rows, which is used for its columns.
        fields: The fields of the rows.
        origin: The column of the origin.
        offset: The column of the time until a given note begins.

    Attributes:
        coming_fields: The names of the C fields of :meth:`coming`, the step first.
        num_slots: The number of slots of the notes to come: for each instrument, those of its first
            ones.
    """

    def __init__(
        self, clock: SoundingClock, fields: Sequence[Field], origin: int, offset: int
    ) -> None:
        super().__init__()
        self.clock: SoundingClock = clock
        self.pitch: Final = clock.pitch
        self.step: Final = clock.step
        self.instrument: Final = clock.instrument
        self.pitches: Final = clock.pitches
        self.origin: Final = origin
        self.offset: Final = offset
        self.num_columns: Final = len(fields)
        self.per_unit: Final = clock.per_unit
        step, duration = (fields[column] for column in clock.columns[1:])
        self.rest: Final = step.rest
        self._longest: Final = (step.classes or 0) - 1 - (step.rest is not None)
        columns = [clock.columns[1], clock.columns[0]]
        if duration.is_categorical:
            columns.append(clock.columns[2])
        self._coming_columns: Final = columns
        self.coming_fields: Final = [fields[column].name for column in columns]
        self._slots_each: Final = min(DUE, max(2, SLOTS // clock.instruments))
        self.num_slots: Final = self._slots_each * clock.instruments
        self._aligned: Final[dict[str, int]] = {}
        if clock.instrument is not None:
            self._aligned[clock.instrument] = clock.instruments
        for field in (step, duration):
            if field.is_categorical:
                self._aligned[field.name] = field.classes or 0
                self.register_buffer(
                    f"_{field.name}_borders", _borders(field, self.per_unit), persistent=False
                )
        self._none: Tensor
        self.register_buffer("_none", torch.zeros(0, dtype=torch.long), persistent=False)

    def _borders(self, field: str) -> Tensor:
        """(C - 1,) thousandths between the classes of a step or a duration."""
        return cast(Tensor, getattr(self, f"_{field}_borders"))

    @classmethod
    def of(cls, fields: Sequence[Field]) -> AnticipatingClock | None:
        """The clock of fields with an origin, a given time in numbers, and a step in classes.

        Returns:
            None if one of them is missing.
        """
        clock = SoundingClock.of(fields)
        origin = [i for i, f in enumerate(fields) if f.role == "origin"]
        offset = [(i, f) for i, f in enumerate(fields) if f.role == "step" and f.given]
        if clock is None or len(origin) != 1 or len(offset) != 1:
            return None
        step = fields[clock.columns[1]]
        if offset[0][1].is_categorical or offset[0][1].unit != step.unit or not step.values:
            return None
        return cls(clock, fields, origin[0], offset[0][0])

    def initial_state(self, batch_size: int) -> AnticipatedState:
        """Silence, the state before the first row."""
        left, since = self.clock.initial_state(batch_size)
        now = Anticipated(left, since, torch.full_like(since, LONGEST), torch.zeros_like(left))
        rows = left.new_zeros(batch_size, KEPT, self.num_columns, dtype=torch.float32)
        return AnticipatedState(now, left.new_zeros(batch_size, KEPT), rows)

    def now(self, state: AnticipatedState) -> Anticipated:
        """(B, I P) the sounding notes of a state."""
        return state.now

    def num_groups(self, *, known: bool) -> int:
        """The number of :meth:`groups`, if the instrument of the note is `known` or not."""
        return self.clock.num_groups(known=known)

    def groups(self, sounding: Anticipated, instrument: Tensor | None = None) -> list[Anticipated]:
        """The sounding notes of groups of instruments, as :meth:`SoundingClock.groups`.

        The given note to come of a pitch is the next one of its group.
        """
        begun = self.clock.groups(Sounding(*sounding[:2]), instrument)
        if self.instrument is None:
            return [sounding]
        shape = *sounding.left.shape[:-1], self.clock.instruments, self.pitches
        coming, length = (times.reshape(shape) for times in sounding[2:])
        same = []
        if instrument is not None:
            classes = torch.arange(self.clock.instruments, device=coming.device)
            own = (instrument.long().unsqueeze(-1) == classes).unsqueeze(-1)  # (..., I, 1)
            same = [tuple((t * own).sum(-2, dtype=t.dtype) for t in (coming, length))]
            coming = coming.masked_fill(own, LONGEST)
        first = coming.amin(-2)
        longest = torch.where(coming == first.unsqueeze(-2), length, 0).amax(-2)
        longest = torch.where(first < LONGEST, longest, 0)
        pairs = [(first, longest), *same]
        return [Anticipated(*s, *pair) for s, pair in zip(begun, pairs, strict=True)]

    def wait(self, step: Tensor) -> Tensor:
        """(...) thousandths of (...) entries of the step."""
        return self.clock.wait(step)

    def read(self, rows: Tensor, state: AnticipatedState) -> tuple[Anticipated, AnticipatedState]:
        """The sounding notes at each row (B, T, I P), with its own note, and the state after.

        Args:
            rows: (B, T, F).
            state: The state before them.

        All rows are computed at once. A given note is written into a table of the onsets of the
        row at which it begins. The notes of a pitch enter in the order of their onsets, so that the
        next one at row i is the earliest that begins later than row i, or is forgotten later. To
        find it for all rows, each note's number is written at the last row where it is to come, and
        the least number from each row on is taken.
        """
        batch_size, length = rows.shape[:2]
        tones = state.now.left.shape[1]
        line = self._timeline(rows, state)
        pitch, step, duration = (line.rows[..., i] for i in self.clock.columns)
        lengths, tone = self.clock.lengths(duration), pitch.long()
        if self.clock.instrument_column is not None:
            tone = tone + self.pitches * line.rows[..., self.clock.instrument_column].long()
        begins = line.begins
        if self.rest is not None:
            begins = begins & ((line.rows[..., self.origin] == 1) | (step != self.rest))
        shape = batch_size, length, tones

        def table(values: Tensor, at: Tensor, there: Tensor, none: int, reduce: str) -> Tensor:
            """(B, T, I P) the values of the notes `there`, written at their rows and tones."""
            # The others are written at the first place, where they change nothing.
            places = (at * tones + tone).masked_fill(~there, 0)
            written = values.masked_fill(~there, none).int()
            empty = written.new_full((batch_size, length * tones), none)
            return empty.scatter_reduce(1, places, written, reduce).view(shape)

        ends = table(line.onset + lengths, line.first, begins, 0, "amax")
        begun = table(line.onset, line.first, begins, -LONGEST, "amax")
        ends[:, 0] = torch.maximum(ends[:, 0], state.now.left)
        begun[:, 0] = torch.maximum(begun[:, 0], -state.now.since)
        at = line.clock.int().unsqueeze(-1)
        own = torch.arange(-KEPT, length, device=rows.device).clamp_min(0)
        numbers = torch.arange(line.onset.shape[1], device=rows.device).expand_as(line.onset)
        waits = line.given & (line.until >= own)
        following = table(numbers, line.until, waits, line.onset.shape[1], "amin")
        # The least from each row on is the greatest, with the sign and the time reversed.
        following = -running_max(-following.flip(1)).flip(1)
        known = following <= KEPT + torch.arange(length, device=rows.device)[:, None]
        which = following.masked_fill(~known, 0).flatten(1).long()
        coming, lasts = (
            column.int().gather(1, which).view(shape) for column in (line.onset, lengths)
        )
        sounding = Anticipated(
            (running_max(ends) - at).clamp_min(0),
            (at - running_max(begun)).clamp_max(LONGEST),
            (coming - at).masked_fill(~known, LONGEST).clamp_max(LONGEST),
            lasts.masked_fill(~known, 0),
        )
        now = Anticipated(*(times[:, -1] for times in sounding))
        wait = (line.onset - line.clock[:, -1:]).clamp_min(0)
        return sounding, AnticipatedState(now, *self._latest(rows, wait, line.rows))

    def _timeline(self, rows: Tensor, state: AnticipatedState) -> _Timeline:
        """When the given notes of a state, and those of rows (B, T, F), begin.

        With c the clock after each row, a given note begins at the first row whose clock is at
        least its onset. It is known from its own row on, is to come until the row before it begins,
        and is forgotten at the row of the R-th given note after it.
        """
        batch_size, length = rows.shape[:2]
        given = rows[..., self.origin] == 1  # (B, T)
        step = rows[..., self.clock.columns[1]]
        clock = self.clock.wait(step).masked_fill(given, 0).cumsum(1)  # (B, T)
        offset = times_of(self._none, rows[..., self.offset], self.per_unit).masked_fill(~given, 0)
        onset = torch.cat([state.wait.long(), clock + offset], 1)  # (B, R + T)
        there = torch.cat([state.wait > 0, torch.ones_like(given)], 1)
        waits = torch.cat([state.wait > 0, given], 1)
        number = given.cumsum(1)  # of given notes so far
        kept = torch.arange(KEPT, device=rows.device)
        order = torch.cat([(kept - KEPT + 1).expand(batch_size, -1), number], 1)
        own = torch.cat([torch.zeros_like(kept), torch.arange(length, device=rows.device)])
        first = torch.maximum(torch.searchsorted(clock, onset), own)
        forgotten = torch.searchsorted(number, order + KEPT)
        begins = there & (first < length) & ((first < forgotten) | ~waits)
        joined = torch.cat([state.rows.to(rows), rows], 1)
        until = torch.minimum(first, forgotten) - 1
        return _Timeline(clock, onset, joined, waits, first, until, begins)

    def _latest(self, rows: Tensor, wait: Tensor, joined: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R) and (B, R, F) the waits and the rows of the latest R given notes, the latest last.

        Args:
            rows: (B, T, F).
            wait: (B, R + T) those of the notes of the state, and of the rows.
            joined: (B, R + T, F) their rows.
        """
        given = rows[..., self.origin] == 1
        taken = torch.cat([torch.ones_like(wait[:, :KEPT], dtype=torch.bool), given], 1)
        slot = taken.cumsum(1) - 1 - given.sum(1, keepdim=True)
        slot = slot.masked_fill(~taken | (slot < 0), KEPT)
        waits = wait.new_zeros(len(rows), KEPT + 1).scatter(1, slot, wait)
        columns = joined.new_zeros(len(rows), KEPT + 1, rows.shape[-1])
        columns = columns.scatter(1, slot.unsqueeze(-1).expand_as(joined), joined)
        return waits[:, :KEPT].int(), columns[:, :KEPT].float()

    def merge(self, rows: Tensor, state: AnticipatedState) -> Merged | None:
        """The notes that begin at rows (B, T, F), in the order in which they are read.

        A given note is read at the first row whose clock is at least its onset, in front of the
        note of that row; at its own row if it begins there. Since given notes stand in the order of
        their onsets, so do those that begin at one row, whose onsets are later than those of the
        rows before.

        Returns:
            None if none is given, so that they are the rows themselves.
        """
        if not bool((rows[..., self.origin] == 1).any()) and not bool((state.wait > 0).any()):
            return None
        length = rows.shape[1]
        line = self._timeline(rows, state)
        counts = line.begins.sum(1)
        given = line.rows[..., self.origin] == 1
        key = (2 * line.first + ~given).masked_fill(~line.begins, 2 * length)
        order = torch.argsort(key, dim=1, stable=True)[:, : int(counts.max())]  # (B, N)

        def chosen(column: Tensor) -> Tensor:
            return column.gather(1, order)

        onset, first, given = chosen(line.onset), chosen(line.first), chosen(given)
        entries = line.rows.gather(1, order.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
        column = self.clock.columns[1]
        step = entries[..., column]
        since = torch.diff(onset, dim=1, prepend=torch.zeros_like(onset[:, :1])).clamp_min(0)
        changed = given | (since != self.clock.wait(step))
        if self.rest is not None:
            changed &= given | (step != self.rest)
        merged = entries.clone()
        merged[..., column] = torch.where(changed, self.step_classes(since).to(step), step)
        for read_as_written in (self.origin, self.offset):
            merged[..., read_as_written].masked_fill_(given, 0)
        begun = rows.new_zeros(len(rows), length + 1, dtype=torch.long)
        begun.scatter_add_(1, line.first.clamp_max(length), line.begins.long())
        # A given note that begins between two rows is read as the first of them leads to it.
        between = given & (order < KEPT + first)
        place = (first + ~between).clamp_max(length)
        clock = torch.cat([torch.zeros_like(onset[:, :1]), line.clock], 1)  # (B, 1 + T)
        passed = (onset - clock.gather(1, place)).masked_fill(~between, 0)
        latest, due = begun[:, :length].cumsum(1), self._due(rows, state, line)
        return Merged(merged, entries, counts, latest, place, passed, due)

    def as_read(self, rows: Tensor, since: Tensor) -> Tensor:
        """(N, F) the rows of given notes as they are read, (N,) thousandths after the one before.

        They are those of :meth:`merge`.
        """
        read = rows.clone()
        read[:, self.clock.columns[1]] = self.step_classes(since).to(rows)
        read[:, [self.origin, self.offset]] = 0
        return read

    def step_classes(self, since: Tensor) -> Tensor:
        """(...) the classes of steps of (...) thousandths."""
        borders = self._borders(self.step)
        found = torch.bucketize(since.clamp_min(0).contiguous(), borders, right=True)
        return found.clamp_max(self._longest)

    def none_due(self, batch_size: int, length: int) -> Due:
        """No notes, (B, T, K)."""
        wait = self._none.new_zeros(batch_size, length, DUE, dtype=torch.int32)
        rows = wait.new_zeros(*wait.shape, self.num_columns, dtype=torch.float32)
        return Due(wait, rows)

    def _due(self, rows: Tensor, state: AnticipatedState, line: _Timeline) -> Due:
        """The given notes to come at each of the rows (B, T, F), with their timeline.

        They are those after the last one that has begun or is forgotten.
        """
        batch_size, length = rows.shape[:2]
        # Of the notes of the state, those that stand after all that have begun.
        waits = (state.wait > 0).flip(1).cummin(1).values.flip(1)
        given = torch.cat([waits, line.given[:, KEPT:]], dim=1)
        order = torch.argsort(~given, dim=1, stable=True)
        order = order[:, : int(given.sum(1).max())]  # (B, G) the given notes
        if not order.shape[1]:
            return self.none_due(batch_size, length)
        number = torch.arange(order.shape[1], device=rows.device)
        own = (order - KEPT).clamp_min(0).masked_fill(~given.gather(1, order), length)
        over = torch.maximum(own, line.until.gather(1, order) + 1).clamp_max(length)
        passed = rows.new_zeros(batch_size, length + 1, dtype=torch.long)
        passed = passed.scatter_reduce(1, over, (number + 1).expand_as(over), "amax")
        first = passed.cummax(1).values[:, :length]  # (B, T)
        here = torch.arange(length, device=rows.device).expand(batch_size, -1).contiguous()
        known = torch.searchsorted(own.contiguous(), here, right=True)
        which = first.unsqueeze(-1) + torch.arange(DUE, device=rows.device)  # (B, T, K)
        there = which < known.unsqueeze(-1)
        chosen = order.gather(1, which.clamp_max(order.shape[1] - 1).flatten(1))  # (B, T K)
        wait = line.onset.gather(1, chosen).view_as(which) - line.clock.unsqueeze(-1)
        columns = chosen.unsqueeze(-1).expand(-1, -1, rows.shape[-1])
        notes = line.rows.gather(1, columns).view(*which.shape, -1).float()
        return Due(wait.masked_fill(~there, 0).int(), notes * there.unsqueeze(-1))

    def coming(self, due: Due, wait: Tensor) -> tuple[Tensor, Tensor]:
        """The given notes that are still to come after a time, in slots of their instrument.

        Args:
            due: (..., K) notes to come.
            wait: (...) thousandths.

        Returns:
            (..., K) the slot of each note, of the ``num_slots``; -1 for none, and for notes
            that begin until then or have too many of their instrument before them. And (..., K, C)
            the entries of its ``coming_fields``, with the step since the note before of its
            instrument; for the first of them, since the end of that time.
        """
        left = due.wait - wait.unsqueeze(-1)
        there = (due.wait > 0) & (left > 0)
        # (..., K, K) whether the second is an earlier note of the instrument of the first.
        before = (there.unsqueeze(-1) & there.unsqueeze(-2)).tril(-1)
        slot = torch.zeros_like(left, dtype=torch.long)
        if self.clock.instrument_column is not None:
            instrument = due.rows[..., self.clock.instrument_column].long()
            before = before & (instrument.unsqueeze(-1) == instrument.unsqueeze(-2))
            slot = instrument * self._slots_each
        number = before.sum(-1)
        last = torch.where(before, left.unsqueeze(-2), 0).amax(-1)
        steps = self.step_classes(left - last).to(due.rows)
        slot = (slot + number).masked_fill(~there | (number >= self._slots_each), -1)
        columns = due.rows[..., self._coming_columns]
        return slot, torch.cat([steps.unsqueeze(-1), columns[..., 1:]], dim=-1)

    def coming_rows(
        self, due: Any, wait: NDArray[np.int32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The same in numpy: (B, K) and (B, K, C) from (B, K) notes and (B,) thousandths."""
        left = due.wait - wait[:, None]
        there = (due.wait > 0) & (left > 0)
        before = np.tril(there[:, :, None] & there[:, None], -1)
        slot = np.zeros(left.shape, dtype=np.intp)
        if self.clock.instrument_column is not None:
            instrument = due.rows[..., self.clock.instrument_column].astype(np.intp)
            before &= instrument[:, :, None] == instrument[:, None]
            slot = instrument * self._slots_each
        number = before.sum(axis=2)
        last = np.where(before, left[:, None], 0).max(axis=2)
        entries = due.rows[..., self._coming_columns]
        entries[..., 0] = self._classes(left - last)
        slot = np.where(there & (number < self._slots_each), slot + number, -1)
        return slot, entries

    def at(self, merged: Merged, state: AnticipatedState, sounding: Anticipated) -> Anticipated:
        """(B, N, I P) the sounding notes when each of the merged notes has begun.

        Args:
            merged: The notes.
            state: The state before them.
            sounding: (B, T, I P) those at the rows.
        """
        sequence = torch.arange(len(merged.place), device=merged.place.device).unsqueeze(1)
        before = Anticipated(
            *(
                torch.cat([now.unsqueeze(1), times], 1)[sequence, merged.place]
                for now, times in zip(state.now, sounding, strict=True)
            )
        )
        return before.later(merged.passed)

    def after(self, rows: Rows, before: Any) -> tuple[Any, Any]:
        """The sounding notes at rows (B, F), one of each sequence, and the state after; in numpy.

        Args:
            rows: (B, F).
            before: The state before them, in numpy.
        """
        given, waits = rows[:, self.origin] == 1, bool(before.wait.any())
        duration = rows[:, self.clock.columns[2]]
        durations = self._durations
        moved = self._moved(rows)[:, None]
        length = times_of_rows(durations, duration, self.per_unit)
        tone = self._tones(rows)
        left = np.maximum(before.now.left - moved, 0)
        since = np.minimum(before.now.since + moved, LONGEST)
        wait, kept = before.wait, before.rows
        if waits:
            wait = before.wait - moved
            sequence, slot = np.nonzero((before.wait > 0) & (wait <= 0))
            late, begun = wait[sequence, slot], before.rows[sequence, slot]
            at = sequence, self._tones(begun)
            lasts = times_of_rows(durations, begun[:, self.clock.columns[2]], self.per_unit)
            np.maximum.at(left, at, lasts + late)
            np.minimum.at(since, at, np.minimum(-late, LONGEST))
            wait = np.maximum(wait, 0)
        begins = np.ones(len(rows), np.bool_) if self.rest is None else ~self._rests(rows)
        if given.any():
            offset = times_of_rows(durations[:0], rows[:, self.offset], self.per_unit)
            wait = np.where(given[:, None], np.column_stack([wait[:, 1:], offset]), wait)
            newest = np.concatenate([kept[:, 1:], rows[:, None]], axis=1, dtype=np.float32)
            kept = np.where(given[:, None, None], newest, kept)
            begins = np.where(given, offset == 0, begins)
        at = np.flatnonzero(begins), tone[begins]
        left[at] = np.maximum(left[at], length[begins])
        since[at] = 0
        coming, lasting = before.now.coming, before.now.length
        if waits or given.any():
            coming, lasting = np.full_like(left, LONGEST), np.zeros_like(left)
            sequence, slot = (places[::-1] for places in np.nonzero(wait > 0))
            # The earliest of several notes of a tone is written last.
            waiting = kept[sequence, slot]
            at = sequence, self._tones(waiting)
            coming[at] = wait[sequence, slot]
            lasting[at] = times_of_rows(durations, waiting[:, self.clock.columns[2]], self.per_unit)
        now = Anticipated(left, since, coming, lasting)
        return now, AnticipatedState(now, wait, kept)

    @functools.cached_property
    def _durations(self) -> NDArray[np.int32]:
        return self.clock.durations.numpy().astype(np.int32)

    @functools.cached_property
    def _near(self) -> NDArray[np.float32]:
        """(LONGEST + 1,) the nearness of each time until a note begins."""
        return np.asarray(nearness(torch.arange(LONGEST + 1), FAR).numpy())

    def moved(self, steps: NDArray[Any]) -> NDArray[np.int32]:
        """(B,) thousandths of (B,) entries of the step, in numpy."""
        return self.clock.moved(steps)

    def _moved(self, rows: Rows) -> NDArray[np.int32]:
        """(B,) the thousandths by which rows (B, F) move the clock."""
        moved = self.moved(rows[:, self.clock.columns[1]])
        return np.where(rows[:, self.origin] == 1, 0, moved).astype(np.int32)

    def _rests(self, rows: Rows) -> NDArray[np.bool_]:
        """(B,) which of the rows (B, F) are rests."""
        return np.asarray(rows[:, self.clock.columns[1]] == self.rest)

    def _tones(self, rows: Rows) -> NDArray[np.int32]:
        """(N,) the pitches of rows (N, F), with those of one instrument after another."""
        tones = rows[:, self.clock.columns[0]].astype(np.int32)
        if self.clock.instrument_column is not None:
            tones += self.pitches * rows[:, self.clock.instrument_column].astype(np.int32)
        return tones

    def begun(self, rows: Rows, before: Any) -> list[Begun] | None:
        """The notes that begin at rows (B, F), one of each sequence, as in :meth:`merge`; in numpy.

        Args:
            rows: (B, F).
            before: The state before them, in numpy.

        Returns:
            None if they are those of the rows, all of which are written.
        """
        given, moved = rows[:, self.origin] == 1, self._moved(rows)
        due = (before.wait > 0) & (before.wait <= moved[:, None])  # (B, R)
        any_due = bool(due.any())
        if not any_due and not given.any():
            return None
        own = rows.copy()
        for column in (self.clock.columns[1], self.origin, self.offset):
            own[given, column] = 0
        there = ~given | (
            times_of_rows(self._durations[:0], rows[:, self.offset], self.per_unit) == 0
        )
        if not any_due:
            return [Begun(own, rows, there, None)]
        found, last = self._between(before.wait, before.rows, due)
        between = last > 0
        if self.rest is not None:
            between &= ~self._rests(rows)
        own[between, self.clock.columns[1]] = self._classes(moved - last)[between]
        return [*found, Begun(own, rows, there, None)]

    def due_of(self, state: Any) -> Any:
        """The given notes to come after rows, one of each of B sequences, as in :meth:`merge`."""
        wait, rows = state.wait, state.rows
        if not wait.any():
            none = np.zeros((len(wait), DUE, rows.shape[-1]), dtype=np.float32)
            return Due(none[..., 0].astype(np.int32), none)  # type: ignore[arg-type]
        # The notes after the last one that has begun.
        first = KEPT - np.argmin(wait[:, ::-1] > 0, axis=1)
        first[(wait > 0).all(axis=1)] = 0
        which = first[:, None] + np.arange(DUE)
        there, which = which < KEPT, np.minimum(which, KEPT - 1)
        sequence = np.arange(len(wait))[:, None]
        notes = rows[sequence, which] * there[:, :, None]
        return Due((wait[sequence, which] * there).astype(np.int32), notes.astype(np.float32))

    def begun_before(
        self, due: Any, steps: NDArray[Any]
    ) -> tuple[list[Begun], NDArray[np.float32]] | None:
        """The due notes that begin at the next note, or before it; in numpy.

        Args:
            due: (B, K) the notes to come.
            steps: (B,) entries of the step of the next note.

        Returns:
            The notes, and the step of the next note from the last of them; None without any.
        """
        moved = self.moved(steps)
        begins = (due.wait > 0) & (due.wait <= moved[:, None])
        if self.rest is not None:
            begins &= (steps != self.rest)[:, None]
        if not begins.any():
            return None
        found, last = self._between(due.wait, due.rows, begins)
        since = np.where(last > 0, self._classes(moved - last), steps)
        return found, since.astype(np.float32)

    def _between(
        self, wait: NDArray[np.int32], rows: Rows, due: NDArray[np.bool_]
    ) -> tuple[list[Begun], NDArray[np.int32]]:
        """The due ones of (B, R) given notes, and the (B,) thousandths until the last of them."""
        found, last = [], np.zeros(len(wait), dtype=np.int32)
        sequence = np.arange(len(wait))
        # The due notes of each sequence, in their order, come first.
        order = np.argsort(~due, axis=1, kind="stable")
        for k in range(int(due.sum(axis=1).max())):
            slot = order[:, k]
            begins = due[sequence, slot]
            passed = np.where(begins, wait[sequence, slot], 0).astype(np.int32)
            found.append(self._read_at(rows[sequence, slot], passed - last, begins, passed))
            last = np.where(begins, passed, last)
        return found, last

    def _read_at(
        self,
        rows: Rows,
        since: NDArray[np.int32],
        there: NDArray[np.bool_],
        passed: NDArray[np.int32],
    ) -> Begun:
        """Given notes (B, F) that begin (B,) thousandths after the notes before them."""
        read = rows.copy()
        read[:, self.clock.columns[1]] = self._classes(since)
        read[:, [self.origin, self.offset]] = 0
        return Begun(read, rows, there, passed)

    def _classes(self, since: NDArray[np.int32]) -> NDArray[np.intp]:
        """(B,) the classes of steps of (B,) thousandths."""
        borders = self._borders(self.step).numpy()
        classes = np.searchsorted(borders, np.maximum(since, 0), side="right")
        return np.minimum(classes, self._longest)

    def ahead(self, sounding: Anticipated) -> Tensor:
        """(..., 2 I) whether a given note of each instrument is to come, and how soon.

        They tell a head which parts are written: those of which nothing is to come, while others
        have notes ahead.
        """
        shape = *sounding.coming.shape[:-1], self.clock.instruments, self.pitches
        first = sounding.coming.reshape(shape).amin(-1)
        return torch.cat([(first < LONGEST).float(), nearness(first, FAR)], dim=-1)

    def ahead_rows(self, sounding: Any) -> NDArray[np.float32]:
        """(B, 2 I) the same in numpy."""
        coming = sounding[2]
        shape = len(coming), self.clock.instruments, self.pitches
        first = coming.reshape(shape).min(axis=2)
        return np.concatenate([first < LONGEST, self._near[first]], axis=1, dtype=np.float32)

    # Features of the classes of a field.

    def is_aligned(self, field: str) -> bool:
        """Whether :meth:`aligned` has features: of a step, a duration or an instrument."""
        return field in self._aligned

    def aligned(self, field: str, sounding: Anticipated) -> Tensor:
        """(..., 4, C) features of the classes of a field, from 0 to 1.

        They are in the times of each pitch, but not in a form from which layers could find the
        class.

        Args:
            field: The name of a step, a duration or an instrument.
            sounding: (..., I P) the notes at the time at which the step or the duration begins, or
                at the onset of the note.

        Returns:
            Of a time, since notes often begin and end with others: whether the first given note to
            come begins at its end, whether another one does, whether it is longer than the time
            until the first, and whether a note that sounds ends with it. Of an instrument: whether
            it sounds, whether a note of it begins now, whether a given one is to come, and how
            soon.
        """
        count = self._aligned[field]
        if field == self.instrument:
            shape = *sounding.left.shape[:-1], count, self.pitches
            left, since, coming, _ = (times.reshape(shape) for times in sounding)
            first = coming.amin(-1)
            begins = (since == 0).any(-1), first < LONGEST
            parts = [(left > 0).any(-1), *begins, nearness(first, FAR)]
            return torch.stack([part.float() for part in parts], dim=-2)
        borders = self._borders(field)
        candidates = torch.arange(count, device=borders.device)

        def classes(times: Tensor, there: Tensor) -> Tensor:
            """(..., P) the class of each time, C for those that are not there."""
            found = torch.bucketize(times.contiguous(), borders, right=True)
            return found.masked_fill(~there, count)

        def marked(found: Tensor) -> Tensor:
            """(..., C) 1 for the classes that are found."""
            empty = torch.zeros(*found.shape[:-1], count + 1, device=found.device)
            return empty.scatter(-1, found, 1.0)[..., :count]

        coming = classes(sounding.coming, sounding.coming < LONGEST)
        first = coming.amin(-1, keepdim=True)
        at = (candidates == first).float()
        ends = marked(classes(sounding.left, sounding.left > 0))
        return torch.stack([at, marked(coming) - at, (candidates > first).float(), ends], dim=-2)

    def aligned_rows(self, field: str, sounding: Any) -> NDArray[np.float32]:
        """(B, 4, C) the same in numpy."""
        count = self._aligned[field]
        left, since, coming = sounding[:3]
        found = np.zeros((len(left), ALIGNED, count + 1), dtype=np.float32)
        if field == self.instrument:
            shape = len(left), count, self.pitches
            first = coming.reshape(shape).min(axis=2)
            found[:, 0, :count] = (left.reshape(shape) > 0).any(axis=2)
            found[:, 1, :count] = (since.reshape(shape) == 0).any(axis=2)
            found[:, 2, :count] = first < LONGEST
            found[:, 3, :count] = self._near[first]
            return found[..., :count]
        borders = self._borders(field).numpy()
        # Few tones sound, and few are to come.
        first = np.full(len(left), count)
        at = np.nonzero(coming < LONGEST)
        if len(at[0]):
            classes = np.searchsorted(borders, coming[at], side="right")
            np.minimum.at(first, at[0], classes)
            found[at[0], 1, classes] = 1.0
            candidates, first = np.arange(count + 1), first[:, None]
            found[:, 0] = candidates == first
            found[:, 1] -= found[:, 0]
            found[:, 2] = candidates > first
        at = np.nonzero(left)
        found[at[0], 3, np.searchsorted(borders, left[at], side="right")] = 1.0
        return found[..., :count]


@final
class IntervalLayer(nn.Module):
    """Logits of a pitch from its intervals to the notes that sound and those that are to come.

    The logit of pitch p is the sum of ``g[c] w[c, q - p] f[c, q]`` over the pitches q within two
    octaves and the :data:`CHANNELS` features c of each group of instruments: whether q sounds; how
    recently it began; whether it is among the notes of the group that began last, such as the
    previous one of a voice; how near a given note of q is; and for the first given notes of the
    group, how near they are on two scales. The weights w depend on the interval alone, so that they
    are learnt from few pieces: for instance, that a voice moves by a step towards its next note.
    They are 0 at first. The gates g are outputs of the head of the pitch, 1 at first. Since
    nearness falls exponentially, notes that are far ahead change nothing.

    Args:
        num_groups: The number of groups.
        pitches: P.
    """

    def __init__(self, num_groups: int, pitches: int) -> None:
        super().__init__()
        self.num_gates: Final = CHANNELS * num_groups
        self.weight: nn.Parameter = nn.Parameter(torch.zeros(self.num_gates, AROUND))
        interval = torch.arange(pitches).unsqueeze(1) - torch.arange(pitches) + AROUND // 2
        self._interval: Tensor
        self._near: Tensor
        self.register_buffer("_interval", interval.clamp(0, AROUND - 1), persistent=False)
        self.register_buffer("_near", interval == self._interval, persistent=False)

    def matrix(self) -> Tensor:
        """(G P, P) the weights of the features of each pitch for the logit of each pitch.

        A product with it is several times faster than a convolution, on the CPU.
        """
        weights: Tensor = self.weight[:, self._interval] * self._near
        return weights.flatten(0, 1)

    @override
    def forward(self, groups: Sequence[Anticipated], gates: Tensor) -> Tensor:
        """(..., P) logits from the notes of each group, (..., P), and (..., G) gates."""
        features = torch.cat([_interval_features(group) for group in groups], dim=-2).to(gates)
        gated = features * gates.unsqueeze(-1)
        logits: Tensor = gated.flatten(-2) @ self.matrix().to(gates)
        return logits


def _interval_features(group: Anticipated) -> Tensor:
    """(..., 6, P) the features of one group."""
    sounds, _, _, recent = sounding_features(group).chunk(FEATURES, dim=-1)
    last = (group.since == group.since.amin(-1, keepdim=True)) & (group.since < LONGEST)
    first = group.coming == group.coming.amin(-1, keepdim=True)
    far = nearness(group.coming, FAR)
    near = [far, first * nearness(group.coming, NEAR), first * far]
    return torch.stack([sounds, recent, last.to(sounds), *near], dim=-2)


def _borders(field: Field, per_unit: float) -> Tensor:
    """(C - 1,) int64 thousandths at which the classes of a time end and the next ones begin."""
    if field.edges:
        borders = np.array(field.edges[1:-1])
    else:
        values = np.array(field.values)
        borders = (values[1:] + values[:-1]) / 2
    return torch.from_numpy(np.ceil(borders * per_unit - _SLACK).astype(np.int64))


CHANNELS: Final = 6
"""The number of features of each pitch and group in an :class:`IntervalLayer`."""
_SLACK: Final = 1e-6
"""Thousandths by which a border can differ from a whole number, for rounding."""
