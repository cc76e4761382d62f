"""What each policy makes of note-ons, note-offs, pedals and tempos, on files built by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import NoNotesError
from notelstm.midi import ReadPolicy, SymusicReader, TolerantReader, read_midi_with_report
from notelstm.midi.pedal import Pedal, extend
from notelstm.notes import Notes

Smf = Callable[..., bytes]
Rows = list[tuple[float, float, int, int]]


def on(wait: int, pitch: int = 60, velocity: int = 64, channel: int = 0) -> bytes:
    return bytes([wait, 0x90 | channel, pitch, velocity])


def off(wait: int, pitch: int = 60, channel: int = 0) -> bytes:
    return bytes([wait, 0x80 | channel, pitch, 0])


def pedal(wait: int, value: int, channel: int = 0) -> bytes:
    return bytes([wait, 0xB0 | channel, 64, value])


def rows(notes: Notes) -> Rows:
    """Start and end in ticks of 1/192 s, pitch, velocity."""
    columns = (notes.start * 192, notes.end * 192, notes.pitch, notes.velocity)
    return [tuple(row) for row in zip(*(c.round().tolist() for c in columns), strict=True)]


TWO_OPEN = on(0, velocity=10) + on(10, velocity=20) + off(10) + off(10)
ONE_OFF = on(0, velocity=10) + on(10, velocity=20) + off(10)


@pytest.mark.parametrize(
    ("body", "policy", "wanted"),
    [
        (TWO_OPEN, {}, [(0, 20, 60, 10), (10, 20, 60, 20)]),
        (TWO_OPEN, {"overlaps": "fifo"}, [(0, 20, 60, 10), (10, 30, 60, 20)]),
        (TWO_OPEN, {"overlaps": "merge"}, [(0, 30, 60, 10)]),
        (ONE_OFF, {}, [(0, 20, 60, 10), (10, 20, 60, 20)]),
        (ONE_OFF, {"overlaps": "fifo"}, [(0, 20, 60, 10)]),
        (ONE_OFF, {"overlaps": "fifo", "hanging": "end"}, [(0, 20, 60, 10), (10, 20, 60, 20)]),
        (on(0) + off(9) + on(0) + off(9), {"overlaps": "merge"}, [(0, 9, 60, 64), (9, 18, 60, 64)]),
        (on(5) + off(0) + on(1, 61) + off(1, 61), {}, [(6, 7, 61, 64)]),
        (
            on(5) + off(0) + on(1, 61) + off(1, 61),
            {"zero_length": "keep"},
            [(5, 5, 60, 64), (6, 7, 61, 64)],
        ),
        (on(0) + on(5) + off(0) + off(5), {}, [(0, 5, 60, 64), (5, 10, 60, 64)]),
        (on(0) + on(9, 61) + off(9, 61), {}, [(9, 18, 61, 64)]),
        (
            on(0) + on(9, 61) + off(9, 61),
            {"hanging": "end"},
            [(0, 18, 60, 64), (9, 18, 61, 64)],
        ),
        (on(0) + on(9, velocity=0), {}, [(0, 9, 60, 64)]),
        (
            on(0) + on(9, velocity=0) + off(9),
            {"velocity_zero": "note"},
            [(0, 18, 60, 64), (9, 18, 60, 1)],
        ),
        (on(0, 64) + on(0, 60) + off(9, 64) + off(0), {}, [(0, 9, 60, 64), (0, 9, 64, 64)]),
        (
            on(0, 64) + on(0, 60) + off(9, 64) + off(0),
            {"simultaneous_order": "file"},
            [(0, 9, 64, 64), (0, 9, 60, 64)],
        ),
        (on(0) + pedal(5, 64) + off(5) + pedal(20, 63), {}, [(0, 10, 60, 64)]),
        (
            on(0) + pedal(5, 64) + off(5) + pedal(20, 63),
            {"pedal": "extend"},
            [(0, 30, 60, 64)],
        ),
        (
            on(0) + pedal(5, 127) + off(5) + pedal(5, 80) + on(5) + off(5) + pedal(9, 0),
            {"pedal": "extend"},
            [(0, 20, 60, 64), (20, 34, 60, 64)],
        ),
        (
            on(0) + pedal(5, 127) + off(5) + on(9, 61) + off(9, 61),
            {"pedal": "extend"},
            [(0, 28, 60, 64), (19, 28, 61, 64)],
        ),
        (
            on(0) + pedal(0, 127, 1) + off(5) + pedal(9, 0, 1),
            {"pedal": "extend"},
            [(0, 5, 60, 64)],
        ),
    ],
)
def test_policies_on_events(smf: Smf, body: bytes, policy: dict[str, Any], wanted: Rows) -> None:
    notes, report = read_midi_with_report(smf(body), ReadPolicy(**policy))
    assert rows(notes) == wanted
    assert report.healthy


def test_notes_left_out_are_counted(smf: Smf) -> None:
    data = smf(on(0) + off(0) + on(5, 61) + on(5, 62) + off(5, 62))
    assert read_midi_with_report(data)[1].left_out == {"zero_length": 1, "hanging": 1}
    with pytest.raises(NoNotesError, match=r'1 note without an end.*hanging="end"'):
        read_midi_with_report(smf(on(0)))
    with pytest.raises(NoNotesError, match=r'1 note without length.*zero_length="keep"'):
        read_midi_with_report(smf(on(0) + off(0)))


def test_tempo_changes_count_in_the_first_chunk_or_in_all(smf: Smf) -> None:
    slow = b"\x00\xff\x51\x03\x0f\x42\x40"
    data = smf(b"", slow + on(0) + off(96))
    first, _ = read_midi_with_report(data, ReadPolicy(tempos="first"))
    everywhere, _ = read_midi_with_report(data)
    assert (first.end[0], everywhere.end[0]) == (0.5, 1.0)
    assert everywhere.tempo_map is not None
    assert everywhere.tempo_map.tempos.tolist() == pytest.approx([60.0])


def test_notes_that_start_absurdly_late_are_lost(smf: Smf) -> None:
    data = smf(on(0) + off(96) + on(0, 61) + b"\x87\x40" + off(0, 61)[1:] + on(0, 62) + off(9, 62))
    policy = ReadPolicy(max_seconds=2.0)
    notes, report = read_midi_with_report(data, policy)
    assert notes.pitch.tolist() == [60, 61]
    assert notes.end.tolist() == [0.5, 2.0]
    assert (report.lost, [r.rule for r in report.repairs]) == (1, ["absurd-time"])


def test_a_track_is_a_program_on_a_channel_of_a_chunk(smf: Smf) -> None:
    program = bytes([0, 0xC0, 40])
    both = on(0) + off(9) + program + on(0, 61) + off(9, 61) + on(0, 36, 64, 9) + off(9, 36, 9)
    other = bytes([0, 0xC0, 0]) + on(0) + off(9)
    _, report = read_midi_with_report(smf(both, other), ReadPolicy(tracks="all"))
    assert [(t.chunk, t.channel, t.program, t.drum) for t in report.tracks] == [
        (0, 0, 0, False),
        (0, 0, 40, False),
        (0, 9, 0, True),
        (1, 0, 0, False),
    ]
    first, _ = read_midi_with_report(smf(both))
    assert first.pitch.tolist() == [60]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30), st.integers(60, 62)), min_size=1),
    st.dictionaries(st.integers(0, 80), st.sampled_from([0, 127]), max_size=8),
)
def test_the_pedal_holds_notes_until_its_release(
    played: list[tuple[int, int, int]], moves: dict[int, int]
) -> None:
    """Against the plainest implementation, tick by tick."""
    start = np.array([s for s, _, _ in played])
    end = start + np.array([length for _, length, _ in played])
    pitch = np.array([p for _, _, p in played])
    times = sorted(moves)
    values = [moves[t] for t in times]
    got = extend(start, end, pitch, np.zeros(len(start), dtype=np.int64), {0: Pedal(times, values)})
    last = max([*end.tolist(), *times])
    for i in range(len(start)):
        now = int(end[i])
        while now < last and [moves[t] for t in times if t <= now][-1:] == [127]:
            if any(start[j] == now and pitch[j] == pitch[i] for j in range(len(start))):
                break
            now += 1
        assert got[i] == now


@pytest.mark.parametrize("reader", [SymusicReader(), TolerantReader()])
def test_readers_have_no_settings(reader: object) -> None:
    assert repr(reader) == f"{type(reader).__name__}()"
