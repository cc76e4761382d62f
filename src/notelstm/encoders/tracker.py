"""The tracker that serves every encoder of one row a note."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import FieldError
from notelstm.fields import Field, Mask, Role, Row, Rows
from notelstm.notes import DEFAULT_VELOCITY, Note, Notes
from notelstm.protocols import NoteEncoder
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = ["RowTracker", "TrackingEncoder", "tracker_of"]

_TOUCHING: Final = 1e-6
"""Seconds by which a note may seem to outlast the onset that it ends at, as float64 has it."""


@runtime_checkable
class TrackingEncoder(NoteEncoder, Protocol):
    """An encoder with a tracker of its own, which decodes row by row."""

    def tracker(self) -> Tracker:
        """A tracker at the start of a piece."""
        ...


def tracker_of(encoder: NoteEncoder) -> Tracker:
    """The encoder's own tracker, or a :class:`RowTracker`, at the start of a piece.

    Raises:
        FieldError: If the encoder has neither a tracker nor the fields that a RowTracker needs.
    """
    return encoder.tracker() if isinstance(encoder, TrackingEncoder) else RowTracker(encoder)


@final
class RowTracker(Tracker):
    """Decodes row by row for an encoder of one row a note.

    It needs a field of each of the roles pitch, step and duration, the latter two in seconds.

    Args:
        encoder: The encoder whose rows are pushed.

    Raises:
        FieldError: If a field is missing; such an encoder needs a tracker of its own.
    """

    def __init__(self, encoder: NoteEncoder) -> None:
        super().__init__(encoder.fields)
        self._encoder: Final = encoder
        self._step: Final = _column(encoder, "step")
        self._pitch: Final = _column(encoder, "pitch")
        self._duration: Final = _column(encoder, "duration")
        loud = [i for i, field in enumerate(self.fields) if field.role == "velocity"]
        self._velocity: Final = loud[0] if len(loud) == 1 else None
        self._rows: list[Rows] = []
        # The latest end of each pitch: however many notes overlap, it takes the same memory.
        self._open: dict[int, float] = {}
        self._unlisted: list[tuple[NDArray[np.float64], ...]] = []
        self._played: list[Note] = []
        self._forgotten = 0
        self._before = 0.0
        self._n = 0
        self._time = 0.0

    @property
    def num_notes(self) -> int:
        """How many notes have begun."""
        return self._n

    @property
    def time(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    def push(self, row: Row) -> None:
        """Take in the next note, (F,)."""
        rows = np.array(row, dtype=np.float32)[None]
        entries, fields = rows[0].tolist(), self.fields
        start = self._time + fields[self._step].value_of(entries[self._step])
        end = start + fields[self._duration].value_of(entries[self._duration])
        pitch = int(fields[self._pitch].value_of(entries[self._pitch]))
        velocity = DEFAULT_VELOCITY
        if self._velocity is not None:
            velocity = int(fields[self._velocity].value_of(entries[self._velocity]))
        self._listed.append(Note(start, end, pitch, velocity))
        self._take_in(rows, start, [(pitch, end)])

    def extend(self, rows: Rows) -> None:
        """Take in the next notes, (N, F)."""
        rows = np.array(rows, dtype=np.float32)
        if not len(rows):
            return
        # As the sum of one step after another has it, to the last digit.
        start = np.cumsum(np.append(self._time, self._values(self._step, rows)))[1:]
        end = start + self._values(self._duration, rows)
        pitch = self._values(self._pitch, rows)
        velocity = np.full_like(start, DEFAULT_VELOCITY)
        if self._velocity is not None:
            velocity = self._values(self._velocity, rows)
        self._unlisted.append((start, end, pitch, velocity))
        clock = float(start[-1])
        late = end > clock
        last = np.zeros(128)
        np.maximum.at(last, pitch[late].astype(np.intp), end[late])
        sounding = np.flatnonzero(last)
        ends = zip(sounding.tolist(), last[sounding].tolist(), strict=True)
        self._take_in(rows, clock, ends)

    def _values(self, column: int, rows: Rows) -> NDArray[np.float64]:
        """(N,) what the entries of a column stand for."""
        field, entries = self.fields[column], rows[:, column].astype(np.float64)
        return np.array(field.values)[entries.astype(np.intp)] if field.values else entries

    def _take_in(self, rows: Rows, clock: float, ends: Iterable[tuple[int, float]]) -> None:
        self._rows.append(rows)
        self._n += len(rows)
        self._time = clock
        self._open = {pitch: end for pitch, end in self._open.items() if end > clock}
        for pitch, end in ends:
            self._open[pitch] = max(end, self._open.get(pitch, end))

    @property
    def _listed(self) -> list[Note]:
        """The latest notes one by one, made when looked at."""
        for start, end, *whole in self._unlisted:
            pitch, velocity = (column.astype(np.int64).tolist() for column in whole)
            self._played += map(Note, start.tolist(), end.tolist(), pitch, velocity)
        self._unlisted = []
        return self._played

    def sounding(self, at: float) -> Set[int]:
        """The pitches that sound `at` seconds after the start, at or after the latest onset."""
        return {pitch for pitch, end in self._open.items() if end > at}

    def latest(self, count: int) -> Sequence[tuple[float, int]]:
        """Onset (s) and pitch of the latest `count` notes, in order."""
        return [(note.start, note.pitch) for note in self._listed[-count:]]

    @property
    def position(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    @property
    def seconds_per_unit(self) -> float:
        """1: steps are in seconds."""
        return 1.0

    def remaining(self) -> Sequence[tuple[float, int]]:
        """How many seconds longer each pitch lasts that sounds beyond the latest onset."""
        left = ((end - self._time, pitch) for pitch, end in self._open.items())
        return [(seconds, pitch) for seconds, pitch in left if seconds > 0]

    def overlapping(self, known: Mapping[str, float]) -> Set[int] | None:
        """The pitches that still sound after the step that is known; None if none is."""
        field = self.fields[self._step]
        if field.name not in known:
            return None
        at = self._time + field.value_of(known[field.name])
        return {pitch for pitch, end in self._open.items() if end > at + _TOUCHING}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """Whatever the field can hold: with one row a note, any row can follow any other."""
        return None if field.is_categorical else field.interval

    def closing_rows(self) -> Rows:
        """No rows: the end of each note is known."""
        return np.zeros((0, len(self.fields)), dtype=np.float32)

    def notes(self) -> Notes:
        """Everything pushed so far and not forgotten, decoded."""
        rows = np.concatenate(self._rows) if self._rows else self.closing_rows()
        notes = self._encoder.decode(rows)
        return notes.shifted(self._before) if self._before else notes

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return all notes: the end of each is known."""
        played = self._listed
        first = len(played) - (self._n - self._forgotten)
        out = list(enumerate(played[first:], self._forgotten))
        self._rows, self._forgotten, self._before = [], self._n, self._time
        del played[:-MAX_HISTORY]
        return out

    def copy(self) -> RowTracker:
        """Another tracker that stands where this one does."""
        twin = copy.copy(self)
        twin._rows, twin._open, twin._played = [*self._rows], {**self._open}, [*self._played]
        twin._unlisted = [*self._unlisted]
        return twin


def _column(encoder: NoteEncoder, role: Role) -> int:
    found = [i for i, field in enumerate(encoder.fields) if field.role == role]
    fits = len(found) == 1 and (role == "pitch" or encoder.fields[found[0]].unit == "s")
    if not fits:
        raise FieldError(
            "the fields are not one each for pitch, step (s) and duration (s): "
            + ", ".join(f"{f.name} ({f.role}, {f.unit})" for f in encoder.fields),
            where=type(encoder).__name__,
            hint="give the encoder a tracker() of its own",
        )
    return found[0]
