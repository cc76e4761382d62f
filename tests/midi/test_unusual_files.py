"""The kinds of oddity and damage in files found in the wild, each in many places."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notelstm.errors import MidiError, MidiNotFoundError, NoNotesError
from notelstm.midi import (
    ReadPolicy,
    ReadReport,
    midi_bytes,
    read_midi,
    read_midi_with_report,
)
from notelstm.midi.parsing import decode_text
from notelstm.notes import Notes
from notelstm.recipes import reference

Smf = Callable[..., bytes]
ALL = ReadPolicy(tracks="all", drums=True)
END = b"\x00\xff\x2f\x00"
READERS = ("auto", "tolerant", "symusic", "pretty-midi")


def on(wait: int, pitch: int = 60, channel: int = 0) -> bytes:
    return bytes([wait, 0x90 | channel, pitch, 64])


def off(wait: int, pitch: int = 60, channel: int = 0) -> bytes:
    return bytes([wait, 0x80 | channel, pitch, 0])


def control(wait: int, number: int, value: int, channel: int = 0) -> bytes:
    return bytes([wait, 0xB0 | channel, number, value])


def program(wait: int, number: int, channel: int = 0) -> bytes:
    return bytes([wait, 0xC0 | channel, number])


def exclusive(*message: int) -> bytes:
    return bytes([0, 0xF0, len(message) + 1, *message, 0xF7])


def tempo(microseconds: int, wait: int = 0) -> bytes:
    return bytes([wait, 0xFF, 0x51, 3]) + microseconds.to_bytes(3, "big")


NOTE = on(0) + off(96)
SLOW = tempo(1_000_000)


def everywhere(data: bytes, policy: ReadPolicy = ALL) -> tuple[Notes, ReadReport]:
    """What ``auto`` reads; every other reader agrees or refuses."""
    notes, report = read_midi_with_report(data, policy)
    for name in READERS:
        try:
            other = read_midi(data, policy, reader=name)
        except MidiError:
            assert name in {"symusic", "pretty-midi"}
            continue
        for column in ("pitch", "velocity", "program", "drum", "track"):
            np.testing.assert_array_equal(getattr(other, column), getattr(notes, column), name)
        np.testing.assert_allclose(other.start, notes.start, rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(other.end, notes.end, rtol=0, atol=1e-6, err_msg=name)
    return notes, report


def spans(notes: Notes) -> list[tuple[float, float, int]]:
    """Start and end in ticks of 1/192 s, and pitch."""
    columns = (notes.start * 192, notes.end * 192, notes.pitch)
    return [tuple(row) for row in zip(*(c.round().tolist() for c in columns), strict=True)]


def scale(count: int, running: bool = False) -> list[bytes]:
    """Events of so many notes of 96 ticks, one after the other."""
    events = []
    for n in range(count):
        pitch = 60 + n % 12
        if running:
            events += [bytes([0, pitch, 64]), bytes([96, pitch, 0])]
        else:
            events += [on(0, pitch), off(96, pitch)]
    if running:
        events[0] = on(0, 60)
    return events


# Bad data bytes


@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(128, 255)), min_size=1, max_size=40),
    st.booleans(),
)
def test_bad_values_neither_shift_nor_lose_notes(
    smf: Smf, bad: list[tuple[int, int]], controls: bool
) -> None:
    events = scale(20)
    for index, value in bad:
        if controls:
            events[index] += control(0, 7, value)
        else:
            events[index] = events[index][:-1] + bytes([value])
    notes, report = read_midi_with_report(smf(b"".join(events)), ALL)
    assert spans(notes) == [(96 * n, 96 * n + 96, 60 + n % 12) for n in range(20)]
    assert not report.healthy
    assert report.lost == 0


@given(st.sets(st.integers(0, 19), min_size=1, max_size=10))
def test_bad_pitches_lose_only_their_notes(smf: Smf, bad: set[int]) -> None:
    events = scale(20)
    for n in bad:
        events[2 * n] = bytes([0, 0x90, 200, 64])
    notes, report = read_midi_with_report(smf(b"".join(events)), ALL)
    wanted = [(96 * n, 96 * n + 96, 60 + n % 12) for n in range(20) if n not in bad]
    assert spans(notes) == wanted
    assert report.lost == len(bad)


def test_every_velocity_over_127_under_running_status(smf: Smf) -> None:
    events = [bytes([0, p, 0xE0, 96, p, 0]) for p in range(60, 72)]
    notes, _ = read_midi_with_report(smf(b"\x00\x90" + b"".join(events)[1:]), ALL)
    assert spans(notes) == [(96 * n, 96 * n + 96, 60 + n) for n in range(12)]
    assert notes.velocity.tolist() == [127] * 12


# Text


def test_a_file_sent_as_text_is_undone(smf: Smf) -> None:
    body = on(0, 10) + b"\x0a\x80\x0a\x0d" + b"".join(scale(30)) + control(10, 10, 13)
    data = smf(body, on(0, 62) + off(96, 62))
    sent = data.replace(b"\n", b"\r\n")
    assert sent != data
    notes, report = read_midi_with_report(sent, ALL)
    assert notes == read_midi(data, ALL)
    assert [repair.rule for repair in report.repairs] == ["text-mode"]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("right_length", [False, True])
def test_a_line_break_at_any_byte_is_skipped(smf: Smf, running: bool, right_length: bool) -> None:
    events = b"".join(scale(30, running))
    wanted = spans(read_midi(smf(events), ALL))
    lost = {}
    for at in range(1, len(events) - 8 * 14):
        body = events[:at] + b"\r\n" + events[at:]
        data = smf(body)
        if not right_length:
            data = data.replace((len(body) + 4).to_bytes(4, "big"), (len(events) + 4).to_bytes(4))
        notes, report = read_midi_with_report(data, ALL, reader="tolerant")
        if spans(notes) != wanted or "line-break" not in {r.rule for r in report.repairs}:
            lost[at] = spans(notes)
    assert not lost


def test_valid_line_break_bytes_are_kept(smf: Smf) -> None:
    lyrics = b"".join(b"\x00\xff\x05\x04la\r\n" + e for e in scale(40))
    values = b"".join(control(0, 11, 13) + bytes([10]) + e[1:] for e in scale(40))
    for body in (lyrics, values, b"\x0d\x90\x0a\x40\x0a\x80\x0a\x0d" * 20):
        _, report = everywhere(smf(body))
        assert report.healthy


def test_inserted_bytes_are_found_by_note_offs_without_notes(smf: Smf) -> None:
    events = scale(40)
    for extra in (b"\x01\x02", b"\x3a\x29"):
        body = b"".join(events[:21]) + events[21][:2] + extra + events[21][2:]
        body += b"".join(events[22:])
        notes, report = read_midi_with_report(smf(body), ALL, reader="tolerant")
        assert len(notes) >= 38
        assert 19 <= notes.end_time <= 21
        assert "misread" in {repair.rule for repair in report.repairs}


def test_note_offs_of_a_panic_are_no_fault(smf: Smf) -> None:
    """Sequencers end all pitches on all channels; nothing is misread there."""
    for panic in (
        b"".join(off(0, pitch, channel) for channel in range(16) for pitch in range(128)),
        b"".join(
            off(0, 0, channel) + bytes(n for pitch in range(1, 128) for n in (0, pitch, 0))
            for channel in range(16)
        ),
    ):
        body = panic + b"".join(scale(20)) + panic + b"".join(scale(20))
        notes, report = everywhere(smf(body))
        assert len(notes) == 40
        assert report.healthy


# Tempo


def test_ignored_tempos_are_a_warning(smf: Smf, caplog: pytest.LogCaptureFixture) -> None:
    data = smf(b"", SLOW + NOTE)
    assert spans(everywhere(data)[0]) == [(0, 192, 60)]
    for reader in READERS:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            notes, report = read_midi_with_report(data, ReadPolicy(tempos="first"), reader=reader)
        assert spans(notes) == [(0, 96, 60)]
        assert any("tempos='first'" in warning for warning in report.warnings)
        assert "tempos='first'" in caplog.text


def test_tempos_that_change_nothing_are_no_warning(smf: Smf) -> None:
    data = smf(tempo(500_000), tempo(500_000) + NOTE)
    assert not read_midi_with_report(data, ReadPolicy(tempos="first"))[1].warnings


def test_as_printed_keeps_the_reading_of_pretty_midi() -> None:
    assert reference(as_printed=True).read_policy.tempos == "first"
    assert reference().read_policy.tempos == "all"


def test_the_last_tempo_of_a_tick_counts(smf: Smf) -> None:
    data = smf(tempo(250_000), SLOW + NOTE, tempo(500_000))
    assert spans(everywhere(data)[0]) == [(0, 96, 60)]


# Channels


def test_a_program_holds_until_the_next_in_any_chunk(smf: Smf) -> None:
    first = program(0, 5) + program(96, 7)
    notes, _ = everywhere(smf(first, NOTE + on(0, 61) + off(96, 61)))
    assert notes.program is not None
    assert notes.program.tolist() == [5, 7]


def test_chunks_that_share_a_channel_keep_their_own_programs(smf: Smf) -> None:
    notes, report = everywhere(
        smf(program(0, 5) + NOTE, program(0, 7) + on(0, 61) + off(96, 61), program(0, 7))
    )
    assert notes.program is not None
    assert notes.program.tolist() == [5, 7]
    assert "channel 1 has several programs" in " ".join(report.warnings)


def test_each_port_has_its_own_channels(smf: Smf) -> None:
    port = b"\x00\xff\x21\x01\x01"
    notes, _ = everywhere(smf(program(0, 5) + control(0, 64, 127), port + NOTE))
    assert notes.program is not None
    assert notes.program.tolist() == [0]
    held = everywhere(smf(control(0, 64, 127), port + NOTE), ReadPolicy(pedal="extend"))[0]
    assert spans(held) == [(0, 96, 60)]


@pytest.mark.parametrize(
    ("before", "channel", "drum"),
    [
        (b"", 9, True),
        (b"", 10, False),
        (exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x1A, 0x15, 1, 0x10), 10, True),
        (exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x1A, 0x15, 2, 0x0F), 10, True),
        (exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x1A, 0x15, 0, 0x11), 10, False),
        (exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x11, 0x15, 1, 0x19), 0, True),
        (exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x10, 0x15, 0, 0x1B), 9, False),
        (exclusive(0x43, 0x10, 0x4C, 8, 10, 7, 1), 10, True),
        (exclusive(0x43, 0x10, 0x4C, 8, 9, 7, 0), 9, False),
        (control(0, 0, 127, 10) + program(0, 0, 10), 10, True),
        (control(0, 0, 127, 10), 10, False),
        (control(0, 0, 126, 10) + program(0, 0, 10), 10, True),
        (control(0, 0, 120, 10) + program(0, 0, 10), 10, True),
        (control(0, 0, 121, 10) + program(0, 0, 10), 10, False),
        (control(0, 0, 121, 9) + program(0, 0, 9), 9, False),
        (control(0, 0, 0, 9) + program(0, 0, 9), 9, True),
        (
            exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0, 0x7F, 0, 0x41)
            + control(0, 0, 127, 10)
            + program(0, 0, 10),
            10,
            False,
        ),
        (
            exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x1A, 0x15, 1, 0x10)
            + exclusive(0x7E, 0x7F, 9, 1),
            10,
            False,
        ),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_percussion_follows_gs_xg_and_gm2_messages(
    smf: Smf, before: bytes, channel: int, drum: bool, apart: bool
) -> None:
    note = on(0, 36, channel) + off(96, 36, channel)
    notes, report = everywhere(smf(before, note) if apart else smf(before + note))
    assert notes.drum is not None
    assert notes.drum.tolist() == [drum]
    assert report.tracks[0].drum == drum
    if drum:
        with pytest.raises(NoNotesError, match=r"drums\): 1 note.*drums=True"):
            read_midi(smf(before + note))


def test_drum_parts_are_percussion_only_where_selected() -> None:
    folder = os.environ.get("NOTELSTM_ODD_MIDI")
    if not folder:
        pytest.skip("NOTELSTM_ODD_MIDI does not name the folder of odd MIDI files")
    notes = read_midi(Path(folder) / "test-sysex-gs-40-1x-15-drum-part-change.mid", ALL)
    assert notes.drum is not None
    assert 0 < notes.drum.sum() < len(notes)


@pytest.mark.parametrize("number", [120, 123, 124, 125, 126, 127])
@pytest.mark.parametrize("apart", [False, True])
def test_messages_that_end_all_notes_of_a_channel(smf: Smf, number: int, apart: bool) -> None:
    """The note-off comes too late, or never; other channels go on."""
    body = on(0) + on(0, 61, 1) + off(96, 61, 1) + off(0) + on(0, 62)
    end = control(48, number, 0)
    if apart:
        data = smf(body, end)
    else:
        data = smf(on(0) + on(0, 61, 1) + end + off(48, 61, 1) + off(0) + on(0, 62))
    notes, report = everywhere(data)
    assert spans(notes) == [(0, 48, 60), (0, 96, 61)]
    assert report.left_out == {"hanging": 1}


def test_controllers_that_hold_and_release_the_pedal(smf: Smf) -> None:
    down = control(0, 64, 127)

    def ends(body: bytes) -> list[float]:
        policy = ReadPolicy(pedal="extend")
        return [span[1] for span in spans(everywhere(smf(down + body), policy)[0])]

    assert ends(NOTE + control(48, 64, 0)) == [144]
    assert ends(NOTE + control(48, 121, 0) + control(48, 64, 0)) == [144]
    assert ends(NOTE + control(48, 120, 0) + control(48, 64, 0)) == [144]
    assert ends(on(0) + control(48, 123, 0) + control(48, 64, 0)) == [96]
    assert ends(on(0) + control(48, 120, 0) + on(0, 61) + off(9, 61) + control(9, 64, 0)) == [
        48,
        66,
    ]


# Layout


def test_data_after_a_second_header_is_left_out(smf: Smf) -> None:
    one, two = smf(NOTE), smf(on(0, 72) + off(96, 72), SLOW)
    for data in (one + two, one[:-4] + two, one + b"junk" + two, one + two + two):
        notes, report = read_midi_with_report(data, ALL)
        assert spans(notes) == [(0, 96, 60)]
        assert "second-file" in {repair.rule for repair in report.repairs}
        everywhere(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0INFO"])
def test_riff_without_sizes_is_read(smf: Smf, size: int, after: bytes) -> None:
    data = b"RIFF" + size.to_bytes(4, "little") + b"RMIDdata" + size.to_bytes(4, "little")
    notes, report = read_midi_with_report(data + smf(NOTE) + after)
    assert spans(notes) == [(0, 96, 60)]
    assert "without sizes" in report.warnings[0]


@pytest.mark.parametrize("division", [0xD890, 0x8000, 0xFFFF, 0xE700])
def test_a_frame_rate_that_does_not_exist_is_ticks(smf: Smf, division: int) -> None:
    notes, report = everywhere(smf(NOTE, division=division))
    assert notes.end[0] == pytest.approx(96 / division / 2)
    assert [repair.rule for repair in report.repairs] == ["division"]


# Long waits


@given(
    st.one_of(st.none(), st.integers(1, 32767)),
    st.floats(0, 86000),
    st.floats(20, 600),
)
def test_long_waits_round_trip(ticks: int | None, start: float, tempo: float) -> None:
    notes = Notes(start=[start], end=[start + 100.0], pitch=[60])
    again, report = read_midi_with_report(midi_bytes(notes, ticks_per_beat=ticks, tempo=tempo))
    tick = 60 / tempo / (ticks or 480)
    # A tempo is a whole number of microseconds, which adds up over a day.
    assert again.start[0] == pytest.approx(start, abs=tick, rel=1e-5)
    assert report.healthy


@given(st.integers(1, 32767))
@example(123)
def test_ten_hours_round_trip_at_every_resolution(ticks: int) -> None:
    notes = Notes(start=[36000.0], end=[36001.0], pitch=[60])
    again = read_midi(midi_bytes(notes, ticks_per_beat=ticks))
    # Sums of seconds and of ticks are rounded differently.
    assert (again.start[0], again.end[0]) == pytest.approx((36000.0, 36001.0), rel=0, abs=1e-9)


def test_waits_are_judged_by_their_seconds(smf: Smf) -> None:
    wait = b"\xff\xff\xff\x7f"  # 268,435,455 ticks
    body = NOTE + wait + NOTE[1:]
    short, report = everywhere(smf(tempo(1000) + body, division=32767))
    assert report.healthy
    assert short.start[1] == pytest.approx((2**28 + 95) / 32767 / 1000, rel=1e-6)
    long, report = everywhere(smf(body, division=96))
    assert [repair.rule for repair in report.repairs] == ["absurd-delta"]
    assert spans(long) == [(0, 96, 60), (96, 192, 60)]
    patient = ReadPolicy(max_seconds=2e6)
    assert everywhere(smf(body, division=96), patient)[1].healthy


# Messages, names and sources


@pytest.mark.parametrize(
    ("body", "policy", "wanted"),
    [
        (on(0, 36, 9) + off(9, 36, 9), {}, r"it has track 0 \(no name, drums\): 1 note \(.*drums"),
        (NOTE, {"programs": (40,)}, r"track 0 \(no name, program 0\): 1 note .*programs=\(\)"),
        (
            on(0, 36, 9) + off(9, 36, 9),
            {"programs": (40,), "names": ("x",)},
            r"programs=\(\) and names=\(\) and drums=True",
        ),
        (b"\x00\x90\xbc\x40" + off(9), {}, r"in the file.*1 repair \(data-byte\); 1 note lost"),
        (on(0) + off(0) + on(0, 61), {}, r'zero_length="keep" or hanging="end"'),
        (on(96) + off(96), {"max_seconds": 0.25}, "1 note after max_seconds.*max_seconds=1"),
        (b"\x00\xf8" + NOTE, {"on_error": "skip"}, 'in damaged chunks.*on_error="repair"'),
        (b"", {}, r"no notes in the file \(bytes\)"),
    ],
)
def test_the_error_without_notes_lists_tracks_and_settings(
    smf: Smf, body: bytes, policy: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(NoNotesError, match=wanted):
        read_midi(smf(body), ReadPolicy(**policy))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"Piano", "Piano"),
        (b"\xef\xbb\xbfPiano", "Piano"),
        (b"Piano\x00\x00", "Piano"),
        (b"\x1b[31mPiano\x07 left\r\n", "[31mPiano left"),
        (b"Piano\tleft", "Piano left"),
        ("Flöte".encode("utf-16"), "Flöte"),
        (b"\xfe\xff" + "Flöte".encode("utf-16-be"), "Flöte"),
        (b"Fl\xf6te\x85", "Flöte"),
        ("ピアノ".encode(), "ピアノ"),
    ],
)
def test_names_are_free_of_marks_and_control_characters(smf: Smf, text: bytes, wanted: str) -> None:
    assert decode_text(text) == wanted
    data = smf(b"\x00\xff\x03" + bytes([len(text)]) + text + NOTE)
    for reader in READERS:
        assert read_midi_with_report(data, reader=reader)[1].tracks[0].name == wanted


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no file descriptors by name here")
def test_pipes_of_a_shell_are_read(smf: Smf) -> None:
    for folder in ("/dev/fd", "/proc/self/fd"):
        if not Path(folder).exists():
            continue
        reading, writing = os.pipe()
        os.write(writing, smf(NOTE))
        os.close(writing)
        assert len(read_midi(f"{folder}/{reading}")) == 1
        os.close(reading)


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(MidiNotFoundError, match=r"no such MIDI file: .*x\.mid\. Check the path"):
        read_midi(tmp_path / "x.mid")
    with pytest.raises(FileNotFoundError):
        read_midi(tmp_path / "x.mid")
