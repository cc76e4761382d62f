"""One event a row: note-on, note-off, time shift and velocity, 388 classes in one field."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from notelstm.encoders.rows import as_rows
from notelstm.errors import EncodingError
from notelstm.fields import Event, EventType, Field, Mask, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = ["EventTracker", "PerformanceEventEncoder"]

_CELL: Final = 0.01
_SHIFTS: Final = 100
_OFF: Final = 128
_SHIFT: Final = 256
_VELOCITY: Final = _SHIFT + _SHIFTS
_LONGEST: Final = 86_400
"""Seconds; a longer wait would fill the memory with rows."""


def _events() -> tuple[Event, ...]:
    kinds: list[tuple[EventType, list[float]]] = [
        ("note-on", [float(pitch) for pitch in range(128)]),
        ("note-off", [float(pitch) for pitch in range(128)]),
        ("shift", [(k + 1) * _CELL for k in range(_SHIFTS)]),
        ("velocity", [4.0 * k + 2 for k in range(32)]),
    ]
    return tuple(Event(kind, value) for kind, values in kinds for value in values)


_FIELD: Final = Field.of_events("event", _events())


@final
@dataclass(frozen=True, kw_only=True)
class PerformanceEventEncoder:
    """Several rows a note: 128 note-ons, 128 note-offs, 100 time shifts, 32 velocities.

    Times are on a grid of 10 ms, so onsets (from the first note) and ends are off by at most 5 ms
    and never drift; velocity is off by at most 2. A velocity stands only where it changes. A pitch
    sounds once at a time: a note still sounding ends where the next of its pitch begins, and of
    several notes of one pitch in one cell the last is kept. Does not keep program, drums, track,
    beats, and the silence before the first note. Its domain is every piece that lasts at most a
    day from its first onset: a wait takes a row a second.

    Source:
        Oore, Simon, Dieleman, Eck and Simonyan, "This time with feeling: learning expressive
        musical performance", 2018, whose shifts are 8 ms; 10 ms as in the later Music Transformer.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """One field of 388 events."""
        return (_FIELD,)

    def encode(self, notes: Notes) -> Rows:
        """(M, 1) float32 event ids, about 4.5 a note.

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
        """Notes from (M, 1) event ids; what still sounds at the end stops there.

        Raises:
            EncodingError: If an event cannot follow those before it: a note-on without a velocity
                or of a pitch that sounds, a note-off of one that does not or in the same cell, a
                velocity after a velocity, a shift after one that is not the longest.
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
            hint="cut the piece, or leave out the notes that come absurdly late",
        )


def _points(
    on: np.ndarray[tuple[int], np.dtype[np.int64]],
    off: np.ndarray[tuple[int], np.dtype[np.int64]],
    notes: Notes,
) -> list[tuple[int, int, int, int]]:
    """(cell, 0 for off or 1 for on, pitch, velocity class), each pitch once at a time."""
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
    """Decodes events one by one, with the events that can come next."""

    def __init__(self) -> None:
        super().__init__((_FIELD,))
        self._cells = 0
        self._velocity: int | None = None
        self._after_velocity = False
        self._after_short_shift = False
        self._open: dict[int, int] = {}
        # By number: (start cell, end cell or -1, pitch, velocity) in order of onset.
        self._notes: dict[int, tuple[int, int, int, int]] = {}
        self._ended: list[int] = []
        self._played: list[tuple[float, int]] = []
        self._n = 0
        self._rows = 0

    @property
    def num_notes(self) -> int:
        """How many notes have begun."""
        return self._n

    @property
    def time(self) -> float:
        """Seconds from the start of the piece to now."""
        return self._cells * _CELL

    def push(self, row: Row) -> None:
        """Take in the next event, (1,).

        Raises:
            EncodingError: If it cannot follow those before it.
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
            self._open[event] = self._n
            self._notes[self._n] = (self._cells, -1, event, self._velocity)
            self._played.append((self.time, event))
            self._n += 1

    def sounding(self, at: float) -> Set[int]:
        """The pitches that sound at or after the clock, none of them ended yet."""
        return set(self._open)

    def latest(self, count: int) -> Sequence[tuple[float, int]]:
        """Onset (s) and pitch of the latest `count` notes, in order."""
        return self._played[-count:]

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """(388,) True for each event that can come next."""
        mask = np.zeros(_VELOCITY + 32, dtype=np.bool_)
        mask[:_OFF] = self._velocity is not None
        if self._open:
            mask[list(self._open)] = False
        # A wait is spelled one way; so are velocities, or a model could go on for ever with them.
        mask[_SHIFT:_VELOCITY] = not self._after_short_shift
        mask[_VELOCITY:] = not self._after_velocity
        for pitch, i in self._open.items():
            mask[_OFF + pitch] = self._notes[i][0] < self._cells
        return mask

    def closing_rows(self) -> Rows:
        """The events that end what still sounds, (M, 1): now, or a cell later if it just began."""
        ids: list[int] = []
        fresh = [p for p, i in self._open.items() if self._notes[i][0] == self._cells]
        ids += [_OFF + pitch for pitch in sorted(set(self._open) - set(fresh))]
        if fresh:
            ids += [_SHIFT, *(_OFF + pitch for pitch in sorted(fresh))]
        return np.array(ids, dtype=np.float32).reshape(-1, 1)

    def notes(self) -> Notes:
        """Everything pushed and not forgotten; what still sounds ends now, or after one cell."""
        if not self._notes:
            return Notes.empty()
        start, end, pitch, velocity = np.array([*self._notes.values()]).T
        end = np.where(end < 0, np.maximum(start + 1, self._cells), end)
        return Notes(start=start * _CELL, end=end * _CELL, pitch=pitch, velocity=velocity)

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Give out the notes that have ended, or all of them; what sounds goes on."""
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
        del self._played[:-MAX_HISTORY]
        return out

    def copy(self) -> EventTracker:
        """Another tracker that stands where this one does."""
        twin = copy.copy(self)
        twin._open, twin._notes = {**self._open}, {**self._notes}
        twin._ended, twin._played = [*self._ended], [*self._played]
        return twin
