"""Loss terms by hand, and their sum."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, FieldError, ShapeError
from notelstm.losses import AllPairs, CompositeLoss, Likelihood, PositivePressure
from notelstm.predictions import Categorical, Normal, PointEstimate
from notelstm.protocols import LossTerm, Prediction

VALUES = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8)


@given(VALUES, st.floats(0, 20), st.data())
def test_squared_errors_with_pressure(value: list[float], pressure: float, data: Any) -> None:
    target = data.draw(
        st.lists(st.floats(-3, 3, width=32), min_size=len(value), max_size=len(value))
    )
    p, y = np.array(value), np.array(target)
    push = pressure * np.maximum(-p, 0)
    arguments = PointEstimate(torch.tensor(value)), torch.tensor(target)
    paired = PositivePressure(pressure=pressure)(*arguments)
    assert paired.shape == ()
    assert float(paired) == pytest.approx(((y - p) ** 2 + push).mean(), rel=1e-4, abs=1e-5)
    # The original's (N, 1) predictions against (N,) labels.
    printed = ((y - p[:, None]) ** 2 + push[:, None]).mean()
    every = AllPairs(pressure=pressure)(*arguments)
    assert float(every) == pytest.approx(printed, rel=1e-4, abs=1e-5)


def test_all_pairs_train_towards_the_mean() -> None:
    target = torch.tensor([0.0, 1.0, 5.0])
    for term, best in ((AllPairs(), [2.0, 2.0, 2.0]), (PositivePressure(), [0.0, 1.0, 5.0])):
        value = torch.tensor([3.0, 3.0, 3.0], requires_grad=True)
        optimizer = torch.optim.SGD([value], lr=0.3)
        for _ in range(200):
            optimizer.zero_grad()
            torch.autograd.backward(term(PointEstimate(value), target))
            optimizer.step()
        torch.testing.assert_close(value.detach(), torch.tensor(best), atol=1e-3, rtol=0)


def test_negative_values_are_pushed_up_however_small_the_error() -> None:
    value = torch.tensor([-1e-3], requires_grad=True)
    torch.autograd.backward(PositivePressure()(PointEstimate(value), torch.tensor([-1e-3])))
    assert value.grad is not None
    assert float(value.grad) == pytest.approx(-10)
    assert float(PositivePressure(pressure=0.0)(PointEstimate(value), value.detach()).detach()) == 0


@pytest.mark.parametrize("term", [PositivePressure(), AllPairs()], ids=str)
def test_gradients_of_points_are_right(term: LossTerm) -> None:
    value = torch.tensor([-2.0, -0.1, 0.2, 4.0], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.0, 1.0, 0.5, 9.0], dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: term(PointEstimate(x), target), (value,))


def test_likelihood_is_the_mean_nll() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator)
    target = torch.tensor([0, 3, 2, 2, 1])
    by_hand = -sum(float(logits[i].log_softmax(-1)[c]) for i, c in enumerate(target)) / 5
    for classes in (target, target.float()):
        got = Likelihood()(Categorical(logits), classes)
        assert float(got) == pytest.approx(by_hand, rel=1e-6)
    normal = Normal(torch.zeros(3), torch.ones(3))
    values = torch.tensor([0.0, 1.0, -2.0])
    assert float(Likelihood()(normal, values)) == pytest.approx(float(normal.nll(values).mean()))


SHAPES = [((3,), (4,)), ((3, 1), (3,)), ((3,), (3, 1)), ((1,), (3,)), ((3,), ()), ((3,), (1,))]


@pytest.mark.parametrize(("predicted", "target"), SHAPES)
@pytest.mark.parametrize("term", [PositivePressure(), AllPairs(), Likelihood()], ids=str)
def test_nothing_is_broadcast(term: LossTerm, predicted: Any, target: Any) -> None:
    prediction: Prediction = PointEstimate(torch.zeros(predicted))
    if isinstance(term, Likelihood):
        prediction = Categorical(torch.zeros(*predicted, 4))
        with pytest.raises(ShapeError):
            term(Normal(torch.zeros(predicted), torch.ones(predicted)), torch.zeros(target))
    with pytest.raises(ShapeError, match=r"shape"):
        term(prediction, torch.zeros(target))


def test_terms_reject_predictions_they_do_not_support() -> None:
    one = torch.zeros(1)
    with pytest.raises(FieldError, match=r"PointEstimate has no likelihood.*PositivePressure"):
        Likelihood()(PointEstimate(one), one)
    for term in (PositivePressure(), AllPairs()):
        with pytest.raises(FieldError, match=r"not a Categorical.*Likelihood"):
            term(Categorical(torch.zeros(1, 3)), one)


def half(prediction: Prediction, target: Tensor) -> Tensor:
    return torch.tensor(0.5)


def third(prediction: Prediction, target: Tensor) -> Tensor:
    return torch.tensor(1 / 3)


def test_a_composite_is_the_weighted_sum_of_its_terms() -> None:
    loss = CompositeLoss(terms={"a": (half, 4.0), "b": (third, 0.3), "c": (half, 0.0)})
    nothing = {name: PointEstimate(torch.zeros(1)) for name in "abc"}
    losses = loss(nothing, {name: torch.zeros(1) for name in "abc"})
    assert float(losses.total) == pytest.approx(2.1)
    assert {name: float(value) for name, value in losses.terms.items()} == pytest.approx(
        {"a": 0.5, "b": 1 / 3, "c": 0.5}
    )
    assert loss.weights == {"a": 4.0, "b": 0.3, "c": 0.0}


def test_a_loss_for_fields() -> None:
    fields = StepDurationEncoder().fields
    loss = CompositeLoss.for_fields(fields, continuous=PositivePressure(pressure=3.0))
    assert loss.terms == {
        "pitch": (Likelihood(), 1.0),
        "step": (PositivePressure(pressure=3.0), 1.0),
        "duration": (PositivePressure(pressure=3.0), 1.0),
    }
    plain = CompositeLoss.for_fields(LogTimeEncoder().fields)
    assert set(plain.terms) == {"pitch", "step", "duration", "velocity"}
    assert all(entry == (Likelihood(), 1.0) for entry in plain.terms.values())


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4),
    st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
)
def test_balanced_terms_have_equal_weight(measured: list[float], weights: list[float]) -> None:
    names = "abcd"[: len(measured)]
    terms: dict[str, tuple[LossTerm, float]] = {
        name: (half, weight) for name, weight in zip(names, weights, strict=False)
    }
    values = dict(zip(names, measured, strict=True))
    loss = CompositeLoss(terms=terms).balanced(values)
    weighted = [loss.weights[name] * values[name] for name in names]
    assert weighted == pytest.approx([weighted[0]] * len(weighted))
    assert sum(loss.weights.values()) == pytest.approx(sum(weights[: len(measured)]))
    assert [term for term, _ in loss.terms.values()] == [half] * len(names)


def test_unbalanceable_terms_are_rejected() -> None:
    loss = CompositeLoss(terms={"a": (half, 1.0), "b": (half, 1.0)})
    for values in ({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": math.nan}):
        with pytest.raises(ConfigError, match=r"not a finite number above 0 \(field 'b'\)"):
            loss.balanced(values)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="no terms"):
        CompositeLoss(terms={})
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"weight .* is negative .*'a'"):
            CompositeLoss(terms={"a": (half, weight)})
    for kind in (True, "1", None):
        with pytest.raises(ConfigError, match=f"the weight {kind!r} is not a number"):
            CompositeLoss(terms={"a": (half, cast(float, kind))})
    for pair in (half, Likelihood(), (half,), ("half", 1.0), "ab", 1.0):
        with pytest.raises(ConfigError, match=r"is not a term and its weight .*'a'"):
            CompositeLoss(terms={"a": cast(Any, pair)})


@pytest.mark.parametrize("term", [PositivePressure, AllPairs])
@pytest.mark.parametrize("pressure", [-1.0, math.nan, math.inf, True, "1"])
def test_a_pressure_is_checked(term: Any, pressure: object) -> None:
    with pytest.raises(ConfigError, match="is not a finite number of at least 0"):
        term(pressure=pressure)
