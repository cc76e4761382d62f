"""The tracker that serves every encoder of one row a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Final, final

import numpy as np

from notelstm.errors import FieldError
from notelstm.fields import Field, Mask, Role, Row, Rows
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, Tracker, TrackingEncoder

__all__ = ["RowTracker", "tracker_of"]

_TOUCHING: Final = 1e-6
"""Seconds by which a note may seem to outlast the onset that it ends at, as float64 has it."""


def tracker_of(encoder: NoteEncoder) -> Tracker:
    """The encoder's own tracker, or a :class:`RowTracker`, at the start of a piece.

    Raises:
        FieldError: If the encoder has neither a tracker nor the fields that a RowTracker needs.
    """
    return encoder.tracker() if isinstance(encoder, TrackingEncoder) else RowTracker(encoder)


@final
class RowTracker:
    """Decodes row by row for an encoder of one row a note.

    It needs a field of each of the roles pitch, step and duration, the latter two in seconds.

    Args:
        encoder: The encoder whose rows are pushed.

    Raises:
        FieldError: If a field is missing; such an encoder needs a tracker of its own.
    """

    def __init__(self, encoder: NoteEncoder) -> None:
        self._encoder: Final = encoder
        # An encoder may make its fields anew each time it is asked.
        self._fields: Final = encoder.fields
        self._step: Final = _column(encoder, "step")
        self._pitch: Final = _column(encoder, "pitch")
        self._duration: Final = _column(encoder, "duration")
        self._rows: list[Row] = []
        self._open: list[tuple[float, int]] = []
        self._played: list[tuple[float, int]] = []
        self._clock = 0.0

    @property
    def n(self) -> int:
        """How many notes have begun."""
        return len(self._rows)

    @property
    def clock(self) -> float:
        """The onset of the latest note, seconds."""
        return self._clock

    def push(self, row: Row) -> None:
        """Take in the next note, (F,)."""
        fields = self._fields
        self._clock += fields[self._step].value_of(float(row[self._step]))
        end = self._clock + fields[self._duration].value_of(float(row[self._duration]))
        pitch = int(fields[self._pitch].value_of(float(row[self._pitch])))
        self._open = [(e, p) for e, p in self._open if e > self._clock]
        self._open.append((end, pitch))
        self._played.append((self._clock, pitch))
        self._rows.append(np.array(row, dtype=np.float32))

    def sounding(self, at: float) -> Set[int]:
        """The pitches that sound `at` seconds after the start, at or after the latest onset."""
        return {pitch for end, pitch in self._open if end > at}

    def latest(self, count: int) -> Sequence[tuple[float, int]]:
        """Onset (s) and pitch of the latest `count` notes, in order."""
        return self._played[-count:]

    @property
    def place(self) -> float:
        """The onset of the latest note, seconds."""
        return self._clock

    @property
    def pace(self) -> float:
        """1: steps are in seconds."""
        return 1.0

    def remaining(self) -> Sequence[tuple[float, int]]:
        """How many seconds longer each note lasts that sounds beyond the latest onset."""
        return [(end - self._clock, pitch) for end, pitch in self._open if end > self._clock]

    def overlapping(self, known: Mapping[str, float]) -> Set[int] | None:
        """The pitches that still sound after the step that is known; None if none is."""
        field = self._fields[self._step]
        if field.name not in known:
            return None
        at = self._clock + field.value_of(known[field.name])
        return {pitch for end, pitch in self._open if end > at + _TOUCHING}

    def legal(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """Whatever the field can hold: with one row a note, any row can follow any other."""
        return None if field.is_categorical else field.interval

    def closing(self) -> Rows:
        """Nothing: every note says when it ends."""
        return np.zeros((0, len(self._fields)), dtype=np.float32)

    def notes(self) -> Notes:
        """Everything pushed so far, decoded."""
        return self._encoder.decode(np.stack(self._rows) if self._rows else self.closing())


def _column(encoder: NoteEncoder, role: Role) -> int:
    found = [i for i, field in enumerate(encoder.fields) if field.role == role]
    fits = len(found) == 1 and (role == "pitch" or encoder.fields[found[0]].unit == "s")
    if not fits:
        raise FieldError(
            "rows of one note have one field each for pitch, step (s) and duration (s)",
            got=", ".join(f"{f.name} ({f.role}, {f.unit})" for f in encoder.fields),
            where=type(encoder).__name__,
            fix="give the encoder a tracker() of its own",
        )
    return found[0]
