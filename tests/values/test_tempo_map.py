"""TempoMap: seconds to beats and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from notelstm.errors import NotesError
from notelstm.notes import TempoMap
from notelstm.testing.strategies import beat_maps


@given(beat_maps(), st.lists(st.floats(0, 1000), max_size=10))
def test_beats_and_seconds_are_inverse(beats: TempoMap, seconds: list[float]) -> None:
    there = beats.beats_at(seconds)
    assert np.allclose(beats.seconds_at(there), seconds, rtol=1e-9, atol=1e-9)


@given(beat_maps(), st.floats(0, 1000), st.floats(0, 10))
def test_time_does_not_go_back(beats: TempoMap, at: float, more: float) -> None:
    assert beats.beats_at(at + more) >= beats.beats_at(at)


@given(beat_maps(), st.floats(0, 1000))
def test_beats_are_the_integral_of_the_tempo(beats: TempoMap, at: float) -> None:
    borders = [*beats.seconds.tolist(), np.inf]
    total = 0.0
    for tempo, a, b in zip(beats.tempos, borders, borders[1:], strict=False):
        total += max(0.0, min(at, b) - a) * tempo / 60
    assert beats.beats_at(at) == pytest.approx(total)


def test_the_default_is_120() -> None:
    assert TempoMap().beats_at([0, 1, 3600]).tolist() == [0, 2, 7200]


def places(beats: TempoMap, seconds: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Where in its bar each second lies, as a point on a circle of one beat for each of the bar."""
    at = beats.beats_at(seconds)
    if not beats.time_signature_beats.size:
        return np.zeros(len(at), dtype=np.complex128)
    # Rounding must not tell two time signatures apart where one begins.
    k = np.maximum(np.searchsorted(beats.time_signature_beats, at + 1e-7, side="right") - 1, 0)
    bar = 4 * beats.numerators[k] / beats.denominators[k]
    return np.asarray(bar * np.exp(2j * np.pi * (at - beats.time_signature_beats[k]) / bar))


@given(beat_maps(), st.floats(0, 20))
def test_shifting_later_keeps_every_beat_and_bar(beats: TempoMap, later: float) -> None:
    at = np.linspace(0, 60, 100)
    shifted = beats.shifted(later)
    since = shifted.beats_at(at + later) - shifted.beats_at(later)
    assert np.allclose(since, beats.beats_at(at), atol=1e-6)
    assert np.allclose(places(shifted, at + later), places(beats, at), atol=1e-5)
    back = shifted.shifted(-later)
    assert np.allclose(back.beats_at(at), beats.beats_at(at), atol=1e-6)


@given(beat_maps(), st.floats(0, 20))
def test_shifting_earlier_keeps_the_remaining_beats(beats: TempoMap, cut: float) -> None:
    at = np.linspace(cut, 80, 100)
    shifted = beats.shifted(-cut)
    since = beats.beats_at(at) - beats.beats_at(cut)
    assert np.allclose(shifted.beats_at(at - cut), since, atol=1e-6)
    here, wanted = places(shifted, at - cut), places(beats, at)
    # The last part of a time signature without a bar line is lost, so that part may count
    # otherwise.
    lost = since < (shifted.time_signature_beats[0] if shifted.time_signature_beats.size else 0)
    assert np.allclose(here[~lost], wanted[~lost], atol=1e-5)
    begun = int(np.count_nonzero(beats.time_signature_beats < beats.beats_at(cut) - 1e-6))
    if beats.time_signature_beats.size - max(begun - 1, 0) == shifted.time_signature_beats.size:
        assert np.allclose(here, wanted, atol=1e-5)


def test_shifted_by_hand() -> None:
    meter: dict[str, Any] = {"numerators": [4, 3], "denominators": [4, 4]}
    beats = TempoMap(seconds=[0, 4], tempos=[60, 120], time_signature_beats=[0, 8], **meter)
    # 5 s are 6 beats: the bar of four began two beats ago.
    assert beats.shifted(-5) == TempoMap(
        tempos=[120], time_signature_beats=[2], numerators=[3], denominators=[4]
    )
    assert beats.shifted(-1) == TempoMap(
        seconds=[0, 3], tempos=[60, 120], time_signature_beats=[3, 7], **meter
    )
    assert beats.shifted(2) == TempoMap(
        seconds=[0, 6], tempos=[60, 120], time_signature_beats=[2, 10], **meter
    )
    assert beats.shifted(0) == beats


@given(beat_maps(), beat_maps(), st.floats(0, 60))
def test_concatenated_maps(first: TempoMap, second: TempoMap, at: float) -> None:
    both = first.followed_by(second, at)
    before, after = np.linspace(0, at, 20), np.linspace(0, 60, 20)
    if at > 1e-3:
        assert np.allclose(both.beats_at(before), first.beats_at(before), atol=1e-4)
    since = both.beats_at(at + after) - both.beats_at(at)
    assert np.allclose(since, second.beats_at(after), atol=1e-4)


def test_a_repeated_time_signature_continues_the_bars() -> None:
    waltz: dict[str, Any] = {"numerators": [3], "denominators": [4]}
    first = TempoMap(time_signature_beats=[0], **waltz)  # a bar is 1.5 s
    again = TempoMap(tempos=[90], time_signature_beats=[1.01], **waltz)
    assert first.followed_by(again, 4.0).time_signature_beats.tolist() == [0], (
        "the bar line is at 4.5 s"
    )
    assert first.followed_by(again, 5.0).time_signature_beats.tolist() == [0, pytest.approx(11.01)]
    assert first.followed_by(again, 0.0) == again


def test_seconds_of_bars_by_hand() -> None:
    assert [TempoMap().seconds_of_bars(bars) for bars in (0, 1, 3)] == [0, 2, 6]
    # An upbeat of one beat, two bars of 3/4, then 4/4; 60 beats a minute.
    beats = TempoMap(
        tempos=[60], time_signature_beats=[1.0, 7.0], numerators=[3, 4], denominators=[4, 4]
    )
    assert [beats.seconds_of_bars(bars) for bars in range(5)] == [1, 4, 7, 11, 15]
    # A first time signature stated in bar 3 is counted backwards to the start.
    late = TempoMap(tempos=[60], time_signature_beats=[8.0], numerators=[4], denominators=[4])
    assert [late.seconds_of_bars(bars) for bars in range(4)] == [0, 4, 8, 12]
    # A bar that is cut short by a new time signature counts as one.
    cut = TempoMap(
        tempos=[60], time_signature_beats=[0, 6.0], numerators=[4, 3], denominators=[4, 4]
    )
    assert [cut.seconds_of_bars(bars) for bars in range(4)] == [0, 4, 6, 9]


@given(beat_maps(), st.integers(0, 30))
def test_bars_end_at_each_time_signature(beats: TempoMap, bars: int) -> None:
    ends = np.array([beats.seconds_of_bars(k) for k in range(bars + 2)])
    assert (np.diff(ends) > 0).all()
    lines = beats.seconds_at(beats.time_signature_beats)
    for line in np.unique(np.round(lines[lines < ends[-1]], 4)):
        assert np.abs(ends - line).min() < 1e-3


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"seconds": [], "tempos": []}, "do not ascend from 0 s"),
        ({"seconds": [1.0]}, "do not ascend from 0 s"),
        ({"seconds": [0.0, 0.0], "tempos": [60, 60]}, "ascend"),
        ({"seconds": [0.0, 1.0]}, r"tempos has the shape \(1,\), not one value for each tempo"),
        ({"seconds": [0.0, np.inf], "tempos": [60, 60]}, "ascend"),
        (
            {"time_signature_beats": [0], "numerators": [3, 4], "denominators": [4]},
            r"numerators has the shape \(2,\)",
        ),
        (
            {"time_signature_beats": [np.nan], "numerators": [4], "denominators": [4]},
            "do not ascend",
        ),
        ({"time_signature_beats": [-1], "numerators": [4], "denominators": [4]}, "do not ascend"),
        (
            {"time_signature_beats": [4, 0], "numerators": [4, 3], "denominators": [4, 4]},
            "time signatures do not ascend",
        ),
        ({"tempos": [0.0]}, "above 0"),
        ({"tempos": [np.inf]}, "finite"),
        ({"time_signature_beats": [0], "numerators": [0], "denominators": [4]}, "time signatures"),
        ({"time_signature_beats": [0], "numerators": [4], "denominators": []}, "denominators"),
    ],
)
def test_invalid_maps_are_rejected(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(NotesError, match=words):
        TempoMap(**columns)


def test_equality() -> None:
    meter: dict[str, Any] = {"time_signature_beats": [0], "numerators": [3], "denominators": [4]}
    assert TempoMap(**meter) == TempoMap(**meter)
    assert hash(TempoMap(**meter)) == hash(TempoMap(**meter))
    assert TempoMap(**meter) != TempoMap()
    assert TempoMap(tempos=[100]) != TempoMap()
    assert TempoMap() != "a map"
