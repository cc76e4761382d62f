"""What a piece is like, and how alike sets of pieces are."""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from notelstm.errors import DataError
from notelstm.evaluation import quantize, similarity_of
from notelstm.evaluation.features import (
    FEATURES,
    excerpts,
    histograms,
    sounding_at_onsets,
    usual_length,
)
from notelstm.evaluation.similarity import kernel_overlap
from notelstm.notes import Notes
from notelstm.testing import strategies
from notelstm.testing.makers import long_piece


def scattered(seed: int, **ranges: tuple[int, int]) -> Notes:
    """120 notes whose pitches, steps (cells), durations (cells) and velocities are drawn evenly."""
    rng = np.random.default_rng(seed)
    wide = {"pitch": (40, 90), "step": (0, 40), "duration": (5, 60), "velocity": (30, 100)}
    drawn = {name: rng.integers(*ranges.get(name, ends), 120) for name, ends in wide.items()}
    start = np.cumsum(drawn["step"]) / 100
    return Notes(
        start=start,
        end=start + drawn["duration"] / 100,
        pitch=drawn["pitch"],
        velocity=drawn["velocity"],
    )


REAL = [scattered(seed) for seed in range(30)]


def test_histograms_by_hand() -> None:
    notes = Notes(
        start=[0.0, 0.0, 0.52, 1.52, 40.0],
        end=[1.0, 0.02, 0.56, 1.6, 100.0],
        pitch=[72, 60, 66, 0, 127],
        velocity=[1, 64, 64, 127, 127],
    )
    made = histograms(notes)
    assert tuple(made) == FEATURES
    assert np.flatnonzero(made["pitch class"]).tolist() == [0, 6, 7]
    assert made["pitch class"][0] == pytest.approx(3 / 5)
    # In order 60, 72, 66, 0, 127: wide jumps are at the ends.
    intervals = {i - 24: p * 4 for i, p in enumerate(made["interval"]) if p}
    assert intervals == pytest.approx({12: 1, -6: 1, -24: 1, 24: 1})
    # Steps of 0, 52, 100 cells and one beyond 30 s; durations of 2, 4, 8, 100 and 6000 cells.
    bins = {i: round(p * 4) for i, p in enumerate(made["step"]) if p}
    assert bins == {0: 1, 4 + 7: 1, 4 + 9: 1, 4 + 19: 1}
    bins = {i: round(p * 5) for i, p in enumerate(made["duration"]) if p}
    assert bins == {2: 1, 4: 1, 6: 1, 4 + 9: 1, 4 + 19: 1}
    # Two notes begin together; the third meets the first; the others sound alone.
    assert (made["polyphony"][:3] * 5).tolist() == pytest.approx([2, 3, 0])
    assert (made["velocity"][[0, 16, 31]] * 5).tolist() == pytest.approx([1, 2, 2])


@given(strategies.notes(min_notes=2, max_notes=30, longest_rest=2.0))
def test_histograms_sum_to_one_and_polyphony_matches_a_slow_count(piece: Notes) -> None:
    for histogram in histograms(piece).values():
        assert histogram.min() >= 0
        assert histogram.sum() == pytest.approx(1)
    notes = quantize(piece)
    start, end = (np.rint(times * 100) for times in (notes.start, notes.end))
    slow = [int(((start <= at) & (end > at)).sum()) for at in start]
    assert sounding_at_onsets(notes).tolist() == slow


@given(strategies.notes(min_notes=2, max_notes=12, pitches=(24, 100)), st.integers(-3, 3))
def test_a_transposition_by_octaves_changes_no_histogram(piece: Notes, octaves: int) -> None:
    pitch = piece.pitch + 12 * octaves
    assume(0 <= pitch.min() <= pitch.max() <= 127)
    moved = Notes(start=piece.start, end=piece.end, pitch=pitch, velocity=piece.velocity)
    for a, b in zip(histograms(piece).values(), histograms(moved).values(), strict=True):
        assert np.array_equal(a, b)


def test_excerpts_are_adjacent() -> None:
    pieces = [
        long_piece(np.random.default_rng(k), count=n, seconds=60) for k, n in enumerate((70, 9))
    ]
    n = len(pieces[0])
    cut = excerpts(pieces, 20)
    assert [len(piece) for piece in cut] == [20] * (n // 20) + [9]
    joined = np.concatenate([piece.start for piece in cut[:-1]])
    assert np.array_equal(joined, pieces[0].start[: len(joined)])
    assert cut[-1] == pieces[1]
    assert usual_length([*pieces, pieces[0]]) == n
    for few in ([], [Notes.empty()], [pieces[0][:1]] * 3):
        with pytest.raises(DataError, match="fewer than 2 notes in most of"):
            usual_length(few)
    with pytest.raises(DataError, match="1 note, fewer than the 2"):
        histograms(pieces[0][:1])


def test_a_set_is_similar_to_itself_and_halves_to_each_other() -> None:
    itself = similarity_of(REAL, REAL)
    halves = similarity_of(REAL[:15], REAL[15:])
    for made in (itself, halves):
        assert made.overlap > 0.85
        for feature in made.features:
            assert feature.overlap > 0.75, feature
            assert feature.kl < 0.3, feature
            assert feature.within_generated == pytest.approx(feature.within_real, rel=0.35)
    assert (itself.notes, itself.generated, itself.real) == (120, 30, 30)
    assert json.loads(json.dumps(itself.to_json()))["features"]["step"]["overlap"] > 0.75


@pytest.mark.parametrize(
    ("changed", "features"),
    [
        ({"pitch": (60, 61)}, {"pitch class", "interval"}),
        ({"step": (200, 201)}, {"step"}),
        ({"duration": (500, 501)}, {"duration", "polyphony"}),
        ({"velocity": (120, 121)}, {"velocity"}),
    ],
)
def test_the_differing_feature_is_named(
    changed: dict[str, tuple[int, int]], features: set[str]
) -> None:
    made = similarity_of([scattered(100 + k, **changed) for k in range(10)], REAL)
    named = {feature.feature: feature for feature in made.features}
    for name in features:
        assert named[name].overlap < 0.05, name
        assert named[name].kl > 2, name
        assert named[name].between > 2 * named[name].within_real
    for name in set(FEATURES) - features - {"polyphony"}:
        assert named[name].overlap > 0.7, name


def test_identical_generated_pieces_have_no_distance_within() -> None:
    made = similarity_of([REAL[0]] * 10, REAL)
    for feature in made.features:
        assert feature.within_generated == 0
        assert feature.between > 0
        # It is the real pieces' distances among each other that count.
        assert feature.overlap > 0.3, feature


def test_only_the_beginning_of_longer_pieces_is_compared() -> None:
    longer = [
        Notes.concatenate([piece, scattered(k, pitch=(0, 3))]) for k, piece in enumerate(REAL)
    ]
    assert similarity_of(REAL, longer) == similarity_of(REAL, REAL)


def test_sets_of_fewer_than_two_pieces_are_rejected() -> None:
    for generated, real in (([], REAL), (REAL[:1], REAL), (REAL, REAL[:1])):
        with pytest.raises(DataError, match="too few to compare"):
            similarity_of(generated, real)


def exact_overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    x = np.linspace(-20, 30, 100_001)
    p, q = (np.exp(-0.5 * ((x - m) / s) ** 2) / s / math.sqrt(2 * math.pi) for m, s in (a, b))
    return float(np.minimum(p, q).sum() * (x[1] - x[0]))


@pytest.mark.parametrize("b", [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0), (3.0, 0.5), (12.0, 1.0)])
def test_the_overlap_matches_the_sampled_distributions(b: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=4000), rng.normal(*b, size=4000)
    area, kl = kernel_overlap(x, y)
    assert area == pytest.approx(exact_overlap((0, 1), b), abs=0.04)
    m, s = b
    if m < 2:
        wanted = math.log(s) + (1 + m * m) / (2 * s * s) - 0.5
        assert kl == pytest.approx(wanted, abs=0.1)
    else:
        assert kl > 2


def test_densities_are_sums_of_kernels_of_scotts_width() -> None:
    width = math.sqrt(0.5) * 2**-0.2
    x = np.linspace(-6, 8, 20_001)

    def density(*points: float) -> NDArray[np.float64]:
        kernels = [NormalDist(point, width) for point in points]
        return np.array([sum(k.pdf(at) for k in kernels) / len(kernels) for at in x])

    p, q = density(0, 1), density(1, 2)
    area, kl = kernel_overlap(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert area == pytest.approx(float(np.minimum(p, q).sum() * (x[1] - x[0])), abs=1e-3)
    assert kl == pytest.approx(float((p * np.log(p / q)).sum() * (x[1] - x[0])), abs=1e-2)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_an_overlap_is_independent_of_units(a: list[float], b: list[float], unit: float) -> None:
    x, y = np.round(a, 3), np.round(b, 3)
    area, kl = kernel_overlap(x, y)
    assert 0 <= area <= 1 + 1e-9
    assert 0 <= kl < math.inf
    assert kernel_overlap(y, x)[0] == pytest.approx(area, abs=1e-6)
    assert kernel_overlap(x, x)[0] == pytest.approx(1)
    assert kernel_overlap(x, x)[1] == pytest.approx(0, abs=1e-9)
    if len({*x, *y}) > 1:
        assert kernel_overlap(x * unit, y * unit)[0] == pytest.approx(area, abs=1e-3)


def test_numbers_without_variance() -> None:
    ones = np.ones(5)
    assert kernel_overlap(ones, ones)[0] == pytest.approx(1)
    assert kernel_overlap(ones, 2 * ones)[0] == pytest.approx(0, abs=1e-6)
