"""Samplers and processors: their samples, statistics and edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from torch import Tensor

from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.predictions import Categorical, Normal, PointEstimate
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling import (
    Ancestral,
    Greedy,
    MinDuration,
    RawPitch,
    Temperature,
    Weighted,
    allow_only,
)
from notelstm.testing import check_processor, strategies

PITCH, STEP, DURATION = StepDurationEncoder().fields
CLASSES = LogTimeEncoder().fields
SAMPLES = 20_000


def noise(batch_size: int = SAMPLES, seed: int = 0) -> Tensor:
    return torch.rand(
        batch_size, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def shares(sampler: Ancestral | Weighted, prediction: Categorical) -> Tensor:
    """The relative frequency of each class."""
    batch_size = Categorical(
        prediction.logits.expand(SAMPLES, -1),
        None if prediction.weights is None else prediction.weights.expand(SAMPLES, -1),
    )
    sampled = sampler(PITCH, batch_size, noise(), [])
    return torch.bincount(sampled, minlength=prediction.logits.shape[-1]).double() / SAMPLES


def near(got: Tensor, wanted: Tensor) -> bool:
    """Within four standard deviations of a binomial."""
    wanted = wanted.double()
    return bool(((got - wanted).abs() <= 4 * (wanted * (1 - wanted) / SAMPLES).sqrt() + 1e-9).all())


LOGITS = torch.tensor([0.0, 1.0, -1.0, 2.0, -math.inf])
WEIGHTS = torch.tensor([0.5, 0.1, 0.4, 0.2, 0.0])


def test_ancestral_samples_from_the_softmax_and_weighted_from_the_weights() -> None:
    both = Categorical(LOGITS, WEIGHTS)
    assert near(shares(Ancestral(), both), LOGITS.softmax(-1))
    assert near(shares(Weighted(), both), WEIGHTS / WEIGHTS.sum())
    assert not near(shares(Ancestral(), both), WEIGHTS / WEIGHTS.sum())
    assert near(shares(Weighted(), Categorical(LOGITS)), LOGITS.softmax(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_sharpens_and_flattens(temperature: float) -> None:
    link = Temperature(temperature=temperature)
    both = Categorical(LOGITS, WEIGHTS)
    wanted = (LOGITS / temperature).softmax(-1)
    assert near(shares(Ancestral(processors=(link,)), both), wanted)
    with_temperature = WEIGHTS ** (1 / temperature)
    assert near(
        shares(Weighted(processors=(link,)), both), with_temperature / with_temperature.sum()
    )
    normal = link(STEP, Normal(torch.zeros(1), torch.ones(1)), [])
    assert isinstance(normal, Normal)
    assert float(normal.sigma) == pytest.approx(math.sqrt(temperature))
    point = PointEstimate(torch.zeros(1))
    assert link(STEP, point, []).mode() is point.mode() or temperature != 1


def test_greedy_returns_the_mode_for_any_noise() -> None:
    for some in (torch.zeros(1, 2), torch.full((1, 2), 0.999)):
        assert Greedy()(PITCH, Categorical(LOGITS[None], WEIGHTS[None]), some, []).tolist() == [3]
        assert Greedy()(STEP, Normal(torch.tensor([-1.0]), torch.ones(1)), some, []).item() == -1
    bounded = Normal(torch.tensor([-1.0]), torch.ones(1), low=torch.zeros(1))
    assert Greedy()(STEP, bounded, torch.zeros(1, 2), []).item() == 0


def test_all_samplers_sample_points_and_normals() -> None:
    batch_size = noise()
    for sampler in (Ancestral(), Weighted()):
        same = sampler(STEP, PointEstimate(torch.full((SAMPLES,), 0.3)), batch_size, [])
        assert torch.all(same == 0.3)
        normal = Normal(torch.full((SAMPLES,), 2.0), torch.full((SAMPLES,), 0.5))
        sampled = sampler(STEP, normal, batch_size, [])
        assert float(sampled.mean()) == pytest.approx(2.0, abs=0.02)
        assert float(sampled.std()) == pytest.approx(0.5, abs=0.02)


@dataclass(frozen=True)
class Notes:
    """A processor that records its calls."""

    name: str
    asked: list[str]

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        self.asked.append(f"{self.name} {field.name}")
        return prediction


@pytest.mark.parametrize("kind", [Ancestral, Greedy, Weighted])
def test_processors_are_applied_in_order(
    kind: type[Ancestral] | type[Greedy] | type[Weighted],
) -> None:
    asked: list[str] = []
    sampler = kind(processors=(Notes("first", asked), Notes("second", asked)))
    sampler(PITCH, Categorical(LOGITS[None]), torch.zeros(1, 2), [])
    assert asked == ["first pitch", "second pitch"]
    only = torch.zeros(5, dtype=torch.bool)
    only[2] = True

    def third_class(
        field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        assert isinstance(prediction, Categorical)
        return prediction.constrained(only)

    sampler = kind(processors=(third_class,))
    assert sampler(PITCH, Categorical(LOGITS[None]), torch.zeros(1, 2), []).tolist() == [2]


def test_min_duration() -> None:
    link = MinDuration(seconds=0.25)
    for prediction in (PointEstimate(torch.tensor([-1.0, 0.1, 0.25, 2.0])),):
        assert link(DURATION, prediction, []).mode().tolist() == [0.25, 0.25, 0.25, 2.0]
    sampled = link(DURATION, Normal(torch.zeros(SAMPLES), torch.ones(SAMPLES)), []).sample(noise())
    assert float(sampled.min()) == 0.25
    duration = CLASSES[2]
    classes = Categorical(torch.zeros(1, duration.classes or 0))
    kept = link(duration, classes, [])
    assert isinstance(kept, Categorical)
    possible = [value for value, p in zip(duration.values, kept.probabilities[0], strict=True) if p]
    assert possible == [value for value in duration.values if value >= 0.25]


def test_min_duration_does_not_change_other_fields() -> None:
    link = MinDuration(seconds=0.25)
    beats = Field.continuous("duration", "duration", unit="beat", low=0.0)
    for field in (PITCH, STEP, beats):
        prediction = PointEstimate(torch.tensor([0.1]))
        assert link(field, prediction, []) is prediction


def test_min_duration_without_a_class_long_enough_changes_nothing() -> None:
    duration = CLASSES[2]
    only_short = torch.zeros(1, duration.classes or 0, dtype=torch.bool)
    only_short[0, :3] = True
    constrained = Categorical(torch.zeros(1, duration.classes or 0)).constrained(only_short)
    kept = MinDuration(seconds=5.0)(duration, constrained, [])
    assert isinstance(kept, Categorical)
    assert torch.equal(kept.probabilities, constrained.probabilities)


def test_min_duration_above_the_bound_of_a_field_gives_the_bound() -> None:
    bounded = Field.continuous("duration", "duration", unit="s", low=0.0, high=2.0)
    for prediction in (
        PointEstimate(torch.tensor([0.1, 1.9])),
        Normal(torch.tensor([0.1, 1.9]), torch.ones(2)),
    ):
        kept = MinDuration(seconds=5.0)(bounded, prediction, [])
        assert kept.sample(noise()[:2]).tolist() == [2.0, 2.0]
    check_processor(MinDuration(seconds=5.0), fields=[bounded], roles={"duration"})


@given(
    strategies.logits(6, batch_size=3),
    strategies.masks(6, batch_size=3),
    strategies.masks(6, batch_size=3),
)
def test_allow_only_always_leaves_a_class(
    logits: Tensor, possible: Tensor, allowed: Tensor
) -> None:
    before = Categorical(logits).constrained(possible)
    after = allow_only(before, allowed)
    assert isinstance(after, Categorical)
    left = after.logits > -math.inf
    for sequence in range(3):
        both = possible[sequence] & allowed[sequence]
        wanted = both if bool(both.any()) else possible[sequence]
        assert torch.equal(left[sequence], wanted)


def test_invalid_settings_are_rejected() -> None:
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=r"temperature .* is not a number from.*greedy"):
            Temperature(temperature=temperature)
    for seconds in (-0.1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="is not a number from 0 to 3600"):
            MinDuration(seconds=seconds)


def test_raw_pitch_undoes_the_scaling_of_pitch_only() -> None:
    rows = torch.tensor([[60.0, 0.5, 1.5], [127.0, 0.0, 0.25]])
    raw = RawPitch()(rows, (PITCH, STEP, DURATION))
    assert raw.tolist() == [[60 * 128, 0.5, 1.5], [127 * 128, 0.0, 0.25]]
    assert rows[0, 0] == 60
    three = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    assert RawPitch()(three, CLASSES).tolist() == [[3.0 * 128, 2.0, 1.0, 0.0]]
