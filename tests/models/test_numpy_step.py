"""The numpy step has the predictions of the module and the samples of the tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.encoders.rows import RowTracker
from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field, Interval
from notelstm.generation import Session
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.models.inference import HasNumpyStep, ModelState, NumpyStep, map_arrays, repeat
from notelstm.parts import Part, PartMap
from notelstm.predictions import (
    Categorical,
    Normal,
    NumpyCategorical,
    NumpyNormal,
    NumpyPrediction,
    PointEstimate,
)
from notelstm.protocols import NoteEncoder, NoteModel, Prediction, Processor, SamplingContext
from notelstm.sampling import (
    Ancestral,
    Greedy,
    MinDuration,
    PitchRange,
    Scale,
    Temperature,
    TopK,
    TopP,
    Weighted,
)
from notelstm.testing.makers import random_rows, repeating_rows
from notelstm.testing.prediction_checks import as_numbers
from notelstm.tree import index

ENCODERS: tuple[NoteEncoder, ...] = (
    StepDurationEncoder(),
    LogTimeEncoder(),
    PerformanceEventEncoder(),
    BeatEncoder(),
    LogTimeEncoder(
        exact=True,
        parts=PartMap(
            by="track", parts=(Part(name="a"), Part(name="b"), Part(name="c", drum=True))
        ),
    ),
)
ORDERS = {
    3: ("step", "pitch", "duration"),
    4: ("step", "pitch", "velocity", "duration"),
    5: ("step", "instrument", "pitch", "velocity", "duration"),
}


@st.composite
def models(draw: st.DrawFn) -> NoteModel:
    torch.manual_seed(draw(st.integers(0, 99)))
    model: NoteModel
    hidden, layers = draw(st.integers(1, 9)), draw(st.integers(1, 2))
    if draw(st.booleans()):
        model = ThreeHeadLSTM(
            fields=StepDurationEncoder().fields,
            hidden_size=hidden,
            num_layers=layers,
            sigmoid=draw(st.booleans()),
            point_estimates=draw(st.booleans()),
        )
    else:
        fields = draw(st.sampled_from(ENCODERS)).fields
        has_pitch = any(f.role == "pitch" for f in fields)
        model = NoteLSTM(
            fields=fields,
            field_order=draw(st.sampled_from([None, ORDERS.get(len(fields))])),
            hidden_size=hidden,
            num_layers=layers,
            embedding_dim=draw(st.integers(1, 5)),
            head_size=draw(st.sampled_from([None, 0, 7])),
            sounding_features=draw(st.booleans()),
            time_distribution=draw(st.sampled_from(["normal", "mixture"])),
            dropout=draw(st.sampled_from([0.0, 0.3])),
            memory_window=draw(st.sampled_from([0, 2, 7, 50])) if has_pitch else 0,
        )
    for parameter in cast(nn.Module, model).parameters():
        nn.init.normal_(parameter, std=0.5)
    return Windowed(model, draw(st.integers(1, 5))) if draw(st.booleans()) else model


def numpy_step_of(model: NoteModel) -> NumpyStep:
    assert isinstance(model, HasNumpyStep)
    step = model.numpy_step()
    assert step is not None
    return step


def same(model: NoteModel, step: NumpyStep, torch_context: Any, context: Any, rows: Tensor) -> None:
    """The predictions of both agree, given (B, F) rows."""
    known: dict[str, Tensor] = {}
    for name in model.field_order:
        column, field = {f.name: (i, f) for i, f in enumerate(model.fields)}[name]
        want = as_numbers(model.predict(name, torch_context, known), field)
        got = step.predict(name, context, known)
        torch.testing.assert_close(as_numbers(got, field), want, rtol=1e-5, atol=1e-5)
        if len(rows) == 1:
            floats = {key: float(entry) for key, entry in known.items()}
            noise = [0.3, 0.6]
            plain = step.predict_numpy(name, context, floats).sample(noise)
            assert plain == float(got.sample(torch.tensor([noise], dtype=torch.float64)))
        known[name] = rows[:, column].long() if field.is_categorical else rows[:, column]


@settings(max_examples=60, deadline=None)
@given(model=models(), seed=st.integers(0, 10**6), batch_size=st.sampled_from([1, 2, 3]))
@torch.no_grad()
def test_numpy_step_agrees_with_the_module(model: NoteModel, seed: int, batch_size: int) -> None:
    cast(nn.Module, model).eval()
    step = numpy_step_of(model)
    rows = torch.from_numpy(
        repeating_rows(model.fields, (batch_size, 16), np.random.default_rng(seed))
    )
    contexts, state = model.initial_state(batch_size)
    here, carried = repeat(ModelState(*step.initial_state()), batch_size)
    given = []
    for i in range(rows.shape[1]):
        same(model, step, index(contexts, (slice(None), -1)), here, rows[:, i])
        place = ModelState(here, carried)
        given.append((place, map_arrays(np.copy, place)))
        contexts, state = model.forward(rows[:, i : i + 1], state)
        here, carried = step.step(rows[:, i].numpy(), carried)
    for trees in given:
        now, before = (list(leaves(tree)) for tree in trees)
        for a, b in zip(now, before, strict=True):
            np.testing.assert_array_equal(a, b, "contexts and states must not be changed in place")


def leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, tuple):
        for part in tree:
            yield from leaves(part)
    else:
        yield tree


@torch.no_grad()
def test_numpy_step_keeps_its_weights_when_the_model_is_trained() -> None:
    for model in (
        ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=4),
        NoteLSTM(fields=StepDurationEncoder().fields, hidden_size=4, sounding_features=True),
    ):
        step = numpy_step_of(model)
        row = random_rows(model.fields, (1,), np.random.default_rng(0))

        def outputs(step: NumpyStep = step, row: Any = row, model: Any = model) -> list[float]:
            context, _ = step.step(row, step.initial_state()[1])
            known = {f.name: float(row[0, i]) for i, f in enumerate(model.fields)}
            return [step.predict_numpy(name, context, known).sample([0.3, 0.6]) for name in known]

        before = outputs()
        for parameter in model.parameters():
            parameter.normal_()
        assert outputs() == before
        assert model.numpy_step() is not None
        step = numpy_step_of(model)
        assert outputs(step) != before


def test_models_in_other_precisions_have_no_numpy_step() -> None:
    model = ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=4)
    assert Windowed(model, 3).numpy_step() is not None
    assert model.double().numpy_step() is None
    assert Windowed(model, 3).numpy_step() is None
    assert NoteLSTM(fields=LogTimeEncoder().fields, hidden_size=4).half().numpy_step() is None


CLASSES = Field.categorical("pitch", "pitch", values=range(7))
NUMBER = Field.continuous("step", "step", unit="s", low=0.0)
numbers = st.floats(-30, 30, width=32)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Field, NumpyPrediction]:
    kind = draw(st.sampled_from(["classes", "weights", "point", "normal"]))
    if kind == "point":
        return NUMBER, NumpyNormal(draw(numbers))
    if kind == "normal":
        sigma = draw(st.floats(2**-10, 30, width=32))
        ends = sorted([draw(numbers), draw(numbers)])
        low, high = draw(st.sampled_from([(-np.inf, np.inf), (ends[0], np.inf), tuple(ends)]))
        return NUMBER, NumpyNormal(draw(numbers), sigma, low, high)
    logits = np.array(draw(st.lists(numbers, min_size=7, max_size=7)), dtype=np.float32)
    weights = None
    if kind == "weights":
        share = st.sampled_from([0.0, 1e-30, 0.25, 1.0]) | st.floats(0, 1, width=32)
        weights = np.array(draw(st.lists(share, min_size=7, max_size=7)), dtype=np.float32)
    return CLASSES, NumpyCategorical(logits, weights)


def full(plain: NumpyPrediction) -> Any:
    """The same as tensors, for a batch of one sequence."""
    if isinstance(plain, NumpyCategorical):
        weights = None if plain.weights is None else torch.from_numpy(plain.weights)[None]
        return Categorical(torch.from_numpy(plain.logits)[None], weights)
    assert isinstance(plain, NumpyNormal)
    mean, sigma, *ends = (torch.tensor([number]) for number in plain)
    low, high = (end if bool(end.isfinite()) else None for end in ends)
    if not sigma:
        return PointEstimate(mean)
    return Normal(mean, sigma, low=low, high=high)


class Favourite:
    """A processor of a plugin: class 3 becomes more likely, numbers a little greater."""

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        (context,) = contexts
        more = torch.full((1,), context.known["duration"])
        if prediction.log_weights() is None:
            return prediction.shifted(more)
        return prediction.add_log_weights(more * (torch.arange(7) == 3))


def whole(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> PointEstimate:
    """A processor of a plugin that gives another kind of prediction."""
    return PointEstimate(prediction.mode().round().float())


PROCESSORS: tuple[tuple[Processor, ...], ...] = (
    (),
    (Scale(name="C major"),),  # does not change these fields
    (Temperature(temperature=1.3), TopK(k=4), TopP(p=0.8)),
    (MinDuration(seconds=0.2), Favourite()),
    (whole,),
)


@settings(max_examples=400, deadline=None)
@given(
    made=predictions(),
    seed=st.integers(0, 10**9),
    constrained=st.booleans(),
    processors=st.sampled_from(PROCESSORS),
    data=st.data(),
)
def test_numpy_predictions_have_the_same_samples_as_tensors(
    made: tuple[Field, NumpyPrediction],
    seed: int,
    constrained: bool,
    processors: tuple[Processor, ...],
    data: st.DataObject,
) -> None:
    field, plain = made
    many = full(plain)
    if constrained and field.is_categorical:
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=7, max_size=7)))
        mask[data.draw(st.integers(0, 6))] = True
        plain, many = plain.constrained(mask), many.constrained(torch.from_numpy(mask)[None])
    elif constrained:
        low = 0.1 if isinstance(plain, NumpyNormal) and not plain.sigma else -np.inf
        ends = torch.tensor([low]), torch.tensor([np.inf])
        plain, many = plain.constrained(Interval(low, np.inf)), many.constrained(ends)
    uniforms = np.random.default_rng(seed).random(2)
    noise = torch.from_numpy(uniforms)[None]
    known = {"duration": 0.7}
    contexts = [SamplingContext(known, RowTracker(StepDurationEncoder()))]
    for kind in (Ancestral, Greedy, Weighted):
        sampler = kind(processors=processors)
        choose = sampler.numpy_choice(lambda entries: contexts[0]._replace(known=entries))
        chosen = choose(field, plain, uniforms.tolist(), known)
        assert chosen == float(sampler(field, many, noise, contexts))


def test_samples_with_noise_of_0_and_almost_1() -> None:
    plain = NumpyCategorical(np.array([0, 1, -np.inf], dtype=np.float32))
    for noise in (0.0, np.nextafter(1, 0), 0.5):
        want = float(full(plain).sample(torch.tensor([[noise, 0.0]], dtype=torch.float64)))
        assert plain.sample([noise, 0.0]) == want
    normal = NumpyNormal(0.0, 1.0)
    assert normal.sample([0.0, 0.0]) == float(full(normal).sample(torch.zeros(1, 2).double()))


def test_invalid_constraints_are_rejected() -> None:
    plain = NumpyCategorical(np.zeros(3, dtype=np.float32))
    with pytest.raises(ShapeError, match="leaves no possible class"):
        plain.constrained(np.zeros(3, dtype=bool))
    with pytest.raises(ShapeError, match="cannot constrain a categorical"):
        plain.constrained(Interval(0, 1))
    with pytest.raises(ShapeError, match="is empty"):
        NumpyNormal(0.0).constrained(Interval(1, 0))
    with pytest.raises(ShapeError, match="is empty"):
        NumpyNormal(0.0, high=1.0).constrained(Interval(2, 3))
    with pytest.raises(ShapeError, match="a mask of classes"):
        NumpyNormal(0.0).constrained(np.ones(3, dtype=bool))


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [((1, 9), FieldError, "class id 8, which is not 0 to 6"), ((2, 7), ShapeError, "shape")],
)
def test_a_processor_with_wrong_classes_is_found(
    classes: tuple[int, int], error: type[Exception], message: str
) -> None:
    def wrong(
        field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        return Categorical(torch.arange(9.0)[-classes[1] :].expand(classes))

    choose = Greedy(processors=(wrong,)).numpy_choice(lambda known: cast(SamplingContext, known))
    with pytest.raises(error, match=message):
        choose(CLASSES, NumpyCategorical(np.zeros(7, dtype=np.float32)), [0.5, 0.5], {})


def test_one_sequence_with_processors_takes_the_numpy_step() -> None:
    encoder = LogTimeEncoder(exact=True)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8).eval()
    sampler = Ancestral(processors=(PitchRange(low=40, high=50), TopP(p=0.9)))
    session = Session(model, encoder, sampler, seed=3)
    vars(session._runner.step)["predict"] = None
    row = session.next()
    assert 40 <= row[0, 0] <= 50
