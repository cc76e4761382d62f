"""Notes as the interval from the previous note, step, duration and loudness."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from notelstm.encoders.rows import as_rows
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Field, Mask, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.tracker import Tone, Tracker

__all__ = ["IntervalEncoder", "IntervalTracker"]

_WIDEST: Final = 127
_INTERVALS: Final = np.arange(-_WIDEST, _WIDEST + 1)

_FIELDS: Final = (
    Field.categorical(
        "interval",
        "other",
        values=_INTERVALS.tolist(),
        edges=[k - 0.5 for k in range(-_WIDEST, _WIDEST + 2)],
        unit="semitone",
    ),
    Field.continuous("step", "step", unit="s", low=0.0),
    Field.continuous("duration", "duration", unit="s", low=0.0),
    Field.continuous("loudness", "other", unit="share", low=1 / 127, high=1.0),
)


@final
@dataclass(frozen=True, kw_only=True)
class IntervalEncoder:
    """One row per note: the interval from the previous note, step, duration and loudness.

    A melody and its transposition differ in the first interval alone, which is measured from the
    anchor. Pitches and velocities are exact; onsets, from the first note, and durations have a
    relative error of 6e-8. Program, drums, track, tempo map and the silence before the first note
    are lost. The domain is all pieces.

    Attributes:
        anchor: The MIDI note before the first interval, 0 to 127.

    Raises:
        ConfigError: If the anchor is not a MIDI note.
    """

    anchor: int = 60

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.anchor <= 127:
            raise ConfigError(f"the anchor {self.anchor} is not a MIDI note from 0 to 127")

    @property
    def fields(self) -> tuple[Field, ...]:
        """Interval (255 classes), step and duration (seconds), loudness (1 / 127 to 1)."""
        return _FIELDS

    def encode(self, notes: Notes) -> Rows:
        """(N, 4) float32 rows; the first step is 0."""
        interval = np.diff(notes.pitch, prepend=self.anchor) + _WIDEST
        columns = [interval, notes.step, notes.duration, notes.velocity / 127]
        return np.stack(columns, axis=1).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        """Notes from (N, 4) rows; the first starts at its own step.

        Raises:
            EncodingError: If an entry is outside its field, or a pitch is not a MIDI note.
        """
        checked = as_rows(rows, self.fields).astype(np.float64)
        pitch = self.anchor + np.cumsum(checked[:, 0] - _WIDEST)
        outside = np.flatnonzero((pitch < 0) | (pitch > 127))
        if outside.size:
            row = int(outside[0])
            raise EncodingError(
                f"the intervals lead to pitch {pitch[row]:g}, which is not 0 to 127",
                where=f"row {row}",
                hint="sample only allowed entries, or repair the row",
            )
        start = np.cumsum(checked[:, 1])
        return Notes(
            start=start,
            end=start + checked[:, 2],
            pitch=pitch,
            velocity=np.rint(checked[:, 3] * 127),
        )

    def tracker(self) -> IntervalTracker:
        """A tracker at the start of a piece."""
        return IntervalTracker(self)


@final
class IntervalTracker(Tracker):
    """Decodes rows, and limits intervals to those that stay within the MIDI notes.

    Args:
        encoder: The encoder of the rows.
    """

    def __init__(self, encoder: IntervalEncoder) -> None:
        super().__init__(encoder.fields)
        self._notes: list[Note] = []
        self._num_returned = 0
        self._open: list[tuple[float, int]] = []
        self._pitch = encoder.anchor
        self._time = 0.0

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return self._num_returned + len(self._notes)

    @property
    def time(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    def push(self, row: Row) -> None:
        """Add the next note, (4,)."""
        interval, step, duration, loudness = row.tolist()
        self._pitch += int(interval) - _WIDEST
        self._time += step
        self._open = [(end, pitch) for end, pitch in self._open if end > self._time]
        end, velocity = self._time + duration, round(loudness * 127)
        self._open.append((end, self._pitch))
        self._notes.append(Note(self._time, end, self._pitch, velocity))

    def sounding(self, at: float) -> Set[Tone]:
        """The tones that sound `at` seconds after the start, at or after the latest onset."""
        return {Tone(pitch) for end, pitch in self._open if end > at}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The intervals that lead to a MIDI note; all values of other fields."""
        if field.name != "interval":
            return field.interval
        pitch = self._pitch + _INTERVALS
        return (pitch >= 0) & (pitch <= 127)

    def notes(self) -> Notes:
        """The notes that have not been returned."""
        if not self._notes:
            return Notes.empty()
        start, end, pitch, velocity, *_ = zip(*self._notes, strict=True)
        return Notes(start=start, end=end, pitch=pitch, velocity=velocity)

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return all notes, and drop them: the end of each is known."""
        finished = list(enumerate(self._notes, self._num_returned))
        self._notes, self._num_returned = [], self._num_returned + len(finished)
        return finished

    def copy(self) -> IntervalTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        other._notes, other._open = [*self._notes], [*self._open]
        return other
