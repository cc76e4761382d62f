"""The compiled step draws what the lean step's predictions draw, and goes where it goes."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from notelstm.encoders import StepDurationEncoder
from notelstm.errors import MissingExtraError
from notelstm.fields import Field
from notelstm.generation.steps import Place, spread
from notelstm.models import ThreeHeadLSTM
from notelstm.models.lean_three_head import LeanThreeHead
from notelstm.protocols import CompilableStep, CompiledStep, Precision, Rule
from notelstm.sampling import Ancestral, Greedy, Weighted

RULES: dict[Rule, Any] = {
    "ancestral": Ancestral(),
    "greedy": Greedy(),
    "weighted": Weighted(),
}
PITCH, STEP, DURATION = StepDurationEncoder().fields
BOUNDED = Field.continuous("duration", "duration", unit="s", low=0.1, high=0.3)
ENDS = {"step": STEP.interval, "duration": BOUNDED.interval}
SETTINGS = list(
    itertools.product(
        (False, True), (False, True), [(PITCH, STEP, DURATION), (BOUNDED, PITCH, STEP)]
    )
)


def three_head(
    *,
    sigmoid: bool,
    point_times: bool,
    fields: tuple[Field, ...],
    hidden: int = 9,
    std: float = 0.5,
) -> ThreeHeadLSTM:
    model = ThreeHeadLSTM(fields=fields, hidden=hidden, sigmoid=sigmoid, point_times=point_times)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.eval()


def lean_of(model: ThreeHeadLSTM) -> LeanThreeHead:
    step = model.lean()
    assert step is not None
    return step


def compiled(
    step: LeanThreeHead, rule: Rule, lanes: int, precision: Precision = "float32"
) -> CompiledStep:
    assert isinstance(step, CompilableStep)
    made = step.compiled(rule, ENDS, lanes, precision)
    assert made is not None
    return made


def drawn(model: ThreeHeadLSTM, step: LeanThreeHead, rule: Rule, context: Any, noise: Any) -> Any:
    """(B, 3) rows that the sampler draws from what the lean step predicts."""
    rows = np.empty(noise.shape[:2], dtype=np.float32)
    for i, field in enumerate(model.fields):
        said = step.predict(field.name, context, {})
        if not field.is_categorical:
            ends = np.repeat(np.array([ENDS[field.name]], dtype=np.float32), len(rows), axis=0)
            said = said.masked((torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1])))
        rows[:, i] = RULES[rule](field, said, torch.from_numpy(noise[:, i]), ()).numpy()
    return rows


def assert_near(place: Place, other: Place, within: float) -> None:
    for a, b in [(place.context[0], other.context[0]), *zip(place.state, other.state, strict=True)]:
        np.testing.assert_allclose(a, b, rtol=0, atol=within)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("sigmoid", "point_times", "fields"), SETTINGS)
def test_rows_and_states_are_those_of_the_lean_step(
    rule: Rule, sigmoid: bool, point_times: bool, fields: tuple[Field, ...]
) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for lanes, hidden in ((1, 1), (1, 30), (3, 9), (70, 17)):
        model = three_head(sigmoid=sigmoid, point_times=point_times, fields=fields, hidden=hidden)
        step = lean_of(model)
        made = compiled(step, rule, lanes)
        place = spread(Place(*step.start()), lanes)
        for _ in range(12):
            noise = rng.random((lanes, 3, 2))
            rows, *after = made(*place, noise)
            np.testing.assert_allclose(
                rows, drawn(model, step, rule, place.context, noise), rtol=1e-5, atol=1e-5
            )
            context, state = step.step(rows, place.state)
            place = Place(*after)
            assert_near(place, Place(context, state), 1e-5)


def test_a_place_of_the_lean_step_will_do_and_none_is_changed() -> None:
    torch.manual_seed(1)
    model = three_head(sigmoid=True, point_times=True, fields=(PITCH, STEP, DURATION))
    step = lean_of(model)
    made, other = compiled(step, "weighted", 2), compiled(step, "weighted", 2)
    noise = np.random.default_rng(1).random((8, 2, 3, 2))
    place = spread(Place(*step.start()), 2)
    places = [place]
    for i in range(8):
        _, context, state = made(*places[-1], noise[i])
        places.append(Place(context, state))
    copies = [[leaf.copy() for leaf in (at.context[0], *at.state)] for at in places]
    # From any place on, in any order, by another step that has seen nothing.
    for i in (5, 2, 7, 0, 6):
        rows, context, state = other(*places[i], noise[i])
        assert_near(Place(context, state), places[i + 1], 1e-6)
        lean = step.step(rows, places[i].state)
        again, context, state = made(*lean, noise[i])
        np.testing.assert_array_equal(again, other(*lean, noise[i])[0])
    for at, copied in zip(places, copies, strict=True):
        for now, before in zip((at.context[0], *at.state), copied, strict=True):
            np.testing.assert_array_equal(now, before, "what was given out was changed")


def test_bytes_are_near() -> None:
    """What the heads say in bytes: near, the first row exact, whatever is trained to begin with."""
    torch.manual_seed(2)
    model = three_head(
        sigmoid=True, point_times=True, fields=(PITCH, STEP, DURATION), hidden=128, std=0.1
    )
    nn.init.normal_(model.begin, std=5)
    step = lean_of(model)
    near, exact = compiled(step, "weighted", 64, "int8"), compiled(step, "weighted", 64)
    noise = np.random.default_rng(2).random((64, 64, 3, 2))
    place = spread(Place(*step.start()), 64)
    first, want = near(*place, noise[0])[0], exact(*place, noise[0])[0]
    np.testing.assert_allclose(first, want, atol=1e-5)
    worst = 0.0
    for i in range(64):
        rows, context, state = near(*place, noise[i])
        lean = step.step(rows, place.state)
        worst = max(worst, float(np.abs(context.hidden - lean[0].hidden).max()))
        place = Place(context, state)
    assert 0 < worst < 0.02


@settings(max_examples=300, deadline=None)
@given(
    weights=st.lists(
        st.sampled_from([0.0, 0.0, 1e-30, 0.25, 1.0]) | st.floats(0, 1, width=32),
        min_size=1,
        max_size=70,
    ),
    noise=st.sampled_from([0.0, 0.5, float(np.nextafter(1, 0))])
    | st.floats(0, 1, exclude_max=True),
)
def test_a_class_is_drawn_by_the_sums_of_weights(weights: list[float], noise: float) -> None:
    from notelstm.models.kernels import _chosen

    column = np.array(weights, dtype=np.float32)
    sums = np.empty(len(column) // 16)
    got = _chosen(column, sums, noise)
    cdf = np.cumsum(column.astype(np.float64))
    if not cdf[-1] > 0:
        assert got == -1
        return
    assert column[got] > 0
    # Sums in another order may differ in the last digit.
    close = 1e-12 * cdf[-1]
    assert cdf[got] > noise * cdf[-1] - close
    assert cdf[got] - column[got] <= noise * cdf[-1] + close


def test_functions_are_those_of_mathematics() -> None:
    from notelstm.models.kernels import _exp, _tanh

    for x in [*np.linspace(-30, 30, 2001), 0.0, 1e-20, -1e-20, 1e30, -1e30]:
        got = _tanh(np.float32(x))
        assert abs(got - math.tanh(np.float32(x))) < 4e-7, x
        assert -1 <= got <= 1, x  # so that no weight is below 0
    for x in [*np.linspace(-79, 0, 2001), -1e-20]:
        want = math.exp(np.float32(x))
        assert abs(_exp(np.float32(x)) - want) < 4e-7 * want, x
    assert 0 < _exp(np.float32(-1e30)) < 2e-35


def test_two_layers_are_not_compiled() -> None:
    model = ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden=4, layers=2)
    assert lean_of(model).compiled("weighted", ENDS, 1, "float32") is None


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "notelstm.models.kernels", raising=False)
    monkeypatch.delattr("notelstm.models.kernels", raising=False)
    step = lean_of(ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden=4))
    with pytest.raises(MissingExtraError, match=r"pip install 'notelstm\[compiled\]'"):
        step.compiled("weighted", ENDS, 1, "float32")


def test_where_machine_code_cannot_be_kept_it_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numba

    from notelstm.models import kernels

    asked: list[bool] = []

    def njit(cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels._compiled()(lambda x: x + 1)(1) == 2
    assert asked == [True, False]
