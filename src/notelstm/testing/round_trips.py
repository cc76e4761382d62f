"""The clauses of ``check_encoder`` that look at one piece on its way into rows and back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import EncodingError
from notelstm.fields import Field, Role, Rows
from notelstm.notes import DEFAULT_VELOCITY, Notes
from notelstm.protocols import NoteEncoder
from notelstm.testing.clauses import require

__all__ = ["EXACT", "PIECE_CLAUSES", "TIME_CLAUSES", "Promise", "Tolerance", "Trip", "in_domain"]

Tolerance: TypeAlias = float | Callable[[Notes], NDArray[np.float64]]
"""Seconds by which a time may be off: one number, or a function from the piece to (N,) of them."""

EXACT = 1e-6
"""Seconds by which equal times may differ: float64 sums of float32 steps."""


@final
@dataclass(frozen=True, kw_only=True)
class Promise:
    """What an encoder's docstring states of its round trip.

    Attributes:
        onset: Seconds by which an onset, counted from the first, may be off.
        duration: Seconds by which a duration may be off.
        velocity: By how much a velocity may be off.
        keeps_order: Whether notes that start together come back in the order given.
    """

    onset: Tolerance
    duration: Tolerance
    velocity: int
    keeps_order: bool


@final
@dataclass(frozen=True)
class Trip:
    """One piece on its way through an encoder and back.

    Attributes:
        encoder: The encoder.
        promise: What it states.
        piece: The piece.
    """

    encoder: NoteEncoder
    promise: Promise
    piece: Notes

    @functools.cached_property
    def rows(self) -> Rows:
        """(N, F) the piece, encoded."""
        return self.encoder.encode(self.piece)

    @functools.cached_property
    def back(self) -> Notes:
        """The rows, decoded."""
        return self.encoder.decode(self.rows)

    @functools.cached_property
    def a_row_a_note(self) -> bool:
        """Whether each row is a note; event columns say a note in several rows."""
        return all(field.role != "event" for field in self.encoder.fields)

    @functools.cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(N,) numbers of the notes of the piece, and of those that came back, side by side."""
        if self.promise.keeps_order:
            return np.arange(len(self.piece)), np.arange(len(self.back))
        # Notes of one pitch keep their order even where notes that start together do not.
        return self.piece.pitch.argsort(kind="stable"), self.back.pitch.argsort(kind="stable")


def in_domain(field: Field, column: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) whether each entry of a column is one that its field can hold."""
    if field.classes is not None:
        whole = np.isfinite(column) & (np.floor(column) == column)
        return np.asarray(whole & (column >= 0) & (column < field.classes))
    low, high = field.interval
    # The bounds are written in float64, the entries in float32.
    inside = (column >= np.float32(low)) & (column <= np.float32(high))
    return np.asarray(np.isfinite(column) & inside)


def _rows_are_a_float32_table(trip: Trip) -> None:
    """Rows are a finite float32 table with a column a field; without events, a row a note."""
    rows, f = trip.rows, len(trip.encoder.fields)
    require(isinstance(rows, np.ndarray), f"Got {type(rows).__name__}.")
    require(rows.ndim == 2 and rows.shape[1] == f, f"Got shape {rows.shape} for {f} fields.")
    require(rows.dtype == np.float32, f"Got {rows.dtype}.")
    require(np.isfinite(rows).all(), "Got NaN or infinity.")
    if trip.a_row_a_note:
        n = len(trip.piece)
        require(len(rows) == n, f"Got {len(rows)} rows for {n} notes.")


def _entries_are_in_their_fields(trip: Trip) -> None:
    """Class ids are whole and below the number of classes; values are within low and high."""
    for j, field in enumerate(trip.encoder.fields):
        bad = np.flatnonzero(~in_domain(field, trip.rows[:, j]))
        require(not bad.size, f"Field {field.name!r}: {trip.rows[bad, j][:1]} in row {bad[:1]}.")


def _encoding_is_repeatable(trip: Trip) -> None:
    """The same piece gives the same rows each time, and decoding leaves its rows as they are."""
    rows = trip.rows.copy()
    require(np.array_equal(trip.encoder.encode(trip.piece), rows), "The second time they differed.")
    trip.encoder.decode(rows)
    require(np.array_equal(rows, trip.rows), "decode changed the rows it was given.")


def _pitches_round_trip(trip: Trip) -> None:
    """Every note comes back, with its pitch; in the same order where that is promised."""
    want, got = len(trip.piece), len(trip.back)
    require(want == got, f"{want} notes went in, {got} came back.")
    went, came = trip.pairs
    before, after = trip.piece.pitch[went], trip.back.pitch[came]
    bad = np.flatnonzero(before != after)[:1]
    require(not bad.size, f"Note {bad}: {before[bad]} became {after[bad]}.")


def _within(what: str, error: NDArray[np.float64], tolerance: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(np.abs(error) > tolerance)
    if bad.size:
        i = bad[0]
        message = f"{what} {i} is off by {error[i]:.3g}, more than {tolerance[i]:.3g}"
        raise AssertionError(f"{message}; so are {bad.size} of {error.size}.")


def _seconds(tolerance: Tolerance, piece: Notes) -> NDArray[np.float64]:
    values = tolerance(piece) if callable(tolerance) else tolerance
    return np.broadcast_to(np.asarray(values, dtype=np.float64) + 1e-9, len(piece))


def _onsets_round_trip(trip: Trip) -> None:
    """Onsets, counted from the first, come back within the tolerance."""
    went, came = trip.pairs
    want = trip.piece.start - trip.piece.start[:1]
    got = trip.back.start - trip.back.start[:1]
    tolerance = _seconds(trip.promise.onset, trip.piece)
    _within("The onset of note", got[came] - want[went], tolerance[went])


def _durations_round_trip(trip: Trip) -> None:
    """Durations come back within the tolerance."""
    went, came = trip.pairs
    error = trip.back.duration[came] - trip.piece.duration[went]
    _within("The duration of note", error, _seconds(trip.promise.duration, trip.piece)[went])


def _velocities_round_trip(trip: Trip) -> None:
    """Velocities come back within the tolerance, or as 100 where the fields have none."""
    went, came = trip.pairs
    fields = trip.encoder.fields
    said = ("velocity", "other")
    if any(f.role in said or any(e.type == "velocity" for e in f.events) for f in fields):
        error = (trip.back.velocity[came] - trip.piece.velocity[went]).astype(np.float64)
        _within("The velocity of note", error, np.full(len(went), float(trip.promise.velocity)))
    else:
        got = set(trip.back.velocity.tolist())
        require(got <= {DEFAULT_VELOCITY}, f"Got {got}.")


def _second_round_trip_is_exact(trip: Trip) -> None:
    """What was decoded, encoded and decoded again, is the same."""
    again = trip.encoder.decode(trip.encoder.encode(trip.back))
    same = len(again) == len(trip.back) and np.array_equal(again.pitch, trip.back.pitch)
    require(same, "The pitches changed.")
    require(np.array_equal(again.velocity, trip.back.velocity), "The velocities changed.")
    exact = np.full(len(again), EXACT)
    first = trip.back.start - trip.back.start[:1]
    _within("The onset of note", again.start - again.start[:1] - first, exact)
    _within("The duration of note", again.duration - trip.back.duration, exact)


def _values_match_decode(trip: Trip) -> None:
    """`Field.values` (and `Field.events`) are the very numbers that ``decode`` uses."""
    back = trip.back
    notes: dict[Role, NDArray[np.generic]] = {
        "pitch": back.pitch,
        "velocity": back.velocity,
        "step": np.diff(back.start, prepend=0.0),
        "duration": back.duration,
    }
    for j, field in enumerate(trip.encoder.fields):
        entries = trip.rows[:, j].tolist()
        if field.role == "event":
            done = [field.events[int(entry)] for entry in entries]
            pitches = [event.value for event in done if event.type == "note-on"]
            require(pitches == back.pitch.tolist(), f"Field {field.name!r}, its note-ons.")
        elif field.role in notes and (field.unit == "s" or field.role in ("pitch", "velocity")):
            values = np.array([field.value_of(entry) for entry in entries])
            error = values - notes[field.role].astype(np.float64)
            _within(f"Field {field.name!r} in row", error, np.full(len(values), EXACT))


def _classes_contain_their_values(trip: Trip) -> None:
    """A class with edges was chosen because the note's value lies between them."""
    notes: dict[Role, NDArray[np.generic]] = {
        "pitch": trip.piece.pitch,
        "velocity": trip.piece.velocity,
        "duration": trip.piece.duration,
    }
    for j, field in enumerate(trip.encoder.fields):
        fits = field.unit == "s" or field.role in ("pitch", "velocity")
        if not (field.edges and field.role in notes and fits):
            continue
        # The outer classes take what is beyond the outer edges.
        low = np.array((-np.inf, *field.edges[1:-1]))
        high = np.array((*field.edges[1:-1], np.inf))
        k, value = trip.rows[:, j].astype(int), notes[field.role].astype(np.float64)
        bad = np.flatnonzero((value < low[k] - EXACT) | (value > high[k] + EXACT))
        require(not bad.size, f"Field {field.name!r}, note {bad[:1]}: {value[bad[:1]]}.")


def _bad_rows_are_rejected(trip: Trip) -> None:
    """Rows that cannot be notes are refused with an EncodingError that says which and why."""
    if not len(trip.rows):
        return
    i = len(trip.rows) // 2
    for j, field in enumerate(trip.encoder.fields):
        bad = [float("nan"), float("inf")]
        if field.classes is not None:
            bad += [float(field.classes), -1.0, 0.5]
        bad += [] if field.low is None else [field.low - 1]
        bad += [] if field.high is None else [field.high + 1]
        for entry in bad:
            rows = trip.rows.copy()
            rows[i, j] = entry
            _is_refused(trip.encoder, rows, f"{field.name} = {entry:g} in row {i}", f"{i}")
    wide = np.concatenate([trip.rows, trip.rows[:, :1]], axis=1)
    _is_refused(trip.encoder, wide, f"a table of {wide.shape[1]} columns", "")


def _is_refused(encoder: NoteEncoder, rows: Rows, what: str, where: str) -> None:
    try:
        encoder.decode(rows)
    except EncodingError as error:
        require(error.problem, f"{what}: the error gives no reason.")
        require(where in error.where, f"{what}: the error says {error.where!r}.")
    else:
        raise AssertionError(f"{what} was decoded.")


TIME_CLAUSES: tuple[Callable[[Trip], None], ...] = (
    _pitches_round_trip,
    _onsets_round_trip,
    _durations_round_trip,
    _velocities_round_trip,
)
"""What a long piece must keep as well as a short one."""

PIECE_CLAUSES: tuple[Callable[[Trip], None], ...] = (
    _rows_are_a_float32_table,
    _entries_are_in_their_fields,
    _encoding_is_repeatable,
    *TIME_CLAUSES,
    _second_round_trip_is_exact,
    _values_match_decode,
    _classes_contain_their_values,
    _bad_rows_are_rejected,
)
"""What holds for every piece."""
