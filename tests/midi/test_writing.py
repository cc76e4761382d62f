"""What is written is read again the same, and what cannot be written is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import ConfigError, MidiError, OutputError
from notelstm.midi import PROGRAMS, ReadPolicy, midi_bytes, program_number, read_midi, write_midi
from notelstm.notes import BeatMap, Notes

ALL = ReadPolicy(tracks="all", drums=True)
INSTRUMENTS = [(0, 0, False), (1, 40, False), (2, 0, True), (2, 7, False)]


def beat_maps() -> st.SearchStrategy[BeatMap | None]:
    changes = st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(20, 300)), min_size=1, max_size=4)
    return st.none() | changes.map(
        lambda pairs: BeatMap(
            seconds=np.cumsum([0.0] + [gap for gap, _ in pairs[1:]]),
            tempi=[tempo for _, tempo in pairs],
            meter_beats=[0.0, 8.0],
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
        st.sampled_from(INSTRUMENTS),
    )
    rows = draw(st.lists(row, min_size=1, max_size=30))
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
        beats=draw(beat_maps()),
    )


def in_order(notes: Notes) -> Notes:
    """By instrument and pitch, so that roundings of onsets cannot change the order."""
    assert notes.drum is not None
    assert notes.program is not None
    return notes[np.lexsort((notes.start, notes.pitch, notes.program, notes.drum))]


@given(pieces())
def test_read_again_within_half_a_tick(notes: Notes) -> None:
    resolution = 9600
    again = read_midi(midi_bytes(notes, ticks_per_beat=resolution), ALL)
    wanted, got = in_order(notes), in_order(again)
    slowest = 120.0 if notes.beats is None else float(notes.beats.tempi.min())
    half_tick = 60 / slowest / resolution / 2 * 1.0001
    for name in ("pitch", "velocity", "program", "drum"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    np.testing.assert_allclose(got.start, wanted.start, rtol=0, atol=half_tick)
    np.testing.assert_allclose(got.end, wanted.end, rtol=0, atol=half_tick)


@given(pieces())
def test_the_beat_map_is_read_again(notes: Notes) -> None:
    got, wanted = read_midi(midi_bytes(notes), ALL).beats, notes.beats or BeatMap()
    assert got is not None
    at = np.linspace(0, wanted.seconds[-1] + 60, 50)
    np.testing.assert_allclose(got.beats_at(at), wanted.beats_at(at), rtol=2e-4, atol=0.01)
    np.testing.assert_array_equal(got.numerators, wanted.numerators)
    np.testing.assert_array_equal(got.denominators, wanted.denominators)
    np.testing.assert_allclose(got.meter_beats, wanted.meter_beats, atol=0.01)


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


def test_overlaps_are_refused_with_both_notes() -> None:
    notes = Notes(start=[0.0, 0.5], end=[1.0, 1.5], pitch=[60, 60])
    with pytest.raises(
        MidiError, match=r"pitch 60 from 0 to 1 s and again from 0.5 s.*notes 0 and"
    ):
        midi_bytes(notes, overlaps="refuse")
    assert read_midi(midi_bytes(notes)).end.tolist() == [0.5, 1.5]
    assert len(read_midi(midi_bytes(Notes(start=[0.0, 0.5], end=[1, 1.5], pitch=[60, 61])))) == 2


def test_overlaps_on_different_channels_are_none() -> None:
    notes = Notes(start=[0.0, 0.5], end=[1.0, 1.5], pitch=[60, 60], track=[0, 1])
    assert read_midi(midi_bytes(notes), ALL).end.tolist() == [1.0, 1.5]
    with pytest.raises(MidiError, match="do not overlap"):
        midi_bytes(notes, program="Violin", overlaps="refuse")


def test_notes_without_length_are_refused_or_lengthened_by_a_tick() -> None:
    notes = Notes(start=[0.0, 1.0], end=[0.5, 1.0], pitch=[60, 64])
    with pytest.raises(MidiError, match="note 1, pitch 64, 1 s"):
        midi_bytes(notes)
    again = read_midi(midi_bytes(notes, short="lengthen", ticks_per_beat=500))
    assert again.duration.tolist() == pytest.approx([0.5, 0.001], abs=1e-12)


def test_programs_by_name_by_number_and_from_the_columns() -> None:
    notes = Notes(start=[0.0], end=[1.0], pitch=[60], program=[11], drum=[False])
    for program, number in [(None, 11), ("violin", 40), (7, 7)]:
        again = read_midi(midi_bytes(notes, program=program))
        assert again.program is not None
        assert again.program.tolist() == [number]
    assert PROGRAMS[0] == "Acoustic Grand Piano"
    assert [program_number(name) for name in PROGRAMS] == list(range(128))


@pytest.mark.parametrize("program", ["Kazoo", 128, -1, True, ""])
def test_unknown_programs_are_refused(program: Any) -> None:
    with pytest.raises(MidiError, match="General MIDI"):
        program_number(program)


def test_more_instruments_than_channels() -> None:
    n = 40
    notes = Notes(start=[0.0] * n, end=[1.0] * n, pitch=[60] * n, track=range(n), program=range(n))
    again = read_midi(midi_bytes(notes), ALL)
    assert again.program is not None
    assert again.program.tolist() == list(range(n))
    assert again.drum is not None
    assert not again.drum.any()


def test_percussion_is_written_on_its_channel() -> None:
    notes = Notes(start=[0.0, 0.0], end=[1.0, 1.0], pitch=[36, 60], program=0, drum=[True, False])
    assert read_midi(midi_bytes(notes)).pitch.tolist() == [60]
    assert len(read_midi(midi_bytes(notes), ALL)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlaps": "merge"},
        {"short": "drop"},
        {"ticks_per_beat": 0},
        {"ticks_per_beat": 32768},
        {"ticks_per_beat": True},
        {"tempo": 0.0},
        {"tempo": float("nan")},
        {"tempo": 3.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        midi_bytes(Notes(start=[0.0], end=[1.0], pitch=[60]), **wrong)


def test_what_a_file_cannot_hold_is_refused() -> None:
    metre = BeatMap(meter_beats=[0.0], numerators=[4], denominators=[3])
    with pytest.raises(MidiError, match="power of two"):
        midi_bytes(Notes(start=[0.0], end=[1.0], pitch=[60], beats=metre))
    with pytest.raises(MidiError, match="ticks"):
        midi_bytes(Notes(start=[0.0], end=[1e300], pitch=[60]))


@given(pieces(), st.floats(10, 400))
def test_a_tempo_of_ones_own(notes: Notes, tempo: float) -> None:
    again = read_midi(midi_bytes(notes, tempo=tempo), ALL)
    assert again.beats is not None
    assert again.beats.tempi == pytest.approx([tempo], rel=1e-5)
    np.testing.assert_allclose(in_order(again).start, in_order(notes).start, rtol=0, atol=0.01)


def test_long_pieces_are_written_so_that_every_reader_takes_them() -> None:
    notes = Notes(start=[0.0, 3600.0], end=[1.0, 3601.0], pitch=[60, 60])
    assert read_midi(midi_bytes(notes), reader="pretty-midi").seconds == pytest.approx(3601.0)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
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
