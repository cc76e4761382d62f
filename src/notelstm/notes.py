"""``Notes``: one piece of music as columns, and ``BeatMap``: its tempo and metre.

Conventions: times are seconds (float64) from the start of the piece, pitches are MIDI note numbers
(0 to 127, 60 is middle C), velocities are MIDI velocities (1 to 127). Notes are sorted by start;
notes that start together keep the order they were given in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from notelstm.errors import NotesError

__all__ = ["DEFAULT_VELOCITY", "BeatMap", "Note", "Notes"]

DEFAULT_VELOCITY: Final = 100
"""The MIDI velocity of a note that was made without one."""

_OPTIONAL: Final = ("program", "drum", "track")
_RANGES: Final = {"pitch": (0, 127), "velocity": (1, 127), "program": (0, 127)}


class Note(NamedTuple):
    """One note, where notes come one at a time.

    Attributes:
        start: Onset, seconds.
        end: When it stops, seconds.
        pitch: MIDI note number.
        velocity: MIDI velocity.
    """

    start: float
    end: float
    pitch: int
    velocity: int = DEFAULT_VELOCITY


def _column(
    name: str, values: ArrayLike | None, dtype: type, length: int, each: str = "note"
) -> NDArray[Any]:
    """A read-only (N,) array of `dtype` within its range, or an error that names the column."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotesError(f"{name} is an array of numbers", got=str(error)) from error
    kind = array.dtype.kind
    if kind not in "biuf":
        raise NotesError(f"{name} is an array of numbers", got=f"{array.dtype}")
    if kind == "f" and dtype is not np.float64:
        # Above 2**53 not every whole number is a float.
        whole = np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) <= 2**53)
        if not whole.all():
            raise NotesError(f"{name} holds whole numbers", got=f"{array[~whole][0]}")
    if dtype is np.bool_ and kind != "b" and not np.isin(array, (0, 1)).all():
        raise NotesError(f"{name} is true or false", got=f"{array[~np.isin(array, (0, 1))][0]}")
    if name in _RANGES:
        # Before it is widened: a reader's bytes are looked at eight times as fast.
        _check_range(name, np.atleast_1d(array), *_RANGES[name])
    if array.dtype != dtype or array.flags.writeable or array.base is not None:
        # Whoever gave a column may change it later; one that nobody can write to is kept.
        array = np.array(array, dtype=dtype)
    if array.ndim == 0:
        array = np.full(length, array[()])
    if array.shape != (length,):
        raise NotesError(f"{name} has one value a {each}, {length}", got=f"shape {array.shape}")
    array.setflags(write=False)
    return array


def _length(name: str, values: ArrayLike) -> int:
    """How many values a column has, one for a single number."""
    try:
        return int(np.size(np.asarray(values)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotesError(f"{name} is an array of numbers", got=str(error)) from error


def _take(part: object, state: dict[str, Any]) -> None:
    """Fill in a copied or unpickled part; numpy forgets that an array is read-only."""
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        object.__setattr__(part, name, value)


def _bytes(column: NDArray[Any]) -> bytes:
    """What is hashed of a column: -0.0 equals 0.0, so it must hash alike."""
    return (column + 0).tobytes()


def _check_range(name: str, values: NDArray[Any], low: float, high: float) -> None:
    if values.size and (values.min() < low or values.max() > high):
        bad = int(np.argmax((values < low) | (values > high)))
        raise NotesError(
            f"{name} is {low:g} to {high:g}", got=f"{values[bad]}", where=f"note {bad}"
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class BeatMap:
    """A tempo and metre map: which beat sounds at which second.

    Beats are quarter notes. Each tempo holds from its second to the next one's, the last for ever.

    Args:
        seconds: (K,) where each tempo starts, ascending, the first 0.
        tempi: (K,) quarter notes per minute, above 0.
        meter_beats: (M,) quarter notes from the start of the piece at which each metre starts.
        numerators: (M,) upper number of each time signature.
        denominators: (M,) lower number of each time signature.

    Raises:
        NotesError: If the columns do not describe a map.

    Example:
        >>> beats = BeatMap(seconds=[0.0, 2.0], tempi=[120.0, 60.0])
        >>> beats.beats_at([1.0, 3.0]).tolist()
        [2.0, 5.0]
        >>> beats.seconds_at([2.0, 5.0]).tolist()
        [1.0, 3.0]
    """

    seconds: NDArray[np.float64]
    tempi: NDArray[np.float64]
    meter_beats: NDArray[np.float64]
    numerators: NDArray[np.int64]
    denominators: NDArray[np.int64]

    def __init__(
        self,
        *,
        seconds: ArrayLike = (0.0,),
        tempi: ArrayLike = (120.0,),
        meter_beats: ArrayLike = (),
        numerators: ArrayLike = (),
        denominators: ArrayLike = (),
    ) -> None:
        k, m = _length("seconds", seconds), _length("meter_beats", meter_beats)
        columns = {
            "seconds": _column("seconds", seconds, np.float64, k, "tempo"),
            "tempi": _column("tempi", tempi, np.float64, k, "tempo"),
            "meter_beats": _column("meter_beats", meter_beats, np.float64, m, "metre"),
            "numerators": _column("numerators", numerators, np.int64, m, "metre"),
            "denominators": _column("denominators", denominators, np.int64, m, "metre"),
        }
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        ascend = (self.seconds[1:] > self.seconds[:-1]).all() and np.isfinite(self.seconds).all()
        if k == 0 or self.seconds[0] != 0 or not ascend:
            raise NotesError("a beat map starts at 0 s and its times ascend", got=f"{self.seconds}")
        if not (np.isfinite(self.tempi).all() and (self.tempi > 0).all()):
            raise NotesError("tempi are finite and above 0", got=f"{self.tempi}")
        metres = self.meter_beats
        later = (metres[:1] >= 0).all() and (metres[1:] >= metres[:-1]).all()
        if not (later and np.isfinite(metres).all()):
            raise NotesError(
                "metres start at 0 or later, none before the one it follows",
                got=f"{metres}",
            )
        if m and not ((self.numerators > 0).all() and (self.denominators > 0).all()):
            raise NotesError(
                "time signatures are above 0", got=f"{self.numerators}/{self.denominators}"
            )

    @property
    def _knots(self) -> NDArray[np.float64]:
        """(K,) the beat at which each tempo starts."""
        gaps = np.diff(self.seconds) * self.tempi[:-1] / 60
        return np.concatenate([[0.0], np.cumsum(gaps)])

    def beats_at(self, seconds: ArrayLike) -> NDArray[np.float64]:
        """Quarter notes since the start of the piece at each second."""
        at = np.asarray(seconds, dtype=np.float64)
        k = np.maximum(np.searchsorted(self.seconds, at, side="right") - 1, 0)
        return np.asarray(self._knots[k] + (at - self.seconds[k]) * self.tempi[k] / 60)

    def seconds_at(self, beats: ArrayLike) -> NDArray[np.float64]:
        """The inverse of :meth:`beats_at`."""
        at = np.asarray(beats, dtype=np.float64)
        knots = self._knots
        k = np.maximum(np.searchsorted(knots, at, side="right") - 1, 0)
        return np.asarray(self.seconds[k] + (at - knots[k]) * 60 / self.tempi[k])

    def shifted(self, seconds: float) -> BeatMap:
        """The same beats, later by `seconds` (earlier if negative).

        Bars are counted as before. The first tempo is drawn out backwards, or what comes before
        0 s is cut off; of a metre that is cut, a last part without a bar line is lost.
        """
        at = -seconds
        k = max(int(np.searchsorted(self.seconds, at, side="right")) - 1, 0)
        lines = self.meter_beats - self.beats_at(at)
        begun = int(np.count_nonzero(lines < 0))
        first = max(begun - 1, 0)
        if begun:
            bar = 4 * self.numerators[first] / self.denominators[first]
            # A line that rounding left just before 0 is at 0, not at the end of a bar.
            lines[first] = max((lines[first] + 1e-9) % bar - 1e-9, 0.0)
            lost = begun < lines.size and lines[first] >= lines[begun]
            first += bool(lost)
        return BeatMap(
            seconds=np.append(0.0, self.seconds[k + 1 :] - at),
            tempi=self.tempi[k:],
            meter_beats=lines[first:],
            numerators=self.numerators[first:],
            denominators=self.denominators[first:],
        )

    @override
    def __eq__(self, other: object) -> bool:
        """Equal columns."""
        if not isinstance(other, BeatMap):
            return NotImplemented
        names = ("seconds", "tempi", "meter_beats", "numerators", "denominators")
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in names)

    @override
    def __hash__(self) -> int:
        """Hash of the tempo columns, consistent with equality."""
        return hash((_bytes(self.seconds), _bytes(self.tempi)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and unpickled maps are read-only too."""
        _take(self, state)


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Notes:
    """One piece of music: a column for each property, a place for each note.

    The columns are read-only arrays; every method returns new ``Notes``.

    Args:
        start: (N,) onset of each note, seconds, at least 0.
        end: (N,) release of each note, seconds, at least its start.
        pitch: (N,) MIDI note numbers, 0 to 127.
        velocity: (N,) MIDI velocities, 1 to 127, or one for all.
        program: (N,) General MIDI programs, 0 to 127, or None where not read.
        drum: (N,) True for percussion, or None where not read.
        track: (N,) number of the track that each note came from, or None where not read.
        beats: The piece's tempo and metre map, or None where it is unknown.

    Raises:
        NotesError: If a column has another length, a value is out of range, or times are not
            finite. Starts need not be given in order: notes are sorted by start, and notes that
            start together keep the order given.

    Example:
        >>> notes = Notes(start=[0.0, 0.5], end=[0.5, 1.5], pitch=[60, 64])
        >>> len(notes), notes.duration.tolist()
        (2, [0.5, 1.0])
        >>> notes[1:].pitch.tolist()
        [64]
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    program: NDArray[np.int64] | None
    drum: NDArray[np.bool_] | None
    track: NDArray[np.int64] | None
    beats: BeatMap | None

    def __init__(
        self,
        *,
        start: ArrayLike,
        end: ArrayLike,
        pitch: ArrayLike,
        velocity: ArrayLike = DEFAULT_VELOCITY,
        program: ArrayLike | None = None,
        drum: ArrayLike | None = None,
        track: ArrayLike | None = None,
        beats: BeatMap | None = None,
    ) -> None:
        n = _length("start", start)
        given = {
            "start": (start, np.float64),
            "end": (end, np.float64),
            "pitch": (pitch, np.int64),
            "velocity": (velocity, np.int64),
            "program": (program, np.int64),
            "drum": (drum, np.bool_),
            "track": (track, np.int64),
        }
        columns = {
            name: None if values is None and name in _OPTIONAL else _column(name, values, dtype, n)
            for name, (values, dtype) in given.items()
        }
        onsets = columns["start"]
        assert onsets is not None
        if (onsets[1:] < onsets[:-1]).any():
            order = np.argsort(onsets, kind="stable")
            columns = {k: None if c is None else c[order] for k, c in columns.items()}
        for name, column in columns.items():
            if column is not None:
                column.setflags(write=False)
            object.__setattr__(self, name, column)
        object.__setattr__(self, "beats", beats)
        self._validate()

    def _validate(self) -> None:
        """Check the times, which are sorted by start."""
        start, end = self.start, self.end
        later = end >= start  # False where one is NaN
        if not len(start) or (start[0] >= 0 and later.all() and end.max() < np.inf):
            return
        if not (np.isfinite(start).all() and np.isfinite(end).all()):
            raise NotesError("start and end are finite seconds", got="NaN or infinity")
        _check_range("start", start, 0, np.inf)
        i = int(np.argmin(later))
        raise NotesError(
            "a note ends at or after its start",
            got=f"start {start[i]} s, end {end[i]} s",
            where=f"note {i}",
        )

    @classmethod
    def unchecked(
        cls,
        *,
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        pitch: NDArray[np.int64],
        velocity: NDArray[np.int64],
        program: NDArray[np.int64] | None = None,
        drum: NDArray[np.bool_] | None = None,
        track: NDArray[np.int64] | None = None,
        beats: BeatMap | None = None,
    ) -> Notes:
        """A piece of columns that were checked where they were made: looking again takes time.

        Args:
            start: (N,) onsets, seconds, ascending, at least 0. It becomes read-only, and nobody
                may change it under another name; so it is with every column.
            end: (N,) releases, seconds, none before its start, finite.
            pitch: (N,) MIDI note numbers, 0 to 127.
            velocity: (N,) MIDI velocities, 1 to 127.
            program: (N,) General MIDI programs, 0 to 127, or None.
            drum: (N,) True for percussion, or None.
            track: (N,) track numbers, or None.
            beats: The tempo and metre map, or None.
        """
        notes = cls.__new__(cls)
        columns = (start, end, pitch, velocity, program, drum, track)
        for name, column in zip(cls.__dataclass_fields__, columns, strict=False):
            if column is not None:
                column.setflags(write=False)
            object.__setattr__(notes, name, column)
        object.__setattr__(notes, "beats", beats)
        return notes

    @classmethod
    def empty(cls) -> Notes:
        """A piece without notes."""
        return cls(start=(), end=(), pitch=(), velocity=())

    @classmethod
    def join(cls, parts: Iterable[Notes], *, gap: float = 0.0) -> Notes:
        """Play several pieces one after the other.

        Args:
            parts: The pieces, in order.
            gap: Seconds of silence between the last release of one and the start of the next.

        Returns:
            All their notes; optional columns only where every piece has them, no beat map.
        """
        pieces, offset = [], 0.0
        for part in parts:
            pieces.append(part.shifted(offset))
            offset += part.seconds + gap
        return cls.merge(pieces)

    @classmethod
    def merge(cls, parts: Sequence[Notes]) -> Notes:
        """Play several pieces at the same time: all their notes, sorted by start.

        Args:
            parts: The pieces; on equal starts the earlier piece comes first.

        Returns:
            All their notes; optional columns only where every piece has them, no beat map.
        """
        if not parts:
            return cls.empty()

        def optional(name: str) -> NDArray[np.generic] | None:
            columns = [getattr(part, name) for part in parts]
            return None if any(c is None for c in columns) else np.concatenate(columns)

        return cls(
            start=np.concatenate([p.start for p in parts]),
            end=np.concatenate([p.end for p in parts]),
            pitch=np.concatenate([p.pitch for p in parts]),
            velocity=np.concatenate([p.velocity for p in parts]),
            program=optional("program"),
            drum=optional("drum"),
            track=optional("track"),
        )

    @property
    def duration(self) -> NDArray[np.float64]:
        """(N,) seconds from each note's start to its end."""
        return np.asarray(self.end - self.start)

    @property
    def step(self) -> NDArray[np.float64]:
        """(N,) seconds from the previous note's start to each note's start; the first is 0."""
        return np.diff(self.start, prepend=self.start[:1])

    @property
    def seconds(self) -> float:
        """The last release, seconds from the start of the piece; 0 without notes."""
        return float(self.end.max()) if len(self) else 0.0

    def shifted(self, seconds: float) -> Notes:
        """The same notes, later by `seconds` (earlier if negative), and their beat map."""
        beats = self.beats and self.beats.shifted(seconds)
        return self._with(start=self.start + seconds, end=self.end + seconds, beats=beats)

    def by_pitch(self) -> Notes:
        """The same notes, those that start together ordered by pitch."""
        return self[np.lexsort((self.pitch, self.start))]

    def _with(self, **changes: object) -> Self:
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return type(self)(**{**columns, **changes})

    def __len__(self) -> int:
        """How many notes there are."""
        return int(self.start.size)

    def __getitem__(self, index: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Notes:
        """Some of the notes, by slice, mask or numbers; times and beat map stay as they are."""
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        beats = columns.pop("beats")
        picked: dict[str, Any] = {k: None if c is None else c[index] for k, c in columns.items()}
        return Notes(**picked, beats=beats)

    @override
    def __eq__(self, other: object) -> bool:
        """Equal columns, optional ones included."""
        if not isinstance(other, Notes):
            return NotImplemented
        if self.beats != other.beats:
            return False
        columns = [n for n in self.__dataclass_fields__ if n != "beats"]
        return all(_same(getattr(self, n), getattr(other, n)) for n in columns)

    @override
    def __hash__(self) -> int:
        """Hash of onsets and pitches, consistent with equality."""
        return hash((_bytes(self.start), _bytes(self.pitch)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and unpickled pieces are read-only too."""
        _take(self, state)

    @override
    def __repr__(self) -> str:
        """Size, length and pitch range, for a prompt or a log."""
        if not len(self):
            return "Notes(0 notes)"
        low, high = self.pitch.min(), self.pitch.max()
        return f"Notes({len(self)} notes, {self.seconds:.2f} s, pitch {low} to {high})"


def _same(a: NDArray[np.generic] | None, b: NDArray[np.generic] | None) -> bool:
    """Both absent, or equal arrays."""
    return a is b if a is None or b is None else np.array_equal(a, b)
