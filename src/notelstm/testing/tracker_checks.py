"""The clauses of ``check_encoder`` about the tracker of the encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from notelstm.encoders.tracker import tracker_of
from notelstm.errors import FieldError
from notelstm.fields import Field, Interval, Mask, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.protocols import NoteEncoder
from notelstm.testing.clauses import require
from notelstm.testing.round_trips import EXACT, Trip
from notelstm.tracker import Tracker

__all__ = ["TRACKER_CLAUSES", "allowed_rows_can_be_decoded"]


def _pushed(encoder: NoteEncoder, rows: Iterable[Row]) -> Tracker:
    tracker = tracker_of(encoder)
    for row in rows:
        tracker.push(row)
    return tracker


def _same_notes(a: Notes, b: Notes) -> None:
    require(len(a) == len(b), f"{len(a)} notes instead of {len(b)}.")
    require(np.array_equal(a.pitch, b.pitch), "The pitches differ.")
    require(np.array_equal(a.velocity, b.velocity), "The velocities differ.")
    require(np.allclose(a.start, b.start, rtol=0, atol=EXACT), "The onsets differ.")
    require(np.allclose(a.end, b.end, rtol=0, atol=EXACT), "The ends differ.")


def _tracker_matches_decode(trip: Trip) -> None:
    """After all rows a tracker has the notes that ``decode`` returns."""
    tracker = _pushed(trip.encoder, trip.rows)
    _same_notes(tracker.notes(), trip.back)
    require(
        tracker.num_notes == len(trip.back),
        f"num_notes is {tracker.num_notes} for {len(trip.back)} notes.",
    )


def _tracker_keeps_time(trip: Trip) -> None:
    """`time` starts at 0, never decreases, and is the onset of each new note."""
    tracker = tracker_of(trip.encoder)
    require(
        tracker.num_notes == 0 and tracker.time == 0,
        f"num_notes {tracker.num_notes}, time {tracker.time}.",
    )
    for i, row in enumerate(trip.rows):
        n, clock = tracker.num_notes, tracker.time
        tracker.push(row)
        require(tracker.time >= clock, f"Row {i}: from {clock} back to {tracker.time}.")
        require(
            tracker.num_notes - n in (0, 1),
            f"Row {i}: num_notes went from {n} to {tracker.num_notes}.",
        )
        if tracker.num_notes > n:
            onset = float(trip.back.start[n])
            off = abs(tracker.time - onset)
            require(off <= EXACT, f"Row {i}: {tracker.time} at the onset {onset}.")


def _tracker_lists_sounding_pitches(trip: Trip) -> None:
    """`sounding` returns the pitches of notes that have begun and not ended."""
    tracker = tracker_of(trip.encoder)
    for i, row in enumerate(trip.rows):
        tracker.push(row)
        begun, now = trip.back[: tracker.num_notes], tracker.time
        # An event encoder may end a note in a later row of the same time.
        surely = set(begun.pitch[begun.end > now + EXACT].tolist())
        at_most = set(begun.pitch[begun.end >= now - EXACT].tolist())
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
            pitches = [pitch for _, pitch in got]
            require(pitches == some.pitch.tolist(), f"Row {i}, {count} notes: {got}.")
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
    steps = [field for field in trip.encoder.fields if field.role == "step"]
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
        surely = set(begun.pitch[begun.end > now + 2 * EXACT].tolist())
        at_most = set(begun.pitch[begun.end > now - EXACT].tolist())
        for what, got in (
            ("overlapping", set(overlapping or ())),
            ("remaining", {pitch for left, pitch in remaining if left > step + 2 * EXACT}),
        ):
            require(surely <= got <= at_most, f"Row {i}: {what} {got} instead of {surely}.")


def _tracker_copies_are_independent(trip: Trip) -> None:
    """Pushing rows to a copy does not change the tracker, nor another copy."""
    half = len(trip.rows) // 2
    tracker = _pushed(trip.encoder, trip.rows[:half])
    before, n, clock = tracker.notes(), tracker.num_notes, tracker.time
    first, second = tracker.copy(), tracker.copy()
    for row in trip.rows[half:]:
        first.push(row)
    for row in tracker.closing_rows():
        second.push(row)
    second.pop_finished(include_sounding=True)
    require((tracker.num_notes, tracker.time) == (n, clock), "The tracker changed with its copy.")
    require(
        tracker.sounding(clock) == _pushed(trip.encoder, trip.rows[:half]).sounding(clock),
        "Other pitches sound.",
    )
    _same_notes(tracker.notes(), before)
    _same_notes(first.notes(), trip.back)
    require(
        first.num_notes == len(trip.back),
        f"A copy counts {first.num_notes} of {len(trip.back)} notes.",
    )


def _finished_notes_are_popped_once(trip: Trip) -> None:
    """`pop_finished` returns each note once, with its number, as ``decode`` returns it."""
    tracker, given = tracker_of(trip.encoder), dict[int, Note]()
    plain = tracker_of(trip.encoder)
    for i, row in enumerate(trip.rows):
        tracker.push(row)
        plain.push(row)
        now = tracker.time
        _add_popped(given, tracker.pop_finished() if i % 3 else ())
        require(
            (tracker.num_notes, now) == (plain.num_notes, plain.time),
            f"Row {i}: num_notes or time changed.",
        )
        require(tracker.sounding(now) == plain.sounding(now), f"Row {i}: other pitches sound.")
        require(
            len(tracker.closing_rows()) == len(plain.closing_rows()),
            f"Row {i}: other closing rows.",
        )
        kept = len(tracker.notes())
        require(
            len(given) + kept == tracker.num_notes, f"Row {i}: {len(given)} popped, {kept} kept."
        )
    for row in tracker.closing_rows():
        tracker.push(row)
    _add_popped(given, tracker.pop_finished(include_sounding=True))
    require(sorted(given) == list(range(tracker.num_notes)), f"Popped notes: {sorted(given)}.")
    require(not len(tracker.notes()), "Popped notes are still there.")
    whole = trip.encoder.decode(np.concatenate([trip.rows, plain.closing_rows()]))
    if given:
        start, end, pitch, velocity = zip(*(given[i] for i in sorted(given)), strict=True)
        _same_notes(Notes(start=start, end=end, pitch=pitch, velocity=velocity), whole)


def _add_popped(given: dict[int, Note], notes: Iterable[tuple[int, Note]]) -> None:
    for number, note in notes:
        require(number not in given, f"Note {number} is popped twice.")
        given[number] = note


def _extend_equals_push(trip: Trip) -> None:
    """`extend` has the same result as a `push` of each row."""
    tracker = tracker_of(trip.encoder)
    half = len(trip.rows) // 2
    tracker.extend(trip.rows[:half])
    tracker.extend(trip.rows[half:])
    plain = _pushed(trip.encoder, trip.rows)
    now = tracker.time
    require(
        (tracker.num_notes, now) == (plain.num_notes, plain.time),
        f"num_notes {tracker.num_notes}, time {now}.",
    )
    require(tracker.sounding(now) == plain.sounding(now), "Other pitches sound.")
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


def _closing_rows_end_all_notes(trip: Trip) -> None:
    """After any number of rows, `closing_rows` end all notes that sound."""
    for k in sorted({len(trip.rows) * q // 4 for q in range(5)}):
        tracker = _pushed(trip.encoder, trip.rows[:k])
        begun, closing = tracker.num_notes, tracker.closing_rows()
        require(closing.shape[1:] == trip.rows.shape[1:], f"{k} rows: shape {closing.shape}.")
        require(closing.dtype == np.float32, f"{k} rows: {closing.dtype}.")
        whole = trip.encoder.decode(np.concatenate([trip.rows[:k], closing]))
        require(len(whole) == begun, f"{k} rows: {begun} notes began, {len(whole)} decoded.")
        for row in closing:
            tracker.push(row)
        require(
            len(tracker.closing_rows()) == 0,
            f"{k} rows: there are closing rows after the closing rows.",
        )


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
            known: dict[str, float] = {}
            for field in trip.encoder.fields:
                known[field.name] = _random_entry(field, tracker.allowed(field, known), known, rng)
            rows.append(np.array(list(known.values()), dtype=np.float32))
            tracker.push(rows[-1])
        for row in tracker.closing_rows():
            rows.append(row)
            tracker.push(row)
        table: Rows = np.stack(rows)
        _same_notes(trip.encoder.decode(table), tracker.notes())
        require(tracker.num_notes == len(tracker.notes()), f"num_notes is {tracker.num_notes}.")


TRACKER_CLAUSES: tuple[Callable[[Trip], None], ...] = (
    _tracker_matches_decode,
    _tracker_keeps_time,
    _tracker_lists_sounding_pitches,
    _tracker_lists_latest_notes,
    _tracker_predicts_overlaps,
    _tracker_copies_are_independent,
    _finished_notes_are_popped_once,
    _extend_equals_push,
    _encoded_rows_are_allowed,
    _closing_rows_end_all_notes,
)
"""Clauses about every piece."""
