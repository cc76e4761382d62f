"""What is written is read again the same, and what cannot be written is refused by name."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest
import symusic
from hypothesis import example, given
from hypothesis import strategies as st

from notelstm.errors import ConfigError, MidiError, OutputError
from notelstm.midi import (
    ReadPolicy,
    midi_bytes,
    midi_bytes_with_report,
    program_number,
    read_midi,
    to_pretty_midi,
    write_midi,
)
from notelstm.midi.parsing import decode_text
from notelstm.notes import Notes, TempoMap
from notelstm.programs import PROGRAMS

ALL = ReadPolicy(tracks="all", drums=True)
INSTRUMENTS = st.one_of(
    st.sampled_from([(0, 0, False), (1, 40, False), (2, 0, True), (2, 7, False)]),
    st.tuples(st.integers(0, 40), st.integers(0, 127), st.booleans()),
)


def tempo_maps() -> st.SearchStrategy[TempoMap | None]:
    changes = st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(20, 300)), min_size=1, max_size=4)
    return st.none() | changes.map(
        lambda pairs: TempoMap(
            seconds=np.cumsum([0.0] + [gap for gap, _ in pairs[1:]]),
            tempos=[tempo for _, tempo in pairs],
            time_signature_beats=[0.0, 8.0],
            numerators=[3, 7],
            denominators=[4, 8],
        )
    )


@st.composite
def pieces(draw: st.DrawFn) -> Notes:
    """Notes that do not overlap within a pitch and instrument, gaps and lengths above a tick."""
    row = st.tuples(
        st.integers(0, 127),
        st.floats(0.002, 20.0),
        st.floats(0.002, 30.0),
        st.integers(1, 127),
        INSTRUMENTS,
    )
    rows = draw(st.lists(row, min_size=1, max_size=60))
    free: dict[tuple[object, ...], float] = {}
    times = []
    for pitch, wait, length, _, instrument in rows:
        start = free.get((pitch, instrument), 0.0) + wait
        free[pitch, instrument] = start + length
        times.append((start, start + length))
    return Notes(
        start=[start for start, _ in times],
        end=[end for _, end in times],
        pitch=[row[0] for row in rows],
        velocity=[row[3] for row in rows],
        track=[row[4][0] for row in rows],
        program=[row[4][1] for row in rows],
        drum=[row[4][2] for row in rows],
        tempo_map=draw(tempo_maps()),
        track_names=draw(st.none() | st.lists(NAMES, max_size=41)),
    )


NAMES = st.one_of(
    st.sampled_from(["", "Melody", "Größe", "旋律"]), st.text(max_size=9).filter(str.isprintable)
)


def names_of(notes: Notes) -> list[str]:
    """The name of the track of each note."""
    assert notes.track is not None
    names = [*(notes.track_names or ()), *[""] * 41]
    return [names[track] for track in notes.track.tolist()]


def order_of(notes: Notes) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """(N,) indices by instrument, pitch and onset, so that rounded onsets cannot change the order.

    Columns are compared in this order: `Notes` themselves are always in the order of their onsets,
    which rounding to ticks can change where two instruments begin at nearly the same time.
    """
    return np.lexsort((notes.start, notes.pitch, instrument_of(notes)))


def instrument_of(notes: Notes) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """(N,) the number of each note's instrument, by track, program and percussion."""
    assert notes.drum is not None
    assert notes.program is not None
    assert notes.track is not None
    columns = np.stack([notes.track, notes.program, notes.drum], axis=1)
    return np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)


@given(pieces())
@example(
    Notes(
        start=[0.002, 0.0020000000000000005],
        end=[1.002, 1.002],
        pitch=[0, 0],
        velocity=[1, 1],
        program=[40, 0],
        drum=[False, False],
        track=[1, 0],
    )
)
def test_read_again_within_half_a_tick(notes: Notes) -> None:
    resolution = 9600
    again = read_midi(midi_bytes(notes, ticks_per_beat=resolution), ALL)
    wanted, got = order_of(notes), order_of(again)
    slowest = 120.0 if notes.tempo_map is None else float(notes.tempo_map.tempos.min())
    half_tick = 60 / slowest / resolution / 2 * 1.0001
    for name in ("pitch", "velocity", "program", "drum"):
        np.testing.assert_array_equal(getattr(again, name)[got], getattr(notes, name)[wanted])
    assert np.array(names_of(again))[got].tolist() == np.array(names_of(notes))[wanted].tolist()
    # A track is read for each instrument, in their order.
    assert again.track is not None
    np.testing.assert_array_equal(again.track[got], instrument_of(notes)[wanted])
    np.testing.assert_allclose(again.start[got], notes.start[wanted], rtol=0, atol=half_tick)
    np.testing.assert_allclose(again.end[got], notes.end[wanted], rtol=0, atol=half_tick)


@given(pieces())
def test_the_tempo_map_is_read_again(notes: Notes) -> None:
    got, wanted = read_midi(midi_bytes(notes), ALL).tempo_map, notes.tempo_map or TempoMap()
    assert got is not None
    at = np.linspace(0, wanted.seconds[-1] + 60, 50)
    np.testing.assert_allclose(got.beats_at(at), wanted.beats_at(at), rtol=2e-4, atol=0.01)
    np.testing.assert_array_equal(got.numerators, wanted.numerators)
    np.testing.assert_array_equal(got.denominators, wanted.denominators)
    np.testing.assert_allclose(got.time_signature_beats, wanted.time_signature_beats, atol=0.01)


@given(st.lists(st.tuples(st.integers(60, 62), st.floats(0, 3), st.floats(0, 3)), min_size=1))
def test_trimmed_notes_end_where_the_next_starts(rows: list[tuple[int, float, float]]) -> None:
    start = np.array([row[1] for row in rows])
    notes = Notes(start=start, end=start + [r[2] for r in rows], pitch=[r[0] for r in rows])
    tick = 1 / 19200
    again = read_midi(midi_bytes(notes, overlaps="trim", short="lengthen"))
    for pitch in (60, 61, 62):
        before, after = notes[notes.pitch == pitch], again[again.pitch == pitch]
        onsets = np.unique(np.rint(before.start / tick))
        np.testing.assert_array_equal(np.rint(after.start / tick), onsets)
        for i in range(len(after)):
            together = before[np.rint(before.start / tick) == onsets[i]]
            following = onsets[i + 1] if i + 1 < len(onsets) else np.inf
            end = max(np.rint(together.end / tick).max(), onsets[i] + 1)
            assert np.rint(after.end[i] / tick) == min(end, following)


def test_the_error_of_overlaps_names_both_notes() -> None:
    notes = Notes(start=[0.0, 0.5], end=[1.0, 1.5], pitch=[60, 60])
    with pytest.raises(
        MidiError, match=r"pitch 60 overlap.*from 0 to 1 s and again from 0.5 s.*notes 0 and"
    ):
        midi_bytes(notes, overlaps="refuse")
    assert read_midi(midi_bytes(notes)).end.tolist() == [0.5, 1.5]
    assert len(read_midi(midi_bytes(Notes(start=[0.0, 0.5], end=[1, 1.5], pitch=[60, 61])))) == 2


def test_notes_on_different_channels_do_not_overlap() -> None:
    notes = Notes(start=[0.0, 0.5], end=[1.0, 1.5], pitch=[60, 60], track=[0, 1])
    assert read_midi(midi_bytes(notes), ALL).end.tolist() == [1.0, 1.5]
    with pytest.raises(MidiError, match="overlap on one channel"):
        midi_bytes(Notes(start=[0.0, 0.5], end=[1, 1.5], pitch=[60, 60]), overlaps="refuse")


def test_notes_without_length_are_rejected_or_lengthened_by_a_tick() -> None:
    notes = Notes(start=[0.0, 1.0], end=[0.5, 1.0], pitch=[60, 64])
    with pytest.raises(MidiError, match="note 1, pitch 64, 1 s"):
        midi_bytes(notes)
    again = read_midi(midi_bytes(notes, short="lengthen", ticks_per_beat=500))
    assert again.duration.tolist() == pytest.approx([0.5, 0.001], abs=1e-12)


@given(pieces(), st.booleans())
def test_instruments_come_back_through_every_library(notes: Notes, theirs: bool) -> None:
    """Files of the library and of pretty_midi have the same instruments in all readers."""
    data = midi_bytes(notes)
    if theirs:
        file = io.BytesIO()
        to_pretty_midi(notes).write(file)
        data = file.getvalue()
    wanted = sorted(
        zip(
            names_of(notes),
            *(c.tolist() for c in (notes.program, notes.drum, notes.pitch) if c is not None),
            strict=True,
        )
    )
    midi = pretty_midi.PrettyMIDI(io.BytesIO(data))
    score: Any = symusic.Score.from_midi(data)
    for tracks in (
        [
            (decode_text(i.name.encode("latin-1")), i.program, i.is_drum, i)
            for i in midi.instruments
        ],
        [(t.name, t.program, t.is_drum, t) for t in score.tracks],
    ):
        found = [(*instrument, note.pitch) for *instrument, t in tracks for note in t.notes]
        assert sorted(found) == wanted


def test_programs_by_name_by_number_and_from_the_columns() -> None:
    notes = Notes(start=[0.0], end=[1.0], pitch=[60], program=[11], drum=[False])
    for program, number in [(None, 11), ("violin", 40), (7, 7)]:
        again = read_midi(midi_bytes(notes, program=program))
        assert again.program is not None
        assert again.program.tolist() == [number]
    assert PROGRAMS[0] == "Acoustic Grand Piano"
    assert [program_number(name) for name in PROGRAMS] == list(range(128))


@pytest.mark.parametrize("program", ["Kazoo", 128, -1, True, ""])
def test_unknown_programs_are_rejected(program: Any) -> None:
    with pytest.raises(MidiError, match="no General MIDI program is called"):
        program_number(program)


def test_a_misspelt_program_is_suggested() -> None:
    with pytest.raises(MidiError, match="called 'Violn': did you mean 'Violin'"):
        program_number("Violn")


def test_a_program_for_all_notes_leaves_tracks_and_percussion_alone() -> None:
    notes = Notes(
        start=[0.0, 0.0, 0.0],
        end=[1.0, 1.0, 1.0],
        pitch=[36, 60, 60],
        track=[0, 1, 2],
        program=[0, 5, 6],
        drum=[True, False, False],
    )
    again = read_midi(midi_bytes(notes, program="Violin"), ALL)
    for name, want in [
        ("program", [0, 40, 40]),
        ("drum", [True, False, False]),
        ("track", [0, 1, 2]),
    ]:
        assert getattr(again, name).tolist() == want, name


def places(data: bytes) -> list[tuple[int, int]]:
    """Port and channel of each chunk that has notes, read with mido."""
    found = []
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks[1:]:
        (port,) = [m.port for m in track if m.type == "midi_port"] or [0]
        (channel,) = {m.channel for m in track if hasattr(m, "channel")}
        found.append((port, channel))
    return found


@pytest.mark.parametrize(
    ("melodic", "drums"), [(1, 1), (15, 1), (16, 0), (40, 3), (0, 2), (200, 0)]
)
def test_no_two_instruments_share_a_channel(melodic: int, drums: int) -> None:
    n = melodic + drums
    columns: dict[str, Any] = {
        "track": np.arange(n),
        "program": np.arange(n) % 128,
        "drum": np.arange(n) >= melodic,
    }
    notes = Notes(start=[0.0] * n, end=[1.0] * n, pitch=[60] * n, **columns)
    data, report = midi_bytes_with_report(notes)
    assert len(set(places(data))) == n
    assert [channel == 9 for _, channel in places(data)] == columns["drum"].tolist()
    assert report.ports == max(-(-melodic // 15), drums)
    assert (b"\xff\x21\x01" in data) == (report.ports > 1)
    for reader in ("auto", "tolerant", "pretty-midi"):
        again = read_midi(data, ALL, reader=reader)
        assert len(again) == n
        assert again.program is not None
        assert again.track is not None
        order = np.argsort(again.track)
        np.testing.assert_array_equal(again.program[order], columns["program"])
        assert again.drum is not None
        np.testing.assert_array_equal(again.drum[order], columns["drum"])
    if report.ports > 1:
        with pytest.raises(MidiError, match=r'channels for. Write with many_instruments="ports"'):
            midi_bytes(notes, many_instruments="refuse")
    else:
        assert midi_bytes(notes, many_instruments="refuse") == data


def test_more_instruments_than_ports_can_hold_are_rejected() -> None:
    n = 128 * 15 + 1
    notes = Notes(start=[0.0] * n, end=[1.0] * n, pitch=[60] * n, track=range(n))
    with pytest.raises(MidiError, match=r"1921 melodic instruments.*128 MIDI ports"):
        midi_bytes(notes)
    assert midi_bytes_with_report(notes[1:])[1].ports == 128


LATE = st.sampled_from([2.0, 500.0, 1000.0, 5000.0, 10_000.0, 1e5, 1e9, 1e300])


@given(
    pieces(), st.lists(st.tuples(LATE, st.floats(20, 300)), max_size=4), st.sampled_from([0, 9600])
)
def test_changes_after_the_last_note_do_not_make_a_file_too_long(
    notes: Notes, changes: list[tuple[float, float]], resolution: int
) -> None:
    """pretty_midi refuses files of more than ten million ticks."""
    seconds = np.unique(np.append(0.0, notes.end_time + np.cumsum([gap for gap, _ in changes])))
    beats = TempoMap(
        seconds=seconds,
        tempos=[120.0, *(tempo for _, tempo in changes)][: len(seconds)],
        time_signature_beats=[0.0, *sorted(gap for gap, _ in changes)],
        numerators=[4, *(3 for _ in changes)],
        denominators=[4, *(4 for _ in changes)],
    )
    notes = dataclasses.replace(notes, tempo_map=beats)
    data, report = midi_bytes_with_report(notes, ticks_per_beat=resolution or None)
    pretty_midi.PrettyMIDI(io.BytesIO(data))
    again = read_midi(data, ALL, reader="pretty-midi")
    assert len(again) == len(notes)
    np.testing.assert_allclose(
        again.start[order_of(again)], notes.start[order_of(notes)], rtol=0, atol=0.006
    )
    assert again.tempo_map is not None
    if not report.left_out:
        at = np.linspace(0, seconds[-1] + 60, 50)
        np.testing.assert_allclose(again.tempo_map.beats_at(at), beats.beats_at(at), rtol=2e-3)
    late = int(np.count_nonzero(beats.time_signature_beats > 10_500_000))
    assert report.left_out >= late


@pytest.mark.parametrize(("late", "left_out"), [(1000.0, 0), (9000.0, 0), (1e6, 3), (1e300, 3)])
def test_a_pretty_midi_with_late_changes_can_be_written_and_read(
    late: float, left_out: int, caplog: pytest.LogCaptureFixture
) -> None:
    beats = TempoMap(
        seconds=[0.0, 1.0, late, late * 2],
        tempos=[120.0, 60.0, 50.0, 70.0],
        time_signature_beats=[0.0, late],
        numerators=[4, 3],
        denominators=[4, 4],
    )
    notes = Notes(start=[0.0, 1.5], end=[1.0, 2.0], pitch=[60, 62], tempo_map=beats)
    file = io.BytesIO()
    to_pretty_midi(notes).write(file)
    pretty_midi.PrettyMIDI(io.BytesIO(file.getvalue()))
    again = read_midi(file.getvalue(), reader="pretty-midi")
    np.testing.assert_allclose(again.start, notes.start, atol=1e-3)
    assert again.tempo_map is not None
    assert len(again.tempo_map.tempos) + len(again.tempo_map.numerators) == 6 - left_out
    assert (f"{left_out} tempo or time signature changes" in caplog.text) == bool(left_out)


def test_changes_too_late_for_pretty_midi_are_left_out_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beats = TempoMap(seconds=[0.0, 100.0, 1e6, 1e300], tempos=[120.0, 90.0, 60.0, 70.0])
    notes = Notes(start=[0.0], end=[1.0], pitch=[60], tempo_map=beats)
    data = midi_bytes(notes)
    pretty_midi.PrettyMIDI(io.BytesIO(data))
    again = read_midi(data, reader="pretty-midi").tempo_map
    assert again is not None
    np.testing.assert_allclose(again.tempos, [120.0, 90.0], rtol=1e-5)
    assert "2 tempo or time signature changes after the end left out" in caplog.text


@given(
    st.lists(
        st.tuples(st.integers(60, 62), st.integers(0, 12), st.integers(0, 6), st.integers(0, 1)),
        min_size=1,
        max_size=20,
    )
)
def test_the_report_counts_the_notes_that_were_changed(
    rows: list[tuple[int, int, int, int]],
) -> None:
    pitch, start, length, track = (np.array(column) for column in zip(*rows, strict=True))
    notes = Notes(start=start / 8, end=(start + length) / 8, pitch=pitch, track=track)
    data, report = midi_bytes_with_report(notes, short="lengthen", ticks_per_beat=480)
    again = read_midi(data, ALL)
    assert report.notes == len(again) == len(notes) - report.dropped
    assert notes.track is not None
    alike = zip(notes.start.tolist(), notes.pitch.tolist(), notes.track.tolist(), strict=True)
    assert report.notes == len(set(alike))
    assert report.changed == (
        bool(report.dropped) or not np.allclose(again.duration.sum(), notes.duration.sum())
    )
    assert report.lengthened <= int((notes.duration == 0).sum())
    for count, what in [(report.trimmed, "end where"), (report.dropped, "start together")]:
        assert (f"{count} of {len(notes)} notes {what}" in str(report)) == bool(count)
    assert (str(report) == "no changes") == (not report.changed)


def test_changed_notes_are_counted_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(start=[0, 0, 1, 2], end=[0.5, 3, 3, 3], pitch=[60, 60, 60, 64])
    report = write_midi(notes, tmp_path / "a.mid")
    assert (report.notes, report.trimmed, report.dropped) == (3, 1, 1)
    assert "a.mid: 1 of 4 notes end where the next note of their pitch starts" in caplog.text
    assert "1 of 4 notes start together with another of their pitch" in caplog.text
    caplog.clear()
    midi_bytes(notes)
    assert "1 of 4 notes end where" in caplog.text
    caplog.clear()
    assert not write_midi(notes[2:], tmp_path / "a.mid").changed
    assert caplog.text == ""


@pytest.mark.parametrize("resolution", [1, 480, 9600, 32767])
@pytest.mark.parametrize("late", [36_000.0, 1e6])
def test_waits_of_any_length(late: float, resolution: int) -> None:
    """Four bytes hold 2**28 ticks; empty texts break up longer waits."""
    notes = Notes(start=[0.0, late], end=[1.0, late + 1], pitch=[60, 60])
    data = midi_bytes(notes, ticks_per_beat=resolution)
    track = mido.MidiFile(file=io.BytesIO(data)).tracks[1]
    waited = np.cumsum([message.time for message in track])
    ons = [t for t, m in zip(waited.tolist(), track, strict=True) if m.type == "note_on"]
    assert ons == [0, late * 2 * resolution]
    assert max(message.time for message in track) < 2**28


@given(st.text(max_size=300))
def test_a_text_is_kept_in_the_file(text: str) -> None:
    notes = Notes(start=[0.0], end=[1.0], pitch=[60])
    data = midi_bytes(notes, text=text)
    first = mido.MidiFile(file=io.BytesIO(data), charset="utf-8").tracks[0]
    assert [m.text for m in first if m.type == "text"] == ([text] if text else [])
    for reader in ("auto", "tolerant", "pretty-midi"):
        assert len(read_midi(data, reader=reader)) == 1


def test_percussion_is_written_on_its_channel() -> None:
    notes = Notes(start=[0.0, 0.0], end=[1.0, 1.0], pitch=[36, 60], program=0, drum=[True, False])
    assert read_midi(midi_bytes(notes)).pitch.tolist() == [60]
    assert len(read_midi(midi_bytes(notes), ALL)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlaps": "merge"},
        {"short": "drop"},
        {"many_instruments": "share"},
        {"ticks_per_beat": 0},
        {"ticks_per_beat": 32768},
        {"ticks_per_beat": True},
        {"ticks_per_beat": 480.0},
        {"ticks_per_beat": "480"},
        {"tempo": 0.0},
        {"tempo": "90"},
        {"tempo": float("nan")},
        {"tempo": 3.0},
    ],
)
def test_settings_out_of_range_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        midi_bytes(Notes(start=[0.0], end=[1.0], pitch=[60]), **wrong)


def test_numbers_of_numpy_are_settings_too() -> None:
    notes = Notes(start=[0.0], end=[1.0], pitch=[60])
    made = midi_bytes(notes, ticks_per_beat=np.int64(480), tempo=np.float32(90))  # type: ignore[arg-type]
    assert made == midi_bytes(notes, ticks_per_beat=480, tempo=90.0)


def test_values_that_a_file_cannot_hold_are_rejected() -> None:
    time_signature = TempoMap(time_signature_beats=[0.0], numerators=[4], denominators=[3])
    with pytest.raises(MidiError, match="power of two"):
        midi_bytes(Notes(start=[0.0], end=[1.0], pitch=[60], tempo_map=time_signature))
    slow = TempoMap(tempos=[3.0])
    with pytest.raises(MidiError, match="tempo of 3 quarter notes"):
        midi_bytes(Notes(start=[0.0], end=[1.0], pitch=[60], tempo_map=slow))
    with pytest.raises(MidiError, match="ticks"):
        midi_bytes(Notes(start=[0.0], end=[1e300], pitch=[60]))


@given(pieces(), st.floats(10, 400))
def test_a_given_tempo_is_written(notes: Notes, tempo: float) -> None:
    again = read_midi(midi_bytes(notes, tempo=tempo), ALL)
    assert again.tempo_map is not None
    assert again.tempo_map.tempos == pytest.approx([tempo], rel=1e-5)
    np.testing.assert_allclose(
        again.start[order_of(again)], notes.start[order_of(notes)], rtol=0, atol=0.01
    )


def test_long_pieces_can_be_read_by_every_reader() -> None:
    notes = Notes(start=[0.0, 3600.0], end=[1.0, 3601.0], pitch=[60, 60])
    assert read_midi(midi_bytes(notes), reader="pretty-midi").end_time == pytest.approx(3601.0)


def test_files_are_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "pièce ♪.mid"
    notes = Notes(start=[0.0], end=[1.0], pitch=[60])
    path.write_bytes(b"old")
    write_midi(notes, path)
    assert read_midi(path).pitch.tolist() == [60]
    assert path.stat().st_mode & 0o600 == 0o600
    with pytest.raises(MidiError):
        write_midi(Notes(start=[0.0], end=[0.0], pitch=[60]), path)
    assert len(read_midi(path)) == 1
    (tmp_path / "in the way").touch()
    with pytest.raises(OutputError, match="in the way"):
        write_midi(notes, tmp_path / "in the way" / "a.mid")
    with pytest.raises(OutputError):
        write_midi(notes, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in the way", path.name]


def test_a_piece_without_notes_is_a_file_without_notes() -> None:
    data = midi_bytes(Notes.empty())
    assert data.count(b"MTrk") == 1
    with pytest.raises(MidiError, match="no notes in the file"):
        read_midi(data)
