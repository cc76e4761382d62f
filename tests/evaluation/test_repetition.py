"""Repetition: the notes that repeat an earlier passage of their piece are counted, no others."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import DataError
from notelstm.evaluation import (
    Repetition,
    compare_repetition,
    evaluate_samples,
    repetition_of,
)
from notelstm.evaluation.repetition import DISTANT, SHARES, SHORTEST
from notelstm.notes import Notes

NONE = Repetition(same_key=0.0, transposed=0.0, distant=0.0)


def piece(pitches: list[int], steps: list[float] | None = None) -> Notes:
    """A melody, of notes 0.2 s apart unless steps to each next note are given."""
    start = np.cumsum([0.0, *(steps or [0.2] * (len(pitches) - 1))])
    return Notes(start=start, end=start + 0.1, pitch=pitches)


def random_piece(seed: int, count: int = 200) -> Notes:
    """A melody with two-note chords."""
    rng = np.random.default_rng(seed)
    step = rng.integers(8, 60, count) / 100
    step[1::5] = 0
    pitch = rng.integers(30, 100, count)
    pitch[1::5] = pitch[::5] + 7
    start = np.cumsum(step)
    return Notes(start=start, end=start + 0.1, pitch=pitch)


def transposed(notes: Notes, semitones: int) -> Notes:
    return Notes(start=notes.start, end=notes.end, pitch=notes.pitch + semitones)


THEME = [60, 62, 64, 60, 67, 65, 62, 59]
OTHER = [48, 71, 50, 55, 80, 44, 61, 77, 52, 46]


def test_the_second_time_counts_and_the_first_does_not() -> None:
    found = repetition_of(piece([*THEME, *OTHER, *THEME]))
    assert found == Repetition(same_key=8 / 26, transposed=0.0, distant=0.0)


def test_a_passage_of_seven_notes_is_too_short() -> None:
    assert SHORTEST == len(THEME) == 8
    assert repetition_of(piece([*THEME, *OTHER, *THEME[:7], 90, 33])) == NONE


def test_a_changed_note_ends_a_passage() -> None:
    changed = [*THEME, 40, *THEME]
    assert repetition_of(piece([*THEME, 41, *THEME, *OTHER, *changed])).same_key == 24 / 44
    # Nine notes with the fifth changed: neither side is long enough.
    nine = [*THEME, 57]
    assert repetition_of(piece([*nine, *OTHER, *nine[:4], 68, *nine[5:]])) == NONE


def test_transposed_passages_are_counted_apart() -> None:
    up = [pitch + 5 for pitch in THEME]
    found = repetition_of(piece([*THEME, *OTHER, *up, 30, *THEME]))
    assert found == Repetition(same_key=8 / 35, transposed=8 / 35, distant=0.0)


@pytest.mark.parametrize(("factor", "share"), [(1.5, 8 / 26), (0.5, 8 / 26), (3.0, 0.0)])
def test_passages_may_differ_in_tempo(factor: float, share: float) -> None:
    rhythm = [0.4, 0.2, 0.2, 0.8, 0.4, 0.6, 0.3]
    steps = [*rhythm, *[0.3] * 11, *(factor * step for step in rhythm)]
    assert repetition_of(piece([*THEME, *OTHER, *THEME], steps)).same_key == share


def test_another_rhythm_is_another_passage() -> None:
    steps = [*[0.4, 0.2] * 3, 0.4, *[0.3] * 11, *[0.2, 0.4] * 3, 0.2]
    assert repetition_of(piece([*THEME, *OTHER, *THEME], steps)) == NONE


def test_a_later_time_in_the_same_rhythm_counts() -> None:
    # The first time has another rhythm than the second and the third.
    other, rhythm = [*[0.4, 0.2] * 3, 0.4], [*[0.2, 0.4] * 3, 0.2]
    steps = [*other, *[0.3] * 11, *rhythm, 0.3, 0.3, *rhythm]
    found = repetition_of(piece([*THEME, *OTHER, *THEME, 41, *THEME], steps))
    assert found == Repetition(same_key=8 / 35, transposed=0.0, distant=0.0)


@pytest.mark.parametrize(("rest", "share"), [(DISTANT + 1, 8 / 26), (10.0, 0.0)])
def test_distant_repetitions_are_those_after_a_time(rest: float, share: float) -> None:
    steps = [*[0.2] * 8, rest, *[0.2] * 16]
    found = repetition_of(piece([*THEME, *OTHER, *THEME], steps))
    assert (found.same_key, found.distant) == (8 / 26, share)


def test_a_repeated_note_counts_after_its_first_passage() -> None:
    # Notes 8 to 99 repeat notes 0 to 91, also after more places than are compared.
    assert repetition_of(piece([60] * 100)).same_key == 92 / 100


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_short_pieces_have_none(count: int) -> None:
    assert (
        repetition_of(piece(THEME[:count], [0.2] * (count - 1)) if count else Notes.concatenate([]))
        == NONE
    )


@given(seed=st.integers(0, 10**6), semitones=st.integers(-20, 20), gap=st.integers(0, 500))
def test_a_piece_played_twice_is_half_repetition(seed: int, semitones: int, gap: int) -> None:
    first = random_piece(seed)
    assert repetition_of(first).same_key < 0.02
    second = transposed(first, semitones)
    found = repetition_of(Notes.concatenate([first, second], gap=gap / 100))
    same, other = found.same_key, found.transposed
    # A few notes at the seam, or of the first half, may match by chance.
    assert same + other == pytest.approx(0.5, abs=0.03)
    assert (same if semitones == 0 else other) == pytest.approx(0.5, abs=0.03)


@given(seed=st.integers(0, 10**6), up=st.integers(-20, 20), later=st.integers(0, 10**4))
def test_transposing_or_moving_the_whole_piece_changes_nothing(
    seed: int, up: int, later: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [random_piece(k, 20) for k in rng.integers(0, 3, 6)]
    whole = Notes.concatenate([transposed(part, int(rng.integers(-2, 3))) for part in parts])
    moved = transposed(whole, up).shifted(later / 100)
    assert repetition_of(moved) == repetition_of(whole)


@given(seed=st.integers(0, 10**6), cut=st.integers(0, 120))
def test_every_count_is_that_of_the_definition(seed: int, cut: int) -> None:
    """Compared with a search of all pairs of passages, in melodies of few pitches."""
    rng = np.random.default_rng(seed)
    notes = piece(rng.integers(60, 62, 120).tolist())[:cut]
    pitch, n = notes.pitch, len(notes)
    same, other = np.zeros(n, bool), np.zeros(n, bool)
    for at in range(n - SHORTEST + 1):
        late = pitch[at : at + SHORTEST]
        for place in range(at - SHORTEST + 1):
            early = pitch[place : place + SHORTEST]
            same[at : at + SHORTEST] |= (late == early).all()
            other[at : at + SHORTEST] |= (np.diff(late) == np.diff(early)).all()
    found = repetition_of(notes)
    if n:
        assert found.same_key == pytest.approx(same.mean())
        assert found.transposed == pytest.approx((other & ~same).mean())


def test_the_time_does_not_grow_with_the_square() -> None:
    begun = time.process_time()
    assert repetition_of(piece([60] * 100_000)).same_key == 1 - SHORTEST / 100_000
    # All pairs would be 5 billion.
    assert time.process_time() - begun < 60


def test_samples_are_compared_with_beginnings_of_real_pieces() -> None:
    loop, free = piece(THEME * 3), piece([*THEME, *OTHER[:8], *THEME])
    real = [piece([*THEME, *[n + k for n in OTHER], *THEME * 5]) for k in range(3)]
    report = compare_repetition([loop, free, random_piece(1, 24)], real)
    assert report.notes == 24
    assert [made.same_key for made in report.samples] == [16 / 24, 8 / 24, 0.0]
    # 6 notes of the second time are within the first 24.
    assert [made.same_key for made in report.real] == [0.0] * 3
    mean, real_mean = report.mean("same_key")
    assert mean == pytest.approx(1 / 3)
    assert real_mean == 0.0
    assert report.usual("same_key") == (0.0, 0.0)
    assert report.outside("same_key") == (0, 2)
    record = json.loads(json.dumps(report.to_json()))
    assert set(record) == {*SHARES, "notes", "samples", "real"}
    assert record["same_key"] == {
        "mean": pytest.approx(1 / 3),
        "real": 0.0,
        "usual": [0.0, 0.0],
        "less": 0,
        "more": 2,
    }
    assert record["samples"][0]["same_key"] == 16 / 24


def test_samples_with_less_than_real_pieces_are_counted() -> None:
    real = [piece(THEME * 4)] * 5
    report = compare_repetition([random_piece(1, 32), piece(THEME * 4)], real)
    assert report.outside("same_key") == (1, 0)


def test_the_report_on_samples_has_it() -> None:
    samples, real = [random_piece(k) for k in range(2)], [random_piece(k) for k in range(2, 5)]
    report = evaluate_samples(samples, real)
    assert report.repetition == compare_repetition(samples, real)
    assert report.to_json()["repetition"] == report.repetition.to_json()


def test_nothing_to_compare_with_is_an_error() -> None:
    with pytest.raises(DataError, match="there are no real pieces"):
        compare_repetition([random_piece(1)], [])
    with pytest.raises(DataError, match="fewer than 2 notes"):
        compare_repetition([], [random_piece(1)])
