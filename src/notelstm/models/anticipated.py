"""Sounding notes with those that are given to a model before they sound, and the times until then.

Rows with a column of the role ``origin`` hold given notes some time before their onset: see
:class:`~notelstm.encoders.AnticipatingEncoder`. A given note sounds from its onset on, as others
do, and until then a model reads how long it takes until each pitch begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.fields import Field, Rows
from notelstm.models.sounding import (
    LONGEST,
    Anticipated,
    Sounding,
    SoundingClock,
    times_of,
    times_of_rows,
)

__all__ = [
    "KEPT",
    "AnticipatedState",
    "AnticipatingClock",
]

KEPT: Final = 256
"""R, the number of the latest given notes that the state keeps until they begin."""


class AnticipatedState(NamedTuple):
    """The sounding notes at the last row, and the latest given notes.

    Attributes:
        now: (B, I P) each.
        wait: (B, R) int32 the time until each of the latest given notes begins, the latest at the
            end; 0 if it has begun, or if there is none.
        tone: (B, R) int32 the pitch of each, with those of one instrument after another.
        length: (B, R) int32 the duration of each.
    """

    now: Anticipated
    wait: Tensor
    tone: Tensor
    length: Tensor


@final
class AnticipatingClock(nn.Module):
    """Tracks the sounding notes, and the given ones to come, through rows with an origin.

    It has the attributes and methods of a :class:`~notelstm.models.sounding.SoundingClock`.

    Of more than :data:`KEPT` given notes that have not begun, the first ones are forgotten.

    Args:
        clock: The clock of the rows, which is used for its columns.
        origin: The column of the origin.
        offset: The column and the field of the time until a given note begins.
        rest: The class of the step that begins no note, None if there is none.
    """

    def __init__(
        self, clock: SoundingClock, origin: int, offset: tuple[int, Field], rest: int | None
    ) -> None:
        super().__init__()
        self.clock: SoundingClock = clock
        self.pitch: Final = clock.pitch
        self.step: Final = clock.step
        self.instrument: Final = clock.instrument
        self.pitches: Final = clock.pitches
        self.origin: Final = origin
        self.offset: Final = offset[0]
        self.rest: Final = rest
        self._none: Tensor
        self.register_buffer("_none", torch.zeros(0, dtype=torch.long), persistent=False)

    @classmethod
    def of(cls, fields: Sequence[Field]) -> AnticipatingClock | None:
        """The clock of fields with an origin, a given time in numbers, and those of a clock.

        Returns:
            None if one of them is missing.
        """
        clock = SoundingClock.of(fields)
        origin = [i for i, f in enumerate(fields) if f.role == "origin"]
        offset = [(i, f) for i, f in enumerate(fields) if f.role == "step" and f.given]
        if clock is None or len(origin) != 1 or len(offset) != 1:
            return None
        step = fields[clock.columns[1]]
        if offset[0][1].is_categorical or offset[0][1].unit != step.unit:
            return None
        return cls(clock, origin[0], offset[0], step.rest)

    def initial_state(self, batch_size: int) -> AnticipatedState:
        """Silence, the state before the first row."""
        left, since = self.clock.initial_state(batch_size)
        now = Anticipated(left, since, torch.full_like(since, LONGEST), torch.zeros_like(left))
        none = left.new_zeros(batch_size, KEPT)
        return AnticipatedState(now, none, none.clone(), none.clone())

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

        All rows are computed at once. With c the clock after each row, a given note begins at the
        first row whose clock is at least its onset, and is written into a table of the onsets of
        that row. It is known from its own row on, is to come until the row before it begins, and
        is forgotten at the row of the R-th given note after it. The notes of a pitch enter in the
        order of their onsets, so that the next one at row i is the earliest that begins later than
        row i, or is forgotten later. To find it for all rows, each note's number is written at the
        last row where it is to come, and the least number from each row on is taken.
        """
        batch_size, length = rows.shape[:2]
        tones = state.now.left.shape[1]
        given = rows[..., self.origin] == 1  # (B, T)
        pitch, step, duration = (rows[..., i] for i in self.clock.columns)
        clock = self.clock.wait(step).masked_fill(given, 0).cumsum(1)  # (B, T)
        offset = times_of(self._none, rows[..., self.offset]).masked_fill(~given, 0)
        tone = pitch.long()
        if self.clock.instrument_column is not None:
            tone = tone + self.pitches * rows[..., self.clock.instrument_column].long()
        silent = torch.zeros_like(given)
        if self.rest is not None:
            silent = ~given & (step == self.rest)
        # The notes are those of the state, then those of the rows: (B, R + T).
        onset = torch.cat([state.wait.long(), clock + offset], 1)
        lengths = torch.cat([state.length.long(), self.clock.lengths(duration)], 1)
        tone = torch.cat([state.tone.long(), tone], 1)
        waits = torch.cat([state.wait > 0, given], 1)
        begins = torch.cat([state.wait > 0, ~silent], 1)
        number = given.cumsum(1)  # of given notes so far
        kept = torch.arange(KEPT, device=rows.device)
        order = torch.cat([(kept - KEPT + 1).expand(batch_size, -1), number], 1)
        own = torch.cat([torch.zeros_like(kept), torch.arange(length, device=rows.device)])
        first = torch.maximum(torch.searchsorted(clock, onset), own)  # the row at which it begins
        forgotten = torch.searchsorted(number, order + KEPT)
        begins &= (first < length) & ((first < forgotten) | ~waits)
        until = torch.minimum(first, forgotten) - 1
        waits &= until >= own
        shape = batch_size, length, tones

        def table(values: Tensor, at: Tensor, there: Tensor, none: int, reduce: str) -> Tensor:
            """(B, T, I P) the values of the notes `there`, written at their rows and tones."""
            # The others are written at the first place, where they change nothing.
            places = (at * tones + tone).masked_fill(~there, 0)
            written = values.masked_fill(~there, none)
            empty = torch.full((batch_size, length * tones), none, device=rows.device)
            return empty.scatter_reduce(1, places, written, reduce).view(shape)

        ends = table(onset + lengths, first, begins, 0, "amax")
        begun = table(onset, first, begins, -LONGEST, "amax")
        ends[:, 0] = torch.maximum(ends[:, 0], state.now.left)
        begun[:, 0] = torch.maximum(begun[:, 0], -state.now.since)
        at = clock.unsqueeze(-1)
        numbers = torch.arange(onset.shape[1], device=rows.device).expand_as(onset)
        following = table(numbers, until, waits, onset.shape[1], "amin")
        following = following.flip(1).cummin(1).values.flip(1)
        known = following <= KEPT + torch.arange(length, device=rows.device)[:, None]
        which = following.masked_fill(~known, 0).flatten(1)
        coming, lasts = (column.gather(1, which).view(shape) for column in (onset, lengths))
        sounding = Anticipated(
            (ends.cummax(1).values - at).clamp_min(0).int(),
            (at - begun.cummax(1).values).clamp_max(LONGEST).int(),
            (coming - at).masked_fill(~known, LONGEST).clamp_max(LONGEST).int(),
            lasts.masked_fill(~known, 0).int(),
        )
        now = Anticipated(*(times[:, -1] for times in sounding))
        wait = (onset - clock[:, -1:]).clamp_min(0)
        return sounding, AnticipatedState(now, *_latest(given, (wait, tone, lengths)))

    def after(self, rows: Rows, before: Any) -> tuple[Any, Any]:
        """The sounding notes at rows (B, F), one of each sequence, and the state after; in numpy.

        Args:
            rows: (B, F).
            before: The state before them, in numpy.
        """
        given = rows[:, self.origin] == 1
        pitch, step, duration = (rows[:, i] for i in self.clock.columns)
        steps, durations = (
            table.numpy().astype(np.int32) for table in (self.clock.steps, self.clock.durations)
        )
        moved = np.where(given, 0, times_of_rows(steps, step))[:, None].astype(np.int32)
        length = times_of_rows(durations, duration)
        tone = pitch.astype(np.int32)
        if self.clock.instrument_column is not None:
            tone += self.pitches * rows[:, self.clock.instrument_column].astype(np.int32)
        left = np.maximum(before.now.left - moved, 0)
        since = np.minimum(before.now.since + moved, LONGEST)
        wait = before.wait - moved
        sequence, slot = np.nonzero((before.wait > 0) & (wait <= 0))
        if len(sequence):
            late = wait[sequence, slot]
            at = sequence, before.tone[sequence, slot]
            np.maximum.at(left, at, before.length[sequence, slot] + late)
            np.minimum.at(since, at, np.minimum(-late, LONGEST))
        wait = np.maximum(wait, 0)
        tones, lengths = before.tone, before.length
        offset = times_of_rows(durations[:0], rows[:, self.offset])
        if given.any():
            wait, tones, lengths = (
                np.where(given[:, None], np.column_stack([kept[:, 1:], new]), kept)
                for kept, new in ((wait, offset), (tones, tone), (lengths, length))
            )
        begins = np.where(given, offset == 0, True if self.rest is None else step != self.rest)
        at = np.flatnonzero(begins), tone[begins]
        left[at] = np.maximum(left[at], length[begins])
        since[at] = 0
        coming, lasts = np.full_like(left, LONGEST), np.zeros_like(left)
        sequence, slot = (places[::-1] for places in np.nonzero(wait > 0))
        if len(sequence):
            # The earliest of several notes of a tone is written last.
            at = sequence, tones[sequence, slot]
            coming[at], lasts[at] = wait[sequence, slot], lengths[sequence, slot]
        now = Anticipated(left, since, coming, lasts)
        return now, AnticipatedState(now, wait, tones, lengths)


def _latest(given: Tensor, columns: Sequence[Tensor]) -> list[Tensor]:
    """(B, R) int32 of columns (B, R + T): those of the latest R notes, the latest at the end.

    The first R notes are those of the state; of the others, those of the `given` rows (B, T) count.
    """
    taken = torch.cat([torch.ones_like(columns[0][:, :KEPT], dtype=torch.bool), given], 1)
    slot = taken.cumsum(1) - 1 - given.sum(1, keepdim=True)
    slot = slot.masked_fill(~taken | (slot < 0), KEPT)
    empty = columns[0].new_zeros(len(given), KEPT + 1)
    return [empty.scatter(1, slot, column)[:, :KEPT].int() for column in columns]
