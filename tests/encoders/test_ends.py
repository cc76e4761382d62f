"""The end of a piece as a field, and pieces that are truncated."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm import Notes, read_midi, write_midi
from notelstm.data import Corpus
from notelstm.encoders import BeatEncoder, LogTimeEncoder
from notelstm.encoders.rows import tracker_of
from notelstm.midi import ReadPolicy
from notelstm.notes import TempoMap
from notelstm.testing import strategies

ENCODERS = (
    LogTimeEncoder(ends=True),
    LogTimeEncoder(exact=True, ends=True),
    BeatEncoder(ends=True),
)
IN_TIME = strategies.notes(min_notes=1, longest_rest=2.0).map(
    lambda piece: replace(piece, tempo_map=TempoMap())
)


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
@given(piece=IN_TIME, cut=st.integers(0, 20))
def test_the_last_note_of_a_whole_piece_is_its_end(
    encoder: LogTimeEncoder | BeatEncoder, piece: Notes, cut: int
) -> None:
    assert encoder.fields[-1].role == "end"
    rows = encoder.encode(piece)
    assert rows[:, -1].tolist() == [0] * (len(rows) - 1) + [1]
    plain = replace(encoder, ends=False)
    assert np.array_equal(rows[:, :-1], plain.encode(piece))
    assert not encoder.decode(rows).truncated
    assert encoder.decode(cast(Any, rows.tolist())) == encoder.decode(rows)
    start = piece[:cut]
    truncated = len(start) == 0 or bool(start.start[-1] < piece.start[-1])
    assert start.truncated == truncated
    if len(start):
        ended = encoder.encode(start)[-1, -1]
        assert ended == (not truncated)
        assert encoder.decode(encoder.encode(start)).truncated == truncated


def test_trackers_know_the_end() -> None:
    piece = Notes(start=[0, 1, 2], end=3, pitch=[60, 62, 64], tempo_map=TempoMap())
    for encoder in ENCODERS:
        tracker = tracker_of(encoder)
        assert not tracker.ended
        found = []
        for row in encoder.encode(piece):
            tracker.push(row)
            found.append(tracker.ended)
        assert found == [False, False, True]
        assert not tracker.notes().truncated
        tracker.pop_finished()
        assert tracker.copy().ended
    without = tracker_of(LogTimeEncoder())
    without.extend(LogTimeEncoder().encode(piece))
    assert not without.ended


def test_operations_on_one_piece_keep_whether_it_is_truncated() -> None:
    piece = Notes(start=[0, 1, 2, 2], end=3, pitch=[60, 62, 64, 67], tempo_map=TempoMap())
    assert not piece.truncated
    assert not piece[np.array([0, 2])].truncated  # one of the last chord is left
    assert not piece[::-1].truncated
    cuts = (piece[:2], piece.first(notes=2), piece.first(seconds=1.5), piece[piece.pitch < 63])
    for cut in cuts:
        assert cut.truncated
        assert cut.by_pitch().truncated
        assert cut.shifted(1.0).truncated
        assert replace(cut, pitch=cut.pitch + 1).truncated
        assert copy.deepcopy(cut).truncated
        assert pickle.loads(pickle.dumps(cut)).truncated
        assert cut[:1].truncated
        assert Notes.concatenate([piece, cut]).truncated
        assert not Notes.concatenate([cut, piece]).truncated
        assert not Notes.merge([cut, piece]).truncated
        assert cut.continued(cut).truncated
        assert not cut.continued(piece).truncated
    # The same notes are equal, wherever they stand.
    assert piece[:2] == Notes(start=[0, 1], end=3, pitch=[60, 62], tempo_map=TempoMap())
    assert piece.first(notes=4) is piece


def test_old_pickles_are_whole_pieces() -> None:
    piece = Notes(start=[0, 1], end=2, pitch=60)
    state = {name: value for name, value in vars(piece).items() if name != "truncated"}
    old = Notes.__new__(Notes)
    old.__setstate__(state)
    assert old.truncated is False


def test_caches_keep_whether_a_piece_is_truncated(tmp_path: Path) -> None:
    piece = Notes(start=np.arange(30.0), end=np.arange(30.0) + 1, pitch=60)
    write_midi(piece, tmp_path / "a.mid")
    policy = ReadPolicy(max_seconds=20.5)
    assert not read_midi(tmp_path / "a.mid").truncated
    assert read_midi(tmp_path / "a.mid", policy).truncated
    for limit in (ReadPolicy(), policy):
        corpus = Corpus.open(tmp_path, policy=limit, cache=tmp_path / "cache", workers=0)
        assert corpus[0].truncated == (limit is policy)


@pytest.mark.parametrize("cut", [4, 40, 100])
def test_a_file_whose_end_is_missing_is_a_truncated_piece(tmp_path: Path, cut: int) -> None:
    piece = Notes(start=np.arange(30.0), end=np.arange(30.0) + 1, pitch=60)
    path = tmp_path / "a.mid"
    write_midi(piece, path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_midi(path).truncated
