"""Rows of frames: the pitches that sound in each frame of equal length, in the order of pitch."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import RowConstraints, as_rows, class_ids
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Field, Mask, Row, Rows, no_row
from notelstm.notes import DEFAULT_VELOCITY, Note, Notes
from notelstm.tracker import MAX_HISTORY, Tone, Tracker
from notelstm_frames.repeats import LEVELS, Repeats

__all__ = ["FrameEncoder", "FrameTracker"]


@final
@dataclass(frozen=True, kw_only=True)
class FrameEncoder:
    """One row per frame: the K pitches that sound in it, ascending, then the class ``none``.

    The pitches are chained fields: given those before, only higher ones and ``none`` are allowed,
    and after ``none`` only ``none``. So each set of at most K pitches is exactly one row. A pitch
    that sounds in consecutive frames is decoded as one note. Velocity, program, drums, track and
    tempo map are lost. The domain is all pieces of notes from `lowest` to `highest` of which at
    most K sound in a frame.

    With `descending`, the pitches come from the highest down: each set is then another row, and a
    model of such rows predicts the upper voices first. The classes count from the highest pitch
    down, so that they ascend all the same.

    With `copied`, given fields hold the frame that followed the earlier passage which is most like
    the latest frames, and how like it is.

    Attributes:
        voices: K, the number of pitches in a frame.
        lowest: The lowest MIDI note number.
        highest: The highest MIDI note number.
        frame: The length of a frame, seconds.
        copied: Whether the rows have the copied frame.
        descending: Whether the highest pitch of a frame comes first.

    Raises:
        ConfigError: If a setting is out of range.
    """

    voices: int = 4
    lowest: int = 21
    highest: int = 108
    frame: float = 0.5
    copied: bool = True
    descending: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.lowest <= self.highest <= 127:
            raise ConfigError(f"{self.lowest} to {self.highest} is no range of MIDI notes")
        if not 1 <= self.voices <= self.none:
            raise ConfigError(f"voices {self.voices} is not from 1 to {self.none}, the pitches")
        if not 0 < self.frame < np.inf:
            raise ConfigError(f"frame {self.frame} is not a number of seconds above 0")

    @property
    def none(self) -> int:
        """The class that stands for no further pitch; the number of pitches."""
        return self.highest - self.lowest + 1

    @property
    def pitches(self) -> range:
        """The MIDI note number of each class but ``none``."""
        ascending = range(self.lowest, self.highest + 1)
        return ascending[::-1] if self.descending else ascending

    @property
    def _prefix(self) -> str:
        """The names of the pitches without their numbers: rows of both orders are not alike."""
        return "top" if self.descending else "pitch"

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """K pitches (with ``none``); with `copied`, K given pitches and the given level.

        The pitches are ``pitch1``, ``pitch2`` ..., or with `descending` ``top1``, ``top2`` ...
        """
        pitches = self.pitches
        numbers = range(1, self.voices + 1)
        fields = [
            Field.categorical(f"{self._prefix}{k}", "pitch", values=pitches, none=True)
            for k in numbers
        ]
        if self.copied:
            fields += [
                Field.categorical(f"copied{k}", "pitch", values=pitches, none=True, given=True)
                for k in numbers
            ]
            levels = range(LEVELS + 1)
            fields.append(Field.categorical("likeness", "other", values=levels, given=True))
        return tuple(fields)

    def encode(self, notes: Notes) -> Rows:
        """(N, F) float32 rows of the frames from 0 s to the end of the piece.

        Raises:
            EncodingError: If a pitch is out of range, or more than K sound in a frame.
        """
        outside = np.flatnonzero((notes.pitch < self.lowest) | (notes.pitch > self.highest))
        if outside.size:
            note = int(outside[0])
            raise EncodingError(
                f"pitch {notes.pitch[note]} is not {self.lowest} to {self.highest}",
                where=f"note {note}",
                hint="leave the note out, or widen lowest and highest",
            )
        first = np.rint(notes.start / self.frame).astype(np.int64)
        last = np.maximum(np.rint(notes.end / self.frame).astype(np.int64), first + 1)
        count = max(round(notes.end_time / self.frame), int(last.max(initial=0)))
        roll = np.zeros((count, self.none), dtype=np.bool_)
        for begin, end, pitch in zip(first, last, notes.pitch - self.lowest, strict=True):
            roll[begin:end, pitch] = True
        size = roll.sum(axis=1)
        if size.max(initial=0) > self.voices:
            at = int(size.argmax())
            note = int(np.flatnonzero((first <= at) & (at < last))[0])
            raise EncodingError(
                f"{size[at]} pitches sound at {at * self.frame:g} s, more than {self.voices}",
                where=f"note {note}",
                hint="encode with more voices",
            )
        return self.rows_of(roll)

    def rows_of(self, roll: NDArray[Any]) -> Rows:
        """(N, F) the rows of a piano roll (N, pitches), not 0 where a pitch sounds.

        Column 0 is the lowest pitch in both orders. At most K pitches may sound in a frame.
        """
        frame, pitch = np.nonzero(roll[:, ::-1] if self.descending else roll)
        rows = np.full((len(roll), self.voices), self.none, dtype=np.float32)
        begins = np.searchsorted(frame, np.arange(len(roll)))
        rows[frame, np.arange(len(frame)) - begins[frame]] = pitch
        return self.with_copies(rows) if self.copied else rows

    def with_copies(self, rows: Rows) -> Rows:
        """(N, F) the rows (N, K) with the columns of the given fields."""
        repeats, given = (
            Repeats(self.none),
            np.zeros((len(rows), self.voices + 1), dtype=np.float32),
        )
        for i, row in enumerate(rows):
            given[i] = self.copy_of(repeats)
            repeats.push(row)
        return np.column_stack([rows, given])

    def copy_of(self, repeats: Repeats) -> NDArray[np.float32]:
        """(K + 1,) the given entries of the next row."""
        found, level = repeats.next()
        copied = np.full(self.voices, self.none, dtype=np.float32) if found is None else found
        return np.append(copied, np.float32(level))

    def decode(self, rows: Rows) -> Notes:
        """Notes from (N, F) rows; the piece ends with the last frame.

        Raises:
            EncodingError: If the classes of a row do not ascend.
        """
        checked = as_rows(rows, self.fields)[:, : self.voices]
        below, above = checked[:, :-1], checked[:, 1:]
        wrong = np.flatnonzero(((above <= below) & (above != self.none)).any(axis=1))
        if wrong.size:
            row = int(wrong[0])
            raise EncodingError(
                f"the classes {checked[row].astype(int).tolist()} do not ascend",
                where=f"row {row}",
                hint="sample only allowed entries, or repair the row",
            )
        roll = np.zeros((len(checked), self.none + 1), dtype=np.int8)
        np.put_along_axis(roll, checked.astype(np.int64), 1, axis=1)
        change = np.diff(roll[:, : self.none], axis=0, prepend=0, append=0)
        # By pitch, then by time: the n-th beginning of a pitch belongs to its n-th end.
        pitch, first = np.nonzero(change.T == 1)
        _, last = np.nonzero(change.T == -1)
        pitch = np.array(self.pitches)[pitch]
        order = np.lexsort((pitch, first))
        return Notes(
            start=first[order] * self.frame,
            end=last[order] * self.frame,
            pitch=pitch[order],
            length=len(checked) * self.frame,
        )

    @property
    def limited_fields(self) -> tuple[str, ...]:
        """The names of the pitches that are not given."""
        return tuple(field.name for field in self.fields[: self.voices])

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        """The classes with which those of a row can still ascend.

        A known pitch j places before leaves room for those between, and so does one after it;
        ``none`` is allowed if no later pitch is known, and alone allowed after ``none``.

        Returns:
            (..., C) bool.
        """
        number, none = int(field.removeprefix(self._prefix)), self.none
        low: Any = previous[field] * 0 + (number - 1)
        high: Any = low * 0 + (none - 1)
        ended: Any = low < 0
        later: Any = low < 0
        for k in range(1, self.voices + 1):
            name = f"{self._prefix}{k}"
            if k == number or name not in known:
                continue
            entry = known[name]
            is_none = entry == none
            if k < number:
                ended = ended | is_none
                low = _larger(low, entry + (number - k))
            else:
                later = later | ~is_none
                high = _smaller(high, entry - (k - number) + is_none * none)
        classes = class_ids(none + 1, low)
        low, high, ended, later = (x[..., None] for x in (low, high, ended, later))
        pitch = (classes >= low) & (classes <= high) & (classes < none) & ~ended
        return pitch | ((classes == none) & ~later)

    def tracker(self) -> FrameTracker:
        """A tracker at the start of a piece."""
        return FrameTracker(self)


def _larger(a: Any, b: Any) -> Any:
    """The larger of arrays of numpy or torch; operators are enough for both."""
    return a + (b - a) * (b > a)


def _smaller(a: Any, b: Any) -> Any:
    return a + (b - a) * (b < a)


@final
class FrameTracker(Tracker):
    """Decodes frames one by one, and derives the copied frame.

    Args:
        encoder: The encoder of the rows.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__(encoder.fields)
        self._encoder: Final = encoder
        self._constraints: Final = RowConstraints(encoder)
        self._previous = no_row(encoder.fields)
        self._repeats = Repeats(encoder.none)
        self._num_frames = 0
        self._num_notes = 0
        # By pitch, the number and the first frame of the note that sounds.
        self._open: dict[int, tuple[int, int]] = {}
        self._ended: list[tuple[int, Note]] = []
        self._latest: list[tuple[float, Tone]] = []

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return self._num_notes

    @property
    def time(self) -> float:
        """The beginning of the latest frame, seconds."""
        return max(self._num_frames - 1, 0) * self._encoder.frame

    @property
    def previous(self) -> Row:
        """(F,) the latest row."""
        return self._previous

    def given(self) -> Mapping[str, float]:
        """The entries of the copied frame and its level, if the rows have them."""
        if not self._encoder.copied:
            return {}
        entries = self._encoder.copy_of(self._repeats).tolist()
        names = (field.name for field in self.fields[self._encoder.voices :])
        return dict(zip(names, entries, strict=True))

    def push(self, row: Row) -> None:
        """Add the next frame, (F,)."""
        encoder = self._encoder
        frame = np.array(row[: encoder.voices], dtype=np.float32)
        pitches = sorted(encoder.pitches[int(c)] for c in frame if c < encoder.none)
        now = self._num_frames
        for pitch in sorted(set(self._open) - set(pitches)):
            number, _ = self._open[pitch]
            self._ended.append((number, self._note(pitch, now)))
            del self._open[pitch]
        for pitch in pitches:
            if pitch not in self._open:
                self._open[pitch] = (self._num_notes, now)
                self._latest.append((now * encoder.frame, Tone(pitch)))
                self._num_notes += 1
        del self._latest[:-MAX_HISTORY]
        if encoder.copied:
            self._repeats.push(frame)
        self._previous = np.array(row, dtype=np.float32)
        self._num_frames += 1

    def _note(self, pitch: int, end: int) -> Note:
        """The open note of a pitch, ended before a frame."""
        seconds = self._encoder.frame
        return Note(self._open[pitch][1] * seconds, end * seconds, pitch, DEFAULT_VELOCITY)

    def sounding(self, at: float) -> Set[Tone]:
        """The tones that sound `at` seconds after the start, in the latest frame or later."""
        if at >= self._num_frames * self._encoder.frame:
            return set()
        return {Tone(pitch) for pitch in self._open}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The classes with which those of the row can still ascend; all of given fields."""
        return self._constraints.allowed(field, known, self._previous)

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest `count` notes, in order."""
        return self._latest[-count:]

    def _unreturned(self) -> list[tuple[int, Note]]:
        still = [(n, self._note(pitch, self._num_frames)) for pitch, (n, _) in self._open.items()]
        return self._ended + still

    def notes(self) -> Notes:
        """The notes that have not been returned; those that sound end with the latest frame."""
        found = [note for _, note in sorted(self._unreturned())]
        length = self._num_frames * self._encoder.frame
        if not found:
            return Notes(start=(), end=(), pitch=(), length=length)
        start, end, pitch, *_ = zip(*found, strict=True)
        return Notes(start=start, end=end, pitch=pitch, length=length)

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes that have ended, and drop them."""
        finished = self._unreturned() if include_sounding else self._ended
        self._ended = []
        if include_sounding:
            self._open = {}
        return finished

    def copy(self) -> FrameTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        other._open, other._ended = {**self._open}, [*self._ended]
        other._latest, other._repeats = [*self._latest], self._repeats.copy()
        return other
