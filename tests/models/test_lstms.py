"""Properties of each LSTM model beyond the contract checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.models.lstm import Hidden
from notelstm.predictions import Categorical, LogisticMixture, Normal, PointEstimate
from notelstm.testing.makers import random_rows

FIELDS = StepDurationEncoder().fields
CLASSES = LogTimeEncoder().fields


def rows(fields: Any, *shape: int) -> Tensor:
    return torch.from_numpy(random_rows(fields, shape, np.random.default_rng(0)))


def test_parameters_have_the_names_and_shapes_of_the_original() -> None:
    model = ThreeHeadLSTM(fields=FIELDS)
    assert {name: tuple(p.shape) for name, p in model.state_dict().items()} == {
        "initial_context": (128,),
        "lstm.weight_ih_l0": (512, 3),
        "lstm.weight_hh_l0": (512, 128),
        "lstm.bias_ih_l0": (512,),
        "lstm.bias_hh_l0": (512,),
        "pitch_linear.weight": (128, 128),
        "pitch_linear.bias": (128,),
        "step_linear.weight": (1, 128),
        "step_linear.bias": (1,),
        "duration_linear.weight": (1, 128),
        "duration_linear.bias": (1,),
    }


def test_class_ids_are_scaled_and_numbers_are_not() -> None:
    torch.manual_seed(0)
    model = ThreeHeadLSTM(fields=FIELDS, hidden_size=4)
    some = rows(FIELDS, 2, 5)
    context, _ = model(some, model.initial_state(2)[1])
    scaled = some.clone()
    scaled[..., 0] /= 128
    torch.testing.assert_close(context.hidden, model.lstm(scaled)[0])


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("point_estimates", [True, False])
def test_settings_switch_each_fault_of_the_original(
    num_layers: int, sigmoid: bool, point_estimates: bool
) -> None:
    torch.manual_seed(0)
    model = ThreeHeadLSTM(
        fields=FIELDS,
        hidden_size=4,
        num_layers=num_layers,
        sigmoid=sigmoid,
        point_estimates=point_estimates,
    )
    context = Hidden(torch.randn(2, 3, 4))
    pitch = model.predict("pitch", context, {})
    assert isinstance(pitch, Categorical)
    output = model.get_submodule("pitch_linear")(context.hidden)
    if sigmoid:
        assert torch.equal(pitch.logits, output.sigmoid())
        assert pitch.weights is not None
        assert torch.equal(pitch.weights, output.sigmoid())
    else:
        assert torch.equal(pitch.logits, output)
        assert pitch.weights is None
    step = model.predict("step", context, {})
    output = model.get_submodule("step_linear")(context.hidden)
    if point_estimates:
        assert isinstance(step, PointEstimate)
        assert torch.equal(step.value, output[..., 0])
    else:
        assert isinstance(step, Normal)
        assert torch.equal(step.mean, output[..., 0])
        assert torch.all(step.sigma > 0)
        assert step.low is not None
        assert float(step.low) == 0
        assert step.high is None


def test_minimum_pitch_loss_with_the_sigmoid() -> None:
    """The minimum of the original's pitch loss is ln(1 + 127 / e)."""
    one_hot = torch.zeros(1, 128)
    one_hot[0, 60] = 1.0
    best = functional.cross_entropy(one_hot, torch.tensor([60]))
    assert float(best) == pytest.approx(math.log(1 + 127 / math.e))


def test_three_head_lstm_with_other_field_names_and_order() -> None:
    fields = (
        Field.continuous("wait", "step", unit="s", low=0.0),
        Field.categorical("key", "pitch", values=range(60, 72)),
        Field.continuous("length", "duration", unit="s", low=0.0, high=4.0),
    )
    model = ThreeHeadLSTM(fields=fields, hidden_size=4, point_estimates=False)
    assert model.field_order == ("wait", "key", "length")
    context, _ = model(rows(fields, 1, 2), model.initial_state(1)[1])
    key = model.predict("key", context, {})
    assert isinstance(key, Categorical)
    assert key.logits.shape == (1, 2, 12)
    length = model.predict("length", context, {})
    assert isinstance(length, Normal)
    assert length.high is not None
    assert float(length.high) == 4.0


@pytest.mark.parametrize(
    "fields",
    [(), FIELDS[:2], (*FIELDS, FIELDS[0]), CLASSES, PerformanceEventEncoder().fields],
    ids=["none", "two", "four", "classes", "events"],
)
def test_three_head_lstm_rejects_other_fields(fields: tuple[Field, ...]) -> None:
    with pytest.raises(
        FieldError, match=r"one categorical and two continuous.*StepDurationEncoder, or .*NoteLSTM"
    ):
        ThreeHeadLSTM(fields=fields)


def test_heads_depend_on_earlier_fields_only() -> None:
    torch.manual_seed(0)
    order = ("step", "pitch", "velocity", "duration")
    model = NoteLSTM(fields=CLASSES, field_order=order, hidden_size=8, embedding_dim=4)
    context = Hidden(torch.randn(3, 8))
    some = rows(CLASSES, 3)
    known = {field.name: some[:, i] for i, field in enumerate(CLASSES)}
    classes = {field.name: field.classes for field in CLASSES}
    for at, name in enumerate(order):
        earlier = {n: known[n] for n in order[:at]}
        prediction = model.predict(name, context, earlier)
        assert isinstance(prediction, Categorical)
        for other in order[:at]:
            changed = {**earlier, other: (earlier[other] + 1) % (classes[other] or 1)}
            moved = model.predict(name, context, changed)
            assert isinstance(moved, Categorical)
            assert not torch.allclose(moved.logits, prediction.logits), (name, other)
        everything = model.predict(name, context, known)
        assert isinstance(everything, Categorical)
        assert torch.equal(everything.logits, prediction.logits)


def test_numbers_are_scaled_logarithmically_and_predicted_as_normals() -> None:
    torch.manual_seed(0)
    model = NoteLSTM(fields=FIELDS, hidden_size=8, embedding_dim=4)
    context = Hidden(torch.randn(1, 8))
    means = []
    for step in (0.0, 0.001, 60.0, 1e9):
        known = {"pitch": torch.tensor([60.0]), "step": torch.tensor([step])}
        normal = model.predict("duration", context, known)
        assert isinstance(normal, Normal)
        assert bool(torch.isfinite(normal.mean).all())
        assert normal.low is not None
        means.append(float(normal.mean.detach()))
    assert len(set(means)) == 4


def test_mixtures_for_times_and_normals_for_numbers_without_a_minimum() -> None:
    torch.manual_seed(0)
    late = Field.continuous("late", "other", unit="s", low=None)
    capped = Field.continuous("capped", "other", unit="s", low=-1.0, high=4.0)
    model = NoteLSTM(
        fields=(*FIELDS, late, capped),
        hidden_size=8,
        embedding_dim=4,
        time_distribution="mixture",
        num_components=5,
    )
    context = Hidden(torch.randn(2, 3, 8))
    known = {field.name: torch.ones(2, 3) for field in model.fields}
    assert isinstance(model.predict("late", context, known), Normal)
    step = model.predict("step", context, known)
    assert isinstance(step, LogisticMixture)
    assert step.logits.shape == (2, 3, 6)
    assert (step.origin, step.high) == (0.0, None)
    assert bool((step.scale > 0).all())
    usual = step.mean.detach().exp()
    assert bool((usual.diff(dim=-1) > 0).all())
    low = model.predict("capped", context, known)
    assert isinstance(low, LogisticMixture)
    assert low.origin == -1.0
    assert low.high is not None
    assert low.high.tolist() == [[4.0] * 3] * 2


def test_dropout_only_in_training_mode() -> None:
    model = NoteLSTM(fields=CLASSES, hidden_size=64, embedding_dim=4, dropout=0.5)
    some = rows(CLASSES, 1, 6)

    def hidden() -> Tensor:
        contexts: Hidden = model.forward(some, model.initial_state(1)[1])[0]
        return contexts.hidden

    assert not torch.equal(hidden(), hidden())
    assert 0.3 < float((hidden() == 0).float().mean()) < 0.7
    model.eval()
    assert torch.equal(hidden(), hidden())


@pytest.mark.parametrize(("head_size", "width"), [(None, 8), (5, 5), (0, None)])
def test_head_size(head_size: int | None, width: int | None) -> None:
    model = NoteLSTM(fields=CLASSES, hidden_size=8, embedding_dim=4, head_size=head_size)
    last = model.heads["velocity"]
    if width is None:
        assert isinstance(last, nn.Linear)
        assert last.in_features == 8 + 3 * 4
    else:
        assert isinstance(last, nn.Sequential)
        assert last[0].weight.shape == (width, 8 + 3 * 4)
        assert last[2].weight.shape == (32, width)


@pytest.mark.parametrize("order", [["pitch"], ["pitch"] * 4, ["a", "b", "c", "d"], []])
def test_field_order_must_name_each_field_once(order: list[str]) -> None:
    with pytest.raises(FieldError, match="not name each field once"):
        NoteLSTM(fields=CLASSES, field_order=order)


@pytest.mark.parametrize(
    ("options", "means"),
    [
        ({"hidden_size": 0}, "hidden_size 0 is less than 1"),
        ({"num_layers": 0}, "num_layers 0 is less than 1"),
        ({"embedding_dim": -1}, "embedding_dim -1 is less than 1"),
        ({"num_components": 0}, "num_components 0 is less than 1"),
        ({"time_distribution": "point"}, "unknown time distribution 'point'"),
        ({"head_size": -1}, "head_size -1 is less than 0"),
        ({"dropout": 1.0}, "dropout 1.0 is not at least 0"),
        ({"dropout": math.nan}, "dropout nan is not"),
        ({"hidden_size": True}, "hidden_size True is not a whole number"),
        ({"num_layers": 1.5}, r"num_layers 1\.5 is not a whole number"),
        ({"embedding_dim": "8"}, "embedding_dim '8' is not a whole number"),
        ({"num_components": 2.5}, r"num_components 2\.5 is not a whole number"),
        ({"head_size": True}, "head_size True is not a whole number"),
        ({"memory_window": 2.5}, r"memory_window 2\.5 is not a whole number"),
        ({"memory_window": False}, "memory_window False is not a whole number"),
        ({"dropout": "0.1"}, "dropout '0.1' is not"),
        ({"dropout": False}, "dropout False is not"),
    ],
)
def test_sizes_are_checked(options: dict[str, Any], means: str) -> None:
    with pytest.raises(ConfigError, match=means):
        NoteLSTM(fields=CLASSES, **options)
    if options.keys() <= {"hidden_size", "num_layers"}:
        with pytest.raises(ConfigError, match=means):
            ThreeHeadLSTM(fields=FIELDS, **options)


def test_sizes_can_be_numbers_of_numpy() -> None:
    size: Any = np.int64(8)
    assert type(NoteLSTM(fields=CLASSES, hidden_size=size).config["hidden_size"]) is int
    assert type(ThreeHeadLSTM(fields=FIELDS, hidden_size=size).config["hidden_size"]) is int
