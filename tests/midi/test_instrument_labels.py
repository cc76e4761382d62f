"""The names by which the instruments of a piece are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from notelstm.midi.writing import instrument_labels, instruments_of
from notelstm.notes import Notes


def labels(program: Sequence[int], **columns: Any) -> list[str]:
    """The labels of a piece with a note for each program."""
    size = len(program)
    notes = Notes(start=range(size), end=range(1, size + 1), pitch=60, program=program, **columns)
    return list(instrument_labels(instruments_of(notes, None)))


def test_programs_and_percussion() -> None:
    found = labels(program=[40, 0, 5], drum=[0, 0, 1])
    assert found == ["Acoustic Grand Piano", "Drums", "Violin"]


def test_tracks_of_one_program_are_numbered() -> None:
    found = labels(program=[52, 52, 0], track=[0, 1, 2])
    assert found == ["Choir Aahs 1", "Choir Aahs 2", "Acoustic Grand Piano"]


def test_names_of_tracks_come_first() -> None:
    found = labels(
        program=[0, 0, 0, 0], track=[0, 1, 2, 3], track_names=("MELODY", " ", "PIANO", "PIANO")
    )
    assert found == ["MELODY", "Acoustic Grand Piano", "PIANO 1", "PIANO 2"]


def test_long_names_and_lines_are_cut() -> None:
    found = labels(program=[0, 0], track=[0, 1], track_names=("a\n  b", "x" * 100))
    assert found == ["a b", "x" * 39 + "…"]


def test_no_columns() -> None:
    notes = Notes(start=[0], end=[1], pitch=[60])
    assert instrument_labels(instruments_of(notes, None)) == ("Acoustic Grand Piano",)
    assert instrument_labels(instruments_of(Notes.empty(), None)) == ()


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), min_size=1),
    names=st.lists(st.sampled_from(["", "A", "A 1", "A 2", "Drums"]), min_size=4, max_size=4),
)
def test_labels_are_different(rows: list[tuple[int, int, bool]], names: list[str]) -> None:
    track, program, drum = zip(*rows, strict=True)
    found = labels(program=program, track=track, drum=drum, track_names=tuple(names))
    assert len(set(found)) == len(found)
