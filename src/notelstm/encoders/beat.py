"""``BeatEncoder``: seven classes per note, with times in beats."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.beat_tracker import BeatTracker
from notelstm.encoders.rows import (
    END,
    PITCH,
    VELOCITY,
    AscendingRows,
    RowConstraints,
    as_rows,
    ascending,
    ends_of,
    snapped,
)
from notelstm.encoders.time_signatures import TIME_SIGNATURES, SignatureClasses
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Bounds, Field, Role, Rows
from notelstm.notes import Notes, TempoMap
from notelstm.parts import PartMap

__all__ = ["BeatEncoder"]

_MAX_CELLS: Final = 100_000
"""Limits the memory of wrong settings."""
_MIDDLE_TEMPO: Final = 120.0
_PER_DOUBLING: Final = 24
_SLOWER: Final = 3 * _PER_DOUBLING
_FASTER: Final = 2 * _PER_DOUBLING
_ROUNDING: Final = 1e-6
"""Cells within which two times are equal."""


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

    **Accuracy.** Pitches are exact. Onsets (from the first note) and durations are within half a
    cell, which does not accumulate in beats; velocities are within 2, tempos within 1.5 % at every
    note. Between two onsets, the decoded tempo is that of the first, so that onsets in seconds
    drift by up to 1.5 % of the time, and a tempo change between onsets is moved to the next one.

    **Time signatures** may change at any cell, which starts a bar. One of `time_signatures` is
    exact, with its bar lines. Any other becomes the one with the nearest length of bar, if possible
    with bar lines that fit, as they do for every time signature of a MIDI file with the default
    settings: 13/4 in bars of 13/8, and 7/32, which has no whole number of cells, in bars of 7/16.
    Bars are counted from the first statement of a class, backwards before the first one, so that a
    restatement within a bar has no effect; a piece without any is in 4/4. A first time signature
    without a bar line before the next one is lost.

    **Limits.** Notes longer than `longest` become `longest`, and those shorter than half a cell
    become one cell; longer rests lose whole bars. Tempos outside 15 to 480 quarter notes per minute
    become the slowest or fastest class. :meth:`changes` counts the notes that are concerned.
    Program, drums, track and the silence before the first note are lost.

    **Instruments.** With a part map, each note also has the class of its part, and is decoded with
    the part's program, percussion and track name, and the class as its track. The notes of a cell
    are then sorted by class and pitch, and of a pitch that a part repeats in a cell the first note
    remains, with the greatest duration and velocity. :meth:`allowed_classes` excludes all other
    rows in training, scoring and generation.

    **Ends.** With `ends`, the last field of a row is whether the note is the last of its piece,
    which no note of truncated :class:`~notelstm.notes.Notes` is. Rows that do not reach an end are
    decoded as truncated notes.

    The domain is pieces with a tempo map, and pieces without notes.

    Attributes:
        per_beat: Cells per quarter note; a bar of each time signature has a whole number of them.
        longest: The longest step and duration in quarter notes, at least two bars of any time
            signature.
        time_signatures: The time signatures that have a class, such as ``"6/8"``. The default is
            all in whole notes to sixteenths with bars of at most two whole notes.
        parts: The classes of instruments; None for rows without instruments.
        ends: Whether rows have the end of the piece.

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
        >>> BeatEncoder(time_signatures=("4/4",)).changes(notes)
        {'in 3/4, encoded as 4/4': 2}
    """

    per_beat: int = 12
    longest: float = 16.0
    time_signatures: tuple[str, ...] = TIME_SIGNATURES
    parts: PartMap | None = None
    ends: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "time_signatures", tuple(self.time_signatures))
        cells = self.longest * self.per_beat
        if not (self.per_beat >= 1 and 1 <= cells <= _MAX_CELLS and cells == int(cells)):
            raise ConfigError(
                f"{self.per_beat} cells per beat and {self.longest:g} beats do not give 1 to "
                f"{_MAX_CELLS} whole cells",
                hint="choose another per_beat or longest",
            )
        if cells < 2 * self.bars.max():
            raise ConfigError(
                f"longest {self.longest:g} is less than two bars of "
                f"{self.bars.max() / self.per_beat:g} beats",
                hint="choose a larger longest, or leave out the longest time signature",
            )

    @functools.cached_property
    def _signatures(self) -> SignatureClasses:
        return SignatureClasses(self.time_signatures, self.per_beat)

    @property
    def bars(self) -> NDArray[np.int64]:
        """(M,) cells in a bar of each time signature."""
        return self._signatures.bars

    @property
    def _longest(self) -> int:
        """The longest step and duration in cells."""
        return round(self.longest * self.per_beat)

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """Time signature, step, position, tempo, pitch, duration, velocity; see `parts`, `ends`."""
        num_signatures = len(self.time_signatures)
        return (
            Field.categorical(
                "time_signature",
                "time_signature",
                values=range(num_signatures),
                edges=[k - 0.5 for k in range(num_signatures + 1)],
            ),
            self._cells("step", "step", 0, self._longest + 1),
            self._cells("position", "position", 0, int(self.bars.max())),
            _TEMPO,
            PITCH,
            self._cells("duration", "duration", 1, self._longest),
            VELOCITY,
            *(() if self.parts is None else (self.parts.field(),)),
            *((END,) if self.ends else ()),
        )

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

    def encode(self, notes: Notes) -> Rows:
        """(N, F) float32 class ids of the fields; with a part map, of :meth:`snapped` notes.

        Raises:
            EncodingError: If the piece has no tempo map, or the part map refuses a note.
        """
        return self._encoded(snapped(self, notes))[0]

    def snapped(self, notes: Notes) -> Notes | None:
        """The notes that the rows encode with a part map, with onsets and durations of whole cells.

        Returns:
            None without a part map: the rows then encode the notes as they are.

        Raises:
            EncodingError: If the piece has no tempo map, or the part map refuses a note.
        """
        if self.parts is None or not len(notes):
            return None
        beats = _tempo_map(notes)
        begin, end = (beats.beats_at(at) * self.per_beat for at in (notes.start, notes.end))
        at, length = np.rint(begin), np.maximum(1, np.rint(end - begin))
        start, end = (beats.seconds_at(cell / self.per_beat) for cell in (at, at + length))
        # Rounded first: notes must be in the order of their onsets.
        return ascending(replace(notes, start=start, end=end), self.parts)

    def changes(self, notes: Notes) -> Mapping[str, int]:
        """The number of notes that rows do not hold exactly, by reason, beside velocities.

        Raises:
            EncodingError: If the piece has no tempo map, or the part map refuses a note.
        """
        counts = {why: int(changed.sum()) for why, changed in self._encoded(notes)[1].items()}
        counts["that repeat a pitch within a cell, merged"] = len(notes) - len(snapped(self, notes))
        return {why: count for why, count in counts.items() if count}

    def _encoded(self, notes: Notes) -> tuple[Rows, dict[str, NDArray[np.bool_]]]:
        """The row of each note, and the notes (N,) that they do not hold exactly, by reason."""
        rows = np.zeros((len(notes), len(self.fields)), dtype=np.float32)
        if not len(notes):
            return rows, {}
        beats, longest = _tempo_map(notes), self._longest
        begin, end = (beats.beats_at(at) * self.per_beat for at in (notes.start, notes.end))
        at, length = np.rint(begin), np.rint(end - begin)
        time_signature, position, changed = self._signatures.positions(beats, at)
        bar, step = self.bars[time_signature], np.diff(at, prepend=at[:1])
        # Long rests lose whole bars, so that the position still follows from the step.
        lost = np.maximum(0, np.ceil((step - longest) / bar)) * bar
        # The tempo of a note is the one at its cell; a tempo may begin at it, but for rounding.
        knots = beats.beats_at(beats.seconds) * self.per_beat
        here = np.maximum(np.searchsorted(knots, at + _ROUNDING, side="right") - 1, 0)
        tempo, (slowest, *borders, fastest) = beats.tempos[here], _TEMPO.edges
        columns = (
            time_signature,
            step - lost,
            position,
            np.searchsorted(borders, tempo, side="right"),
            notes.pitch,
            length.clip(1, longest) - 1,
            notes.velocity // 4,
            *(() if self.parts is None else (self.parts.classes_of(notes),)),
            *((ends_of(notes),) if self.ends else ()),
        )
        for k, column in enumerate(columns):
            rows[:, k] = column
        off = np.maximum(np.abs(begin - at), np.abs(end - begin - length))
        before = np.searchsorted(knots, at - _ROUNDING) - 1
        return rows, {
            **changed,
            "at a tempo outside 15 to 480, encoded as the nearest": (tempo < slowest)
            | (tempo > fastest),
            "after a tempo change between two onsets": before > np.append(before[:1], here[:-1]),
            "after a rest that loses whole bars": lost > 0,
            f"longer than {self.longest:g} beats, shortened": length > longest,
            "shorter than half a cell, lengthened to one": length < 1,
            f"with times rounded to 1/{self.per_beat} beat": off > _ROUNDING,
            "that begin with an earlier one after rounding": (step == 0)
            & (np.diff(begin, prepend=begin[:1]) > _ROUNDING),
        }

    def decode(self, rows: Rows) -> Notes:
        """Notes with a tempo map from (N, F) class ids; the first starts at its own step.

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
            self.fields,
            per_beat=self.per_beat,
            signatures=self._signatures,
            constraints=RowConstraints(self),
            parts=self.parts,
        )

    @functools.cached_property
    def _ascending(self) -> AscendingRows:
        return AscendingRows(self.fields)

    @functools.cached_property
    def limited_fields(self) -> tuple[str, ...]:
        """Step, instrument and pitch with a part map, else none."""
        return () if self.parts is None else self._ascending.fields

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        """The classes with which the notes of a cell ascend, as in a ConstrainingEncoder.

        The tracker also excludes rows with inconsistent positions.
        """
        return self._ascending.allowed(field, known, previous)

    def bounds(
        self, notes: Notes, rows: Rows, cells: Mapping[Role, Bounds]
    ) -> Mapping[str, Bounds]:
        """Convert the cells to beats, by the tempo of the previous row.

        Steps are measured from the decoded onset of the previous note. The cells of time signature,
        position, tempo, instrument and end are the classes of the row: the cost of the first three
        is a part of the cost of the onset.
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
            edges = np.array(field.edges or np.arange(-0.5, field.classes or 0))
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
