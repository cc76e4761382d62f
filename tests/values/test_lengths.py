"""Pieces that end with silence: the length is kept where the piece is kept, and is written."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm import Notes, read_midi, write_midi
from notelstm.data.piece_file import PieceFile, entry_of, write_pieces
from notelstm.errors import MidiError, NotesError
from notelstm.listening import piano_roll, synthesize
from notelstm.midi import ReadPolicy
from notelstm.midi.writing import midi_bytes
from notelstm.notes import TempoMap
from notelstm.testing import strategies

TWO = Notes(start=[0.0, 0.5], end=[0.5, 1.0], pitch=[60, 64], length=3.0)
PLAIN = replace(TWO, length=None)


def test_the_end_of_a_piece_is_its_length() -> None:
    assert TWO.end_time == 3
    assert PLAIN.end_time == 1
    assert repr(TWO).startswith("Notes(2 notes, 3.00 s")
    assert TWO != PLAIN
    silence = Notes(start=(), end=(), pitch=(), length=2.0)
    assert silence.end_time == 2
    assert repr(silence) == "Notes(0 notes, 2.00 s)"
    assert silence != Notes.empty()


@given(strategies.notes(), st.floats(0, 100))
def test_a_length_within_the_notes_is_none(piece: Notes, beyond: float) -> None:
    last = piece.end_time
    assert replace(piece, length=last) == piece
    assert replace(piece, length=last / 2).length is None
    longer = replace(piece, length=last + beyond)
    assert longer.end_time == last + beyond
    if longer.end_time:
        assert longer.shifted(1.5).end_time == longer.end_time + 1.5
    for twin in (copy.deepcopy(longer), pickle.loads(pickle.dumps(longer)), longer.by_pitch()):
        assert twin.length == longer.length
    assert Notes.merge([longer, piece]).end_time == longer.end_time
    assert Notes.concatenate([longer, piece]).end_time == pytest.approx(last + beyond + last)


def test_a_note_that_ends_later_extends_the_piece() -> None:
    assert replace(TWO, end=np.array([0.5, 4.0])).length is None


@pytest.mark.parametrize("length", [-1.0, float("nan"), float("inf")])
def test_a_length_is_a_finite_number(length: float) -> None:
    with pytest.raises(NotesError, match="length"):
        replace(TWO, length=length)


def test_parts_of_a_piece_end_with_their_last_note() -> None:
    assert TWO[:1].length is None
    assert TWO.first(notes=1).length is None
    assert TWO.first(notes=2) is TWO


def test_the_next_piece_begins_after_the_silence() -> None:
    both = Notes.concatenate([TWO, PLAIN], gap=1.0)
    assert both.start.tolist() == [0, 0.5, 4, 4.5]
    assert both.length is None
    assert Notes.concatenate([PLAIN, TWO]).end_time == 4


def test_a_continuation_replaces_the_silence() -> None:
    assert TWO.continued(PLAIN).end_time == 1.5
    assert PLAIN.continued(TWO).end_time == 3.5
    assert Notes.empty().continued(TWO) == TWO


def last_tick(data: bytes) -> int:
    """The tick of the end of the first track, after the header of 14 bytes and its own of 8."""
    body = data[22 : 22 + int.from_bytes(data[18:22], "big")]
    at = now = 0
    while True:
        wait = 0
        while True:
            wait = wait << 7 | body[at] & 0x7F
            at += 1
            if body[at - 1] < 0x80:
                break
        now += wait
        assert body[at] == 0xFF
        kind, size = body[at + 1], body[at + 2]
        at += 3 + size
        if kind == 0x2F:
            assert at == len(body)
            return now


@given(st.floats(1.0, 5000.0))
def test_a_file_ends_with_the_piece(length: float) -> None:
    piece = replace(TWO, length=length, tempo_map=TempoMap(tempos=[60]))
    ticks = last_tick(midi_bytes(piece, ticks_per_beat=480))
    assert abs(ticks / 480 - (piece.length or 0.0)) <= 1 / 480


def test_a_file_without_a_length_is_as_before(tmp_path: Path) -> None:
    assert last_tick(midi_bytes(PLAIN)) == 0
    write_midi(TWO, tmp_path / "two.mid")
    # By default the silence of a file is not part of the piece.
    assert read_midi(tmp_path / "two.mid").length is None


# pretty_midi reads no file of more than 10,000,000 ticks: 4,166 s at this tempo and resolution.
@given(st.floats(1.001, 4150.0), st.floats(20.0, 300.0))
def test_the_length_of_a_file_is_read(length: float, tempo: float) -> None:
    piece = replace(TWO, length=length, tempo_map=TempoMap(tempos=[tempo]))
    data = midi_bytes(piece, ticks_per_beat=480)
    tick = 60 / tempo / 480
    for reader in ("auto", "tolerant", "pretty-midi"):
        got = read_midi(data, ReadPolicy(silence="keep"), reader=reader)
        assert got.end_time == pytest.approx(length, abs=tick)
        assert midi_bytes(got, ticks_per_beat=480) == midi_bytes(
            replace(piece, length=got.length), ticks_per_beat=480
        )
        limit = ReadPolicy(silence="keep", max_seconds=2.0)
        assert read_midi(data, limit, reader=reader).end_time == min(got.end_time, 2.0)
    assert read_midi(midi_bytes(PLAIN), ReadPolicy(silence="keep")).length is None


def test_a_pretty_midi_has_no_length() -> None:
    from notelstm.midi import from_pretty_midi, to_pretty_midi

    midi = to_pretty_midi(TWO)
    assert from_pretty_midi(midi).length is None
    with pytest.raises(MidiError, match="silence='keep'"):
        from_pretty_midi(midi, ReadPolicy(silence="keep"))


def test_it_is_cached(tmp_path: Path) -> None:
    folder = tmp_path / "pieces"
    folder.mkdir()
    pieces = [TWO, PLAIN, replace(TWO, track=np.array([0, 1]), track_names=("a", "b"), length=9.0)]
    entries = [entry_of(str(i), piece, "{}") for i, piece in enumerate(pieces)]
    assert len({entry.digest for entry in entries}) == 3
    write_pieces(folder / "pieces", entries, {})
    file = PieceFile(folder / "pieces")
    assert [file.notes(i) for i in range(3)] == pieces


def test_the_roll_and_the_sound_go_to_the_end() -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    piano_roll(TWO, ax=ax)
    assert ax.get_xlim()[1] == 3
    longer, plain = (synthesize(piece, rate=8000).shape[1] for piece in (TWO, PLAIN))
    assert 8000 < longer - plain <= 2 * 8000
