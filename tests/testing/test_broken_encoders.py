"""One broken encoder for each clause of check_encoder: the clause catches it, by name."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.encoders.rows import RowTracker, TrackingEncoder, as_rows, snapped, tracker_of
from notelstm.errors import EncodingError
from notelstm.fields import Field, Mask, Row, Rows, no_row
from notelstm.notes import Note, Notes, TempoMap
from notelstm.parts import ONE_PART, Part, PartMap
from notelstm.protocols import NoteEncoder
from notelstm.testing import check_encoder, long_piece, strategies
from notelstm.testing.constraint_checks import (
    CONSTRAINT_CLAUSES,
    SNAPPING_CLAUSES,
    allowed_rows_can_be_completed,
)
from notelstm.testing.encoder_checks import ENCODER_CLAUSES, HOUR_CLAUSES
from notelstm.testing.makers import without_overlaps
from notelstm.testing.round_trips import PIECE_CLAUSES, Promise, Trip
from notelstm.testing.tracker_checks import TRACKER_CLAUSES
from notelstm.tracker import Tone
from notelstm.tracker import Tracker as BaseTracker

Encode = Callable[[Notes], Rows]
Decode = Callable[[Rows], Notes]


@dataclass
class Patched:
    """A good encoder with one thing exchanged."""

    inner: NoteEncoder = field(default_factory=StepDurationEncoder)
    own_fields: tuple[Field, ...] | None = None
    own_encode: Callable[[Encode, Notes], Rows] | None = None
    own_decode: Callable[[Decode, Rows], Notes] | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.own_fields or self.inner.fields

    def encode(self, notes: Notes) -> Rows:
        if self.own_encode is None:
            return self.inner.encode(notes)
        return self.own_encode(self.inner.encode, notes)

    def decode(self, rows: Rows) -> Notes:
        if self.own_decode is None:
            return self.inner.decode(rows)
        return self.own_decode(self.inner.decode, rows)


@dataclass
class PatchedTracking(Patched):
    """The same, with a tracker of its own."""

    make: Callable[[NoteEncoder], Any] = RowTracker

    def tracker(self) -> Any:
        return self.make(Patched(self.inner))


BAND = PartMap(
    by="program", parts=(Part(name="Piano"), Part(name="Violin", program=40)), unknown="other"
)


@dataclass
class Band(Patched):
    """A good encoder with parts, with one thing exchanged."""

    inner: NoteEncoder = field(default_factory=lambda: LogTimeEncoder(exact=True, parts=BAND))
    parts: PartMap | None = BAND

    def snapped(self, notes: Notes) -> Notes | None:
        return snapped(self.inner, notes)


@dataclass
class TrackedBand(Band):
    """The same, with a tracker of its own."""

    make: Callable[[NoteEncoder], Any] = RowTracker

    def tracker(self) -> Any:
        return self.make(Band(self.inner))


def beat_band(**changes: Any) -> TrackedBand:
    """The same in beats, with one thing exchanged."""
    return TrackedBand(BeatEncoder(parts=BAND), **{"make": Recalling, **changes})


@dataclass
class EventBand(PatchedTracking):
    """A good encoder of events with parts, with one thing exchanged."""

    inner: NoteEncoder = field(default_factory=lambda: PerformanceEventEncoder(parts=BAND))
    parts: PartMap | None = BAND


def event_band(**changes: Any) -> EventBand:
    """The same, with a tracker to be broken in one place."""
    return EventBand(**{"make": Recalling, **changes})


class Tracker(BaseTracker):
    """A good tracker, to be broken in one place."""

    def __init__(self, encoder: NoteEncoder) -> None:
        inner = encoder.inner if isinstance(encoder, Patched) else encoder
        own = isinstance(inner, TrackingEncoder)
        self.good: BaseTracker = tracker_of(inner if own else encoder)
        super().__init__(encoder.fields, self.good.parts)
        self.encoder = encoder

    @property
    def num_notes(self) -> int:
        return self.good.num_notes

    @property
    def time(self) -> float:
        return self.good.time

    def push(self, row: Row) -> None:
        self.good.push(row)

    def sounding(self, at: float) -> Set[Tone]:
        return self.good.sounding(at)

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        return self.good.allowed(field, known)

    @property
    def previous(self) -> Row:
        return self.good.previous

    def closing_rows(self) -> Rows:
        return self.good.closing_rows()

    def notes(self) -> Notes:
        return self.good.notes()

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        return self.good.pop_finished(include_sounding=include_sounding)

    def copy(self) -> Self:
        twin = copy.copy(self)
        twin.good = self.good.copy()
        return twin


class IsItsOwnCopy(Tracker):
    def copy(self) -> Self:
        return self


class StartsAfresh(Tracker):
    def copy(self) -> Self:
        return type(self)(self.encoder)


class GivesOutTwice(Tracker):
    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        return self.good.copy().pop_finished(include_sounding=include_sounding)


class GivesOutAnotherNote(Tracker):
    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        return [(i, note._replace(pitch=60)) for i, note in self.good.pop_finished()]


class TakesInTheFirst(Tracker):
    def extend(self, rows: Rows) -> None:
        self.good.extend(rows[:1])


class CountsOneMore(Tracker):
    def notes(self) -> Notes:
        return self.good.notes()[:-1]


class ClockIsSlow(Tracker):
    @property
    def time(self) -> float:
        return 0.5 * self.good.time


class Deaf(Tracker):
    def sounding(self, at: float) -> Set[Tone]:
        return set()


class NoHighNotes(Tracker):
    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        return np.arange(128) < 127 if field.role == "pitch" else None


class Recalling(Tracker):
    """A good tracker that offers everything, to be broken in one place."""

    @property
    def position(self) -> float:
        return self.good.position

    @property
    def seconds_per_unit(self) -> float:
        return self.good.seconds_per_unit

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        return self.good.latest(count)

    def remaining(self) -> Sequence[tuple[float, Tone]]:
        return self.good.remaining()

    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        return self.good.overlapping(known)


class OnePart(Recalling):
    def __init__(self, encoder: NoteEncoder) -> None:
        super().__init__(encoder)
        self.__dict__["parts"] = ONE_PART


class LosesTheRow(Recalling):
    @property
    def previous(self) -> Row:
        return no_row(self.fields)


class SoundsAsOne(Recalling):
    def sounding(self, at: float) -> Set[Tone]:
        return {Tone(tone.pitch) for tone in self.good.sounding(at)}


class RecallsAsOne(Recalling):
    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        return [(onset, Tone(tone.pitch)) for onset, tone in self.good.latest(count)]


class OverlapsAsOne(Recalling):
    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        found = self.good.overlapping(known)
        return None if found is None else {Tone(tone.pitch) for tone in found}


class RemainsAsOne(Recalling):
    def remaining(self) -> Sequence[tuple[float, Tone]]:
        return [(left, Tone(tone.pitch)) for left, tone in self.good.remaining()]


class GivesOutAsOne(Recalling):
    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        found = self.good.pop_finished(include_sounding=include_sounding)
        return [(number, note._replace(program=0)) for number, note in found]


class Forgets(Recalling):
    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        return self.good.latest(min(count, 2))


class RecallsAnotherTime(Recalling):
    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        return [(onset / 2, tone) for onset, tone in self.good.latest(count)]


class Hurries(Recalling):
    @property
    def seconds_per_unit(self) -> float:
        return 0.5


class StopsAtOnce(Recalling):
    def remaining(self) -> Sequence[tuple[float, Tone]]:
        return []


class ReportsTheLastOnset(Recalling):
    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        return self.good.sounding(self.good.time) if known else None


class KnowsBefore(Recalling):
    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        return self.good.overlapping({"step": 0.0, **known})


class NeverCloses(Tracker):
    def closing_rows(self) -> Rows:
        return np.array([[60, 0, 1]], dtype=np.float32)


@dataclass
class Measured(Patched):
    """A good encoder that offers bounds, to be broken in one place."""

    change: Callable[[str, Any], Any] = lambda name, ends: ends

    def bounds(self, notes: Notes, rows: Rows, cells: Any) -> Any:
        return {f.name: self.change(f.name, cells[f.role]) for f in self.fields}


def with_a_gap(name: str, ends: Any) -> Any:
    return (ends[0], ends[1] - 0.1) if name == "step" else ends


def without_ends(name: str, ends: Any) -> Any:
    return np.maximum(ends[0], 0), ends[1]


def upside_down(name: str, ends: Any) -> Any:
    return ends[::-1]


@dataclass
class OtherClass(Patched):
    """Asks for another class than the row's."""

    inner: NoteEncoder = field(default_factory=BeatEncoder)

    def bounds(self, notes: Notes, rows: Rows, cells: Any) -> Any:
        assert isinstance(self.inner, BeatEncoder)
        bounds = self.inner.bounds(notes, rows, cells)
        return {**bounds, "position": tuple(end + 1 for end in bounds["position"])}


def twice_the_same_name() -> NoteEncoder:
    pitch, step, duration = StepDurationEncoder().fields
    return Patched(own_fields=(pitch, step, replace(duration, name="step")))


def with_velocity(**changes: Any) -> NoteEncoder:
    good = LogTimeEncoder()
    return Patched(good, (*good.fields[:3], replace(good.fields[3], **changes)))


def all_of_one_part(encode: Encode, notes: Notes) -> Rows:
    rows = encode(notes)
    rows[:, -1] = 0
    return rows


def next_part(encode: Encode, notes: Notes) -> Rows:
    """Each instrument event is that of another class."""
    rows = encode(notes)
    rows[rows >= 388] = 388 + (rows[rows >= 388] - 387) % 3
    return rows


def other_order() -> NoteEncoder:
    """The classes of the instrument events are not those that are decoded."""
    (events,) = PerformanceEventEncoder(parts=BAND).fields
    instruments = [event for event in events.events if event.type == "instrument"]
    turned = (*events.events[:388], *instruments[::-1])
    return event_band(own_fields=(replace(events, events=turned),))


def without_programs(decode: Decode, rows: Rows) -> Notes:
    return replace(decode(rows), program=None)


def without_names(decode: Decode, rows: Rows) -> Notes:
    return replace(decode(rows), track_names=None)


def on_one_track(decode: Decode, rows: Rows) -> Notes:
    notes = decode(rows)
    return replace(notes, track=np.zeros(len(notes), np.int64))


def transposed(decode: Decode, rows: Rows) -> Notes:
    notes = decode(rows)
    return Notes(start=notes.start, end=notes.end, pitch=(notes.pitch + 1) % 128)


def ties_by_pitch(encode: Encode, notes: Notes) -> Rows:
    return encode(notes.by_pitch())


def onsets_on_20_ms(encode: Encode, notes: Notes) -> Rows:
    rows = encode(notes)
    onset = np.round((notes.start - notes.start[:1]) / 0.02) * 0.02
    rows[:, 1] = np.diff(onset, prepend=onset[:1])
    return rows


def steps_on_20_ms(encode: Encode, notes: Notes) -> Rows:
    rows = encode(notes)
    rows[:, 1] = np.round(rows[:, 1] / 0.02) * 0.02
    return rows


def durations_up_to_2_s(encode: Encode, notes: Notes) -> Rows:
    rows = encode(notes)
    rows[:, 2] = rows[:, 2].clip(max=2)
    return rows


def softer(decode: Decode, rows: Rows) -> Notes:
    notes = decode(rows)
    return Notes(start=notes.start, end=notes.end, pitch=notes.pitch, velocity=64)


def a_little_longer(decode: Decode, rows: Rows) -> Notes:
    notes = decode(rows)
    return Notes(start=notes.start, end=notes.end + 3e-4, pitch=notes.pitch)


def half_a_class(encode: Encode, notes: Notes) -> Rows:
    return encode(notes) + np.array([0.5, 0, 0], dtype=np.float32)


def in_double(encode: Encode, notes: Notes) -> Any:
    return encode(notes).astype(np.float64)


def changes_its_rows(decode: Decode, rows: Rows) -> Notes:
    notes = decode(rows)
    rows *= 0
    return notes


def clips(decode: Decode, rows: Rows) -> Notes:
    good = np.nan_to_num(rows[:, :3], nan=0, posinf=1, neginf=0)
    return decode(np.stack([good[:, 0].clip(0, 127) // 1, *good[:, 1:].clip(0).T], axis=1))


def says_no_row(decode: Decode, rows: Rows) -> Notes:
    try:
        return decode(rows)
    except EncodingError as error:
        raise EncodingError(error.problem) from error


def nothing_above_100(decode: Decode, rows: Rows) -> Notes:
    notes = decode(rows)
    if np.any(notes.pitch > 100):
        raise EncodingError("pitches go up to 100", where=f"row {notes.pitch.argmax()}")
    return notes


def a_note_of_its_own(decode: Decode, rows: Rows) -> Notes:
    return decode(rows if len(rows) else np.array([[60, 0, 1]], dtype=np.float32))


def without_a_place(encode: Encode, notes: Notes) -> Rows:
    if np.any(notes.pitch == 0):
        raise EncodingError("pitch 0 is no music")
    return encode(notes)


class Forgetful:
    """Gives other rows each time."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, encode: Encode, notes: Notes) -> Rows:
        self.times += 1
        rows = encode(notes)
        rows[:, 2] += 1e-5 * (self.times % 2)
        return rows


@dataclass
class Limiting(Patched):
    """A good encoder of exact cells, to be broken in one place."""

    inner: NoteEncoder = field(default_factory=lambda: LogTimeEncoder(exact=True))

    @property
    def good(self) -> Any:
        return self.inner

    @property
    def limited_fields(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.good.limited_fields
        return names

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        return self.good.allowed_classes(field, known, previous)

    def snapped(self, notes: Notes) -> Notes | None:
        found: Notes | None = self.good.snapped(notes)
        return found


class LimitsAnUnknownField(Limiting):
    @property
    def limited_fields(self) -> tuple[str, ...]:
        return ("harmony",)


class ForbidsItsOwnRows(Limiting):
    """A note after one of the pitch 60 must be lower."""

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        mask = self.good.allowed_classes(field, known, previous)
        if field != "pitch":
            return mask
        # In arrays of one row as in tensors, so that shrinking does not end at another clause.
        after_60 = previous["pitch"] == 60
        if mask is None:
            every: Any = torch.ones if isinstance(after_60, torch.Tensor) else np.ones
            mask = every((*after_60.shape, 128), dtype=bool)
        mask[after_60, 61:] = False
        return mask


class IgnoresTheStart(Limiting):
    """Before the first row it takes the place of the last class, as an index of -1 does."""

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        pitch = previous["pitch"]
        return self.good.allowed_classes(field, known, {**previous, "pitch": pitch % 128})


class IgnoresArrays(Limiting):
    """One sequence is not limited."""

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        mask = self.good.allowed_classes(field, known, previous)
        return mask if isinstance(mask, torch.Tensor) else None


class GivesWeights(Limiting):
    """Numbers in place of truth values."""

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        mask = self.good.allowed_classes(field, known, previous)
        return mask.float() if isinstance(mask, torch.Tensor) else mask


@dataclass
class LimitingTracking(Limiting):
    """The same with a tracker of its own that limits nothing."""

    def tracker(self) -> Any:
        return Tracker(Patched(self.inner))


@dataclass
class LimitingInBeats(Limiting):
    """Its tracker has another row before."""

    inner: NoteEncoder = field(default_factory=lambda: BeatEncoder(parts=BAND))
    parts: PartMap | None = BAND
    make: Callable[[NoteEncoder], Any] = LosesTheRow

    def tracker(self) -> Any:
        return self.make(self.inner)


class IsADeadEnd(Limiting):
    """A step of 0 is allowed after the highest pitch, which no pitch can follow."""

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        mask = self.good.allowed_classes(field, known, previous)
        return None if field == "step" and "pitch" not in known else mask


class SnapsAnotherPiece(Limiting):
    """Its rows are of earlier notes than it says."""

    def snapped(self, notes: Notes) -> Notes | None:
        return super().snapped(notes[1:] if len(notes) > 1 else notes)


class SnapsWithoutOrder(Limiting):
    """Its notes are those of the piece, but not one for each row."""

    def snapped(self, notes: Notes) -> Notes | None:
        return notes


class GivesTheNoteBefore(Tracker):
    """It gives the pitch of the note before."""

    def __init__(self, encoder: NoteEncoder) -> None:
        super().__init__(encoder)
        self.pitches = [128.0]

    def push(self, row: Row) -> None:
        super().push(row)
        self.pitches = [*self.pitches, float(row[0])]

    def given(self) -> Mapping[str, float]:
        return {"before": self.pitches[-1]}


class GivesAnotherNote(GivesTheNoteBefore):
    def given(self) -> Mapping[str, float]:
        return {"before": self.pitches[len(self.pitches) // 2]}


class GivesAPitch(GivesTheNoteBefore):
    """It gives the entry of a field that is to be predicted."""

    def given(self) -> Mapping[str, float]:
        return {"pitch": 60.0}


BEFORE = Field.categorical("before", "pitch", values=range(128), none=True, given=True)


@dataclass
class NoteBefore(PatchedTracking):
    """A good encoder with a given field, the pitch of the note before."""

    make: Callable[[NoteEncoder], Any] = GivesTheNoteBefore

    @property
    def fields(self) -> tuple[Field, ...]:
        return (*self.inner.fields, BEFORE)

    def encode(self, notes: Notes) -> Rows:
        rows = self.inner.encode(notes)
        before = np.append(128, rows[:, 0])[: len(rows)]
        return np.column_stack([rows, before]).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        return self.inner.decode(as_rows(rows, self.fields)[:, :-1])

    def tracker(self) -> Any:
        return self.make(PlainNoteBefore())


@dataclass
class PlainNoteBefore(NoteBefore):
    """The same for the tracker inside, which decodes its rows."""

    tracker = None  # type: ignore[assignment]


EXACT_CELLS: dict[str, Any] = {
    "pieces": strategies.notes(
        longest_rest=0.03, pitches=(58, 62), min_notes=8, durations=(0.01, 29.0)
    ),
    "onset_tolerance": 1.0,
    "duration_tolerance": 2.0,
    "velocity_tolerance": 2,
}
MANY = {"pieces": strategies.notes(min_notes=12)}
LOW = {"pieces": strategies.notes(pitches=(0, 100))}
VELOCITY = {
    "velocity_tolerance": 4,
    "onset_tolerance": 2.0,
    "duration_tolerance": 2.0,
    "pieces": strategies.notes(longest_rest=20.0, durations=(0.005, 20.0)),
}
ZERO = Notes(start=[0], end=[1], pitch=[0])
ON_THE_EDGE = {"edges": [4 * k - 1.5 for k in range(33)]}
OFF_BY_ONE = {"values": [4 * k + 3 for k in range(32)]}
OUTSIDE = {"values": [4 * k + 5 for k in range(32)]}

IN_BEATS = {
    "pieces": strategies.notes(
        min_notes=1, longest_rest=4.0, durations=(0.1, 4.0), beats=st.just(TempoMap(tempos=[60]))
    ),
    "onset_tolerance": 1 / 24,
    "duration_tolerance": 1 / 24,
    "velocity_tolerance": 2,
}
BANDS: dict[str, Any] = {
    "pieces": strategies.notes(
        min_notes=2,
        longest_rest=1.0,
        durations=(0.1, 5.0),
        instruments=True,
    ).map(lambda piece: replace(piece, program=np.arange(len(piece)) % 3 * 20)),
    "onset_tolerance": 0.1,
    "duration_tolerance": 0.2,
    "velocity_tolerance": 2,
    "keeps_order": False,
}
BEATS = TempoMap(tempos=[60])
BEAT_BANDS: dict[str, Any] = {
    **BANDS,
    "pieces": BANDS["pieces"].map(lambda piece: replace(piece, tempo_map=BEATS)),
    "hour": replace(long_piece(np.random.default_rng(0), count=300, seconds=60), tempo_map=BEATS),
}
EVENT_BANDS: dict[str, Any] = {
    **BANDS,
    # Without overlaps in any part.
    "pieces": BANDS["pieces"].map(lambda piece: without_overlaps(piece, 0.02)),
}
TRACKING = [
    ("tracker_lists_latest_notes", Forgets),
    ("tracker_lists_latest_notes", RecallsAnotherTime),
    ("tracker_predicts_overlaps", Hurries),
    ("tracker_predicts_overlaps", StopsAtOnce),
    ("tracker_predicts_overlaps", ReportsTheLastOnset),
    ("tracker_predicts_overlaps", KnowsBefore),
    ("tracker_copies_are_independent", IsItsOwnCopy),
    ("tracker_copies_are_independent", StartsAfresh),
    ("finished_notes_are_popped_once", GivesOutTwice),
    ("finished_notes_are_popped_once", GivesOutAnotherNote),
    ("extend_equals_push", TakesInTheFirst),
]


@dataclass
class Ending(Patched):
    """An encoder of ends with one thing exchanged."""

    inner: NoteEncoder = field(default_factory=lambda: LogTimeEncoder(exact=True, ends=True))

    def snapped(self, notes: Notes) -> Notes | None:
        return snapped(self.inner, notes)


def ends_at_the_first_note(encode: Encode, notes: Notes) -> Rows:
    rows = encode(notes)
    rows[:, -1] = np.roll(rows[:, -1], 1)
    return rows


def ends_where_it_was_cut(encode: Encode, notes: Notes) -> Rows:
    return encode(replace(notes, truncated=False))


def ends_at_the_end(decode: Decode, rows: Rows) -> Notes:
    return replace(decode(rows), truncated=False)


BROKEN: list[tuple[str, Callable[[], NoteEncoder], dict[str, Any]]] = [
    ("fields_have_unique_names", twice_the_same_name, {}),
    ("values_lie_in_their_classes", lambda: with_velocity(**OUTSIDE), VELOCITY),
    ("empty_pieces_round_trip", lambda: Patched(own_decode=a_note_of_its_own), {}),
    ("pieces_outside_the_domain_are_rejected", Patched, {"refuses": [ZERO]}),
    (
        "pieces_outside_the_domain_are_rejected",
        lambda: Patched(own_encode=without_a_place),
        {"refuses": [ZERO]},
    ),
    ("description_rebuilds_the_encoder", Patched, {"entry_point": True}),
    ("rows_are_a_float32_table", lambda: Patched(own_encode=in_double), {}),
    ("entries_are_in_their_fields", lambda: Patched(own_encode=half_a_class), {}),
    ("encoding_is_repeatable", lambda: Patched(own_encode=Forgetful()), {}),
    ("encoding_is_repeatable", lambda: Patched(own_decode=changes_its_rows), {}),
    ("pitches_round_trip", lambda: Patched(own_decode=transposed), {}),
    ("pitches_round_trip", lambda: Patched(own_encode=ties_by_pitch), MANY),
    ("onsets_round_trip", Patched, {"onset_tolerance": lambda piece: np.full(len(piece), np.nan)}),
    ("onsets_round_trip", lambda: Patched(own_encode=onsets_on_20_ms), {}),
    ("durations_round_trip", lambda: Patched(own_encode=durations_up_to_2_s), {}),
    ("velocities_round_trip", lambda: Patched(own_decode=softer), {}),
    (
        "only_the_last_note_ends_the_piece",
        lambda: Ending(own_encode=ends_at_the_first_note),
        EXACT_CELLS,
    ),
    (
        "only_the_last_note_ends_the_piece",
        lambda: Ending(own_encode=ends_where_it_was_cut),
        EXACT_CELLS,
    ),
    ("only_the_last_note_ends_the_piece", lambda: Ending(own_decode=ends_at_the_end), EXACT_CELLS),
    ("second_round_trip_is_exact", lambda: Patched(own_decode=a_little_longer), {}),
    ("values_match_decode", lambda: with_velocity(**OFF_BY_ONE), VELOCITY),
    ("classes_contain_their_values", lambda: with_velocity(**ON_THE_EDGE), VELOCITY),
    ("bounds_partition_the_field", lambda: Measured(change=with_a_gap), {}),
    ("bounds_partition_the_field", lambda: Measured(change=without_ends), {}),
    ("bounds_partition_the_field", lambda: Measured(change=upside_down), {}),
    ("bounds_partition_the_field", OtherClass, IN_BEATS),
    ("bad_rows_are_rejected", lambda: Patched(own_decode=clips), {}),
    ("bad_rows_are_rejected", lambda: Patched(own_decode=says_no_row), {}),
    (
        "onsets_do_not_drift",
        lambda: Patched(own_encode=steps_on_20_ms),
        {"onset_tolerance": 0.3, "hour": None},
    ),
    ("tracker_matches_decode", lambda: PatchedTracking(make=CountsOneMore), {}),
    ("tracker_keeps_time", lambda: PatchedTracking(make=ClockIsSlow), {}),
    ("tracker_lists_sounding_notes", lambda: PatchedTracking(make=Deaf), {}),
    *((clause, functools.partial(PatchedTracking, make=make), {}) for clause, make in TRACKING),
    ("instruments_round_trip", lambda: Band(own_encode=all_of_one_part), BANDS),
    ("instruments_round_trip", lambda: Band(own_decode=without_programs), BANDS),
    ("instruments_round_trip", lambda: Band(own_decode=without_names), BANDS),
    ("instruments_round_trip", lambda: Band(own_decode=on_one_track), BANDS),
    ("instruments_round_trip", lambda: Band(parts=None), BANDS),
    ("instruments_round_trip", lambda: beat_band(own_encode=all_of_one_part), BEAT_BANDS),
    ("instruments_round_trip", lambda: beat_band(own_decode=without_names), BEAT_BANDS),
    ("instruments_round_trip", lambda: beat_band(parts=None), BEAT_BANDS),
    ("instruments_round_trip", lambda: event_band(own_encode=next_part), EVENT_BANDS),
    ("instruments_round_trip", lambda: event_band(own_decode=on_one_track), EVENT_BANDS),
    ("instruments_round_trip", lambda: event_band(parts=None), EVENT_BANDS),
    ("instruments_round_trip", other_order, EVENT_BANDS),
    *(
        (clause, functools.partial(band, make=make), settings)
        for band, settings in ((beat_band, BEAT_BANDS), (event_band, EVENT_BANDS))
        for clause, make in (
            ("tracker_lists_parts", OnePart),
            ("tracker_lists_sounding_notes", SoundsAsOne),
            ("tracker_lists_latest_notes", RecallsAsOne),
            ("finished_notes_are_popped_once", GivesOutAsOne),
        )
    ),
    ("allowed_classes_agree", LimitingInBeats, BEAT_BANDS),
    ("tracker_predicts_overlaps", lambda: beat_band(make=OverlapsAsOne), BEAT_BANDS),
    ("tracker_predicts_overlaps", lambda: beat_band(make=RemainsAsOne), BEAT_BANDS),
    *(
        (clause, functools.partial(TrackedBand, make=make), BANDS)
        for clause, make in (
            ("tracker_lists_parts", OnePart),
            ("tracker_lists_sounding_notes", SoundsAsOne),
            ("tracker_lists_latest_notes", RecallsAsOne),
            ("tracker_predicts_overlaps", OverlapsAsOne),
            ("tracker_predicts_overlaps", RemainsAsOne),
            ("finished_notes_are_popped_once", GivesOutAsOne),
        )
    ),
    ("encoded_rows_are_allowed", lambda: PatchedTracking(make=NoHighNotes), {}),
    ("closing_rows_end_all_notes", lambda: PatchedTracking(make=NeverCloses), {}),
    ("encoded_classes_are_allowed", LimitsAnUnknownField, EXACT_CELLS),
    ("encoded_classes_are_allowed", ForbidsItsOwnRows, EXACT_CELLS),
    ("given_entries_match", lambda: NoteBefore(make=GivesAnotherNote), MANY),
    ("given_entries_match", lambda: NoteBefore(make=GivesAPitch), MANY),
    ("encoded_classes_are_allowed", GivesWeights, EXACT_CELLS),
    ("encoded_classes_are_allowed", IgnoresTheStart, EXACT_CELLS),
    ("allowed_classes_agree", IgnoresArrays, EXACT_CELLS),
    ("allowed_classes_agree", LimitingTracking, EXACT_CELLS),
    ("allowed_rows_can_be_completed", IsADeadEnd, EXACT_CELLS),
    ("snapped_notes_have_the_same_rows", SnapsAnotherPiece, EXACT_CELLS),
    ("snapped_notes_have_the_same_rows", SnapsWithoutOrder, EXACT_CELLS),
    ("allowed_rows_can_be_decoded", lambda: Patched(own_decode=nothing_above_100), LOW),
]


@functools.cache
def short() -> Notes:
    return long_piece(np.random.default_rng(0), count=300, seconds=60)


@pytest.mark.parametrize(
    ("clause", "broken", "settings"),
    BROKEN,
    ids=[f"{clause}-{i}" for i, (clause, _, _) in enumerate(BROKEN)],
)
def test_the_clause_bites(
    clause: str, broken: Callable[[], NoteEncoder], settings: dict[str, Any]
) -> None:
    given = {"examples": 30, "entry_point": False, "hour": short(), **settings}
    with pytest.raises(AssertionError, match=f"^check_encoder, {clause}: "):
        check_encoder(broken(), **given)


def test_the_unbroken_one_passes() -> None:
    check_encoder(Patched(), entry_point=False, hour=short(), examples=30)
    for make in (Tracker, Recalling):
        check_encoder(PatchedTracking(make=make), entry_point=False, hour=short(), examples=30)
    check_encoder(NoteBefore(), entry_point=False, hour=short(), examples=30)
    check_encoder(Measured(), entry_point=False, hour=short(), examples=30)
    for band in (Band(), TrackedBand(), TrackedBand(make=Recalling)):
        check_encoder(band, entry_point=False, hour=short(), examples=30, **BANDS)
    check_encoder(beat_band(), entry_point=False, examples=30, **{"hour": short(), **BEAT_BANDS})
    check_encoder(event_band(), entry_point=False, examples=30, **{"hour": short(), **EVENT_BANDS})
    check_encoder(LimitingInBeats(make=Recalling), entry_point=False, examples=30, **BEAT_BANDS)
    for limited in (Limiting(), Ending()):
        check_encoder(limited, entry_point=False, hour=short(), examples=30, **EXACT_CELLS)


class LimitsBesideATempo(Limiting):
    """Its limits depend on a number, which is within the bounds of its field."""

    @property
    def fields(self) -> tuple[Field, ...]:
        tempo = Field.continuous("tempo", "tempo", unit="quarter notes a minute", low=10, high=400)
        return (*self.good.fields, tempo)

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        assert 10 <= known.get("tempo", 10) <= 400
        return self.good.allowed_classes(field, known, previous)


def test_known_numbers_are_within_their_bounds() -> None:
    promise = Promise(onset=0.0, duration=0.0, velocity=0, keeps_order=True)
    allowed_rows_can_be_completed(Trip(LimitsBesideATempo(), promise, Notes.empty()))


def test_every_clause_has_a_broken_encoder() -> None:
    clauses = (
        *ENCODER_CLAUSES,
        *SNAPPING_CLAUSES,
        *PIECE_CLAUSES,
        *CONSTRAINT_CLAUSES,
        *TRACKER_CLAUSES,
        *HOUR_CLAUSES,
    )
    names = {clause.__name__.lstrip("_") for clause in clauses}
    assert names == {clause for clause, _, _ in BROKEN}
