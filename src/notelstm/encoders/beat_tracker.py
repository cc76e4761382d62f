"""``BeatTracker``: rows in beats, one after another, and the entries that may follow."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import RowConstraints, is_truncated
from notelstm.encoders.time_signatures import SignatureClasses
from notelstm.errors import EncodingError
from notelstm.fields import Field, Mask, Role, Row, no_row
from notelstm.notes import Note, Notes, TempoMap
from notelstm.parts import ONE_PART, PartMap
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["BeatTracker"]

_CONSISTENT: Final[tuple[Role, ...]] = ("time_signature", "step", "position")
"""The roles of fields that depend on each other, which are also their names."""


class _Sounding(NamedTuple):
    """A note that has begun: its end in cells, number, onset in seconds, tone and velocity."""

    end: int
    number: int
    start: float
    tone: Tone
    velocity: int


@final
class BeatTracker(Tracker):
    """Decodes rows in beats, and limits them to consistent steps and positions.

    Args:
        fields: Those of the encoder, in its order.
        per_beat: Cells per quarter note.
        signatures: The time signatures of the classes.
        constraints: The entries that the encoder allows.
        parts: The part map of the encoder.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        per_beat: int,
        signatures: SignatureClasses,
        constraints: RowConstraints,
        parts: PartMap | None,
    ) -> None:
        super().__init__(fields, ONE_PART if parts is None else parts.classes)
        self._part_map: Final = parts
        self._constraints: Final = constraints
        self._per_beat: Final = per_beat
        self._signatures: Final = signatures
        self._bars: Final = signatures.bars
        self._lengths: Final[list[int]] = signatures.bars.tolist()
        self._tempos: Final = fields[3].values
        self._velocities: Final = fields[6].values
        self._instrument: Final = slice(7, 7 if parts is None else 8)
        self._previous = no_row(fields)
        self._rows: list[list[int]] = []
        self._at: list[int] = []
        self._latest: list[tuple[float, Tone]] = []
        self._time = 0.0
        self._num_notes = 0
        self._dropped = False
        self._open: list[_Sounding] = []
        self._done: list[tuple[int, Note]] = []

    @property
    def previous(self) -> Row:
        """(F,) the latest row, :func:`~notelstm.fields.no_row` before the first."""
        return self._previous

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return self._num_notes

    @property
    def time(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    def push(self, row: Row) -> None:
        """Add the next note, (F,).

        Raises:
            EncodingError: If its position does not follow from time signature and step.
        """
        ids = [int(entry) for entry in row.tolist()]
        time_signature, step, position, tempo, pitch, duration, velocity_class, *_ = ids
        if not self._fits(time_signature, step, position):
            raise EncodingError(
                f"position {position} of a bar of {self._lengths[time_signature]} cells does not "
                f"follow from a step of {step} cells",
                where=f"row {self.num_notes}",
                hint="sample only allowed entries, or repair the row",
            )
        at = self._at[-1] + step if self._rows else step
        # Notes that end by this onset end in the tempo of the previous note.
        self._done += self._in_order_of_ends([note for note in self._open if note.end <= at])
        self._open = [note for note in self._open if note.end > at]
        previous = self._rows[-1][3] if self._rows else tempo
        self._time += step * 60 / (self._tempos[previous] * self._per_beat)
        self._previous = np.array(row, dtype=np.float32)
        self._rows.append(ids)
        self._at.append(at)
        tone = Tone(pitch, *ids[self._instrument])
        self._latest.append((self._time, tone))
        velocity = int(self._velocities[velocity_class])
        note = _Sounding(at + duration + 1, self._num_notes, self._time, tone, velocity)
        self._open.append(note)
        self._num_notes += 1

    def _in_order_of_ends(self, notes: Sequence[_Sounding]) -> list[tuple[int, Note]]:
        # The sort is stable: of notes that end together, the first comes first.
        return [self._ended(note) for note in sorted(notes, key=lambda note: note.end)]

    def _ended(self, note: _Sounding) -> tuple[int, Note]:
        """The number of a sounding note, and the note with its end in the current tempo."""
        left = (note.end - self._at[-1]) / self._per_beat * self.seconds_per_unit
        pitch, k = note.tone
        part = self.parts[k]
        return note.number, Note(
            note.start, self._time + left, pitch, note.velocity, part.program, part.drum, k
        )

    def _fits(self, time_signature: int, step: int, position: int) -> bool:
        bar = self._lengths[time_signature]
        if not self._rows:
            return position < bar
        last, _, place, *_ = self._rows[-1]
        if time_signature == last:
            return position == (place + step) % bar
        return position < min(bar, step)

    def sounding(self, at: float) -> Set[Tone]:
        """The tones that sound `at` seconds after the start, at or after the latest onset."""
        if not self._rows:
            return set()
        tempo = self._tempos[self._rows[-1][3]]
        now = self._at[-1] + (at - self._time) * tempo * self._per_beat / 60
        return {note.tone for note in self._open if note.end > now}

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest `count` notes, in order."""
        return self._latest[-count:]

    @property
    def position(self) -> float:
        """Beats from the bar line to the latest note."""
        return self._rows[-1][2] / self._per_beat if self._rows else 0.0

    @property
    def seconds_per_unit(self) -> float:
        """Seconds per beat in the tempo of the latest note, or else in the middle tempo."""
        return 60 / self._tempos[self._rows[-1][3] if self._rows else len(self._tempos) // 2]

    def remaining(self) -> Sequence[tuple[float, Tone]]:
        """The beats left and the tone of each note that sounds beyond the latest onset."""
        now = self._at[-1] if self._at else 0
        return [((note.end - now) / self._per_beat, note.tone) for note in self._open]

    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        """The tones that still sound after the fixed step; None if no step is fixed."""
        if "step" not in known:
            return None
        at = self._at[-1] + int(known["step"]) if self._at else 0
        return {note.tone for note in self._open if note.end > at}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The consistent time signatures, steps and positions, and what the encoder allows.

        Some class is always left: positions limit the steps only by whole bars, of which the
        longest step has two, and notes of a cell limit no step but 0.
        """
        consistent = self._consistent(field, known)
        allowed = self._constraints.allowed(field, known, self._previous)
        if consistent is None or allowed is None:
            return allowed if consistent is None else consistent
        return np.logical_and(consistent, allowed)

    def _consistent(self, field: Field, known: Mapping[str, float]) -> NDArray[np.bool_] | None:
        """The consistent time signatures, steps and positions; None for other fields.

        This is :meth:`_fits` for the classes of the field, with the best entries of the others that
        are not known yet.
        """
        if field.role not in _CONSISTENT:
            return None
        classes = np.arange(field.classes or 0)
        signature, step, position = (
            classes if field.role == role else known.get(role) for role in _CONSISTENT
        )
        bars = self._bars.copy()
        last, before = None, 0
        if self._rows:
            last, _, before, *_ = self._rows[-1]
            bars[last] = 0  # a new bar can only begin with another time signature
        bar = bars.max() if signature is None else bars[np.asarray(signature, np.intp)]
        place = 0 if position is None else position
        mask = place < bar
        if last is not None:
            mask = mask & (place < (np.inf if step is None else step))
            length = self._lengths[last]
            follows = position is None or (
                position < length if step is None else position == (before + step) % length
            )
            mask = mask | (follows & (signature is None or signature == last))
        mask = np.broadcast_to(mask, classes.shape)
        # Of fixed entries that contradict each other, the last one is refused.
        return mask if mask.any() else np.ones_like(mask)

    def notes(self) -> Notes:
        """The notes that have not been returned, with a tempo map if none have."""
        truncated = is_truncated(self._previous[None], self.fields)
        if self._dropped or not self._rows:
            notes = [note for _, note in sorted([*self._done, *map(self._ended, self._open)])]
            return Notes(
                start=[note.start for note in notes],
                end=[note.end for note in notes],
                pitch=[note.pitch for note in notes],
                velocity=[note.velocity for note in notes],
                truncated=truncated,
                **self._instruments(np.array([note.track for note in notes], np.int64)),
            )
        at = np.array(self._at)
        columns = np.array(self._rows).T
        time_signature, _, position, tempo, pitch, duration, velocity, *_ = columns
        beats = self._tempo_map(at, time_signature, position, np.array(self._tempos)[tempo])
        return Notes(
            start=beats.seconds_at(at / self._per_beat),
            end=beats.seconds_at((at + duration + 1) / self._per_beat),
            pitch=pitch,
            velocity=np.array(self._velocities)[velocity],
            tempo_map=beats,
            truncated=truncated,
            **self._instruments(*columns[self._instrument]),
        )

    def _instruments(self, *classes: NDArray[np.int64]) -> dict[str, Any]:
        """The columns of the instruments of (N,) classes; none without parts."""
        return {} if self._part_map is None else self._part_map.columns_of(*classes)

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes that have ended, or all of them, and drop them."""
        finished = self._done
        if include_sounding:
            finished, self._open = [*finished, *self._in_order_of_ends(self._open)], []
        self._done, self._dropped = [], True
        del self._rows[:-1], self._at[:-1], self._latest[:-MAX_HISTORY]
        return finished

    def copy(self) -> BeatTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        for name in ("_rows", "_at", "_latest", "_open", "_done"):
            setattr(other, name, [*getattr(self, name)])
        return other

    def _tempo_map(
        self,
        at: NDArray[np.int64],
        time_signature: NDArray[np.int64],
        position: NDArray[np.int64],
        tempo: NDArray[np.float64],
    ) -> TempoMap:
        changes = np.flatnonzero(np.diff(tempo)) + 1
        knots, tempos = np.append(0, at[changes]), np.append(tempo[0], tempo[changes])
        last = np.append(np.diff(knots) > 0, True)
        knots, tempos = knots[last], tempos[last]
        seconds = np.cumsum(np.diff(knots) * 60 / (tempos[:-1] * self._per_beat))
        runs = np.append(0, np.flatnonzero(np.diff(time_signature)) + 1)
        lines, classes = at[runs] - position[runs], time_signature[runs]
        lines[0] %= self._lengths[classes[0]]
        if len(lines) > 1 and lines[0] >= lines[1]:
            lines, classes = lines[1:], classes[1:]
        return TempoMap(
            seconds=np.append(0.0, seconds),
            tempos=tempos,
            time_signature_beats=lines / self._per_beat,
            numerators=self._signatures.numerators[classes],
            denominators=self._signatures.denominators[classes],
        )
