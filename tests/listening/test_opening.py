"""Openings: silence and stray notes before the music are removed, the music is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import ConfigError
from notelstm.listening import trim_opening
from notelstm.notes import Notes, TempoMap
from notelstm.testing.strategies import notes as pieces


def piece(*starts: float) -> Notes:
    """Notes at these seconds, and then 40 more, four a second, from a second after the last."""
    late = starts[-1] + 1 + np.arange(40) / 4
    start = np.concatenate([starts, late])
    return Notes(start=start, end=start + 0.2, pitch=np.arange(start.size) % 88 + 20)


@pytest.mark.parametrize(
    ("starts", "removed"),
    [
        ((11.0,), 0),  # silence, then music
        ((0.0, 11.0), 1),  # a stray note, then silence
        ((0.5, 0.5, 0.7, 9.0, 9.5), 3),  # stray notes
        ((0.0, 4.0, 8.0, 8.5), 2),  # a stray note, and another one
        ((0.0, 1.9, 3.8), 0),  # slow, not silent
    ],
)
def test_the_opening_silence_is_removed(starts: tuple[float, ...], removed: int) -> None:
    notes = piece(*starts)
    trimmed = trim_opening(notes)
    assert trimmed == notes[removed:].shifted(-float(notes.start[removed]))
    assert trimmed.start[0] == 0
    assert np.diff(trimmed.start[:9]).max() <= 2


def test_a_held_stray_note_is_removed() -> None:
    notes = piece(0.0, 11.0)
    held = Notes(start=notes.start, end=np.maximum(notes.end, 11), pitch=notes.pitch)
    assert len(trim_opening(held)) == len(held) - 1


def test_rests_after_the_opening_stay() -> None:
    notes = piece(*np.arange(20) / 4, 30.0)
    assert trim_opening(notes) == notes


def test_a_sparse_piece_keeps_its_notes() -> None:
    sparse = Notes(start=np.arange(1, 21) * 5, end=np.arange(1, 21) * 5 + 1, pitch=60)
    assert trim_opening(sparse) == sparse.shifted(-5)


def test_settings_out_of_range_are_rejected() -> None:
    notes = piece(0.0, 3.0)
    assert len(trim_opening(notes, max_wait=4)) == len(notes)
    late = piece(*np.arange(4) / 4, 10.0)
    assert len(trim_opening(late, stray_notes=3)) == len(late)
    assert len(trim_opening(late, stray_notes=4)) == len(late) - 4
    for settings in ({"max_wait": 0}, {"max_wait": float("nan")}, {"stray_notes": 0}):
        with pytest.raises(ConfigError, match="is out of range"):
            trim_opening(notes, **settings)


def test_the_tempo_map_is_shifted() -> None:
    beats = TempoMap(seconds=[0, 12], tempos=[60, 90])
    notes = piece(0.0, 11.0)
    mapped = Notes(start=notes.start, end=notes.end, pitch=notes.pitch, tempo_map=beats)
    assert trim_opening(mapped).tempo_map == beats.shifted(-11)


@given(notes=pieces(), max_wait=st.floats(0.01, 10))
def test_the_remaining_notes_are_the_last_ones(notes: Notes, max_wait: float) -> None:
    trimmed = trim_opening(notes, max_wait=max_wait)
    assert len(trimmed) >= 0.75 * len(notes)
    assert trimmed.pitch.tolist() == notes.pitch[len(notes) - len(trimmed) :].tolist()
    assert np.allclose(trimmed.duration, notes.duration[len(notes) - len(trimmed) :])
    assert not len(trimmed) or trimmed.start[0] == 0


def test_a_piece_without_notes_stays() -> None:
    assert trim_opening(Notes.empty()) == Notes.empty()
