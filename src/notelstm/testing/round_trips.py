"""The clauses of ``check_encoder`` about one piece, encoded and decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import part_map_of, tracker_of
from notelstm.errors import EncodingError
from notelstm.evaluation.nats import MeasuredEncoder
from notelstm.fields import Bounds, Field, Role, Rows, predicted
from notelstm.notes import DEFAULT_VELOCITY, Notes
from notelstm.protocols import NoteEncoder
from notelstm.testing.clauses import require

__all__ = ["EXACT", "Promise", "Tolerance", "Trip", "in_domain", "instruments"]

Tolerance: TypeAlias = float | Callable[[Notes], NDArray[np.float64]]
"""The greatest error of a time in seconds: a number, or a function from N notes to (N,)."""

EXACT: Final = 1e-6
"""The greatest difference of equal times in seconds: float64 sums of float32 steps."""


_ROLES: Final = cast(tuple[Role, ...], ("pitch", "step", "duration", "velocity"))

_CELLS: Final = ((-np.inf, 3), (3, 4), (4, 90), (90, np.inf))
"""Intervals that partition the values of a role."""


@final
@dataclass(frozen=True, kw_only=True)
class Promise:
    """The documented accuracy of an encoder, as in :func:`~notelstm.testing.check_encoder`."""

    onset: Tolerance
    duration: Tolerance
    velocity: int
    keeps_order: bool


@final
@dataclass(frozen=True)
class Trip:
    """One piece and its round trip through an encoder."""

    encoder: NoteEncoder
    promise: Promise
    piece: Notes

    @functools.cached_property
    def rows(self) -> Rows:
        """(N, F) the encoded piece."""
        return self.encoder.encode(self.piece)

    @functools.cached_property
    def back(self) -> Notes:
        """The decoded rows."""
        return self.encoder.decode(self.rows)

    @functools.cached_property
    def is_row_per_note(self) -> bool:
        """Whether each row is a note; a note is several events of an event encoder."""
        return all(field.role != "event" for field in self.encoder.fields)

    @functools.cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(N,) matching indices of the notes of the piece and of the decoded notes."""
        if self.promise.keeps_order:
            return np.arange(len(self.piece)), np.arange(len(self.back))
        # Notes of one pitch and instrument keep their order even where notes that start together
        # do not.
        both = (self.piece, self.back)
        before, after = (np.lexsort((instruments(self.encoder, n), n.pitch)) for n in both)
        return before, after


def instruments(encoder: NoteEncoder, notes: Notes) -> NDArray[np.int64]:
    """(N,) the class of the instrument of each note; 0 without a part map."""
    part_map = part_map_of(encoder)
    if part_map is None:
        return np.zeros(len(notes), dtype=np.int64)
    return part_map.classes_of(notes)


def in_domain(field: Field, column: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) whether each entry of a column is in the domain of its field."""
    if field.classes is not None:
        whole = np.isfinite(column) & (np.floor(column) == column)
        return np.asarray(whole & (column >= 0) & (column < field.classes))
    low, high = field.interval
    # The bounds are written in float64, the entries in float32.
    inside = (column >= np.float32(low)) & (column <= np.float32(high))
    return np.asarray(np.isfinite(column) & inside)


def _rows_are_a_float32_table(trip: Trip) -> None:
    """Rows are finite float32, one column per field and, without events, one row per note."""
    rows, f = trip.rows, len(trip.encoder.fields)
    require(isinstance(rows, np.ndarray), f"Got {type(rows).__name__}.")
    require(rows.ndim == 2 and rows.shape[1] == f, f"Got shape {rows.shape} for {f} fields.")
    require(rows.dtype == np.float32, f"Got {rows.dtype}.")
    require(np.isfinite(rows).all(), "Got NaN or infinity.")
    if trip.is_row_per_note:
        n = len(trip.piece)
        require(len(rows) == n, f"Got {len(rows)} rows for {n} notes.")


def _entries_are_in_their_fields(trip: Trip) -> None:
    """Class ids are integers below the number of classes; values lie between low and high."""
    for j, field in enumerate(trip.encoder.fields):
        bad = np.flatnonzero(~in_domain(field, trip.rows[:, j]))
        require(not bad.size, f"Field {field.name!r}: {trip.rows[bad, j][:1]} in row {bad[:1]}.")


def _encoding_is_repeatable(trip: Trip) -> None:
    """The same piece always has the same rows, and decoding leaves them unchanged."""
    rows = trip.rows.copy()
    same = np.array_equal(trip.encoder.encode(trip.piece), rows)
    require(same, "The rows differ the second time.")
    trip.encoder.decode(rows)
    require(np.array_equal(rows, trip.rows), "decode changed its rows.")


def _pitches_round_trip(trip: Trip) -> None:
    """Every note is decoded with its pitch, and in its order where that is promised."""
    encoded, decoded = len(trip.piece), len(trip.back)
    require(encoded == decoded, f"{encoded} notes were encoded, {decoded} decoded.")
    before, after = trip.pairs
    want, got = trip.piece.pitch[before], trip.back.pitch[after]
    bad = np.flatnonzero(want != got)[:1]
    require(not bad.size, f"Note {bad}: {want[bad]} became {got[bad]}.")


def _within(what: str, error: NDArray[np.float64], tolerance: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~(np.abs(error) <= tolerance))  # NaN among them
    if bad.size:
        i = bad[0]
        message = f"{what} {i} is off by {error[i]:.3g}, more than {tolerance[i]:.3g}"
        raise AssertionError(f"{message}; so are {bad.size} of {error.size}.")


def _seconds(tolerance: Tolerance, piece: Notes) -> NDArray[np.float64]:
    values = tolerance(piece) if callable(tolerance) else tolerance
    return np.broadcast_to(np.asarray(values, dtype=np.float64) + 1e-9, len(piece))


def _instruments_round_trip(trip: Trip) -> None:
    """Notes are decoded with the program, percussion and track of the class of their part."""
    part_map = part_map_of(trip.encoder)
    fields = [field for field in predicted(trip.encoder.fields) if field.role == "instrument"]
    events = [
        e.value for f in predicted(trip.encoder.fields) for e in f.events if e.type == "instrument"
    ]
    if part_map is None:
        require(not fields and not events, "There are classes of instruments and no part map.")
        return
    own = part_map.field()
    if trip.is_row_per_note:
        require(fields == [own], f"The fields of instruments are {fields}.")
    else:
        require(events == [*own.values], f"The events of instruments are {events}.")
    before, after = trip.pairs
    wanted = part_map.columns_of(part_map.classes_of(trip.piece)[before])
    for name in ("program", "drum", "track"):
        column = getattr(trip.back, name)
        require(column is not None, f"Decoded notes have no column {name}.")
        bad = np.flatnonzero(column[after] != wanted[name])[:1]
        require(not bad.size, f"Note {before[bad]}: another {name}.")
    names = trip.back.track_names
    require(names == wanted["track_names"], f"Decoded notes have the track names {names}.")


def _onsets_round_trip(trip: Trip) -> None:
    """Onsets, counted from the first, are decoded within the tolerance."""
    before, after = trip.pairs
    want = trip.piece.start - trip.piece.start[:1]
    got = trip.back.start - trip.back.start[:1]
    tolerance = _seconds(trip.promise.onset, trip.piece)
    _within("The onset of note", got[after] - want[before], tolerance[before])


def _durations_round_trip(trip: Trip) -> None:
    """Durations are decoded within the tolerance."""
    before, after = trip.pairs
    error = trip.back.duration[after] - trip.piece.duration[before]
    _within("The duration of note", error, _seconds(trip.promise.duration, trip.piece)[before])


def _velocities_round_trip(trip: Trip) -> None:
    """Velocities are decoded within the tolerance, or as 100 where no field has them."""
    before, after = trip.pairs
    fields = predicted(trip.encoder.fields)
    roles = ("velocity", "other")
    if any(f.role in roles or any(e.type == "velocity" for e in f.events) for f in fields):
        error = (trip.back.velocity[after] - trip.piece.velocity[before]).astype(np.float64)
        _within("The velocity of note", error, np.full(len(before), float(trip.promise.velocity)))
    else:
        got = set(trip.back.velocity.tolist())
        require(got <= {DEFAULT_VELOCITY}, f"Got {got}.")


def _only_the_last_note_ends_the_piece(trip: Trip) -> None:
    """The end is class 1 of the last row, of no row of a truncated piece; so it is decoded."""
    columns = [j for j, field in enumerate(trip.encoder.fields) if field.role == "end"]
    for j in columns:
        for truncated in (True, False):
            piece = replace(trip.piece, truncated=truncated)
            rows = trip.encoder.encode(piece)
            wanted = np.zeros(len(rows))
            wanted[-1:] = not truncated
            bad = np.flatnonzero(rows[:, j] != wanted)[:1]
            require(not bad.size, f"Row {bad} of {len(rows)}, {truncated=}: {rows[bad, j]}.")
            if len(rows):
                back = trip.encoder.decode(rows).truncated
                require(back == truncated, f"Decoded with truncated={back}.")
                tracker = tracker_of(trip.encoder)
                tracker.extend(rows[:-1])
                require(not tracker.ended, "The tracker has ended before the last row.")
                tracker.extend(rows[-1:])
                require(tracker.ended != truncated, f"The tracker has ended={tracker.ended}.")


def _second_round_trip_is_exact(trip: Trip) -> None:
    """Decoded notes are the same after another round trip."""
    again = trip.encoder.decode(trip.encoder.encode(trip.back))
    same = len(again) == len(trip.back) and np.array_equal(again.pitch, trip.back.pitch)
    require(same, "The pitches changed.")
    require(np.array_equal(again.velocity, trip.back.velocity), "The velocities changed.")
    before, after = (instruments(trip.encoder, notes) for notes in (trip.back, again))
    require(np.array_equal(before, after), "The instruments changed.")
    exact = np.full(len(again), EXACT)
    first = trip.back.start - trip.back.start[:1]
    _within("The onset of note", again.start - again.start[:1] - first, exact)
    _within("The duration of note", again.duration - trip.back.duration, exact)


def _values_match_decode(trip: Trip) -> None:
    """`Field.values` and `Field.events` are the numbers that ``decode`` uses."""
    back = trip.back
    notes: dict[Role, NDArray[np.generic]] = {
        "pitch": back.pitch,
        "velocity": back.velocity,
        "step": np.diff(back.start, prepend=0.0),
        "duration": back.duration,
        "instrument": instruments(trip.encoder, back),
    }
    for j, field in enumerate(trip.encoder.fields):
        if field.given:
            continue
        entries = trip.rows[:, j].tolist()
        if field.role == "event":
            instrument, played = 0.0, []
            for event in (field.events[int(entry)] for entry in entries):
                if event.type == "instrument":
                    instrument = event.value
                elif event.type == "note-on":
                    played.append((event.value, instrument))
            tones = zip(back.pitch.tolist(), notes["instrument"].tolist(), strict=True)
            require(played == list(tones), f"Field {field.name!r}, its note-ons.")
        elif field.role in notes and (field.unit == "s" or field.role not in ("step", "duration")):
            values = np.array([field.value_of(entry) for entry in entries])
            error = values - notes[field.role].astype(np.float64)
            _within(f"Field {field.name!r} in row", error, np.full(len(values), EXACT))


def _classes_contain_their_values(trip: Trip) -> None:
    """The value of a note lies between the edges of its class."""
    if not trip.is_row_per_note:
        return
    notes: dict[Role, NDArray[np.generic]] = {
        "pitch": trip.piece.pitch,
        "velocity": trip.piece.velocity,
        "duration": trip.piece.duration,
    }
    for j, field in enumerate(trip.encoder.fields):
        fits = field.unit == "s" or field.role in ("pitch", "velocity")
        if field.given or not (field.edges and field.role in notes and fits):
            continue
        # The first and last class also contain values beyond the edges.
        low = np.array((-np.inf, *field.edges[1:-1]))
        high = np.array((*field.edges[1:-1], np.inf))
        k, value = trip.rows[:, j].astype(int), notes[field.role].astype(np.float64)
        bad = np.flatnonzero((value < low[k] - EXACT) | (value > high[k] + EXACT))
        require(not bad.size, f"Field {field.name!r}, note {bad[:1]}: {value[bad[:1]]}.")


def _bad_rows_are_rejected(trip: Trip) -> None:
    """Invalid rows are rejected with an EncodingError that names the row and the reason."""
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
            _require_rejected(trip.encoder, rows, f"{field.name} = {entry:g} in row {i}", f"{i}")
    wide = np.concatenate([trip.rows, trip.rows[:, :1]], axis=1)
    _require_rejected(trip.encoder, wide, f"a table of {wide.shape[1]} columns", "")


def _require_rejected(encoder: NoteEncoder, rows: Rows, what: str, where: str) -> None:
    try:
        encoder.decode(rows)
    except EncodingError as error:
        require(error.problem, f"{what}: the error gives no reason.")
        require(where in error.where, f"{what}: the error says {error.where!r}.")
    else:
        raise AssertionError(f"{what} was decoded.")


def _bounds_partition_the_field(trip: Trip) -> None:
    """Adjacent intervals stay adjacent in the units of an encoder with `bounds`; none is empty."""
    if not isinstance(trip.encoder, MeasuredEncoder) or not len(trip.piece):
        return
    n, by_cell = len(trip.piece), []
    for ends in _CELLS:
        low, high = (np.full(n, end, dtype=np.float64) for end in ends)
        cells: dict[Role, Bounds] = dict.fromkeys(_ROLES, (low, high))
        by_cell.append(trip.encoder.bounds(trip.piece, trip.rows, cells))
    for j, field in enumerate(trip.encoder.fields):
        if field.given:
            continue
        require(all(field.name in bounds for bounds in by_cell), f"{field.name!r} has none.")
        lows, highs = (np.stack([bounds[field.name][k] for bounds in by_cell]) for k in (0, 1))
        require(lows.shape == highs.shape == (len(_CELLS), n), f"{field.name!r}: {lows.shape}.")
        require((lows < highs).all(), f"{field.name!r}: an empty cell.")
        if field.role in _ROLES:
            whole = (lows[0] == -np.inf).all() and (highs[-1] == np.inf).all()
            require(whole and np.array_equal(highs[:-1], lows[1:]), f"{field.name!r}: a gap.")
        elif field.values:
            value = np.array(field.values)[trip.rows[:, j].astype(int)]
            inside = (lows <= value) & (value < highs)
            require(inside.all(), f"{field.name!r}: it is not the row's own class.")


TIME_CLAUSES = (
    _pitches_round_trip,
    _instruments_round_trip,
    _onsets_round_trip,
    _durations_round_trip,
    _velocities_round_trip,
)

PIECE_CLAUSES = (
    _rows_are_a_float32_table,
    _entries_are_in_their_fields,
    _encoding_is_repeatable,
    *TIME_CLAUSES,
    _only_the_last_note_ends_the_piece,
    _second_round_trip_is_exact,
    _values_match_decode,
    _classes_contain_their_values,
    _bad_rows_are_rejected,
    _bounds_partition_the_field,
)
