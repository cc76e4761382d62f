"""``PerformanceEventEncoder``: note-on, note-off, time-shift, velocity, instrument events."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import as_rows
from notelstm.errors import EncodingError
from notelstm.fields import Event, Field, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.parts import ONE_PART, PartMap
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["EventTracker", "PerformanceEventEncoder"]

_CELL: Final = 0.01
_SHIFTS: Final = 100
_OFF: Final = 128
_SHIFT: Final = 256
_VELOCITY: Final = _SHIFT + _SHIFTS
_INSTRUMENT: Final = _VELOCITY + 32
_LONGEST: Final = 86_400
"""Seconds, which limit the number of shifts."""


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

    With a part map, there is one more event for each class of instruments, which holds for the
    note-ons and note-offs up to the next. Then notes of one pitch may overlap in different parts;
    events of a cell are sorted by class and pitch, note-offs first. Notes are decoded with the
    program, percussion and track name of their part, and with its class as the track.

    Attributes:
        parts: The classes of instruments; None for events without instruments.

    Source:
        Oore, Simon, Dieleman, Eck and Simonyan, "This time with feeling: learning expressive
        musical performance", 2018, whose shifts are 8 ms; 10 ms as in the later Music Transformer.
    """

    parts: PartMap | None = None

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """One field of 388 events, and one event for each class of instruments."""
        instruments = 0 if self.parts is None else len(self.parts.classes)
        events = (
            *(Event("note-on", pitch) for pitch in range(128)),
            *(Event("note-off", pitch) for pitch in range(128)),
            *(Event("shift", seconds) for seconds in np.arange(1, _SHIFTS + 1) * _CELL),
            *(Event("velocity", velocity) for velocity in range(2, 130, 4)),
            *(Event("instrument", k) for k in range(instruments)),
        )
        return (Field.of_events("event", events),)

    def encode(self, notes: Notes) -> Rows:
        """(M, 1) float32 event ids, about 4.5 per note.

        Raises:
            EncodingError: If the piece lasts longer than a day, or the part map refuses a note.
        """
        if not len(notes):
            return np.zeros((0, 1), dtype=np.float32)
        _check_length(notes)
        on = np.rint((notes.start - notes.start[0]) / _CELL).astype(np.int64)
        off = np.maximum(on + 1, np.rint((notes.end - notes.start[0]) / _CELL).astype(np.int64))
        part = np.zeros(len(on), np.int64) if self.parts is None else self.parts.classes_of(notes)
        ids: list[int] = []
        clock, velocity, instrument = 0, -1, 0 if self.parts is None else -1
        for at, kind, k, pitch, loud in sorted(_points(on, off, part, notes)):
            wait, clock = at - clock, at
            while wait:
                ids.append(_SHIFT + min(wait, _SHIFTS) - 1)
                wait -= min(wait, _SHIFTS)
            if k != instrument:
                ids.append(_INSTRUMENT + k)
                instrument = k
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
            EncodingError: If an event is not allowed, as :meth:`EventTracker.allowed` has it.
        """
        tracker = self.tracker()
        for row in as_rows(rows, self.fields):
            tracker.push(row)
        return tracker.notes()

    def tracker(self) -> EventTracker:
        """A tracker at the start of a piece."""
        return EventTracker(self.fields[0], self.parts)


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
    on: NDArray[np.int64], off: NDArray[np.int64], part: NDArray[np.int64], notes: Notes
) -> list[tuple[int, int, int, int, int]]:
    """(cell, 0 for off or 1 for on, part, pitch, velocity class), without overlaps of a tone."""
    following: dict[tuple[int, int], int] = {}
    points: list[tuple[int, int, int, int, int]] = []
    for i in range(len(notes) - 1, -1, -1):
        tone, start = (int(part[i]), int(notes.pitch[i])), int(on[i])
        next_on = following.get(tone)
        if next_on == start:
            continue
        end = int(off[i]) if next_on is None else min(int(off[i]), next_on)
        following[tone] = start
        points.append((start, 1, *tone, int(notes.velocity[i]) // 4))
        points.append((end, 0, *tone, 0))
    return points


class _Played(NamedTuple):
    """A note in cells; its end is -1 while it sounds."""

    start: int
    end: int
    pitch: int
    velocity: int
    instrument: int


@final
class EventTracker(Tracker):
    """Decodes events, and limits them to those that can be decoded.

    Args:
        field: The field of events.
        parts: The part map of the encoder.
    """

    def __init__(self, field: Field, parts: PartMap | None) -> None:
        super().__init__((field,), ONE_PART if parts is None else parts.classes)
        self._part_map: Final = parts
        self._instrument = 0 if parts is None else None
        self._after_instrument = False
        self._cells = 0
        self._velocity: int | None = None
        self._after_velocity = False
        self._after_short_shift = False
        self._open: dict[Tone, int] = {}
        # By number, in the order of onset.
        self._notes: dict[int, _Played] = {}
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

    @property
    def instrument(self) -> int | None:
        """The class of the latest instrument event; None before the first."""
        return self._instrument

    def push(self, row: Row) -> None:
        """Add the next event, (1,).

        Raises:
            EncodingError: If it is not allowed.
        """
        event = int(row[0])
        if not self.allowed(self.fields[0], {})[event]:
            kind, value = self.fields[0].events[event]
            raise EncodingError(
                f"{kind} {value:g} cannot follow the events before: note-on needs a silent pitch, "
                "and a velocity and any instrument before it, note-off a sounding pitch a cell or "
                "more after its onset; no velocity follows a velocity, no shift one that is not "
                "the longest; an instrument differs from the one before, and follows no "
                "instrument or velocity",
                where=f"row {self._rows}",
                hint="sample only allowed entries, or repair the row",
            )
        self._rows += 1
        self._after_instrument = event >= _INSTRUMENT
        self._after_velocity = _VELOCITY <= event < _INSTRUMENT
        self._after_short_shift = _SHIFT <= event < _VELOCITY - 1
        if event >= _INSTRUMENT:
            self._instrument = event - _INSTRUMENT
        elif event >= _VELOCITY:
            self._velocity = 4 * (event - _VELOCITY) + 2
        elif event >= _SHIFT:
            self._cells += event - _SHIFT + 1
        elif event >= _OFF:
            assert self._instrument is not None
            i = self._open.pop(Tone(event - _OFF, self._instrument))
            self._notes[i] = self._notes[i]._replace(end=self._cells)
            self._ended.append(i)
        else:
            assert self._velocity is not None
            assert self._instrument is not None
            tone, number = Tone(event, self._instrument), self._num_notes
            self._open[tone] = number
            self._notes[number] = _Played(self._cells, -1, event, self._velocity, self._instrument)
            self._latest.append((self.time, tone))
            self._num_notes += 1

    def sounding(self, at: float) -> Set[Tone]:
        """The tones whose notes have not ended."""
        return set(self._open)

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest `count` notes, in order."""
        return self._latest[-count:]

    def remaining(self) -> Sequence[tuple[float, Tone]]:
        """Infinity for each tone whose note has not ended."""
        return [(math.inf, tone) for tone in self._open]

    def allowed(self, field: Field, known: Mapping[str, float]) -> NDArray[np.bool_]:
        """(388 + C,) bool, the events that can be decoded.

        A note-on needs a velocity, any instrument and a silent pitch, a note-off a sounding pitch a
        cell or more after its onset. Waits, velocities and instruments have one spelling, or a
        model could repeat them without an end: the instrument comes before the velocity.
        """
        mask = np.zeros(len(self.fields[0].events), dtype=np.bool_)
        mask[:_OFF] = self._velocity is not None and self._instrument is not None
        mask[_SHIFT:_VELOCITY] = not self._after_short_shift
        mask[_VELOCITY:_INSTRUMENT] = not self._after_velocity
        mask[_INSTRUMENT:] = not (self._after_velocity or self._after_instrument)
        if self._part_map is not None and self._instrument is not None:
            mask[_INSTRUMENT + self._instrument] = False
        for (pitch, instrument), i in self._open.items():
            if instrument == self._instrument:
                mask[pitch] = False
                mask[_OFF + pitch] = self._notes[i].start < self._cells
        return mask

    def closing_rows(self) -> Rows:
        """The events (M, 1) that end the sounding notes.

        They end a cell later if they have just begun, or if no instrument may follow the latest
        event.
        """
        instrument = self._instrument
        tones = sorted(
            self._open, key=lambda t: (t.instrument != instrument, t.instrument, t.pitch)
        )
        now = [tone for tone in tones if self._notes[self._open[tone]].start < self._cells]
        waits = self._after_velocity or self._after_instrument
        if now and now[0].instrument != instrument and waits:
            now = []
        later = [tone for tone in tones if tone not in now]
        ids: list[int] = []
        for shifts, group in (([], now), ([_SHIFT] * bool(later), later)):
            ids += shifts
            for pitch, k in group:
                if k != instrument:
                    ids.append(_INSTRUMENT + k)
                    instrument = k
                ids.append(_OFF + pitch)
        return np.array(ids, dtype=np.float32).reshape(-1, 1)

    def notes(self) -> Notes:
        """The notes that have not been returned; sounding ones end now, after at least one cell."""
        columns = np.array([*self._notes.values()], dtype=np.int64).reshape(-1, 5).T
        start, end, pitch, velocity, part = columns
        end = np.where(end < 0, np.maximum(start + 1, self._cells), end)
        return Notes(
            start=start * _CELL,
            end=end * _CELL,
            pitch=pitch,
            velocity=velocity,
            **({} if self._part_map is None else self._part_map.columns_of(part)),
        )

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes that have ended, or all of them, and drop them."""
        numbers = [*self._ended, *self._open.values()] if include_sounding else self._ended
        out = []
        for number in numbers:
            start, end, pitch, velocity, k = self._notes[number]
            last, part = end if end >= 0 else max(start + 1, self._cells), self.parts[k]
            times = start * _CELL, last * _CELL
            out.append((number, Note(*times, pitch, velocity, part.program, part.drum, k)))
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
