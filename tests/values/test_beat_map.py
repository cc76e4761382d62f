"""BeatMap: seconds to beats and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import NotesError
from notelstm.notes import BeatMap


@st.composite
def beat_maps(draw: st.DrawFn) -> BeatMap:
    gaps = draw(st.lists(st.floats(0.01, 100), max_size=5))
    seconds = np.concatenate([[0.0], np.cumsum(gaps)])
    tempi = draw(st.lists(st.floats(5, 500), min_size=len(seconds), max_size=len(seconds)))
    return BeatMap(seconds=seconds, tempi=tempi)


@given(beat_maps(), st.lists(st.floats(0, 1000), max_size=10))
def test_beats_and_seconds_are_inverse(beats: BeatMap, seconds: list[float]) -> None:
    there = beats.beats_at(seconds)
    assert np.allclose(beats.seconds_at(there), seconds, rtol=1e-9, atol=1e-9)


@given(beat_maps(), st.floats(0, 1000), st.floats(0, 10))
def test_time_does_not_go_back(beats: BeatMap, at: float, more: float) -> None:
    assert beats.beats_at(at + more) >= beats.beats_at(at)


@given(beat_maps(), st.floats(0, 1000))
def test_beats_are_the_integral_of_the_tempo(beats: BeatMap, at: float) -> None:
    borders = [*beats.seconds.tolist(), np.inf]
    total = 0.0
    for tempo, a, b in zip(beats.tempi, borders, borders[1:], strict=False):
        total += max(0.0, min(at, b) - a) * tempo / 60
    assert beats.beats_at(at) == pytest.approx(total)


def test_the_default_is_120_for_ever() -> None:
    assert BeatMap().beats_at([0, 1, 3600]).tolist() == [0, 2, 7200]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"seconds": [], "tempi": []}, "starts at 0 s"),
        ({"seconds": [1.0]}, "starts at 0 s"),
        ({"seconds": [0.0, 0.0], "tempi": [60, 60]}, "ascend"),
        ({"seconds": [0.0, 1.0]}, "tempi has one value a tempo, 2"),
        ({"seconds": [0.0, np.inf], "tempi": [60, 60]}, "ascend"),
        ({"meter_beats": [0], "numerators": [3, 4], "denominators": [4]}, "one value a metre, 1"),
        ({"meter_beats": [np.nan], "numerators": [4], "denominators": [4]}, "metres start at 0"),
        ({"meter_beats": [-1], "numerators": [4], "denominators": [4]}, "metres start at 0"),
        ({"meter_beats": [4, 0], "numerators": [4, 3], "denominators": [4, 4]}, "metres start"),
        ({"tempi": [0.0]}, "above 0"),
        ({"tempi": [np.inf]}, "finite"),
        ({"meter_beats": [0], "numerators": [0], "denominators": [4]}, "time signatures"),
        ({"meter_beats": [0], "numerators": [4], "denominators": []}, "denominators"),
    ],
)
def test_what_is_no_map_is_refused(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(NotesError, match=words):
        BeatMap(**columns)


def test_equality() -> None:
    meter: dict[str, Any] = {"meter_beats": [0], "numerators": [3], "denominators": [4]}
    assert BeatMap(**meter) == BeatMap(**meter)
    assert hash(BeatMap(**meter)) == hash(BeatMap(**meter))
    assert BeatMap(**meter) != BeatMap()
    assert BeatMap(tempi=[100]) != BeatMap()
    assert BeatMap() != "a map"
