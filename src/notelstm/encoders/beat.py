"""``BeatEncoder``: seven classes per note, with times in beats."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import PITCH, VELOCITY, as_rows
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Bounds, Field, Mask, Role, Row, Rows
from notelstm.notes import Note, Notes, TempoMap
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["TIME_SIGNATURES", "BeatEncoder", "BeatTracker"]

TIME_SIGNATURES: Final = (
    *("2/4", "3/4", "4/4", "5/4", "6/4", "2/2", "3/2", "4/2"),
    *("3/8", "4/8", "5/8", "6/8", "7/8", "9/8", "12/8"),
)
"""The default time signatures of a :class:`BeatEncoder`."""

_MAX_CELLS: Final = 100_000
"""Limits the memory of wrong settings."""
_MIDDLE_TEMPO: Final = 120.0
_PER_DOUBLING: Final = 24
_SLOWER: Final = 3 * _PER_DOUBLING
_FASTER: Final = 2 * _PER_DOUBLING
_ROUNDING: Final = 1e-6
"""Tolerance in cells for tempos that begin on a note."""


_TEMPO: Final = Field.categorical(
    "tempo",
    "tempo",
    values=(_MIDDLE_TEMPO * 2 ** (np.arange(-_SLOWER, _FASTER + 1.0) / _PER_DOUBLING)).tolist(),
    edges=(_MIDDLE_TEMPO * 2 ** (np.arange(-_SLOWER - 0.5, _FASTER + 1) / _PER_DOUBLING)).tolist(),
    unit="quarter notes per minute",
)


@final
@dataclass(frozen=True, kw_only=True)
class BeatEncoder:
    """One row per note in beats and bars, for pieces with a tempo map.

    A row has the time signature at the onset of the note, the step from the previous note, the
    position in the bar, the tempo from the onset, pitch, duration and velocity. Times are counted
    in cells, of which a quarter note has `per_beat`. The step alone determines the onset; position
    and time signature are inputs of the model. The tracker keeps the three consistent in any order
    of prediction: without a change of time signature, the position follows from the step, and a new
    time signature begins after the previous note.

    Pitches, time signatures and bar lines are exact. Onsets (from the first note) and durations are
    within half a cell, which does not accumulate in beats; velocities are within 2, tempos within
    1.5 % at every note. Between two onsets, the decoded tempo is that of the first, so that onsets
    in seconds drift by up to 1.5 % of the time, and a tempo change between onsets is moved to the
    next one. Notes longer than `longest` become `longest`, and those shorter than half a cell
    become one cell; longer rests lose whole bars. Bars are counted from the first statement of
    their time signature, backwards before the first one; without any, they are 4/4. A first time
    signature without a bar line before the next one is lost, as are program, drums, track and the
    silence before the first note.

    The domain is pieces with a tempo map, with tempos of 15 to 480 quarter notes per minute at the
    notes and the given time signatures, and pieces without notes.

    Attributes:
        per_beat: Cells per quarter note; a bar of each time signature has a whole number of them.
        longest: The longest step and duration in quarter notes, at least two bars of any time
            signature.
        time_signatures: The time signatures that have a class, such as ``"6/8"``.

    Raises:
        ConfigError: If the settings give no classes.

    Source:
        Positions, tempos and bars as in Huang and Yang, "Pop Music Transformer", 2020 (REMI), and
        one row per note as in Hsiao, Liu, Yeh and Yang, "Compound Word Transformer", 2021.

    Example:
        >>> beats = TempoMap(time_signature_beats=[1.0], numerators=[3], denominators=[4])
        >>> notes = Notes(start=[0, 0.5], end=[0.5, 1], pitch=[60, 64], tempo_map=beats)
        >>> encoder = BeatEncoder(time_signatures=("3/4",))
        >>> encoder.encode(notes)[:, 1:3].tolist()  # the first note is on the third beat
        [[0.0, 24.0], [12.0, 0.0]]
        >>> encoder.decode(encoder.encode(notes)).tempo_map == beats
        True
    """

    per_beat: int = 12
    longest: float = 16.0
    time_signatures: tuple[str, ...] = TIME_SIGNATURES

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "time_signatures", tuple(self.time_signatures))
        cells = self.longest * self.per_beat
        if not (self.per_beat >= 1 and 1 <= cells <= _MAX_CELLS and cells == int(cells)):
            raise ConfigError(
                f"{self.per_beat} cells per beat and {self.longest:g} beats do not give 1 to "
                f"{_MAX_CELLS} whole cells",
                hint="choose another per_beat or longest",
            )
        for time_signature in self.time_signatures:
            upper, _, lower = time_signature.partition("/")
            if not (upper.isdecimal() and lower.isdecimal() and int(upper) and int(lower)):
                raise ConfigError(
                    f"{time_signature!r} is not a time signature",
                    hint='give a fraction such as "3/4"',
                )
            if 4 * int(upper) * self.per_beat % int(lower):
                raise ConfigError(
                    f"a bar of {time_signature} has no whole number of cells with {self.per_beat} "
                    "cells per quarter note",
                    hint="choose another per_beat, or leave the time signature out",
                )
        if not self.time_signatures or len(set(self.time_signatures)) < len(self.time_signatures):
            raise ConfigError(
                f"the time signatures {self.time_signatures} are empty or repeat one",
                hint="give each once",
            )
        if cells < 2 * self.bars.max():
            raise ConfigError(
                f"longest {self.longest:g} is less than two bars of "
                f"{self.bars.max() / self.per_beat:g} beats",
                hint="choose a larger longest, or leave out the longest time signature",
            )

    @functools.cached_property
    def signatures(self) -> NDArray[np.int64]:
        """(M, 2) the numerator and the denominator of each time signature."""
        return np.array(
            [time_signature.split("/") for time_signature in self.time_signatures], dtype=np.int64
        )

    @functools.cached_property
    def bars(self) -> NDArray[np.int64]:
        """(M,) cells in a bar of each time signature."""
        return np.asarray(4 * self.signatures[:, 0] * self.per_beat // self.signatures[:, 1])

    def _cells(self, name: str, role: Role, first: int, count: int) -> Field:
        """A field with a class for each number of cells from `first`."""
        cells = np.arange(first, first + count)
        return Field.categorical(
            name,
            role,
            values=tuple(cells / self.per_beat),
            edges=tuple((np.append(cells, first + count) - 0.5) / self.per_beat),
            unit="beat",
        )

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """Time signature, step, position in the bar (beats), tempo, pitch, duration, velocity."""
        num_signatures, longest = len(self.time_signatures), round(self.longest * self.per_beat)
        return (
            Field.categorical(
                "time_signature",
                "time_signature",
                values=range(num_signatures),
                edges=[k - 0.5 for k in range(num_signatures + 1)],
            ),
            self._cells("step", "step", 0, longest + 1),
            self._cells("position", "position", 0, int(self.bars.max())),
            _TEMPO,
            PITCH,
            self._cells("duration", "duration", 1, longest),
            VELOCITY,
        )

    def encode(self, notes: Notes) -> Rows:
        """(N, 7) float32 class ids.

        Raises:
            EncodingError: If the piece has no tempo map, or a tempo or time signature of it has no
                class.
        """
        if not len(notes):
            return np.zeros((0, 7), dtype=np.float32)
        beats = _tempo_map(notes)
        begin, end = (beats.beats_at(at) * self.per_beat for at in (notes.start, notes.end))
        at = np.rint(begin)
        time_signature, position = self._positions(beats, at)
        longest = round(self.longest * self.per_beat)
        bar, step = self.bars[time_signature], np.diff(at, prepend=at[:1])
        rows = np.zeros((len(notes), 7), dtype=np.float32)
        rows[:, 0] = time_signature
        # Long rests lose whole bars, so that the position still follows from the step.
        rows[:, 1] = step - np.maximum(0, np.ceil((step - longest) / bar)) * bar
        rows[:, 2] = position
        rows[:, 3] = self._tempos(beats, at)
        rows[:, 4] = notes.pitch
        rows[:, 5] = np.rint(end - begin).clip(1, longest) - 1
        rows[:, 6] = notes.velocity // 4
        return rows

    def _positions(
        self, beats: TempoMap, at: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """(N,) the class of the time signature at each cell, and the cells since the bar line."""
        starts, names = [0.0], ["4/4"]
        if beats.time_signature_beats.size:
            starts = np.rint(beats.time_signature_beats * self.per_beat).tolist()
            signatures = zip(beats.numerators, beats.denominators, strict=True)
            names = [f"{upper}/{lower}" for upper, lower in signatures]
        here = np.maximum(np.searchsorted(starts, at, side="right") - 1, 0)
        class_of = {time_signature: k for k, time_signature in enumerate(self.time_signatures)}
        time_signature = np.array([class_of.get(name, -1) for name in names])[here]
        if time_signature.min() < 0:
            i = int(time_signature.argmin())
            raise EncodingError(
                f"time signature {names[here[i]]} is not one of the encoder's, "
                f"{', '.join(self.time_signatures)}",
                where=f"note {i}",
                hint="create the encoder with time_signatures=(...) that include it",
            )
        # Bars are counted from the first statement of a time signature.
        new = np.diff(time_signature, prepend=-1) != 0
        first = np.maximum.accumulate(np.where(new, np.arange(len(at)), 0))
        return time_signature, (at - np.array(starts)[here[first]]) % self.bars[time_signature]

    def _tempos(self, beats: TempoMap, at: NDArray[np.float64]) -> NDArray[np.intp]:
        """(N,) the class of the tempo at each cell."""
        knots = beats.beats_at(beats.seconds) * self.per_beat
        here = np.maximum(np.searchsorted(knots, at + _ROUNDING, side="right") - 1, 0)
        tempo, (low, *borders, high) = beats.tempos[here], _TEMPO.edges
        bad = np.flatnonzero((tempo < low) | (tempo > high))
        if bad.size:
            raise EncodingError(
                f"tempo {tempo[bad[0]]:g} is not 15 to 480 quarter notes per minute",
                where=f"note {bad[0]}",
                hint="halve or double the note values, or use an encoder in seconds",
            )
        return np.searchsorted(borders, tempo, side="right")

    def decode(self, rows: Rows) -> Notes:
        """Notes from (N, 7) class ids, with a tempo map; the first starts at its own step.

        Raises:
            EncodingError: If a class does not exist, or a position does not follow from the step.
        """
        tracker = self.tracker()
        for row in as_rows(rows, self.fields):
            tracker.push(row)
        return tracker.notes()

    def tracker(self) -> BeatTracker:
        """A tracker at the start of a piece."""
        return BeatTracker(
            self.fields, per_beat=self.per_beat, bars=self.bars, signatures=self.signatures
        )

    def bounds(
        self, notes: Notes, rows: Rows, cells: Mapping[Role, Bounds]
    ) -> Mapping[str, Bounds]:
        """Convert the cells to beats, by the tempo of the previous row.

        Steps are measured from the decoded onset of the previous note. The cells of time signature,
        position and tempo are the classes of the row: their cost is a part of the cost of the
        onset.
        """
        ids = rows.astype(np.int64)
        tempo = np.array(_TEMPO.values)[ids[:, 3]] / 60  # beats per second
        begin = _tempo_map(notes).beats_at(notes.start)
        error = begin - np.rint(begin * self.per_beat) / self.per_beat
        previous = np.maximum(np.arange(len(ids)) - 1, 0)
        steps = tuple(end * tempo[previous] + error[previous] for end in cells["step"])
        lengths = tuple(end * tempo for end in cells["duration"])
        own = {}
        for field, classes in zip(self.fields, ids.T, strict=True):
            edges = np.array(field.edges)
            own[field.name] = (edges[classes], edges[classes + 1])
        return {
            **own,
            "step": (steps[0], steps[1]),
            "duration": (lengths[0], lengths[1]),
            "pitch": cells["pitch"],
            "velocity": cells["velocity"],
        }


def _tempo_map(notes: Notes) -> TempoMap:
    if notes.tempo_map is None:
        raise EncodingError(
            "the notes have no tempo map",
            where="notes.tempo_map",
            hint="read them from a file that has one, give Notes(tempo_map=TempoMap(...)), "
            "or use an encoder in seconds",
        )
    return notes.tempo_map


@final
class BeatTracker(Tracker):
    """Decodes rows in beats, and limits them to consistent steps and positions.

    Args:
        fields: The fields of the encoder: time signature, step, position, tempo, pitch, duration,
            velocity.
        per_beat: Cells per quarter note.
        bars: (M,) cells per bar of each time signature.
        signatures: (M, 2) the numerator and the denominator of each time signature.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        per_beat: int,
        bars: NDArray[np.int64],
        signatures: NDArray[np.int64],
    ) -> None:
        super().__init__(fields)
        self._per_beat: Final = per_beat
        self._signatures: Final = signatures
        self._bars: Final = bars
        self._lengths: Final[list[int]] = bars.tolist()
        self._steps: Final = np.arange(fields[1].classes or 0)
        self._positions: Final = np.arange(fields[2].classes or 0)
        self._tempos: Final = fields[3].values
        self._velocities: Final = fields[6].values
        self._rows: list[list[int]] = []
        self._at: list[int] = []
        self._latest: list[tuple[float, Tone]] = []
        self._time = 0.0
        self._num_notes = 0
        self._dropped = False
        # (end in cells, number, onset in seconds, pitch, velocity)
        self._open: list[tuple[int, int, float, int, int]] = []
        self._done: list[tuple[int, Note]] = []

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return self._num_notes

    @property
    def time(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    def push(self, row: Row) -> None:
        """Add the next note, (7,).

        Raises:
            EncodingError: If its position does not follow from time signature and step.
        """
        ids = [int(entry) for entry in row.tolist()]
        time_signature, step, position, tempo, pitch, duration, velocity_class = ids
        if not self._fits(time_signature, step, position):
            raise EncodingError(
                f"position {position} of a bar of {self._lengths[time_signature]} cells does not "
                f"follow from a step of {step} cells",
                where=f"row {self.num_notes}",
                hint="sample only allowed entries, or repair the row",
            )
        at = self._at[-1] + step if self._rows else step
        # Notes that end by this onset end in the tempo of the previous note.
        self._done += [self._ended(note) for note in self._open if note[0] <= at]
        self._open = [note for note in self._open if note[0] > at]
        previous = self._rows[-1][3] if self._rows else tempo
        self._time += step * 60 / (self._tempos[previous] * self._per_beat)
        self._rows.append(ids)
        self._at.append(at)
        self._latest.append((self._time, Tone(pitch)))
        velocity = int(self._velocities[velocity_class])
        self._open.append((at + duration + 1, self._num_notes, self._time, pitch, velocity))
        self._num_notes += 1

    def _ended(self, note: tuple[int, int, float, int, int]) -> tuple[int, Note]:
        """The number of a sounding note, and the note with its end in the current tempo."""
        end, number, start, pitch, velocity = note
        left = (end - self._at[-1]) / self._per_beat * self.seconds_per_unit
        return number, Note(start, self._time + left, pitch, velocity)

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
        return {Tone(pitch) for end, _, _, pitch, _ in self._open if end > now}

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
        now, scale = self._at[-1] if self._at else 0, self._per_beat
        return [((end - now) / scale, Tone(pitch)) for end, _, _, pitch, _ in self._open]

    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        """The tones that still sound after the fixed step; None if no step is fixed."""
        if "step" not in known:
            return None
        at = self._at[-1] + int(known["step"]) if self._at else 0
        return {Tone(pitch) for end, _, _, pitch, _ in self._open if end > at}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The consistent time signatures, steps and positions; None for other fields."""
        time_signature, step, position = (
            known.get(name) for name in ("time_signature", "step", "position")
        )
        if field.role == "time_signature":
            return self._allowed_time_signatures(step, position)
        if field.role == "step":
            return self._allowed_steps(time_signature, position)
        if field.role == "position":
            return self._allowed_positions(time_signature, step)
        return None

    def _allowed_time_signatures(self, step: float | None, position: float | None) -> Mask:
        place = 0 if position is None else position
        allowed = self._bars > place
        if self._rows and step is not None:
            last, _, before, *_ = self._rows[-1]
            allowed &= step > place
            allowed[last] = position is None or position == (before + step) % self._lengths[last]
        return allowed

    def _allowed_steps(self, time_signature: float | None, position: float | None) -> Mask:
        if not self._rows:
            return self._steps >= 0
        last, _, before, *_ = self._rows[-1]
        place = 0 if position is None else position
        continues = self._steps >= 0
        if position is not None:
            continues = (before + self._steps) % self._lengths[last] == position
        if time_signature == last:
            return continues
        changes = self._steps > place
        if time_signature is not None:
            return changes
        others = np.delete(self._bars, last)
        return continues | changes if np.any(others > place) else continues

    def _allowed_positions(self, time_signature: float | None, step: float | None) -> Mask:
        longest = self._bars.max() if time_signature is None else self._lengths[int(time_signature)]
        if not self._rows:
            return self._positions < longest
        last, _, before, *_ = self._rows[-1]
        continues = self._positions < self._lengths[last]
        if step is not None:
            continues = self._positions == (before + step) % self._lengths[last]
        if time_signature == last:
            return continues
        if time_signature is None:
            longest = np.delete(self._bars, last).max(initial=0)
        changes = self._positions < (longest if step is None else min(longest, step))
        return changes if time_signature is not None else continues | changes

    def notes(self) -> Notes:
        """The notes that have not been returned, with a tempo map if none have."""
        if not self._rows:
            return Notes.empty()
        if self._dropped:
            notes = sorted([*self._done, *map(self._ended, self._open)])
            if not notes:
                return Notes.empty()
            start, end, pitch, velocity = zip(*(note for _, note in notes), strict=True)
            return Notes(start=start, end=end, pitch=pitch, velocity=velocity)
        at = np.array(self._at)
        time_signature, _, position, tempo, pitch, duration, velocity = np.array(self._rows).T
        beats = self._tempo_map(at, time_signature, position, np.array(self._tempos)[tempo])
        return Notes(
            start=beats.seconds_at(at / self._per_beat),
            end=beats.seconds_at((at + duration + 1) / self._per_beat),
            pitch=pitch,
            velocity=np.array(self._velocities)[velocity],
            tempo_map=beats,
        )

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes that have ended, or all of them, and drop them."""
        finished = self._done
        if include_sounding:
            finished, self._open = [*finished, *map(self._ended, self._open)], []
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
        lines, signatures = at[runs] - position[runs], self._signatures[time_signature[runs]]
        lines[0] %= self._lengths[time_signature[0]]
        if len(lines) > 1 and lines[0] >= lines[1]:
            lines, signatures = lines[1:], signatures[1:]
        return TempoMap(
            seconds=np.append(0.0, seconds),
            tempos=tempos,
            time_signature_beats=lines / self._per_beat,
            numerators=signatures[:, 0],
            denominators=signatures[:, 1],
        )
