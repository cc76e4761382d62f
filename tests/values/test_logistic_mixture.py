"""LogisticMixture: its atom, its ends, its cells, its samples, and gradients far out."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.fields import Field
from notelstm.predictions import LogisticMixture
from notelstm.protocols import HasLikelihood

STEP = Field.continuous("step", "step", unit="s", low=0.0)
LAST = 1 - 2**-24


def some(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def example(**options: Any) -> LogisticMixture:
    """An atom of a quarter, half around 0.1 s and a quarter around 1 s."""
    logits = some([1.0, 2.0, 1.0]).log()
    return LogisticMixture(
        logits, some([math.log(0.11), math.log(1.01)]), some([0.4, 0.2]), **options
    )


def prob(prediction: LogisticMixture, low: float, high: float) -> float:
    return float(prediction.interval_prob(STEP, one(low), one(high)))


numbers = st.floats(-6, 3)
mixtures = st.builds(
    lambda logits, means, spreads, **ends: LogisticMixture(
        some(logits), some(means), some(spreads), **ends
    ),
    st.lists(st.floats(-30, 5), min_size=4, max_size=4),
    st.lists(numbers, min_size=3, max_size=3),
    st.lists(st.floats(1e-3, 5), min_size=3, max_size=3),
    origin=st.sampled_from([0.0, -1.0]),
    low=st.none() | st.floats(0, 0.5).map(one),
    high=st.none() | st.floats(0.5, 30).map(one),
)


def test_it_has_a_likelihood() -> None:
    assert isinstance(example(), HasLikelihood)


@given(mixtures)
def test_cells_sum_to_1_by_brute_force(prediction: LogisticMixture) -> None:
    borders = [-math.inf, *[k / 20 - 2 for k in range(1000)], math.inf]
    cells = [prob(prediction, left, right) for left, right in pairwise(borders)]
    assert min(cells) >= 0
    assert sum(cells) == pytest.approx(1, abs=1e-9)
    low = prediction.origin if prediction.low is None else float(prediction.low)
    assert prob(prediction, -math.inf, low) == 0
    if prediction.high is not None:
        assert prob(prediction, float(prediction.high) + 1e-9, math.inf) == 0


@given(mixtures)
def test_the_cells_that_are_trained_sum_to_1(prediction: LogisticMixture) -> None:
    """Every tenth of a second: the atom and what is below the first border, up to the last."""
    low = prediction.origin if prediction.low is None else float(prediction.low)
    wide = LogisticMixture(
        prediction.logits,
        prediction.mean,
        prediction.scale,
        prediction.origin,
        one(low),
        one(low + 1.0),
        cell=0.1,
    )
    targets = [low + 0.1 * k for k in range(11)]
    total = sum(math.exp(-float(wide.nll(one(target)))) for target in targets)
    assert total == pytest.approx(1, abs=1e-6)


@given(mixtures, st.floats(0, 30))
def test_nll_is_minus_the_log_of_the_cell(prediction: LogisticMixture, target: float) -> None:
    low = prediction.origin if prediction.low is None else float(prediction.low)
    high = math.inf if prediction.high is None else float(prediction.high)
    a, b = target - 0.005, target + 0.005
    wanted = prob(prediction, -math.inf if a < low else a, math.inf if b > high else b)
    if wanted > 1e-10:  # below, a difference of distribution functions has few digits left
        nll = float(prediction.nll(one(target)))
        assert nll == pytest.approx(-math.log(wanted), rel=1e-4, abs=1e-6)


def test_samples_match_the_distribution() -> None:
    n = 200_000
    noise = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    alone = example(high=one(2.0))
    sampled = LogisticMixture(
        alone.logits.float().expand(n, 3),
        alone.mean.float().expand(n, 2),
        alone.scale.float().expand(n, 2),
        high=torch.full((n,), 2.0),
    ).sample(noise)
    assert sampled.dtype == torch.float32
    # The atom, and what the first component has below it.
    chords = float((sampled == 0).double().mean())
    assert chords == pytest.approx(0.25 + 0.5 / (1 + 11**2.5), abs=0.003)
    assert float((sampled == 2).double().mean()) == pytest.approx(prob(alone, 2.0, 3.0), abs=0.001)
    for x in (0.01, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0, 1.2, 1.9):
        below = float((sampled < x).double().mean())
        assert below == pytest.approx(prob(alone, -math.inf, x), abs=0.004), x


@given(mixtures)
def test_the_ends_of_the_noise_are_finite_and_allowed(prediction: LogisticMixture) -> None:
    for first in (0.0, 0.5, LAST):
        for second in (0.0, 1e-300, LAST, 1 - 2**-53):
            sampled = prediction.sample(torch.tensor([[first, second]], dtype=torch.float64))
            assert bool(torch.isfinite(sampled))
            assert float(sampled) >= prediction.origin
            if prediction.low is not None:
                assert sampled >= prediction.low
            if prediction.high is not None:
                assert sampled <= prediction.high


@pytest.mark.parametrize(
    ("weights", "mode"), [([9.0, 1, 1], 0.0), ([0.01, 9, 1], 0.1), ([0.01, 1, 90], 1.0)]
)
def test_the_mode_is_the_likeliest_cell(weights: list[float], mode: float) -> None:
    base = example()
    prediction = LogisticMixture(some(weights).log(), base.mean, base.scale / 10)
    assert float(prediction.mode()) == pytest.approx(mode, abs=1e-9)
    grid = torch.arange(300, dtype=torch.float64) / 100
    best = min(float(prediction.nll(one(float(x)))) for x in grid)
    assert float(prediction.nll(prediction.mode())) == pytest.approx(best, abs=0.01)


def test_constraints_narrow_the_support_and_never_widen_it() -> None:
    prediction = example(high=one(1.0))
    narrow = prediction.constrained((one(0.05), one(5.0)))
    assert (narrow.low, narrow.high) == (one(0.05), one(1.0))
    assert prediction.constrained((one(-math.inf), one(math.inf))).low == one(0.0)
    assert prob(narrow, -math.inf, 0.06) > 0.25
    noise = torch.tensor([[0.0, 0.5]])
    assert float(narrow.sample(noise)) == 0.05
    only = narrow.constrained((one(0.3), one(0.3)))
    assert float(only.mode()) == 0.3
    assert float(only.nll(one(0.3))) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ShapeError, match="a mask of classes"):
        prediction.constrained(torch.tensor([True]))
    with pytest.raises(ShapeError, match="interval is empty"):
        prediction.constrained((one(0.4), one(0.3)))


def test_temperature_sharpens_weights_and_tails() -> None:
    sharp = example().with_temperature(0.5)
    assert sharp.logits.softmax(-1)[0].tolist() == pytest.approx([1 / 6, 4 / 6, 1 / 6])
    assert sharp.scale[0].tolist() == pytest.approx([0.2, 0.1])
    noise = torch.rand(1, 2, generator=torch.Generator().manual_seed(0))
    cold = example().with_temperature(1e-6)
    assert float(cold.sample(noise)) == pytest.approx(0.1, abs=1e-4)


TARGETS = (0.0, 0.003, 0.02, 0.5, 3.0, 30.0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mean", [-12.0, -4.0, 0.0, 3.0, 12.0])
@pytest.mark.parametrize(
    ("origin", "low", "high"), [(0.0, None, None), (0.0, None, one(3.0)), (-1.0, one(0.02), None)]
)
def test_gradients_are_right_to_the_far_tails(
    target: float, mean: float, origin: float, low: Tensor | None, high: Tensor | None
) -> None:
    def nll(logits: Tensor, m: Tensor, s: Tensor) -> Tensor:
        return LogisticMixture(logits, m, s, origin, low, high).nll(one(target))

    inputs = tuple(
        x.requires_grad_() for x in (some([0.5, -1, 1]), some([mean, 0.5]), some([0.3, 0.7]))
    )
    torch.autograd.gradcheck(nll, inputs, eps=1e-6, atol=1e-4, rtol=1e-3)


def test_extremes_are_finite_in_float32() -> None:
    size = len(TARGETS)
    for level in (-1e4, -50.0, 0.0, 50.0, 1e4):
        for width in (1e-3, 1.0, 1e9, 1e38):
            parts = [
                torch.full((size, 3), level).index_fill(1, torch.tensor([1]), 0.0),
                torch.full((size, 2), level),
                torch.full((size, 2), width),
            ]
            for part in parts:
                part.requires_grad_()
            logits, mean, scale = parts
            nll = LogisticMixture(logits, mean, scale).nll(torch.tensor(TARGETS))
            torch.autograd.backward(nll.sum())
            assert bool(torch.isfinite(nll).all()), (level, width)
            for part in parts:
                assert part.grad is not None
                assert bool(torch.isfinite(part.grad).all()), (level, width)


def test_late_cells_are_as_exact_in_float32() -> None:
    """A cell at 30 s is 0.0003 wide on the logarithmic offset."""
    wide = LogisticMixture(some([-50.0, 0.0]), some([3.4]), some([0.1]))
    narrow = LogisticMixture(wide.logits.float(), wide.mean.float(), wide.scale.float())
    assert float(narrow.nll(torch.tensor([30.0]))) == pytest.approx(
        float(wide.nll(one(30.0))), abs=1e-4
    )


def test_it_finds_chords_and_a_pulse() -> None:
    """Trained on half chords and half steps around a quarter of a second, it predicts both."""
    generator = torch.Generator().manual_seed(0)
    steps = 0.25 * torch.exp(0.1 * torch.randn(512, generator=generator))
    steps[::2] = 0
    parts = [torch.zeros(1, 4), torch.linspace(-3, 1, 3)[None], torch.zeros(1, 3)]
    for part in parts:
        part.requires_grad_()
    optimizer = torch.optim.Adam(parts, lr=0.05)

    def fitted() -> LogisticMixture:
        logits, mean, scale = (part.expand(len(steps), -1) for part in parts)
        return LogisticMixture(logits, mean, torch.exp(scale))

    for _ in range(300):
        optimizer.zero_grad()
        torch.autograd.backward(fitted().nll(steps).mean())
        optimizer.step()
    with torch.no_grad():
        atom = fitted().logits.softmax(-1)[0, 0]
        sampled = fitted().sample(torch.rand(512, 2, generator=generator))
    assert float(atom) == pytest.approx(0.5, abs=0.01)
    assert float((sampled == 0).float().mean()) == pytest.approx(0.5, abs=0.07)
    assert float(sampled[sampled > 0].median()) == pytest.approx(0.25, abs=0.02)


def test_shapes_are_not_broadcast() -> None:
    prediction = LogisticMixture(torch.zeros(3, 3), torch.zeros(3, 2), torch.ones(3, 2))
    for wrong in (torch.zeros(3, 1), torch.zeros(1), torch.tensor(0.0)):
        with pytest.raises(ShapeError):
            prediction.nll(wrong)
