"""PerformanceEventEncoder: the maximum length of a piece, and instrument events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.encoders import PerformanceEventEncoder
from notelstm.errors import EncodingError
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.plugins import build, describe
from notelstm.testing import strategies
from notelstm.tracker import Tone

DAY = 86_400.0


@pytest.mark.parametrize(
    ("start", "end", "note"),
    [([0, DAY], [1, DAY + 0.01], 1), ([5, 6], [DAY + 5.5, 7], 0), ([0, 1e300], [1, 1e300], 1)],
)
def test_piece_longer_than_a_day_is_rejected(
    start: list[float], end: list[float], note: int
) -> None:
    piece = Notes(start=start, end=end, pitch=60)
    with pytest.raises(EncodingError, match=rf"later than a day, 86,400 s.*\(note {note}\)"):
        PerformanceEventEncoder().encode(piece)


def test_maximum_length_is_counted_from_the_first_onset() -> None:
    piece = Notes(start=[1000, 1000 + DAY - 1], end=[1001, 1000 + DAY], pitch=[60, 61])
    encoder = PerformanceEventEncoder()
    rows = encoder.encode(piece)
    assert len(rows) < 1.01 * DAY
    assert np.allclose(encoder.decode(rows).start, [0, DAY - 1])


PARTS = PartMap(
    by="program", parts=(Part(name="Piano"), Part(name="Violin", program=40)), unknown="other"
)
BAND = PerformanceEventEncoder(parts=PARTS)
(EVENTS,) = BAND.fields


def events_of(notes: Notes) -> list[tuple[str, float]]:
    return [(e.type, e.value) for e in (EVENTS.events[int(row[0])] for row in BAND.encode(notes))]


def id_of(kind: str, value: float) -> int:
    (found,) = (i for i, event in enumerate(EVENTS.events) if event == (kind, value))
    return found


def test_instrument_event_applies_until_the_next_one() -> None:
    notes = Notes(
        start=[0, 0, 0, 1],
        end=[1, 1, 2, 2],
        pitch=[60, 60, 64, 60],
        velocity=66,
        program=[40, 0, 0, 40],
    )
    assert events_of(notes) == [
        ("instrument", 0),
        ("velocity", 66),
        ("note-on", 60),
        ("note-on", 64),
        ("instrument", 1),
        ("note-on", 60),
        ("shift", 1),
        ("instrument", 0),
        ("note-off", 60),
        ("instrument", 1),
        ("note-off", 60),
        ("note-on", 60),
        ("shift", 1),
        ("instrument", 0),
        ("note-off", 64),
        ("instrument", 1),
        ("note-off", 60),
    ]
    back = BAND.decode(BAND.encode(notes))
    assert back.program is not None
    found = sorted(zip(back.start, back.end, back.pitch, back.program, strict=True))
    assert found == sorted(zip(notes.start, notes.end, notes.pitch, (40, 0, 0, 40), strict=True))


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([("velocity", 66)], ("note-on", 60)),
        ([("instrument", 0)], ("instrument", 1)),
        ([("instrument", 0), ("velocity", 66)], ("instrument", 1)),
        ([("instrument", 0), ("shift", 0.01)], ("instrument", 0)),
        (
            [("instrument", 0), ("velocity", 66), ("note-on", 60), ("instrument", 1), ("shift", 1)],
            ("note-off", 60),
        ),
    ],
)
def test_events_that_are_not_allowed_are_rejected(
    before: Sequence[tuple[str, float]], event: tuple[str, float]
) -> None:
    rows = np.array([[id_of(*e)] for e in (*before, event)], dtype=np.float32)
    BAND.decode(rows[:-1])
    with pytest.raises(EncodingError, match=rf"cannot follow.*\(row {len(before)}\)"):
        BAND.decode(rows)


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=80))
def test_closing_rows_end_all_notes_after_any_allowed_events(draws: list[float]) -> None:
    """Notes of several parts sound; closing rows end all of them, whatever the latest event is."""
    tracker, rows = BAND.tracker(), []
    for number in draws:
        allowed = np.flatnonzero(tracker.allowed(EVENTS, {}))
        # Half of the events are instruments and velocities, wherever these are allowed.
        rare = allowed[allowed >= id_of("velocity", 2)]
        chosen = rare if number < 0.5 and len(rare) else allowed
        rows.append(np.array([chosen[int(number * 2 % 1 * len(chosen))]], dtype=np.float32))
        tracker.push(rows[-1])
        closed, sounding = tracker.copy(), tracker.sounding(tracker.time)
        closed.extend(tracker.closing_rows())
        assert closed.sounding(closed.time) == set()
        assert closed.time - tracker.time < 0.011
        assert closed.num_notes == tracker.num_notes
        assert all(isinstance(tone, Tone) for tone in sounding)
    # Without notes or waits between them, there is at most one instrument and one velocity.
    kinds = "".join(EVENTS.events[int(row[0])].type[0] for row in rows)
    for repeated in ("ii", "vv", "vi"):
        assert repeated not in kinds


@given(strategies.notes(instruments=True))
def test_without_parts_instruments_do_not_change_rows(piece: Notes) -> None:
    plain = replace(piece, program=None, drum=None, track=None, track_names=None)
    encoder = PerformanceEventEncoder()
    rows = encoder.encode(piece)
    assert rows.tobytes() == encoder.encode(plain).tobytes()
    back = encoder.decode(rows)
    assert (back.program, back.drum, back.track, back.track_names) == (None,) * 4
    # One instrument alone: the same events after one of its class.
    alone = BAND.encode(plain)
    np.testing.assert_array_equal(alone[1:], rows)
    assert alone[:1].tolist() == ([[id_of("instrument", 0)]] if len(piece) else [])


def test_description_without_parts_can_be_built() -> None:
    described = describe(PerformanceEventEncoder())
    assert build({**described, "config": {}}) == PerformanceEventEncoder()
    assert build(describe(BAND)) == BAND
    assert len(PerformanceEventEncoder().fields[0].events) == 388
