"""``Notes``: one piece of music, one array per attribute; and ``TempoMap``, its tempos.

Conventions: times are seconds (float64) from the start of the piece, pitches are MIDI note numbers
(0 to 127, 60 is middle C), velocities are MIDI velocities (1 to 127). Notes are sorted by start;
notes that start together keep their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from notelstm.errors import NotesError, counted

__all__ = ["DEFAULT_VELOCITY", "PITCH_CLASSES", "Note", "Notes", "TempoMap"]

PITCH_CLASSES: Final = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
"""The names of the pitch classes 0 to 11."""

DEFAULT_VELOCITY: Final = 100
"""The MIDI velocity of a note without one."""

_NOTE_COLUMNS: Final[Mapping[str, type]] = {
    "start": np.float64,
    "end": np.float64,
    "pitch": np.int64,
    "velocity": np.int64,
    "program": np.int64,
    "drum": np.bool_,
    "track": np.int64,
}
"""The attributes of :class:`Notes` with one entry for each note, and their types."""
_OPTIONAL: Final = ("program", "drum", "track")
_ROUNDED: Final = 1e-6
"""Seconds or beats within which two times are equal."""
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_RANGES: Final = {"pitch": (0, 127), "velocity": (1, 127), "program": (0, 127)}


class Note(NamedTuple):
    """One note.

    Attributes:
        start: Onset, seconds.
        end: Release, seconds.
        pitch: MIDI note number.
        velocity: MIDI velocity.
        program: General MIDI program.
        drum: Whether it is percussion.
        track: The number of its track.
    """

    start: float
    end: float
    pitch: int
    velocity: int = DEFAULT_VELOCITY
    program: int = 0
    drum: bool = False
    track: int = 0


def _column(
    name: str, values: ArrayLike | None, dtype: type, length: int, each: str = "note"
) -> NDArray[Any]:
    """A read-only (N,) array of `dtype` within its range, or an error that names the column."""
    array = _array(name, values)
    kind = array.dtype.kind
    if kind not in "biuf":
        raise NotesError(f"{name} is not an array of numbers but of {array.dtype}")
    if kind == "f" and dtype is not np.float64:
        # Above 2**53 not every whole number is a float.
        whole = np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) <= 2**53)
        if not whole.all():
            raise NotesError(f"{name} {array[~whole][0]} is not a whole number")
    if dtype is np.bool_ and kind != "b" and not np.isin(array, (0, 1)).all():
        bad = array[~np.isin(array, (0, 1))][0]
        raise NotesError(f"{name} {bad} is neither true nor false")
    if name in _RANGES:
        # Before the conversion, because bytes are checked eight times as fast.
        _check_range(name, np.atleast_1d(array), *_RANGES[name])
    if array.dtype != dtype or array.flags.writeable or array.base is not None:
        # The caller may change a writable column later; a read-only one is not copied.
        array = np.array(array, dtype=dtype)
    if array.ndim == 0:
        array = np.full(length, array[()])
    if array.shape != (length,):
        raise NotesError(
            f"{name} has the shape {array.shape}, not one value for each {each}, ({length},)"
        )
    array.setflags(write=False)
    return array


def _array(name: str, values: ArrayLike | None) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotesError(f"{name} is not an array of numbers: {error}") from error


def _set_read_only(part: object, columns: Mapping[str, object]) -> None:
    """Set attributes of a frozen object, arrays read-only, which numpy's copies are not."""
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            column.setflags(write=False)
        object.__setattr__(part, name, column)


def _bytes(column: NDArray[Any]) -> bytes:
    """The bytes to hash of a column, the same for -0.0 as for 0.0."""
    return (column + 0).tobytes()


def _check_range(name: str, values: NDArray[Any], low: float, high: float) -> None:
    if values.size and (values.min() < low or values.max() > high):
        bad = int(np.argmax((values < low) | (values > high)))
        limits = f"{low:g} to {high:g}" if high < np.inf else f"at least {low:g}"
        raise NotesError(f"{name} {values[bad]:g} is not {limits}", where=f"note {bad}")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TempoMap:
    """A tempo and time signature map, which converts between seconds and beats.

    Beats are quarter notes. Each tempo holds until the next one starts.

    Args:
        seconds: (K,) start of each tempo, ascending, the first 0.
        tempos: (K,) quarter notes per minute, above 0.
        time_signature_beats: (M,) start of each time signature, quarter notes from the start of the
            piece.
        numerators: (M,) numerator of each time signature.
        denominators: (M,) denominator of each time signature.

    Raises:
        NotesError: If the columns are not a valid map.

    Example:
        >>> beats = TempoMap(seconds=[0.0, 2.0], tempos=[120.0, 60.0])
        >>> beats.beats_at([1.0, 3.0]).tolist()
        [2.0, 5.0]
        >>> beats.seconds_at([2.0, 5.0]).tolist()
        [1.0, 3.0]
    """

    seconds: NDArray[np.float64]
    tempos: NDArray[np.float64]
    time_signature_beats: NDArray[np.float64]
    numerators: NDArray[np.int64]
    denominators: NDArray[np.int64]

    def __init__(
        self,
        *,
        seconds: ArrayLike = (0.0,),
        tempos: ArrayLike = (120.0,),
        time_signature_beats: ArrayLike = (),
        numerators: ArrayLike = (),
        denominators: ArrayLike = (),
    ) -> None:
        k = _array("seconds", seconds).size
        m = _array("time_signature_beats", time_signature_beats).size
        given: dict[str, tuple[ArrayLike, type, int, str]] = {
            "seconds": (seconds, np.float64, k, "tempo"),
            "tempos": (tempos, np.float64, k, "tempo"),
            "time_signature_beats": (time_signature_beats, np.float64, m, "time signature"),
            "numerators": (numerators, np.int64, m, "time signature"),
            "denominators": (denominators, np.int64, m, "time signature"),
        }
        _set_read_only(self, {name: _column(name, *column) for name, column in given.items()})
        ascend = (self.seconds[1:] > self.seconds[:-1]).all() and np.isfinite(self.seconds).all()
        if k == 0 or self.seconds[0] != 0 or not ascend:
            raise NotesError(f"the times of a tempo map do not ascend from 0 s: {self.seconds}")
        if not (np.isfinite(self.tempos).all() and (self.tempos > 0).all()):
            raise NotesError(f"tempos are not finite and above 0: {self.tempos}")
        starts = self.time_signature_beats
        ascend = (starts[:1] >= 0).all() and (starts[1:] >= starts[:-1]).all()
        if not (ascend and np.isfinite(starts).all()):
            raise NotesError(
                f"the starts of time signatures do not ascend from 0 or later: {starts}"
            )
        if m and not ((self.numerators > 0).all() and (self.denominators > 0).all()):
            raise NotesError(
                f"time signatures are not above 0: {self.numerators}/{self.denominators}"
            )

    @property
    def num_changes(self) -> int:
        """The number of tempos and time signatures."""
        return self.tempos.size + self.time_signature_beats.size

    @property
    def _knots(self) -> NDArray[np.float64]:
        """(K,) the beat at which each tempo starts."""
        gaps = np.diff(self.seconds) * self.tempos[:-1] / 60
        return np.concatenate([[0.0], np.cumsum(gaps)])

    def beats_at(self, seconds: ArrayLike) -> NDArray[np.float64]:
        """Quarter notes since the start of the piece at each second."""
        at = np.asarray(seconds, dtype=np.float64)
        k = np.maximum(np.searchsorted(self.seconds, at, side="right") - 1, 0)
        return np.asarray(self._knots[k] + (at - self.seconds[k]) * self.tempos[k] / 60)

    def seconds_at(self, beats: ArrayLike) -> NDArray[np.float64]:
        """The inverse of :meth:`beats_at`."""
        at = np.asarray(beats, dtype=np.float64)
        knots = self._knots
        k = np.maximum(np.searchsorted(knots, at, side="right") - 1, 0)
        return np.asarray(self.seconds[k] + (at - knots[k]) * 60 / self.tempos[k])

    def shifted(self, seconds: float) -> TempoMap:
        """The same beats, later by `seconds` (earlier if negative).

        Bars are counted as before. The first tempo is extended to 0 s, or everything before 0 s is
        cut off, including a time signature without a later bar line.
        """
        at = -seconds
        k = max(int(np.searchsorted(self.seconds, at, side="right")) - 1, 0)
        lines = self.time_signature_beats - self.beats_at(at)
        begun = int(np.count_nonzero(lines < 0))
        first = max(begun - 1, 0)
        if begun:
            bar = 4 * self.numerators[first] / self.denominators[first]
            # A line rounded to just before 0 is at 0, not at the end of a bar.
            lines[first] = max((lines[first] + 1e-9) % bar - 1e-9, 0.0)
            lost = begun < lines.size and lines[first] >= lines[begun]
            first += bool(lost)
        return TempoMap(
            seconds=np.append(0.0, self.seconds[k + 1 :] - at),
            tempos=self.tempos[k:],
            time_signature_beats=lines[first:],
            numerators=self.numerators[first:],
            denominators=self.denominators[first:],
        )

    def until(self, seconds: float) -> TempoMap:
        """The same map without the tempos and time signatures that start at `seconds` or later."""
        tempos = self.seconds < max(seconds - _ROUNDED, _ROUNDED)
        signatures = self.time_signature_beats < self.beats_at(seconds) - _ROUNDED
        return TempoMap(
            seconds=self.seconds[tempos],
            tempos=self.tempos[tempos],
            time_signature_beats=self.time_signature_beats[signatures],
            numerators=self.numerators[signatures],
            denominators=self.denominators[signatures],
        )

    def followed_by(self, other: TempoMap, seconds: float) -> TempoMap:
        """This map until `seconds`, then another one.

        If the other map starts with the current time signature, with a bar line within a sixteenth
        of a beat of one of this map's, bars are counted without a break.

        Args:
            other: The map whose 0 s is at `seconds`.
            seconds: At least 0.
        """
        if seconds <= _ROUNDED:
            return other
        before = self.until(seconds)
        lines = other.time_signature_beats + before.beats_at(seconds)
        first = 0
        if lines.size and before.time_signature_beats.size:
            was = before.numerators[-1], before.denominators[-1]
            if was == (other.numerators[0], other.denominators[0]):
                bars = (lines[0] - before.time_signature_beats[-1]) * was[1] / (4 * was[0])
                first = int(abs(bars - round(bars)) * 4 * was[0] / was[1] < 1 / 16)
        return TempoMap(
            seconds=np.append(before.seconds, other.seconds + seconds),
            tempos=np.append(before.tempos, other.tempos),
            time_signature_beats=np.append(before.time_signature_beats, lines[first:]),
            numerators=np.append(before.numerators, other.numerators[first:]),
            denominators=np.append(before.denominators, other.denominators[first:]),
        )

    def seconds_of_bars(self, bars: int) -> float:
        """Seconds from the start of the piece to the end of a number of bars.

        Args:
            bars: The number of bars, at least 0. An upbeat before the first bar line does not
                count; a bar that is cut short by a new time signature does. Without a time
                signature, bars are 4/4.
        """
        lengths = (4 * self.numerators / self.denominators).tolist() or [4.0]
        starts = self.time_signature_beats.tolist() or [0.0]
        # Before the first time signature its bars are counted backwards.
        line, left = starts[0] % lengths[0], bars
        if line > lengths[0] - _ROUNDED:
            line = 0.0
        for length, end in zip(lengths, [*starts[1:], np.inf], strict=True):
            there = max((end - line) / length, 0.0)
            if left <= there + _ROUNDED:
                return float(self.seconds_at(max(line + left * length, 0.0)))
            whole = int(np.ceil(there - _ROUNDED))
            if left == whole:
                return float(self.seconds_at(end))
            left, line = left - whole, max(end, line)
        raise AssertionError("the last time signature has no end")

    @override
    def __eq__(self, other: object) -> bool:
        """Equal columns."""
        if not isinstance(other, TempoMap):
            return NotImplemented
        names = self.__dataclass_fields__
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in names)

    @override
    def __hash__(self) -> int:
        """Hash of the tempo columns, consistent with equality."""
        return hash((_bytes(self.seconds), _bytes(self.tempos)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and unpickled maps are read-only too."""
        _set_read_only(self, state)


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Notes:
    """One piece of music: one array per attribute, one entry per note.

    The arrays are read-only; every method returns new ``Notes``.

    Args:
        start: (N,) onset of each note, seconds, at least 0.
        end: (N,) release of each note, seconds, at least its start.
        pitch: (N,) MIDI note numbers, 0 to 127.
        velocity: (N,) MIDI velocities, 1 to 127, or one for all.
        program: (N,) General MIDI programs, 0 to 127, or None if not known.
        drum: (N,) True for percussion, or None if not known.
        track: (N,) number of each note's track, or None if not known.
        tempo_map: The piece's tempo and time signature map, or None if not known.
        track_names: The name of track k at index k, "" if it has none; None if not known.
        length: Seconds from the start of the piece to its end, if it ends with silence; None, also
            for a length that is not beyond the last release, if it ends with the last release.
        truncated: Whether the piece continues after these notes, so that the last one is not its
            end.
        labels: What is known of the piece, such as ``{"composer": "Frédéric Chopin"}``: texts by
            the names of the labels. Read-only.

    Neither `truncated` nor `labels` is compared: notes are equal wherever they come from.

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
    tempo_map: TempoMap | None
    track_names: tuple[str, ...] | None
    length: float | None
    truncated: bool
    labels: Mapping[str, str]

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
        tempo_map: TempoMap | None = None,
        track_names: Sequence[str] | None = None,
        length: float | None = None,
        truncated: bool = False,
        labels: Mapping[str, str] = _NO_LABELS,
    ) -> None:
        n = _array("start", start).size
        given = (start, end, pitch, velocity, program, drum, track)
        columns = {
            name: None if values is None and name in _OPTIONAL else _column(name, values, dtype, n)
            for (name, dtype), values in zip(_NOTE_COLUMNS.items(), given, strict=True)
        }
        onsets = columns["start"]
        assert onsets is not None
        if (onsets[1:] < onsets[:-1]).any():
            order = np.argsort(onsets, kind="stable")
            columns = {k: None if c is None else c[order] for k, c in columns.items()}
        names = None if track_names is None else _checked_names(track_names)
        _set_read_only(self, {**columns, "tempo_map": tempo_map, "track_names": names})
        self._validate()
        object.__setattr__(self, "length", self._beyond_notes(length))
        object.__setattr__(self, "truncated", bool(truncated))
        object.__setattr__(self, "labels", _checked_labels(labels))

    def _validate(self) -> None:
        """Check the times, which are sorted by start."""
        start, end = self.start, self.end
        later = end >= start  # False where one is NaN
        if not len(start) or (start[0] >= 0 and later.all() and end.max() < np.inf):
            return
        if not (np.isfinite(start).all() and np.isfinite(end).all()):
            raise NotesError("start or end is NaN or infinite")
        _check_range("start", start, 0, np.inf)
        i = int(np.argmin(later))
        raise NotesError(
            f"a note ends at {end[i]} s, before it starts at {start[i]} s", where=f"note {i}"
        )

    def _beyond_notes(self, length: float | None) -> float | None:
        """The length, if it is beyond the last release."""
        if length is None:
            return None
        if not 0 <= length < np.inf:
            raise NotesError(f"the length {length!r} is not a finite number of at least 0")
        last = float(self.end.max()) if len(self) else 0.0
        return float(length) if length > last else None

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
        tempo_map: TempoMap | None = None,
        track_names: tuple[str, ...] | None = None,
        length: float | None = None,
        truncated: bool = False,
        labels: Mapping[str, str] = _NO_LABELS,
    ) -> Notes:
        """A piece of valid arrays (N,), without the time that checks and copies take.

        Starts ascend, and all values are in their ranges. The arrays become read-only, and must not
        be changed through other views. `length` is not before the last end.
        """
        notes = cls.__new__(cls)
        columns = (
            *(start, end, pitch, velocity, program, drum, track, tempo_map, track_names),
            *(length, truncated, labels),
        )
        _set_read_only(notes, dict(zip(cls.__dataclass_fields__, columns, strict=True)))
        return notes

    @classmethod
    def empty(cls) -> Notes:
        """A piece without notes."""
        return cls(start=(), end=(), pitch=(), velocity=())

    @classmethod
    def of(cls, notes: Iterable[Note], *, track_names: Sequence[str] | None = None) -> Notes:
        """A piece of single notes, such as those of :func:`~notelstm.generation.api.stream`.

        Args:
            notes: The notes, in any order.
            track_names: The names of their tracks, or None.

        Example:
            >>> Notes.of([Note(0.0, 1.0, 60), Note(1.0, 2.0, 64, program=40)]).program.tolist()
            [0, 40]
        """
        columns: Any = dict(zip(Note._fields, zip(*notes, strict=True), strict=False))
        return cls(**columns, track_names=track_names) if columns else cls.empty()

    @classmethod
    def concatenate(cls, parts: Iterable[Notes], *, gap: float = 0.0) -> Notes:
        """Concatenate pieces in time.

        Args:
            parts: The pieces, in order.
            gap: Seconds of silence between the end of one and the start of the next.

        Returns:
            All their notes. An optional column that only some pieces have is filled, and labels are
            kept, as in :meth:`merge`. The tempo maps are concatenated; a piece without one keeps
            the tempo before it.
        """
        pieces: list[Notes] = []
        offset, beats = 0.0, None
        for part in parts:
            pieces.append(part.shifted(offset))
            if beats is None:
                beats = pieces[-1].tempo_map
            elif part.tempo_map is not None:
                beats = beats.followed_by(part.tempo_map, offset)
            offset += part.end_time + gap
        return cls._merged(pieces, beats)

    @classmethod
    def merge(cls, parts: Sequence[Notes]) -> Notes:
        """Overlay pieces: all their notes, sorted by start.

        Args:
            parts: The pieces; on equal starts the earlier piece comes first.

        Returns:
            All their notes, with the tempo map of the first piece that has one, and the end of the
            longest. An optional column that only some pieces have is filled for the others: program
            0, no percussion, track 0. Tracks keep their numbers; a track that has names in several
            pieces gets the first one. They are truncated if the piece with the last onset is, and
            have the labels that all pieces share.
        """
        return cls._merged(
            parts, next((p.tempo_map for p in parts if p.tempo_map is not None), None)
        )

    @classmethod
    def _merged(cls, parts: Sequence[Notes], beats: TempoMap | None) -> Notes:
        if not parts:
            return cls.empty()

        def column(name: str) -> NDArray[np.generic] | None:
            columns = [getattr(part, name) for part in parts]
            if all(c is None for c in columns):
                return None
            sizes = map(len, parts)
            return np.concatenate(
                [np.zeros(n, int) if c is None else c for c, n in zip(columns, sizes, strict=True)]
            )

        columns: dict[str, Any] = {name: column(name) for name in _NOTE_COLUMNS}
        return cls(
            **columns,
            tempo_map=beats,
            track_names=_merged_names(parts),
            length=max(part.end_time for part in parts),
            truncated=max((part._last_onset, part.truncated) for part in parts)[1],
            labels={
                name: value
                for name, value in parts[0].labels.items()
                if all(part.labels.get(name) == value for part in parts)
            },
        )

    @property
    def _last_onset(self) -> float:
        """The onset of the last note, seconds; -1 without notes."""
        return float(self.start[-1]) if len(self) else -1.0

    def first(
        self, *, notes: int | None = None, seconds: float | None = None, bars: int | None = None
    ) -> Notes:
        """The beginning of the piece; of several limits the shortest counts.

        Args:
            notes: The number of notes, at least 1.
            seconds: Notes that start before this time from the start of the piece, above 0.
            bars: Notes that start in this many bars from the start of the piece, at least 1, by
                :meth:`TempoMap.seconds_of_bars`.

        Returns:
            Those notes with their full durations, and the tempo map without changes after the cut.
            The result ends with its last note and is truncated, unless nothing is cut off.

        Raises:
            NotesError: If a length is not positive, or bars are counted without a tempo map.

        Example:
            >>> piece = Notes(start=[0, 1, 2], end=3, pitch=[60, 62, 64], tempo_map=TempoMap())
            >>> piece.first(seconds=1.5).pitch.tolist(), piece.first(bars=1).pitch.tolist()
            ([60, 62], [60, 62])
        """
        for name, value in (("notes", notes), ("seconds", seconds), ("bars", bars)):
            whole = isinstance(value, int | np.integer) or name == "seconds"
            if value is not None and not (whole and 0 < value < np.inf):
                raise NotesError(f"{value!r} {name} cannot be taken from a piece's start")
        if bars is not None and self.tempo_map is None:
            raise NotesError(
                "bars cannot be counted in a piece without a tempo map",
                hint="give the piece tempo_map=TempoMap(...), or use notes or seconds",
            )
        cut = np.inf if seconds is None else float(seconds)
        if bars is not None and self.tempo_map is not None:
            cut = min(cut, self.tempo_map.seconds_of_bars(bars))
        count = int(np.searchsorted(self.start, cut - _ROUNDED))
        count = count if notes is None else min(count, notes)
        if count == len(self):
            return self
        kept, end = self[:count], min(cut, float(self.start[count]))
        beats = self.tempo_map and self.tempo_map.until(end)
        # Also where the notes that are cut off start together with the last one.
        return kept._with(tempo_map=beats, truncated=True)

    def continued(self, continuation: Notes) -> Notes:
        """Append a continuation, with this piece's tempo map and instruments.

        The new notes are played in the tracks of this piece, see :meth:`in_tracks_of`. A tempo map
        of the continuation holds from this piece's last onset on.

        Args:
            continuation: New notes whose 0 s is this piece's last onset, as
                :func:`~notelstm.generation.api.generate` returns them.

        Returns:
            The notes of this piece, then the new ones, with the labels of this piece.

        Example:
            >>> prompt = Notes(start=[0, 1], end=[1, 2], pitch=[60, 62], program=[40, 40])
            >>> whole = prompt.continued(Notes(start=[0.5], end=[1], pitch=[64]))
            >>> whole.start.tolist(), whole.program.tolist()
            ([0.0, 1.0, 1.5], [40, 40, 40])
        """
        if not len(self):
            return continuation
        last = float(self.start[-1])
        later = continuation.in_tracks_of(self)._with(
            start=continuation.start + last,
            end=continuation.end + last,
            tempo_map=None,
            length=continuation.end_time + last,
        )
        beats = self.tempo_map
        if continuation.tempo_map is not None:
            beats = (beats or TempoMap()).followed_by(continuation.tempo_map, last)
        whole = self._merged([self._with(length=None), later], beats)
        return whole._with(labels=self.labels)

    def in_tracks_of(self, piece: Notes) -> Notes:
        """The same notes with the tracks and instruments of another piece.

        Where there is no program, drum or track column, the notes get the instrument (track,
        program, percussion or not) with the most notes in the piece. Notes with track names have
        track numbers of their own: each of their tracks becomes the track of the piece with the
        same name, or else with the same program, or else a new one.

        Args:
            piece: The piece; one without notes changes nothing.

        Example:
            >>> piece = Notes(start=[0, 1], end=[1, 2], pitch=[60, 62], program=[40, 40])
            >>> Notes(start=[0.5], end=[1], pitch=[64]).in_tracks_of(piece).program.tolist()
            [40]
        """
        names = [name for name in _OPTIONAL if getattr(piece, name) is not None]
        if not len(piece):
            return self
        columns: dict[str, Any] = {}
        if names:
            table = np.stack([getattr(piece, name) for name in names], axis=1)
            instruments, counts = np.unique(table, axis=0, return_counts=True)
            columns = dict(zip(names, instruments[counts.argmax()].tolist(), strict=True))
        missing = {k: v for k, v in columns.items() if getattr(self, k) is None}
        return piece._with_own_tracks(self)._with(**missing)

    def _with_own_tracks(self, other: Notes) -> Notes:
        """Another piece with names, with the numbers of this piece's tracks, and all names."""
        if self.track is None or other.track is None or other.track_names is None:
            return other
        names = list(self.track_names or ())
        names += [""] * (int(self.track.max(initial=-1)) + 1 - len(names))
        by_name: dict[tuple[str, bool], int] = {}
        by_program: dict[tuple[int, bool], int] = {}
        for number, program, drum in _tracks(self):
            if number >= 0 and (name := names[number]):
                by_name.setdefault((name.casefold(), drum), number)
            by_program.setdefault((program, drum), number)
        track = other.track.copy()
        for number, program, drum in _tracks(other):
            name = other.track_names[number] if 0 <= number < len(other.track_names) else ""
            new = by_name.get((name.casefold(), drum), by_program.get((program, drum)))
            if new is None:
                new = len(names)
                names.append(name)
                if name:
                    by_name[name.casefold(), drum] = new
            here = other.track == number
            if other.drum is not None:
                here &= other.drum == drum
            if other.program is not None:
                here &= other.program == program
            track[here] = new
        return other._with(track=track, track_names=names)

    @property
    def duration(self) -> NDArray[np.float64]:
        """(N,) duration of each note, seconds."""
        return np.asarray(self.end - self.start)

    @property
    def step(self) -> NDArray[np.float64]:
        """(N,) seconds from the previous note's start to each note's start; the first is 0."""
        return np.diff(self.start, prepend=self.start[:1])

    @property
    def end_time(self) -> float:
        """The end of the piece, seconds from its start: its length, or the last release."""
        if self.length is not None:
            return self.length
        return float(self.end.max()) if len(self) else 0.0

    def shifted(self, seconds: float) -> Notes:
        """The same notes, later by `seconds` (earlier if negative), and their tempo map."""
        beats = self.tempo_map and self.tempo_map.shifted(seconds)
        length = None if self.length is None else max(self.length + seconds, 0.0)
        return self._with(
            start=self.start + seconds, end=self.end + seconds, tempo_map=beats, length=length
        )

    def by_pitch(self) -> Notes:
        """The same notes, those that start together ordered by pitch."""
        return self[np.lexsort((self.pitch, self.start))]._with(length=self.length)

    def _with(self, **changes: object) -> Self:
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return type(self)(**{**columns, **changes})

    def __len__(self) -> int:
        """The number of notes."""
        return int(self.start.size)

    def __getitem__(self, index: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Notes:
        """Some of the notes, by slice, mask or numbers, with all else but the length.

        Without a note at the last onset, they are truncated.
        """
        columns = {name: getattr(self, name) for name in _NOTE_COLUMNS}
        picked: dict[str, Any] = {k: None if c is None else c[index] for k, c in columns.items()}
        last = picked["start"].max(initial=-1.0)
        return Notes(
            **picked,
            tempo_map=self.tempo_map,
            track_names=self.track_names,
            truncated=self.truncated or last < self._last_onset,
            labels=self.labels,
        )

    @override
    def __eq__(self, other: object) -> bool:
        """Equal columns, optional ones included."""
        if not isinstance(other, Notes):
            return NotImplemented
        own = self.tempo_map, self.track_names, self.length
        if own != (other.tempo_map, other.track_names, other.length):
            return False
        # Absent columns are equal.
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in _NOTE_COLUMNS)

    @override
    def __hash__(self) -> int:
        """Hash of onsets and pitches, consistent with equality."""
        return hash((_bytes(self.start), _bytes(self.pitch)))

    def __getstate__(self) -> dict[str, Any]:
        """Read-only mappings cannot be pickled."""
        return {**vars(self), "labels": dict(self.labels)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and unpickled pieces are read-only too."""
        # Pieces of versions without these attributes can still be unpickled.
        defaults = {"track_names": None, "length": None, "truncated": False}
        labels = _checked_labels(state.get("labels", _NO_LABELS))
        _set_read_only(self, {**defaults, **state, "labels": labels})

    @override
    def __repr__(self) -> str:
        """Size, length and pitch range."""
        if not len(self):
            return f"Notes(0 notes, {self.length:.2f} s)" if self.length else "Notes(0 notes)"
        low, high = self.pitch.min(), self.pitch.max()
        return f"Notes({counted(len(self), 'note')}, {self.end_time:.2f} s, pitch {low} to {high})"


def _tracks(notes: Notes) -> list[tuple[int, int, bool]]:
    """Each track, program and kind (percussion or not) of a piece with tracks."""
    zeros = np.zeros(len(notes), dtype=np.int64)
    columns = (zeros if c is None else c for c in (notes.track, notes.program, notes.drum))
    return sorted({(n, p, bool(d)) for n, p, d in zip(*(c.tolist() for c in columns), strict=True)})


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    checked = tuple(names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in checked):
        raise NotesError(f"track_names {names!r} is not a sequence of texts")
    return checked


def _checked_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Labels as a read-only mapping."""
    if isinstance(labels, MappingProxyType):
        return labels
    texts = isinstance(labels, Mapping) and all(
        isinstance(name, str) and name and isinstance(value, str) for name, value in labels.items()
    )
    if not texts:
        raise NotesError(f"labels {labels!r} are not texts by name")
    return MappingProxyType(dict(labels))


def _merged_names(parts: Sequence[Notes]) -> tuple[str, ...] | None:
    """The name of each track in the first piece that has one."""
    known = [part.track_names for part in parts if part.track_names is not None]
    if not known:
        return None
    by_track = itertools.zip_longest(*known, fillvalue="")
    return tuple(next((name for name in names if name), "") for names in by_track)
