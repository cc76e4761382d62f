"""Scores: sums, intervals, and comparisons piece by piece."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import ConfigError, DataError, ShapeError
from notelstm.evaluation import PieceScore, Reliability, Scores, compare, intervals
from notelstm.predictions import Categorical
from notelstm.testing import strategies


def scores(costs: dict[str, float], seed: int = 0, spread: float = 1.0, **more: float) -> Scores:
    """Pieces of other lengths that cost other amounts; the same seed, the same pieces."""
    rng = np.random.default_rng(seed)
    pieces = []
    for k in range(40):
        notes = int(rng.integers(50, 500))
        hard = spread * rng.normal()
        noise = 0.01 * rng.normal()
        nats = {role: (cost + hard + noise) * notes for role, cost in costs.items()}
        pieces.append(PieceScore(notes=notes, nats=nats, name=f"piece {k}", seconds=notes / 8))
    return Scores(pieces=tuple(pieces))


NOTE = {"pitch": 3.0, "step": 3.0, "duration": 3.0, "velocity": 2.0}


def test_figures_are_sums_of_roles() -> None:
    one = PieceScore(notes=10, nats={"pitch": 30, "step": 20, "duration": 10, "velocity": 5})
    assert [one.of(f) for f in ("pitch_step_duration", "total", "pitch", "event")] == [
        60,
        65,
        30,
        None,
    ]
    assert one.to_json()["pitch_step_duration"] == 6.0
    silent = PieceScore(notes=10, nats={"pitch": 30.0})
    assert Scores(pieces=(one, silent)).of("step") is None
    assert Scores(pieces=(one, silent)).of("pitch") == 3.0
    events = PieceScore(notes=10, nats={"event": 100.0}, seconds=4.0)
    assert (events.of("total"), events.of("pitch_step_duration")) == (100.0, None)
    both = Scores(pieces=(events, events))
    assert both.bits_per_second == pytest.approx(200 / math.log(2) / 8)
    assert Scores(pieces=(silent,)).bits_per_second is None
    assert Scores(pieces=(one,)).bits_per_second is None


def test_intervals_have_their_stated_coverage() -> None:
    covered, wide = 0, 0
    for seed in range(100):
        made = intervals(scores(NOTE, seed), confidence=0.8)["pitch"]
        assert made.low < made.value < made.high
        covered += made.low < 3.0 < made.high
        wide += intervals(scores(NOTE, seed), confidence=0.95)["pitch"].low < made.low
    assert 65 <= covered <= 90
    assert wide == 100


def test_intervals_exist_for_the_available_figures() -> None:
    some = scores({"pitch": 3.0})
    assert list(intervals(some)) == ["pitch"]
    assert list(intervals(scores(NOTE))) == [
        "pitch",
        "step",
        "duration",
        "pitch_step_duration",
        "velocity",
        "total",
        "without_instrument",
    ]
    assert intervals(Scores(pieces=some.pieces[:1])) == {}
    assert intervals(some, seed=1) == intervals(some, seed=1) != intervals(some, seed=2)
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            intervals(some, confidence=confidence)


def test_longer_pieces_count_more() -> None:
    long = PieceScore(notes=900, nats={"pitch": 900.0}, name="long")
    short = PieceScore(notes=100, nats={"pitch": 300.0}, name="short")
    both = Scores(pieces=(long, short))
    assert intervals(both)["pitch"].value == both.of("pitch") == 1.2


def test_paired_comparisons_separate_what_single_figures_cannot() -> None:
    a, b = scores(NOTE), scores({**NOTE, "pitch": 3.05})
    one, other = intervals(a)["pitch"], intervals(b)["pitch"]
    assert one.low < other.value < one.high
    found = compare(a, b)
    value, low, high = found.differences["pitch"]
    assert value == pytest.approx((a.of("pitch") or 0) - (b.of("pitch") or 0))
    assert low < value < high < 0
    assert found.better["pitch"] == found.pieces == 40
    assert compare(b, a).better["pitch"] == 0
    mirrored = compare(b, a).differences["pitch"]
    assert mirrored.value == pytest.approx(-value)
    same = compare(a, a).differences["total"]
    assert tuple(same) == (0, 0, 0)
    assert compare(a, a).better["total"] == 0
    made = json.loads(json.dumps(found.to_json()))
    assert made["differences"]["pitch"]["high"] == high


def test_pieces_are_paired_by_name() -> None:
    a = scores(NOTE)
    shuffled = Scores(pieces=a.pieces[:2:-1])
    found = compare(a, shuffled)
    assert found.pieces == 37
    assert found.differences["pitch_step_duration"].value == pytest.approx(0, abs=1e-12)
    # One has no velocity: what both have is compared.
    without = compare(a, scores({"pitch": 3.0, "step": 3.0, "duration": 3.0}))
    assert list(without.differences) == ["pitch", "step", "duration", "pitch_step_duration"]
    with pytest.raises(DataError, match="1 piece in common"):
        compare(a, Scores(pieces=a.pieces[:1]))
    with pytest.raises(DataError, match="2 pieces with 1 different name "):
        compare(a, Scores(pieces=(a.pieces[0], a.pieces[0])))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        compare(a, a, confidence=1.0)


def test_reliability_by_hand() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    made = Reliability.of(Categorical(p.log()), torch.tensor([0, 1, 1, 2]))
    assert made.count == 4
    assert made.top1 == pytest.approx(0.5)
    assert made.top5 == 1.0
    # 0.7 twice, right once; 0.5 once, never right; 0.6 once, right.
    assert made.error == pytest.approx((abs(1.4 - 1) + 0.5 + 0.4) / 4)
    bins = made.to_json()["bins"]
    assert [(b["count"], round(b["accuracy"], 3)) for b in bins] == [(1, 0), (1, 1), (2, 0.5)]
    assert [round(b["confidence"], 3) for b in bins] == [0.5, 0.6, 0.7]


def test_the_borders_of_bins_are_in_bins() -> None:
    certain = Reliability.of(Categorical(torch.tensor([[200.0, -200.0]])), torch.tensor([0]))
    assert certain.counts[-1] == 1
    assert certain.to_json()["bins"][0]["to"] == 1.0
    even = Reliability.of(Categorical(torch.zeros(1, 1)), torch.tensor([0]))
    assert even.counts[-1] == 1


def test_equally_likely_classes_share_the_hits() -> None:
    said = Categorical(torch.zeros(128, 128))
    made = Reliability.of(said, torch.arange(128))
    assert made.top1 == pytest.approx(1 / 128)
    assert made.top5 == pytest.approx(5 / 128)
    assert made.error == pytest.approx(0, abs=1e-9)


@given(strategies.logits(7, batch_size=9), st.lists(st.integers(0, 6), min_size=9, max_size=9))
def test_reliability_adds_up_and_stays_within_bounds(said: torch.Tensor, came: list[int]) -> None:
    target = torch.tensor(came)
    whole = Reliability.of(Categorical(said), target)
    parts = [Reliability.of(Categorical(said[k::2]), target[k::2]) for k in (0, 1)]
    added = sum(parts, Reliability())
    for name in ("counts", "confidence", "correct", "top5_count"):
        assert np.allclose(getattr(added, name), getattr(whole, name))
    assert 0 <= whole.top1 <= whole.top5 <= 1
    assert 0 <= whole.error <= 1
    # By sorting: how many are likelier, and what share of the equally likely ones fits in.
    for k, right in ((1, whole.top1), (5, whole.top5)):
        wanted = 0.0
        for row, t in zip(said.double().softmax(-1).tolist(), came, strict=True):
            above, alike = sum(x > row[t] for x in row), sum(x == row[t] for x in row)
            wanted += min(1.0, max(0.0, (k - above) / alike)) / 9
        assert right == pytest.approx(wanted)


def test_a_model_with_true_probabilities_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(50_000, 10, generator=generator)
    honest = logits.softmax(-1).multinomial(1, generator=generator)[:, 0]
    assert Reliability.of(Categorical(logits), honest).error < 0.01
    # Twice as sure as it should be.
    assert Reliability.of(Categorical(2 * logits), honest).error > 0.1


def test_each_prediction_has_a_target() -> None:
    with pytest.raises(ShapeError, match="do not fit logits"):
        Reliability.of(Categorical(torch.zeros(3, 4)), torch.zeros(2, dtype=torch.int64))
    assert Reliability.of(Categorical(torch.zeros(0, 4)), torch.zeros(0).long()) == Reliability()
