"""The clauses of ``check_encoder`` about the tracker of the encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from notelstm.encoders.rows import part_map_of, tracker_of
from notelstm.errors import FieldError
from notelstm.fields import Field, Interval, Mask, Row, Rows, predicted
from notelstm.notes import Note, Notes
from notelstm.protocols import NoteEncoder
from notelstm.testing.clauses import require
from notelstm.testing.round_trips import EXACT, Trip, instruments
from notelstm.tracker import Tone, Tracker

__all__ = ["allowed_rows_can_be_decoded"]


def _push_all(tracker: Tracker, rows: Iterable[Row]) -> None:
    for row in rows:
        tracker.push(row)


def _pushed(encoder: NoteEncoder, rows: Iterable[Row]) -> Tracker:
    tracker = tracker_of(encoder)
    _push_all(tracker, rows)
    return tracker


def _same_notes(a: Notes, b: Notes) -> None:
    require(len(a) == len(b), f"{len(a)} notes instead of {len(b)}.")
    for name in ("program", "drum", "track"):
        columns = (getattr(notes, name) for notes in (a, b))
        one, two = (np.zeros(len(a)) if c is None else c for c in columns)
        require(np.array_equal(one, two), f"The column {name} differs.")
    require(np.array_equal(a.pitch, b.pitch), "The pitches differ.")
    require(np.array_equal(a.velocity, b.velocity), "The velocities differ.")
    require(np.allclose(a.start, b.start, rtol=0, atol=EXACT), "The onsets differ.")
    require(np.allclose(a.end, b.end, rtol=0, atol=EXACT), "The ends differ.")


def _tones(trip: Trip, notes: Notes) -> list[Tone]:
    """The pitch and instrument of each decoded note."""
    return list(map(Tone, notes.pitch.tolist(), instruments(trip.encoder, notes).tolist()))


def _tracker_matches_decode(trip: Trip) -> None:
    """After all rows a tracker has the notes that ``decode`` returns."""
    tracker = _pushed(trip.encoder, trip.rows)
    _same_notes(tracker.notes(), trip.back)
    count = tracker.num_notes
    require(count == len(trip.back), f"num_notes is {count} for {len(trip.back)} notes.")


def _tracker_keeps_time(trip: Trip) -> None:
    """`time` starts at 0, never decreases, and is the onset of the notes that a row begins."""
    tracker = tracker_of(trip.encoder)
    n, time = tracker.num_notes, tracker.time
    require(n == 0 and time == 0, f"num_notes {n}, time {time}.")
    for i, row in enumerate(trip.rows):
        before, earlier = n, time
        tracker.push(row)
        n, time = tracker.num_notes, tracker.time
        require(time >= earlier, f"Row {i}: from {earlier} back to {time}.")
        possible = before <= n <= len(trip.back)
        require(possible, f"Row {i}: num_notes went from {before} to {n} of {len(trip.back)}.")
        for onset in trip.back.start[before:n].tolist():
            require(abs(time - onset) <= EXACT, f"Row {i}: {time} at the onset {onset}.")


def _tracker_lists_sounding_notes(trip: Trip) -> None:
    """`sounding` returns the pitch and instrument of notes that have begun and not ended."""
    tracker = tracker_of(trip.encoder)
    for i, row in enumerate(trip.rows):
        tracker.push(row)
        begun, now = trip.back[: tracker.num_notes], tracker.time
        # An event encoder may end a note in a later row of the same time.
        surely = set(_tones(trip, begun[begun.end > now + EXACT]))
        at_most = set(_tones(trip, begun[begun.end >= now - EXACT]))
        got = set(tracker.sounding(now))
        require(surely <= got <= at_most, f"Row {i}, {now:g} s: {got} instead of {surely}.")


def _tracker_lists_latest_notes(trip: Trip) -> None:
    """`latest` returns the last of the notes that ``decode`` returns."""
    tracker = tracker_of(trip.encoder)
    require(list(tracker.latest(3)) == [], "There are notes before the first row.")
    for i, row in enumerate(trip.rows):
        tracker.push(row)
        begun = trip.back[: tracker.num_notes]
        for count in (1, 3, len(trip.rows) + 1):
            got, some = tracker.latest(count), begun[max(0, tracker.num_notes - count) :]
            tones = [tone for _, tone in got]
            require(tones == _tones(trip, some), f"Row {i}, {count} notes: {got}.")
            onsets = np.array([onset for onset, _ in got])
            near = np.allclose(onsets, some.start, rtol=0, atol=EXACT)
            require(near, f"Row {i}, {count} notes: {got}.")


def _tracks_steps(tracker: Tracker) -> bool:
    try:
        tracker.remaining()
    except FieldError:
        return False
    return True


def _tracker_predicts_overlaps(trip: Trip) -> None:
    """`remaining` and `overlapping`, if implemented, agree with the notes."""
    tracker = tracker_of(trip.encoder)
    steps = [field for field in predicted(trip.encoder.fields) if field.role == "step"]
    if not steps or not _tracks_steps(tracker):
        return
    column = trip.encoder.fields.index(steps[0])
    for i, row in enumerate(trip.rows):
        known = {steps[0].name: float(row[column])}
        require(tracker.overlapping({}) is None, f"Row {i}: overlapping pitches without a step.")
        overlapping, clock, before = tracker.overlapping(known), tracker.time, tracker.num_notes
        remaining, pace = tracker.remaining(), tracker.seconds_per_unit
        tracker.push(row)
        if before == 0:
            require(not overlapping and not remaining, f"Row {i}: a note sounds before the first.")
            continue
        step = steps[0].value_of(known[steps[0].name])
        took = step * pace
        require(abs(tracker.time - clock - took) <= EXACT, f"Row {i}: {pace} seconds per unit.")
        begun, now = trip.back[:before], tracker.time
        surely = set(_tones(trip, begun[begun.end > now + 2 * EXACT]))
        at_most = set(_tones(trip, begun[begun.end > now - EXACT]))
        for what, got in (
            ("overlapping", set(overlapping or ())),
            ("remaining", {tone for left, tone in remaining if left > step + 2 * EXACT}),
        ):
            require(surely <= got <= at_most, f"Row {i}: {what} {got} instead of {surely}.")


def _require_same_state(tracker: Tracker, other: Tracker, what: str) -> None:
    now = tracker.time
    same = (tracker.num_notes, now) == (other.num_notes, other.time)
    require(same, f"{what}: num_notes or time differs.")
    require(tracker.sounding(now) == other.sounding(now), f"{what}: other pitches sound.")
    same = len(tracker.closing_rows()) == len(other.closing_rows())
    require(same, f"{what}: other closing rows.")


def _tracker_lists_parts(trip: Trip) -> None:
    """`parts` has the part of each class of the field ``instrument``, or else a single one."""
    parts, part_map = tracker_of(trip.encoder).parts, part_map_of(trip.encoder)
    if part_map is None:
        require(len(parts) == 1 and not parts[0].drum, f"Without instruments: {parts}.")
    else:
        require(parts == part_map.classes, f"{parts} instead of {part_map.classes}.")


def _tracker_copies_are_independent(trip: Trip) -> None:
    """Pushing rows to a copy does not change the tracker, nor another copy."""
    half = len(trip.rows) // 2
    tracker = _pushed(trip.encoder, trip.rows[:half])
    before = tracker.notes()
    first, second = tracker.copy(), tracker.copy()
    _push_all(first, trip.rows[half:])
    _push_all(second, tracker.closing_rows())
    second.pop_finished(include_sounding=True)
    _require_same_state(tracker, _pushed(trip.encoder, trip.rows[:half]), "After copies changed")
    _same_notes(tracker.notes(), before)
    _same_notes(first.notes(), trip.back)
    count = first.num_notes
    require(count == len(trip.back), f"A copy counts {count} of {len(trip.back)} notes.")


def _finished_notes_are_popped_once(trip: Trip) -> None:
    """`pop_finished` returns each note once, with its number, as ``decode`` returns it."""
    tracker, plain = tracker_of(trip.encoder), tracker_of(trip.encoder)
    popped = dict[int, Note]()

    def pop(*, include_sounding: bool = False) -> None:
        for number, note in tracker.pop_finished(include_sounding=include_sounding):
            require(number not in popped, f"Note {number} is popped twice.")
            popped[number] = note

    for i, row in enumerate(trip.rows):
        tracker.push(row)
        plain.push(row)
        if i % 3:
            pop()
        _require_same_state(tracker, plain, f"Row {i}")
        kept = len(tracker.notes())
        whole = len(popped) + kept == tracker.num_notes
        require(whole, f"Row {i}: {len(popped)} popped, {kept} kept.")
    _push_all(tracker, tracker.closing_rows())
    pop(include_sounding=True)
    numbers = sorted(popped)
    require(numbers == list(range(tracker.num_notes)), f"Popped notes: {numbers}.")
    require(not len(tracker.notes()), "Popped notes are still there.")
    decoded = trip.encoder.decode(np.concatenate([trip.rows, plain.closing_rows()]))
    _same_notes(Notes.of(popped[i] for i in numbers), decoded)


def _extend_equals_push(trip: Trip) -> None:
    """`extend` has the same result as a `push` of each row."""
    tracker, plain = tracker_of(trip.encoder), _pushed(trip.encoder, trip.rows)
    half = len(trip.rows) // 2
    tracker.extend(trip.rows[:half])
    tracker.extend(trip.rows[half:])
    _require_same_state(tracker, plain, "After all rows")
    _same_notes(tracker.notes(), plain.notes())
    require(list(tracker.pop_finished()) == list(plain.pop_finished()), "Other notes are popped.")


def _allows(mask: Mask | None, field: Field, entry: float) -> bool:
    """Check the form of a mask, and return whether it allows an entry."""
    if mask is None:
        return True
    if isinstance(mask, Interval):
        require(not field.is_categorical, f"{field.name!r} has classes, got an interval.")
        require(mask.low <= mask.high, f"{field.name!r}: {mask} is empty.")
        return bool(np.float32(mask.low) <= np.float32(entry) <= np.float32(mask.high))
    require(mask.shape == (field.classes,), f"{field.name!r}: a mask of shape {mask.shape}.")
    require(mask.dtype == np.bool_, f"{field.name!r}: a mask of {mask.dtype}.")
    require(mask.any(), f"{field.name!r}: no class is allowed.")
    return bool(mask[int(entry)])


def _encoded_rows_are_allowed(trip: Trip) -> None:
    """Every entry of an encoded row is allowed, with and without the entries before it."""
    tracker = tracker_of(trip.encoder)
    for i, row in enumerate(trip.rows):
        known: dict[str, float] = {}
        for field, entry in zip(trip.encoder.fields, row.tolist(), strict=True):
            for given in ({}, known):
                allowed = _allows(tracker.allowed(field, given), field, entry)
                require(allowed, f"Row {i}: {field.name} = {entry:g}, known {given}.")
            known[field.name] = entry
        tracker.push(row)


def _given_entries_match(trip: Trip) -> None:
    """Before each row of a piece, `given` has entries of given fields, those of the row."""
    fields = {field.name: i for i, field in enumerate(trip.encoder.fields) if field.given}
    tracker = tracker_of(trip.encoder)
    for i, row in enumerate(trip.rows):
        for name, entry in tracker.given().items():
            require(name in fields, f"{name!r} is not a given field.")
            same = np.float32(entry) == row[fields[name]]
            require(same, f"Row {i}: {name} is {row[fields[name]]:g}, the tracker gives {entry:g}.")
        tracker.push(row)


def _closing_rows_end_all_notes(trip: Trip) -> None:
    """After any number of rows, `closing_rows` end all notes that sound."""
    for k in sorted({len(trip.rows) * q // 4 for q in range(5)}):
        tracker = _pushed(trip.encoder, trip.rows[:k])
        begun, closing = tracker.num_notes, tracker.closing_rows()
        require(closing.shape[1:] == trip.rows.shape[1:], f"{k} rows: shape {closing.shape}.")
        require(closing.dtype == np.float32, f"{k} rows: {closing.dtype}.")
        whole = trip.encoder.decode(np.concatenate([trip.rows[:k], closing]))
        require(len(whole) == begun, f"{k} rows: {begun} notes began, {len(whole)} decoded.")
        _push_all(tracker, closing)
        again = len(tracker.closing_rows())
        require(not again, f"{k} rows: there are closing rows after the closing rows.")


def _random_entry(
    field: Field, mask: Mask | None, known: Mapping[str, float], rng: np.random.Generator
) -> float:
    """A random allowed entry."""
    if field.classes is not None:
        allowed = np.ones(field.classes, dtype=bool) if mask is None else mask
        require(isinstance(allowed, np.ndarray), f"{field.name!r} has classes, got an interval.")
        classes = np.flatnonzero(allowed)
        require(classes.size, f"{field.name!r}: no class is allowed, known {dict(known)}.")
        return float(rng.choice(classes))
    low, high = mask if isinstance(mask, Interval) else field.interval
    low = max(low, high - 2, -1.0) if low == -np.inf else low
    return float(np.clip(np.float32(rng.uniform(low, min(high, low + 2))), low, high))


def allowed_rows_can_be_decoded(trip: Trip) -> None:
    """Random allowed rows can be decoded, to the notes of the tracker."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        tracker, rows = tracker_of(trip.encoder), []
        for _ in range(60):
            known = dict(tracker.given())
            for field in trip.encoder.fields:
                if field.name in known:
                    continue
                known[field.name] = _random_entry(field, tracker.allowed(field, known), known, rng)
            row = [known[field.name] for field in trip.encoder.fields]
            rows.append(np.array(row, dtype=np.float32))
            tracker.push(rows[-1])
        for row in tracker.closing_rows():
            rows.append(row)
            tracker.push(row)
        table: Rows = np.stack(rows)
        _same_notes(trip.encoder.decode(table), tracker.notes())
        require(tracker.num_notes == len(tracker.notes()), f"num_notes is {tracker.num_notes}.")


TRACKER_CLAUSES = (
    _tracker_matches_decode,
    _tracker_keeps_time,
    _tracker_lists_sounding_notes,
    _tracker_lists_latest_notes,
    _tracker_predicts_overlaps,
    _tracker_lists_parts,
    _tracker_copies_are_independent,
    _finished_notes_are_popped_once,
    _extend_equals_push,
    _encoded_rows_are_allowed,
    _given_entries_match,
    _closing_rows_end_all_notes,
)
