"""``PerformanceEventEncoder``: note-on, note-off, time-shift and velocity events."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, final, get_args

import numpy as np

from notelstm.encoders.rows import as_rows
from notelstm.errors import EncodingError
from notelstm.fields import Event, EventType, Field, Mask, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["EventTracker", "PerformanceEventEncoder"]

_CELL: Final = 0.01
_SHIFTS: Final = 100
_OFF: Final = 128
_SHIFT: Final = 256
_VELOCITY: Final = _SHIFT + _SHIFTS
_LONGEST: Final = 86_400
"""Seconds, which limit the number of shifts."""


# In the order of the literal: note-on, note-off, shift, velocity.
_TYPES: Final = np.repeat(get_args(EventType), [128, 128, _SHIFTS, 32]).tolist()
_VALUES: Final = (*range(128), *range(128), *(np.arange(1, _SHIFTS + 1) * _CELL), *range(2, 130, 4))
_FIELD: Final = Field.of_events("event", [*map(Event, _TYPES, _VALUES)])


@final
@dataclass(frozen=True, kw_only=True)
class PerformanceEventEncoder:
    """Several rows per note: 128 note-ons, 128 note-offs, 100 time shifts, 32 velocities.

    Times are on a grid of 10 ms, so that the error of onsets (from the first note) and ends is at
    most 5 ms and does not accumulate; that of velocities is at most 2. There is a velocity event
    where the velocity changes. Notes of one pitch do not overlap: a note ends where the next one of
    its pitch begins, and of several that begin in one cell, the last is kept. Program, drums,
    track, tempo map and the silence before the first note are lost. The domain is pieces of at most
    a day from the first onset.

    Source:
        Oore, Simon, Dieleman, Eck and Simonyan, "This time with feeling: learning expressive
        musical performance", 2018, whose shifts are 8 ms; 10 ms as in the later Music Transformer.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """One field of 388 events."""
        return (_FIELD,)

    def encode(self, notes: Notes) -> Rows:
        """(M, 1) float32 event ids, about 4.5 per note.

        Raises:
            EncodingError: If the piece lasts longer than a day.
        """
        if not len(notes):
            return np.zeros((0, 1), dtype=np.float32)
        _check_length(notes)
        on = np.rint((notes.start - notes.start[0]) / _CELL).astype(np.int64)
        off = np.maximum(on + 1, np.rint((notes.end - notes.start[0]) / _CELL).astype(np.int64))
        ids: list[int] = []
        clock, velocity = 0, -1
        for at, kind, pitch, loud in sorted(_points(on, off, notes)):
            wait, clock = at - clock, at
            while wait:
                ids.append(_SHIFT + min(wait, _SHIFTS) - 1)
                wait -= min(wait, _SHIFTS)
            if kind == 0:
                ids.append(_OFF + pitch)
                continue
            if loud != velocity:
                ids.append(_VELOCITY + loud)
                velocity = loud
            ids.append(pitch)
        return np.array(ids, dtype=np.float32)[:, None]

    def decode(self, rows: Rows) -> Notes:
        """Notes from (M, 1) event ids; notes that still sound end there.

        Raises:
            EncodingError: If an event is not allowed: a note-on without a velocity or of a sounding
                pitch, a note-off of a silent pitch or in the cell of its onset, a velocity after a
                velocity, a shift after one that is not the longest.
        """
        tracker = self.tracker()
        for row in as_rows(rows, self.fields):
            tracker.push(row)
        return tracker.notes()

    def tracker(self) -> EventTracker:
        """A tracker at the start of a piece."""
        return EventTracker()


def _check_length(notes: Notes) -> None:
    seconds = notes.end - notes.start[0]
    late = np.flatnonzero(seconds > _LONGEST)
    if late.size:
        i = late[0]
        raise EncodingError(
            f"the note ends {seconds[i]:.6g} s after the first onset, later than a day, "
            f"{_LONGEST:,} s",
            where=f"note {i}",
            hint="cut the piece, or leave out its last notes",
        )


def _points(
    on: np.ndarray[tuple[int], np.dtype[np.int64]],
    off: np.ndarray[tuple[int], np.dtype[np.int64]],
    notes: Notes,
) -> list[tuple[int, int, int, int]]:
    """(cell, 0 for off or 1 for on, pitch, velocity class), without overlaps of a pitch."""
    following: dict[int, int] = {}
    points: list[tuple[int, int, int, int]] = []
    for i in range(len(notes) - 1, -1, -1):
        pitch, start = int(notes.pitch[i]), int(on[i])
        next_on = following.get(pitch)
        if next_on == start:
            continue
        end = int(off[i]) if next_on is None else min(int(off[i]), next_on)
        following[pitch] = start
        points.append((start, 1, pitch, int(notes.velocity[i]) // 4))
        points.append((end, 0, pitch, 0))
    return points


@final
class EventTracker(Tracker):
    """Decodes events, and limits them to those that can be decoded."""

    def __init__(self) -> None:
        super().__init__((_FIELD,))
        self._cells = 0
        self._velocity: int | None = None
        self._after_velocity = False
        self._after_short_shift = False
        self._open: dict[int, int] = {}
        # (start cell, end cell or -1, pitch, velocity) by number, in the order of onset.
        self._notes: dict[int, tuple[int, int, int, int]] = {}
        self._ended: list[int] = []
        self._latest: list[tuple[float, Tone]] = []
        self._num_notes = 0
        self._rows = 0

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return self._num_notes

    @property
    def time(self) -> float:
        """Seconds from the start of the piece to the latest event."""
        return self._cells * _CELL

    def push(self, row: Row) -> None:
        """Add the next event, (1,).

        Raises:
            EncodingError: If it is not allowed.
        """
        event = int(row[0])
        mask = self.allowed(_FIELD, {})
        assert isinstance(mask, np.ndarray)
        if not mask[event]:
            kind, value = _FIELD.events[event]
            raise EncodingError(
                f"{kind} {value:g} cannot follow the events before: note-on needs a silent pitch "
                "and a velocity before it, note-off a sounding pitch a cell or more after its "
                "onset; no velocity follows a velocity, no shift one that is not the longest",
                where=f"row {self._rows}",
                hint="sample only allowed entries, or repair the row",
            )
        self._rows += 1
        self._after_velocity = event >= _VELOCITY
        self._after_short_shift = _SHIFT <= event < _VELOCITY - 1
        if event >= _VELOCITY:
            self._velocity = 4 * (event - _VELOCITY) + 2
        elif event >= _SHIFT:
            self._cells += event - _SHIFT + 1
        elif event >= _OFF:
            i = self._open.pop(event - _OFF)
            start, _, pitch, velocity = self._notes[i]
            self._notes[i] = (start, self._cells, pitch, velocity)
            self._ended.append(i)
        else:
            assert self._velocity is not None
            self._open[event] = self._num_notes
            self._notes[self._num_notes] = (self._cells, -1, event, self._velocity)
            self._latest.append((self.time, Tone(event)))
            self._num_notes += 1

    def sounding(self, at: float) -> Set[Tone]:
        """The tones whose notes have not ended."""
        return set(map(Tone, self._open))

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest `count` notes, in order."""
        return self._latest[-count:]

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """(388,) bool, the events that can be decoded."""
        mask = np.zeros(_VELOCITY + 32, dtype=np.bool_)
        mask[:_OFF] = self._velocity is not None
        if self._open:
            mask[list(self._open)] = False
        # Waits and velocities have one spelling, or a model could repeat them without an end.
        mask[_SHIFT:_VELOCITY] = not self._after_short_shift
        mask[_VELOCITY:] = not self._after_velocity
        for pitch, i in self._open.items():
            mask[_OFF + pitch] = self._notes[i][0] < self._cells
        return mask

    def closing_rows(self) -> Rows:
        """The events (M, 1) that end the sounding notes, a cell later if they have just begun."""
        ids: list[int] = []
        new = [p for p, i in self._open.items() if self._notes[i][0] == self._cells]
        ids += [_OFF + pitch for pitch in sorted(set(self._open) - set(new))]
        if new:
            ids += [_SHIFT, *(_OFF + pitch for pitch in sorted(new))]
        return np.array(ids, dtype=np.float32).reshape(-1, 1)

    def notes(self) -> Notes:
        """The notes that have not been returned; sounding ones end now, after at least one cell."""
        if not self._notes:
            return Notes.empty()
        start, end, pitch, velocity = np.array([*self._notes.values()]).T
        end = np.where(end < 0, np.maximum(start + 1, self._cells), end)
        return Notes(start=start * _CELL, end=end * _CELL, pitch=pitch, velocity=velocity)

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes that have ended, or all of them, and drop them."""
        numbers = [*self._ended, *self._open.values()] if include_sounding else self._ended
        out = []
        for number in numbers:
            start, end, pitch, velocity = self._notes[number]
            last = end if end >= 0 else max(start + 1, self._cells)
            out.append((number, Note(start * _CELL, last * _CELL, pitch, velocity)))
        if include_sounding:
            self._open = {}
        self._ended = []
        self._notes = {i: self._notes[i] for i in self._open.values()}
        del self._latest[:-MAX_HISTORY]
        return out

    def copy(self) -> EventTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        other._open, other._notes = {**self._open}, {**self._notes}
        other._ended, other._latest = [*self._ended], [*self._latest]
        return other
