"""Categorical: samples match probabilities, masks hold, probabilities sum to 1."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.testing import strategies

C, B = 6, 4
LAST = 1 - 2**-24


def noise_at(*uniforms: float) -> Tensor:
    return torch.tensor([[u, 0.5] for u in uniforms])


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    """How far counts are from what is expected; its mean is the number of classes less 1."""
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_samples_match_the_probabilities(weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(C, generator=generator)
    weights = torch.rand(C, generator=generator) + 0.1
    n = 100_000
    noise = torch.rand(n, 2, generator=generator)
    prediction = Categorical(logits.expand(n, C), weights.expand(n, C))
    sampled = prediction.sample_weighted(noise) if weighted else prediction.sample(noise)
    wanted = weights / weights.sum() if weighted else logits.softmax(-1)
    # 5 degrees of freedom: above 25.7 once in 10,000 fair samples; the generator is fixed.
    assert chi_square(sampled.bincount(minlength=C).double(), wanted.double()) < 25.7


@given(strategies.logits(C, B), strategies.masks(C, B), strategies.uniforms(B))
def test_a_sample_is_allowed_and_possible(logits: Tensor, allowed: Tensor, noise: Tensor) -> None:
    prediction = Categorical(logits, logits.sigmoid()).constrained(allowed)
    for sampled in (prediction.sample(noise), prediction.sample_weighted(noise), prediction.mode()):
        assert sampled.shape == (B,)
        assert sampled.dtype == torch.int64
        assert allowed.gather(1, sampled[:, None]).all()
    chance = prediction.probabilities.gather(1, prediction.sample(noise)[:, None])
    assert (chance > 0).all()


@given(strategies.logits(C, B), strategies.uniforms(B))
def test_samples_use_the_first_uniform_of_their_own_sequence(logits: Tensor, noise: Tensor) -> None:
    sampled = Categorical(logits).sample(noise)
    other = noise.clone()
    other[:, 1] = 0
    assert torch.equal(sampled, Categorical(logits).sample(other))
    for i in range(B):
        assert Categorical(logits[i : i + 1]).sample(noise[i : i + 1]) == sampled[i]


@given(strategies.logits(C), st.floats(0, LAST, width=32), st.floats(0, LAST, width=32))
def test_a_sample_is_the_inverse_distribution_function(logits: Tensor, a: float, b: float) -> None:
    low, high = Categorical(logits.expand(2, C)).sample(noise_at(min(a, b), max(a, b)))
    assert low <= high


def test_the_ends_of_the_noise() -> None:
    logits = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf], [0.0, -90.0, -math.inf, -math.inf]])
    assert Categorical(logits).sample(noise_at(0, 0)).tolist() == [1, 0]
    assert Categorical(logits).sample(noise_at(LAST, LAST)).tolist() == [2, 0]
    # A float64 uniform just below 1 becomes 1 when it is rounded to float32.
    assert Categorical(logits).sample(noise_at(1, 1)).tolist() == [2, 0]


def test_weights_decide_the_weighted_sample_alone() -> None:
    prediction = Categorical(torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert prediction.sample(noise_at(0.5)).item() == 0
    assert prediction.sample_weighted(noise_at(0.5)).item() == 1
    assert prediction.sample_weighted(noise_at(0.0)).item() == 1
    assert Categorical(prediction.logits).sample_weighted(noise_at(0.5)).item() == 0


def test_weights_that_are_all_0_leave_the_sample_to_the_softmax() -> None:
    prediction = Categorical(torch.tensor([[0.0, 5.0, 9.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    allowed = torch.tensor([[True, True, False]])
    assert prediction.constrained(allowed).sample_weighted(noise_at(0.5)).item() == 1


@pytest.mark.parametrize(
    ("added", "wanted"),
    [
        ([0.0, 200.0, 0.0], [0.0, 1.0, 0.0]),
        ([0.0, 0.0, 200.0], [0.25, 0.75, 0.0]),
        ([-200.0, -200.0, -200.0], [0.25, 0.75, 0.0]),
        ([-math.inf, -200.0, 0.0], [0.0, 1.0, 0.0]),
        ([math.log(3), 0.0, 0.0], [0.5, 0.5, 0.0]),
    ],
)
def test_added_log_weights_scale_the_weights(added: list[float], wanted: list[float]) -> None:
    """Large ones neither give a class of weight 0 a weight nor leave all weights 0."""
    prediction = Categorical(torch.zeros(1, 3), torch.tensor([[0.25, 0.75, 0.0]]))
    weights = prediction.add_log_weights(torch.tensor([added])).weights
    assert weights is not None
    torch.testing.assert_close(weights / weights.sum(), torch.tensor([wanted]))


@given(strategies.logits(C, B), st.floats(1e-3, 1e3))
def test_with_temperature(logits: Tensor, temperature: float) -> None:
    prediction = Categorical(logits, logits.sigmoid())
    with_temperature = prediction.with_temperature(temperature)
    assert torch.allclose(
        with_temperature.probabilities, (logits / temperature).softmax(-1), atol=1e-6
    )
    assert with_temperature.weights is not None
    assert prediction.weights is not None
    assert torch.equal(with_temperature.mode(), prediction.mode())
    assert (with_temperature.weights.amax(-1) > 0).all()
    # Tempered twice is with_temperature by the product.
    twice = Categorical(logits).with_temperature(2.0).with_temperature(3.0)
    assert torch.allclose(
        twice.probabilities, Categorical(logits).with_temperature(6.0).probabilities, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [1e-45, 1e-320, 1e30])
def test_no_temperature_is_too_low(temperature: float) -> None:
    logits = torch.tensor([[-3.0, 2.0, 1.9, -math.inf]])
    with_temperature = Categorical(logits, logits.exp()).with_temperature(temperature)
    assert torch.isfinite(with_temperature.probabilities).all()
    if temperature < 1:
        assert with_temperature.sample(noise_at(LAST)).item() == 1
        assert with_temperature.sample_weighted(noise_at(LAST)).item() == 1
    assert with_temperature.probabilities[0, 3] == 0


def test_masks_without_a_common_class_are_rejected() -> None:
    first = Categorical(torch.zeros(1, 3)).constrained(torch.tensor([[True, True, False]]))
    assert first.constrained(torch.tensor([[False, True, True]])).sample(noise_at(0.0)).item() == 1
    with pytest.raises(ShapeError, match=r"no possible class.*allow_only"):
        first.constrained(torch.tensor([[False, False, True]]))


def test_weights_with_temperature_are_powers() -> None:
    weights = torch.tensor([[0.2, 0.4, 0.8]])
    with_temperature = Categorical(weights.log(), weights).with_temperature(0.5).weights
    assert with_temperature is not None
    assert torch.allclose(
        with_temperature / with_temperature.sum(), weights**2 / (weights**2).sum()
    )


@given(strategies.logits(C, B))
def test_nll_is_minus_the_log_of_the_probability(logits: Tensor) -> None:
    prediction = Categorical(logits)
    nll = torch.stack([prediction.nll(torch.full((B,), c)) for c in range(C)], dim=-1)
    assert torch.allclose(nll, -logits.log_softmax(-1), atol=1e-5)
    assert torch.allclose((-nll).exp().sum(-1), torch.ones(B), atol=1e-5)


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("leading", [(B,), (2, 3)])
def test_gradients_are_right(spread: float, leading: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(*leading, C, generator=generator, dtype=torch.float64)
    target = torch.randint(C, leading, generator=generator)
    torch.autograd.gradcheck(lambda x: Categorical(x).nll(target), (logits.requires_grad_(),))


def test_nll_has_any_leading_shape_and_no_other() -> None:
    logits = torch.randn(2, 3, C, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[0, 1, 2], [3, 4, 5]])
    flat = Categorical(logits.flatten(0, 1)).nll(target.flatten())
    assert torch.equal(Categorical(logits).nll(target).flatten(), flat)
    for wrong in (target[0], target[:, :1], target.unsqueeze(-1), torch.tensor(0)):
        with pytest.raises(ShapeError, match="the target has shape"):
            Categorical(logits).nll(wrong)


def test_masks_of_the_wrong_kind_are_rejected() -> None:
    prediction = Categorical(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="cannot constrain a categorical"):
        prediction.constrained((torch.zeros(2), torch.ones(2)))
    with pytest.raises(ShapeError, match="leaves no possible class"):
        prediction.constrained(torch.tensor([[True, True, True], [False, False, False]]))


WIDE = Field.categorical(
    "step", "step", values=(0, 0.05, 0.5, 3), edges=(-0.005, 0.005, 0.1, 1.0, 6.0), unit="s"
)


@given(strategies.logits(4, 2))
def test_cells_sum_to_1_by_brute_force(logits: Tensor) -> None:
    borders = [-math.inf, *torch.arange(-0.005, 6.01, 0.01, dtype=torch.float64).tolist(), math.inf]
    at = torch.tensor(borders, dtype=torch.float64).expand(2, -1).T
    prediction = Categorical(logits)
    cells = torch.stack([prediction.interval_prob(WIDE, a, b) for a, b in pairwise(at)])
    assert (cells >= 0).all()
    assert torch.allclose(cells.sum(0), torch.ones(2, dtype=torch.float64), atol=1e-9)


@given(strategies.logits(4))
def test_a_class_has_its_probability_spread_evenly(logits: Tensor) -> None:
    prediction = Categorical(logits)
    p = logits.double().softmax(-1)[0]

    def mass(low: float, high: float) -> float:
        ends = torch.tensor([[low], [high]], dtype=torch.float64)
        return float(prediction.interval_prob(WIDE, ends[0], ends[1]))

    for c, (a, b) in enumerate(pairwise(WIDE.edges)):
        assert mass(a, b) == pytest.approx(float(p[c]), abs=1e-9)
        middle = (a + b) / 2
        assert mass(a, middle) == pytest.approx(float(p[c]) / 2, abs=1e-9)
    # The outer classes take the tails.
    assert mass(-math.inf, WIDE.edges[1]) == pytest.approx(float(p[0]), abs=1e-9)
    assert mass(WIDE.edges[3], math.inf) == pytest.approx(float(p[3]), abs=1e-9)
    assert mass(-5.0, -4.0) == 0
    assert mass(7.0, 8.0) == pytest.approx(0, abs=1e-9)
    assert mass(7.0, math.inf) == pytest.approx(0, abs=1e-9)


def test_classes_without_edges_have_no_width() -> None:
    field = Field.categorical("pitch", "pitch", values=(60, 61))
    with pytest.raises(FieldError, match="no edges"):
        Categorical(torch.zeros(1, 2)).interval_prob(field, torch.zeros(1), torch.ones(1))
