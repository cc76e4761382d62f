"""Baselines: sums by brute force, figures by hand, and n-grams against the slowest counting."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError
from notelstm.evaluation import (
    Baseline,
    RepeatLast,
    Uniform,
    Unigram,
    fit_ngrams,
    fit_unigram,
    score_baseline,
)
from notelstm.evaluation.baselines import _CLASSES, NOVELTY, Places, _contexts
from notelstm.evaluation.grid import GRIDS, cells_of, places_of, quantize
from notelstm.fields import Role
from notelstm.notes import Notes
from notelstm.testing import strategies
from notelstm.testing.makers import long_piece

ROLES: tuple[Role, ...] = ("pitch", "step", "duration", "velocity")


def piece(count: int, seed: int = 0) -> Notes:
    return long_piece(np.random.default_rng(seed), count=count, seconds=count / 5)


TRAINING = [piece(400, 1), piece(2, 2), Notes.empty(), piece(300, 3), piece(1, 4)]
NGRAMS = fit_ngrams(TRAINING)
BASELINES: dict[str, Baseline] = {
    "uniform": Uniform(),
    "unigram": NGRAMS.unigram,
    "repeat-last": RepeatLast(unigram=NGRAMS.unigram),
    "bigram": NGRAMS.up_to(2),
    "4-gram": NGRAMS,
}


def every_place(baseline: Baseline, role: Role, history: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) P of each cell after a history, asked for one by one."""
    said = []
    for place in range(GRIDS[role].size):
        at = np.append(history, place)
        said.append(baseline.probabilities({role: at})[role][-1])
    return np.array(said)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("role", ROLES)
def test_probabilities_of_all_cells_sum_to_one(name: str, role: Role) -> None:
    seen = places_of(quantize(TRAINING[0]))[role]
    rng = np.random.default_rng(0)
    never = rng.integers(0, GRIDS[role].size, 5)
    for history in (seen[:0], seen[:1], seen[50:53], seen[200:210], never):
        p = every_place(BASELINES[name], role, history)
        assert np.all(p >= 0)
        assert p.sum() == pytest.approx(1, abs=1e-9)


def slow_4_gram(role: Role, history: list[int], place: int) -> float:
    """The same rule with dictionaries, from the definition."""
    p = 1 / GRIDS[role].size
    for depth in range(4):
        if depth > len(history):
            return p
        after: Counter[int] = Counter()
        for notes in TRAINING:
            at = places_of(quantize(notes))[role].tolist()
            for i in range(depth, len(at)):
                known = [_CLASSES[role][x] for x in at[i - depth : i]]
                wanted = [_CLASSES[role][x] for x in history[len(history) - depth :]]
                if known == wanted:
                    after[at[i]] += 1
        if after:
            weight = NOVELTY * len(after)
            p = (after[place] + weight * p) / (after.total() + weight)
    return p


@pytest.mark.parametrize("role", ROLES)
def test_n_grams_are_those_of_the_definition(role: Role) -> None:
    at = places_of(quantize(TRAINING[3]))[role][:60].copy()
    at[30:33] = (at[30:33] + 1) % GRIDS[role].size
    got = NGRAMS.probabilities({role: at})[role]
    for i in (0, 1, 2, 3, 10, 30, 31, 32, 33, 34, 59):
        wanted = slow_4_gram(role, at[:i].tolist(), int(at[i]))
        assert got[i] == pytest.approx(wanted, rel=1e-9), i


def test_n_grams_do_not_cross_from_piece_to_piece() -> None:
    def alone(pitch: int) -> Notes:
        return Notes(start=[0.0], end=[1.0], pitch=[pitch])

    crossed = fit_ngrams([alone(60), alone(62)] * 50)
    after = crossed.probabilities({"pitch": np.array([60, 62, 60])})["pitch"]
    assert after.tolist() == pytest.approx([crossed.unigram.distribution("pitch")[60]] * 3)


@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(1, 4))
def test_contexts_differ_by_their_classes(places: list[int], depth: int) -> None:
    at = np.array(places, dtype=np.int64)
    codes = _contexts("step", at, depth)
    classes = _CLASSES["step"][at]
    windows = [tuple(classes[i - depth : i]) for i in range(depth, len(at))]
    assert len(codes) == len(windows)
    for i, a in enumerate(windows):
        for j, b in enumerate(windows):
            assert (codes[i] == codes[j]) == (a == b)


@pytest.mark.parametrize("role", ROLES)
def test_the_ends_of_the_support_are_separate_contexts(role: Role) -> None:
    last = GRIDS[role].size - 1
    pairs = [(a, b) for a in (0, 1, last) for b in (0, 1, last)]
    codes = {int(_contexts(role, np.array([*pair, 0]), 2)[0]) for pair in pairs}
    assert len(codes) == len(pairs)


def test_classes_of_times_are_fine_below_and_four_to_the_octave_above() -> None:
    classes = _CLASSES["duration"]
    assert classes[:12].tolist() == [*range(11), 10]
    assert (classes[20], classes[40], classes[2560]) == (14, 18, 42)
    assert np.all(np.diff(classes) >= 0)
    assert np.array_equal(_CLASSES["pitch"], np.arange(128))


def test_uniform_and_unigram_by_hand() -> None:
    held_out = piece(60, 9)
    scores = score_baseline(Uniform(), [held_out])
    assert scores.notes == len(held_out) - 25
    assert scores.total == pytest.approx(math.log(128 * 3001 * 3000 * 32))
    training = Notes(start=[0, 1, 2], end=[1, 2, 3], pitch=[60, 60, 64], velocity=[4, 4, 127])
    unigram = fit_unigram([training])
    pitch = unigram.distribution("pitch")
    new = NOVELTY * 2
    assert pitch[60] == pytest.approx((2 + new / 128) / (3 + new))
    assert pitch[61] == pytest.approx((new / 128) / (3 + new))
    assert unigram.distribution("velocity")[31] > unigram.distribution("velocity")[0]
    # Steps are 0, 1 s and 1 s; durations are counted from 10 ms on.
    assert unigram.counts["step"][[0, 100]].tolist() == [1, 2]
    assert unigram.counts["duration"][[99, 100]].tolist() == [3, 0]
    assert fit_unigram([]).distribution("pitch").tolist() == pytest.approx([1 / 128] * 128)


def test_the_last_note_repeated_by_hand() -> None:
    training = Notes(start=[0, 1, 2, 3, 4], end=[9] * 5, pitch=[60, 60, 60, 62, 64])
    repeat = RepeatLast(unigram=fit_unigram([training, training[:1]]))
    assert repeat.unigram.pairs == 4
    assert repeat.unigram.repeats == {"pitch": 2, "step": 3, "duration": 0, "velocity": 4}
    p = repeat.probabilities({"pitch": np.array([60, 60, 62, 70])})["pitch"]
    unigram = repeat.unigram.distribution("pitch")
    wanted = [unigram[60], 0.5 + 0.5 * unigram[60], 0.5 * unigram[62], 0.5 * unigram[70]]
    assert p.tolist() == pytest.approx(wanted)


def test_baselines_score_the_same_notes_as_a_model() -> None:
    """A baseline counted on the piece itself has no cost after note 25."""
    notes = piece(40, 5)
    cells = cells_of(quantize(notes))

    class Oracle:
        def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
            n = len(places["pitch"])
            assert np.array_equal(places["pitch"], cells["pitch"][:n])
            made = {role: np.ones(len(at)) for role, at in places.items()}
            for p in made.values():
                p[:25] = 0
            made["pitch"][25] = 0.5
            return made

    scores = score_baseline(Oracle(), [notes, notes[:25], notes[:26]], names=["a", "b", "c"])
    assert [(p.name, p.notes) for p in scores.pieces] == [("a", len(notes) - 25), ("c", 1)]
    assert scores.pieces[0].nats["pitch"] == pytest.approx(math.log(2), abs=1e-6)
    assert scores.pieces[0].nats["step"] == pytest.approx(0, abs=1e-6)
    assert scores.pieces[0].seconds == pytest.approx(notes.start[-1] - notes.start[24], abs=0.011)


def test_only_longer_contexts_predict_repetitions() -> None:
    """Four notes in turn: three notes of context determine the next one, one note does not."""
    pattern = [60, 60, 62, 62, 60, 64]
    start = np.arange(3000) * 0.1
    notes = Notes(start=start, end=start + 0.05, pitch=np.resize(pattern, 3000))
    ngrams = fit_ngrams([notes])
    costs = [score_baseline(ngrams.up_to(n), [notes]).of("pitch") for n in (1, 2, 3, 4)]
    assert costs == sorted(costs, key=lambda x: -(x or 0))
    assert (costs[3] or 0) < 0.1
    assert (costs[1] or 0) > 0.3
    assert ngrams.up_to(1).probabilities(places_of(notes))["pitch"].tolist() == (
        ngrams.unigram.probabilities(places_of(notes))["pitch"].tolist()
    )


@given(strategies.notes(max_notes=30))
def test_counts_round_trip_through_json(notes: Notes) -> None:
    before = fit_unigram([notes])
    after = Unigram.from_json(json.loads(json.dumps(before.to_json())))
    assert (after.repeats, after.pairs) == (before.repeats, before.pairs)
    for role in ROLES:
        assert np.array_equal(after.counts[role], before.counts[role])
        assert after.counts[role].sum() == len(notes)


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"counts": {}},
        {"counts": {role: [-1] for role in ROLES}},
        {"counts": {role: [[1]] for role in ROLES}},
        {"counts": {role: [1] * 4000 for role in ROLES}},
        {"counts": {role: [10**30] for role in ROLES}},
        {"counts": dict.fromkeys(ROLES, "x")},
        {"repeats": {"pitch": 1}},
        {"pairs": None},
    ],
)
def test_damaged_counts_raise_one_clear_error(damage: dict[str, object]) -> None:
    stored = {**fit_unigram(TRAINING).to_json(), **damage} if damage else {}
    with pytest.raises(DataError, match=r"stored unigram is damaged: .*fit_unigram"):
        Unigram.from_json(stored)


def test_invalid_orders_and_empty_pieces_are_rejected() -> None:
    for order in (0, 7):
        with pytest.raises(ConfigError, match=r"order -?[0-9]+ is not 1 to 6"):
            fit_ngrams(TRAINING, order=order)
    with pytest.raises(ConfigError, match="order 5 is not 1 to 4"):
        NGRAMS.up_to(5)
    for pieces in ([], [Notes.empty()]):
        with pytest.raises(DataError, match="no notes to count n-grams in"):
            fit_ngrams(pieces)
    with pytest.raises(DataError, match="1 piece of 25 notes or fewer"):
        score_baseline(Uniform(), [piece(25)])
    with pytest.raises(DataError, match="1 name for 2 pieces"):
        score_baseline(Uniform(), [piece(30), piece(30)], names=["x"])
    assert fit_ngrams(TRAINING, order=6).order == 6


@pytest.mark.maestro
@pytest.mark.skipif("NOTELSTM_MAESTRO" not in os.environ, reason="NOTELSTM_MAESTRO is not set")
def test_each_baseline_is_better_than_the_one_before_on_performances() -> None:
    from notelstm.midi import read_midi

    files = sorted(Path(os.environ["NOTELSTM_MAESTRO"]).glob("2018/*.midi"))[:30]
    pieces = [read_midi(file) for file in files]
    ngrams = fit_ngrams(pieces[:25])
    costs = [
        score_baseline(baseline, pieces[25:]).total or 0
        for baseline in (Uniform(), ngrams.up_to(1), ngrams.up_to(2), ngrams)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] - costs[1] > 8
    assert costs[1] - costs[3] > 0.8
