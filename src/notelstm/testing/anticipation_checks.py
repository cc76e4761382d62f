"""``check_anticipating_encoder``: the contract of :class:`notelstm.protocols.AnticipatesNotes`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from notelstm.encoders.rows import part_map_of, snapped, tracker_of
from notelstm.fields import Rows, by_name, note_rows, written_rows
from notelstm.notes import Note, Notes
from notelstm.protocols import AnticipatesNotes
from notelstm.testing import strategies
from notelstm.testing.clauses import for_all, require, run
from notelstm.testing.round_trips import EXACT, instruments
from notelstm.tracker import Tone

__all__ = ["GivenTrip", "check_anticipating_encoder"]

_NAME = "check_anticipating_encoder"


@final
@dataclass(frozen=True)
class GivenTrip:
    """One piece, some notes of which are given, and its rows."""

    encoder: AnticipatesNotes
    onset_tolerance: float
    piece: Notes
    given: NDArray[np.bool_]

    @functools.cached_property
    def rows(self) -> Rows:
        """(M, F) the encoded piece."""
        return self.encoder.encode_given(self.piece, self.given)

    @functools.cached_property
    def written(self) -> NDArray[np.bool_]:
        """(M,) which rows are written."""
        return np.asarray(written_rows(self.rows, self.encoder.fields))

    @functools.cached_property
    def clock(self) -> NDArray[np.float64]:
        """(M,) seconds: the time of the tracker after each row."""
        tracker, times = tracker_of(self.encoder), []
        for row in self.rows:
            tracker.push(row)
            times.append(tracker.time)
        return np.array(times)

    @functools.cached_property
    def offset(self) -> NDArray[np.float64]:
        """(M,) seconds: the column that tells the onset of a given note, counted from the clock."""
        (column,) = (k for k, f in enumerate(self.encoder.fields) if f.role == "step" and f.given)
        return self.rows[:, column].astype(np.float64)

    @functools.cached_property
    def given_notes(self) -> Notes:
        """The given notes, as the encoder rounds them, from the first onset of all."""
        whole = snapped(self.encoder, self.piece)
        first = float(whole.start[0]) if len(whole) else 0.0
        return snapped(self.encoder, self.piece[self.given]).shifted(-first)

    @functools.cached_property
    def written_notes(self) -> Notes:
        """The other notes; those on the tone of a given note, where it begins, are left out."""
        whole = snapped(self.encoder, self.piece)
        first = float(whole.start[0]) if len(whole) else 0.0
        others = snapped(self.encoder, self.piece[~self.given]).shifted(-first)
        taken = {*self.keys(self.given_notes)}
        return others[np.array([key not in taken for key in self.keys(others)], dtype=np.bool_)]

    def keys(self, notes: Notes) -> list[tuple[float, int, int]]:
        """The onset, to the millisecond, the instrument and the pitch of each note."""
        onset = [round(start, 3) for start in notes.start.tolist()]
        part = instruments(self.encoder, notes).tolist()
        return list(zip(onset, part, notes.pitch.tolist(), strict=True))


def check_anticipating_encoder(
    encoder: AnticipatesNotes,
    *,
    onset_tolerance: float = EXACT,
    pieces: SearchStrategy[Notes] | None = None,
    examples: int = 50,
) -> None:
    """Check that an encoder of given notes keeps its contract, beside :func:`check_encoder`.

    Args:
        encoder: The encoder.
        onset_tolerance: The greatest error of an onset, counted from the first, in seconds.
        pieces: Pieces of its domain; any piece by default.
        examples: The number of pieces to try.

    Raises:
        AssertionError: At the first broken clause, with its name.

    Example:
        >>> from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
        >>> inner = LogTimeEncoder(exact=True, linear=2.0)
        >>> encoder = AnticipatingEncoder(inner=inner, seconds=2.0)
        >>> check_anticipating_encoder(encoder, examples=5)
    """

    def holds(drawn: tuple[Notes, int]) -> None:
        piece, seed = drawn
        rng = np.random.default_rng(seed)
        given = rng.random(len(piece)) < rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        run(_NAME, ANTICIPATION_CLAUSES, GivenTrip(encoder, onset_tolerance, piece, given))

    every = strategies.notes() if pieces is None else pieces
    for_all(st.tuples(every, st.integers(0, 2**32 - 1)), examples, holds)


def _nothing_given_is_an_encoded_piece(trip: GivenTrip) -> None:
    """Without given notes, rows equal those of ``encode``; with them, some rows are not written."""
    none = np.zeros(len(trip.piece), dtype=np.bool_)
    rows = trip.encoder.encode_given(trip.piece, none)
    require(np.array_equal(rows, trip.encoder.encode(trip.piece)), "The rows differ.")
    require(np.asarray(written_rows(rows, trip.encoder.fields)).all(), "A row is given.")
    count = int((~trip.written).sum())
    require(count == len(trip.given_notes), f"{count} rows of {len(trip.given_notes)} given notes.")


def _same(trip: GivenTrip, found: Notes, wanted: Notes) -> None:
    require(len(found) == len(wanted), f"{len(found)} notes instead of {len(wanted)}.")
    # Decoded, since velocities and durations have classes.
    encoder = trip.encoder
    for name in ("pitch", "velocity"):
        decoded = getattr(encoder.decode(encoder.encode(wanted)), name)
        require(np.array_equal(getattr(found, name), decoded), f"Another {name}.")
    same = np.array_equal(instruments(encoder, found), instruments(encoder, wanted))
    require(same, "Another instrument.")
    error = np.abs(found.start - wanted.start)
    off = error[error > trip.onset_tolerance]
    require(not off.size, f"Onsets are off by {off[:1]}.")
    length = encoder.decode(encoder.encode(wanted)).duration
    require(np.allclose(found.duration, length, rtol=0, atol=EXACT), "Other durations.")


def _given_notes_come_back(trip: GivenTrip) -> None:
    """Decoded, given notes are the given notes of the piece, and the others are written."""
    tracker, given = tracker_of(trip.encoder), []
    back = trip.encoder.decode(trip.rows)
    for row, is_written, offset in zip(trip.rows, trip.written, trip.offset, strict=True):
        tracker.push(row)
        if not is_written:
            given.append(tracker.time + offset)
    wanted = trip.given_notes
    error = np.abs(np.sort(given) - wanted.start) if len(given) == len(wanted) else np.ones(1)
    require((error <= trip.onset_tolerance).all(), f"Given onsets {given}.")
    keys = {*trip.keys(wanted)}
    if trip.onset_tolerance <= EXACT:
        mine = np.array([key in keys for key in trip.keys(back)], dtype=np.bool_)
        _same(trip, back[mine], wanted)
        _same(trip, back[~mine], trip.written_notes)
    count = len(wanted) + len(trip.written_notes)
    require(len(back) == count, f"{len(back)} decoded notes of {count}.")


def _given_notes_do_not_leak(trip: GivenTrip) -> None:
    """The rows that are scored do not depend on the tones of given notes."""
    piece = trip.piece
    changed = replace(
        piece,
        pitch=np.where(trip.given, 127 - piece.pitch, piece.pitch),
        velocity=np.where(trip.given, 128 - piece.velocity, piece.velocity),
    )
    other = replace(trip, piece=changed)
    if {*other.keys(other.written_notes)} != {*trip.keys(trip.written_notes)}:
        return  # a given note has moved to the tone of another one
    same = np.array_equal(trip.rows[trip.written], other.rows[other.written])
    require(same, "A row that is scored depends on the pitch or velocity of a given note.")


def _given_notes_precede_their_onset(trip: GivenTrip) -> None:
    """Offsets are from 0 to `seconds`, and 0 in written rows; given notes do not move the clock."""
    seconds, offset = trip.encoder.seconds, trip.offset
    within = (offset >= 0) & (offset <= seconds + EXACT)
    require(within.all(), f"An offset of {offset[~within][:1]}.")
    require((offset[trip.written] == 0).all(), "A written row has an offset.")
    moved = np.diff(trip.clock, prepend=0.0)[~trip.written]
    require((moved == 0).all(), "A given note moves the clock.")


def _given_notes_are_due(trip: GivenTrip) -> None:
    """A given note stands after the first row after which it is due, or in front of all."""
    onset = np.where(trip.written, 0.0, trip.clock + trip.offset)
    waiting = sorted(onset[~trip.written].tolist())
    clock = 0.0
    for i, is_written in enumerate(trip.written):
        due = bool(waiting) and waiting[0] <= clock + trip.encoder.seconds + EXACT
        require(due != is_written, f"Row {i}, clock {clock:g}: the next given {waiting[:1]}.")
        if is_written:
            clock = float(trip.clock[i])
        else:
            first = waiting.pop(0)
            require(abs(first - onset[i]) <= EXACT, f"Row {i}: {onset[i]:g} is before {first:g}.")


def _rows_depend_on_earlier_ones(trip: GivenTrip) -> None:
    """A later note to be written changes no row before its own, nor its rests."""
    written = np.flatnonzero(~trip.given)
    if len(written) < 2 or not trip.given.any():
        return
    if len(snapped(trip.encoder, trip.piece)) < len(trip.piece):
        return  # a later note may be merged into an earlier one, and change it
    kept = np.ones(len(trip.piece), dtype=np.bool_)
    kept[written[len(written) // 2 :]] = False
    if not kept.any() or trip.piece.start[kept].min() != trip.piece.start.min():
        return  # times are counted from the first note
    rows = trip.encoder.encode_given(trip.piece[kept], trip.given[kept])
    fields = trip.encoder.fields
    # Up to the last note; then, there are rests.
    notes = note_rows(rows, fields) & np.asarray(written_rows(rows, fields))
    last = int(np.flatnonzero(notes)[-1]) + 1 if notes.any() else 0
    same = len(trip.rows) >= last and np.array_equal(rows[:last], trip.rows[:last])
    require(same, "An earlier row depends on a note that is written later.")


def _given_rows_are_those_of_the_piece(trip: GivenTrip) -> None:
    """``given_row`` returns the row of a note at its clock."""
    part_map = part_map_of(trip.encoder)
    notes = trip.given_notes
    part = instruments(trip.encoder, notes)
    places = np.flatnonzero(~trip.written)
    if trip.onset_tolerance > EXACT or len(places) != len(notes):
        return
    for i, k in zip(places.tolist(), range(len(notes)), strict=True):
        played = None if part_map is None else part_map.classes[int(part[k])]
        note = Note(
            float(notes.start[k]),
            float(notes.end[k]),
            int(notes.pitch[k]),
            int(notes.velocity[k]),
            0 if played is None else played.program,
            played is not None and played.drum,
            int(part[k]),
        )
        row = trip.encoder.given_row(note, float(trip.clock[i]))
        require(np.allclose(row, trip.rows[i], rtol=0, atol=EXACT), f"Row {i}: {row}.")


def _tracker_knows_given_notes(trip: GivenTrip) -> None:
    """The tracker returns written notes; given ones sound from their onset on."""
    tracker, fields = tracker_of(trip.encoder), trip.encoder.fields
    begun: list[tuple[float, float, Tone]] = []
    names = [*by_name(fields)]
    for i, row in enumerate(trip.rows):
        following = tracker.given()
        if trip.written[i]:
            for name, entry in following.items():
                require(entry == row[names.index(name)], f"Row {i}: {name} is {entry}.")
        tracker.push(row)
        if not trip.written[i]:
            one = trip.encoder.decode(row[None])
            tone = Tone(int(one.pitch[0]), int(instruments(trip.encoder, one)[0]))
            onset = tracker.time + float(trip.offset[i])
            begun.append((onset, onset + float(one.duration[0]), tone))
        sounds = tracker.sounding(tracker.time)
        for onset, end, tone in begun:
            if onset <= tracker.time and end > tracker.time + EXACT:
                require(tone in sounds, f"Row {i}, {tracker.time:g} s: {tone} does not sound.")
    notes = tracker.notes()
    require(tracker.num_notes == len(notes), f"num_notes is {tracker.num_notes}.")
    wanted = trip.encoder.decode(trip.rows[trip.written])
    same = len(notes) == len(wanted) and np.array_equal(notes.pitch, wanted.pitch)
    same = same and np.allclose(notes.start, wanted.start, rtol=0, atol=EXACT)
    require(same, "The notes of the tracker are not the written ones.")
    popped = tracker.copy().pop_finished(include_sounding=True)
    require(len(popped) == len(notes), f"{len(popped)} notes are returned.")


ANTICIPATION_CLAUSES: tuple[Callable[[GivenTrip], None], ...] = (
    _nothing_given_is_an_encoded_piece,
    _given_notes_precede_their_onset,
    _given_notes_are_due,
    _rows_depend_on_earlier_ones,
    _given_notes_come_back,
    _given_notes_do_not_leak,
    _given_rows_are_those_of_the_piece,
    _tracker_knows_given_notes,
)
