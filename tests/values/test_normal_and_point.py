"""Normal and PointEstimate: samples, ends, likelihoods that are accurate far out."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.fields import Field
from notelstm.predictions import Normal, PointEstimate
from notelstm.protocols import HasLikelihood

STEP = Field.continuous("step", "step", unit="s", low=0.0)
LAST = 1 - 2**-24


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def mass(prediction: Normal, low: float, high: float) -> float:
    return float(prediction.interval_prob(STEP, one(low), one(high)))


def test_samples_match_the_distribution() -> None:
    n = 200_000
    noise = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    sampled = Normal(torch.full((n,), 2.0), torch.full((n,), 0.5)).sample(noise)
    assert sampled.dtype == torch.float32
    assert sampled.mean() == pytest.approx(2.0, abs=0.005)
    assert sampled.std() == pytest.approx(0.5, abs=0.005)
    for z in (-2.0, -1.0, 0.0, 1.0, 2.0):
        below = float((sampled < 2 + 0.5 * z).double().mean())
        assert below == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=0.004)


def test_samples_beyond_an_end_are_clipped_to_it() -> None:
    n = 100_000
    noise = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    prediction = Normal(torch.zeros(n), torch.ones(n), low=torch.zeros(n), high=torch.ones(n))
    sampled = prediction.sample(noise)
    assert sampled.min() == 0
    assert sampled.max() == 1
    assert float((sampled == 0).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert float((sampled == 1).double().mean()) == pytest.approx(0.1587, abs=0.01)


def test_the_ends_of_the_noise_are_finite() -> None:
    sampled = Normal(torch.zeros(2), torch.ones(2)).sample(torch.tensor([[0.0, 0.0], [LAST, 0.0]]))
    assert torch.isfinite(sampled).all()
    assert sampled[0] < -5
    assert sampled[1] > 5


@given(
    st.floats(-3, 3),
    st.floats(0.05, 3),
    st.none() | st.floats(-1, 0),
    st.none() | st.floats(0.5, 2),
)
def test_cells_sum_to_1_by_brute_force(
    mean: float, sigma: float, low: float | None, high: float | None
) -> None:
    a, b = (None if end is None else one(end) for end in (low, high))
    prediction = Normal(one(mean), one(sigma), low=a, high=b)
    borders = [-math.inf, *[k / 20 - 5 for k in range(200)], math.inf]
    cells = [mass(prediction, left, right) for left, right in pairwise(borders)]
    assert min(cells) >= 0
    assert sum(cells) == pytest.approx(1, abs=1e-9)
    if low is not None:
        assert mass(prediction, -math.inf, low) == 0
    if high is not None:
        assert mass(prediction, high + 1e-9, math.inf) == 0


@given(st.floats(0, 4, width=32), st.floats(-1, 2), st.floats(0.05, 2))
@example(target=0.004999999888241291, mean=0.0, sigma=1.0)
def test_nll_is_minus_the_log_of_the_cell(target: float, mean: float, sigma: float) -> None:
    cell = 0.01
    prediction = Normal(one(mean), one(sigma), low=one(0.0), cell=cell)
    low = target - cell / 2
    wanted = mass(prediction, -math.inf if low <= 0 else low, target + cell / 2)
    nll = float(prediction.nll(one(target)))
    if wanted > 1e-12:  # below, a difference of distribution functions has no digits left
        assert nll == pytest.approx(-math.log(wanted), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("z", [0.0, 1.0, 5.0, 8.0, 20.0, 50.0, 1000.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_nll_is_accurate_far_out(z: float, side: int) -> None:
    sigma, cell = 0.2, 0.01
    nll = float(Normal(one(0.0), one(sigma), cell=cell).nll(one(side * z * sigma)))
    # Numerical integral of the density over the cell, relative to its value in the middle.
    x = torch.linspace(-0.5, 0.5, 20_001, dtype=torch.float64) * cell / sigma
    log_middle = -z * z / 2 - math.log(math.sqrt(2 * math.pi))
    weights = torch.exp(-z * x - x * x / 2)
    inside = float(torch.trapezoid(weights, x))
    assert nll == pytest.approx(-(log_middle + math.log(inside)), rel=1e-6)


@pytest.mark.parametrize("target", [0.0, 0.003, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("mean", [-30.0, -0.1, 0.0, 0.5, 30.0])
@pytest.mark.parametrize("high", [None, 3.0])
def test_gradients_are_right_to_the_far_tails(
    target: float, mean: float, high: float | None
) -> None:
    if high is not None and target > high:
        return
    top = None if high is None else one(high)

    def nll(m: Tensor, s: Tensor) -> Tensor:
        return Normal(m, s, low=one(0.0), high=top).nll(one(target))

    inputs = (one(mean).requires_grad_(), one(0.7).requires_grad_())
    torch.autograd.gradcheck(nll, inputs, eps=1e-6, atol=1e-4, rtol=1e-3)


def test_gradients_are_finite_in_float32_at_both_ends() -> None:
    target = torch.tensor([0.0, 0.0, 1.0, 0.5])
    mean = torch.tensor([-50.0, 50.0, -50.0, 0.5], requires_grad=True)
    sigma = torch.tensor([0.01, 0.01, 0.01, 100.0], requires_grad=True)
    ends = torch.zeros(4), torch.ones(4)
    torch.autograd.backward(Normal(mean, sigma, *ends).nll(target).sum())
    assert mean.grad is not None
    assert sigma.grad is not None
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(sigma.grad).all()


def test_a_whole_line_has_probability_1() -> None:
    point = Normal(one(0.3), one(1.0), low=one(0.5), high=one(0.5))
    assert float(point.nll(one(0.5))) == 0


def test_constraints_narrow_the_support_and_never_widen_it() -> None:
    prediction = Normal(one(0.0), one(1.0), low=one(-1.0), high=one(1.0))
    narrow = prediction.constrained((one(-0.5), one(5.0)))
    assert (narrow.low, narrow.high) == (one(-0.5), one(1.0))
    assert narrow.mode() == 0
    assert Normal(one(9.0), one(1.0)).constrained((one(0.0), one(2.0))).mode() == 2
    with pytest.raises(ShapeError, match="a mask of classes"):
        prediction.constrained(torch.tensor([True]))


def test_temperature_scales_sigma_by_the_root() -> None:
    with_temperature = Normal(one(1.0), one(0.5)).with_temperature(4.0)
    assert (float(with_temperature.mean), float(with_temperature.sigma)) == (1.0, 1.0)


def test_shapes_are_not_broadcast() -> None:
    prediction = Normal(torch.zeros(3), torch.ones(3))
    for wrong in (torch.zeros(3, 1), torch.zeros(1), torch.tensor(0.0)):
        with pytest.raises(ShapeError):
            prediction.nll(wrong)


@given(st.floats(-5, 5, width=32), st.floats(0, LAST, width=32))
def test_a_point_estimate_ignores_the_noise(value: float, noise: float) -> None:
    point = PointEstimate(torch.tensor([value]))
    assert point.sample(torch.tensor([[noise, noise]])) == value
    assert point.mode() == value
    assert point.with_temperature(3.0) is point
    cut = point.constrained((torch.tensor([-1.0]), torch.tensor([1.0])))
    assert cut.value == min(max(value, -1), 1)


def test_a_point_has_no_density() -> None:
    point = PointEstimate(torch.zeros(1))
    assert not isinstance(point, HasLikelihood)
    assert isinstance(Normal(torch.zeros(1), torch.ones(1)), HasLikelihood)
    with pytest.raises(ShapeError, match="mask of classes"):
        point.constrained(torch.tensor([True]))


def test_disjoint_intervals_are_rejected() -> None:
    with pytest.raises(ShapeError, match="interval is empty"):
        Normal(one(0.0), one(1.0)).constrained((one(0.0), one(1.0))).constrained(
            (one(2.0), one(3.0))
        )
    with pytest.raises(ShapeError, match="interval is empty"):
        PointEstimate(one(0.0)).constrained((one(2.0), one(1.0)))
