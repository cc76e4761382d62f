"""``Recipe.from_dict(recipe.to_dict()) == recipe``, for every recipe with every part changed."""

from __future__ import annotations

import functools
import json
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from notelstm import plugins
from notelstm._bundle_format_1 import upgrade
from notelstm.data import GivenMixture, TimeStretch, Transpose, VelocityShift
from notelstm.encoders import (
    AnticipatingEncoder,
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.errors import ConfigError, NotelstmError, PluginError
from notelstm.losses import AllPairs, CompositeLoss, Likelihood, PositivePressure
from notelstm.midi import policy
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.parts import PartsBy, Unknown
from notelstm.protocols import AnticipatesNotes, Prediction
from notelstm.recipes import FAULTS, ModelSpec, Recipe, ensemble, expressive, reference
from notelstm.sampling import (
    Ancestral,
    Greedy,
    MinDuration,
    MinP,
    RawPitch,
    Scale,
    Temperature,
    TopK,
    TopP,
    Weighted,
)
from notelstm.training import TrainingConfig

positive = st.floats(min_value=0.01, max_value=100.0)
shares = st.floats(min_value=0.01, max_value=0.99)
counts = st.integers(min_value=1, max_value=10**6)

encoders: SearchStrategy[Any] = st.one_of(
    st.builds(StepDurationEncoder),
    st.builds(LogTimeEncoder, cell=st.floats(0.005, 0.02), growth=st.floats(1.02, 1.5)),
    st.builds(BeatEncoder),
    st.builds(PerformanceEventEncoder),
    st.builds(
        AnticipatingEncoder,
        inner=st.builds(LogTimeEncoder, exact=st.just(True), ends=st.booleans()),
        seconds=st.floats(1, 8),
    ),
)
models: SearchStrategy[Any] = st.one_of(
    st.sampled_from([NoteLSTM, ThreeHeadLSTM]),
    st.builds(
        lambda hidden, order, sounding: functools.partial(
            NoteLSTM, hidden_size=hidden, field_order=order, sounding_features=sounding
        ),
        counts,
        st.permutations(["step", "pitch", "velocity", "duration"]),
        st.booleans(),
    ),
    st.builds(
        lambda hidden, sigmoid: ModelSpec(
            ThreeHeadLSTM, {"hidden_size": hidden, "sigmoid": sigmoid}
        ),
        counts,
        st.booleans(),
    ),
)
terms = st.one_of(
    st.just(Likelihood()),
    st.builds(PositivePressure, pressure=positive),
    st.builds(AllPairs, pressure=positive),
)
losses = st.one_of(
    st.none(),
    st.builds(
        CompositeLoss,
        terms=st.dictionaries(st.text(min_size=1), st.tuples(terms, positive), min_size=1),
    ),
)
processors = st.lists(
    st.one_of(
        st.builds(Temperature, temperature=positive),
        st.builds(TopK, k=counts),
        st.builds(TopP, p=shares),
        st.builds(MinP),
        st.builds(MinDuration, seconds=positive),
        st.builds(Scale, name=st.sampled_from(["D dorian", "C major"])),
    ),
    max_size=3,
)
samplers: SearchStrategy[Any] = st.one_of(
    *(st.builds(kind, processors=processors) for kind in (Ancestral, Greedy, Weighted))
)
transforms: SearchStrategy[Any] = st.lists(
    st.one_of(
        st.builds(Transpose, low=st.integers(-12, 0), high=st.integers(0, 12)),
        st.builds(VelocityShift, amounts=st.lists(st.integers(-20, 20), min_size=1).map(tuple)),
        st.builds(TimeStretch),
    ),
    max_size=3,
)
policies = st.builds(
    policy.ReadPolicy,
    tracks=st.sampled_from(get_args(policy.Tracks)),
    programs=st.lists(st.integers(0, 127), max_size=3),
    names=st.lists(st.text(max_size=5), max_size=3),
    drums=st.booleans(),
    simultaneous_order=st.sampled_from(get_args(policy.SimultaneousOrder)),
    overlaps=st.sampled_from(get_args(policy.Overlaps)),
    zero_length=st.sampled_from(get_args(policy.ZeroLength)),
    hanging=st.sampled_from(get_args(policy.Hanging)),
    velocity_zero=st.sampled_from(get_args(policy.VelocityZero)),
    pedal=st.sampled_from(get_args(policy.Pedal)),
    tempos=st.sampled_from(get_args(policy.Tempos)),
    silence=st.sampled_from(get_args(policy.Silence)),
    max_seconds=positive,
    on_error=st.sampled_from(get_args(policy.OnError)),
)
configs = st.builds(
    TrainingConfig,
    epochs=st.none() | st.integers(0, 1000),
    optimizer=st.sampled_from(["sgd", "adamw"]),
    learning_rate=positive,
    schedule=st.sampled_from(["constant", "cosine"]),
    warmup_steps=st.integers(0, 1000),
    accumulate_grad_batches=counts,
    weight_decay=st.just(0.0) | positive,
    max_grad_norm=st.none() | positive,
    checkpoint_every=counts,
    seed=st.integers(0, 2**63 - 1),
    precision=st.sampled_from(["float32", "bfloat16", "auto"]),
    device=st.text(),
)
PARTS: dict[str, SearchStrategy[Any]] = {
    "name": st.text(),
    "encoder": encoders,
    "model": models,
    "loss": losses,
    "sampler": samplers,
    "input_transform": st.none() | st.just(RawPitch()),
    "read_policy": policies,
    "parts": st.none() | st.sampled_from(get_args(PartsBy)),
    "unknown_parts": st.sampled_from(get_args(Unknown)),
    "conditions": st.sampled_from([(), ("composer",), ("style", "bpm")]),
    "given": st.none() | st.builds(GivenMixture, parts=st.floats(0, 1), variants=counts),
    "sequence_length": counts,
    "cross_piece_boundaries": st.booleans(),
    "batch_size": counts,
    "min_steps_per_epoch": st.integers(0, 1000),
    "shuffle": st.booleans(),
    "transforms": transforms,
    "training": configs,
    "context_length": st.none() | counts,
}


def recipe_of(settings: dict[str, Any], how: tuple[Any, bool]) -> Recipe:
    if not hasattr(settings["encoder"], "parts"):
        settings = {**settings, "parts": None}
    if not isinstance(settings["encoder"], LogTimeEncoder | AnticipatingEncoder):
        settings = {**settings, "conditions": ()}
    if not isinstance(settings["encoder"], AnticipatesNotes):
        settings = {**settings, "given": None}
    return Recipe(**settings, targets=how[0], stateful=how[1])


recipes = st.builds(
    recipe_of,
    st.fixed_dictionaries(PARTS),
    st.sampled_from([("every", True), ("every", False), ("last", False)]),
)


def test_the_strategies_change_every_setting() -> None:
    assert {*PARTS, "targets", "stateful"} == {field.name for field in fields(Recipe)}
    assert {f.name for f in fields(TrainingConfig)} == {
        *[
            "epochs",
            "optimizer",
            "learning_rate",
            "schedule",
            "warmup_steps",
            "accumulate_grad_batches",
        ],
        *["weight_decay", "max_grad_norm", "checkpoint_every", "seed", "precision", "device"],
    }


@given(recipes)
def test_recipes_round_trip(recipe: Recipe) -> None:
    record = recipe.to_dict()
    read = json.loads(json.dumps(record, allow_nan=False, sort_keys=True))
    assert read == record, "the record is JSON as it is"
    assert Recipe.from_dict(record) == recipe
    assert Recipe.from_dict(read) == recipe
    assert Recipe.from_dict(read).to_dict() == record


@given(recipes, recipes)
def test_records_differ_where_recipes_do(one: Recipe, other: Recipe) -> None:
    assert (one.to_dict() == other.to_dict()) == (one == other)


@pytest.mark.parametrize(
    "recipe",
    [
        expressive(),
        ensemble(),
        ensemble(parts="track", unknown="other", memory_window=0),
        reference(),
        reference(as_printed=True),
        *(reference(**{fault: not on}) for fault, on in FAULTS.items()),
    ],
)
def test_built_in_recipes_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_three_ways_to_give_a_model_are_one() -> None:
    recipe = expressive()
    given_as = (
        functools.partial(NoteLSTM, hidden_size=8, field_order=["step", "pitch"]),
        ModelSpec(NoteLSTM, {"hidden_size": 8, "field_order": ("step", "pitch")}),
    )
    one, other = (replace(recipe, model=model) for model in given_as)
    assert one == other
    assert one.model == ModelSpec(NoteLSTM, {"hidden_size": 8, "field_order": ("step", "pitch")})
    assert replace(recipe, model=NoteLSTM).model == ModelSpec(NoteLSTM)
    assert replace(recipe, model=NoteLSTM) != replace(recipe, model=ThreeHeadLSTM)
    with pytest.raises(PluginError, match="have no names: "):
        replace(recipe, model=functools.partial(NoteLSTM, StepDurationEncoder().fields))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="'note-lstm' does not build a model"):
        replace(recipe, model="note-lstm")  # type: ignore[arg-type]


def homemade(prediction: Prediction, target: Any) -> Any:
    return Likelihood()(prediction, target)


def test_a_part_without_an_entry_point_is_noted_and_can_be_passed() -> None:
    loss = CompositeLoss(terms={"pitch": (homemade, 2.0)})
    recipe = replace(expressive(), loss=loss)
    record = json.loads(json.dumps(recipe.to_dict()))
    assert [name.rpartition(".")[2] for name in plugins.missing_parts(record)] == ["homemade"]
    with pytest.raises(PluginError, match=r"homemade has no entry point.*pass loss=\.\.\."):
        Recipe.from_dict(record)
    assert Recipe.from_dict(record, loss=loss) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_sze": 3}, "unknown setting 'batch_sze': did you mean 'batch_size'"),
        ({"sequence_length": "x"}, "sequence_length is 'x', not a whole number"),
        ({"sequence_length": 0}, "sequence_length is 0, below 1"),
        ({"training": {"epoch": 3}}, r"'training\.epoch': did you mean 'training\.epochs'"),
        ({"training": 3}, "the record of the training is damaged"),
        ({"encoder": None}, "encoder"),
        ({"encoder": {"nom": 3}}, "the record of the encoder is damaged"),
        ({"encoder": {"kind": "encoders", "name": "nope"}}, "'nope'.*pass encoder="),
        ({"transforms": 3}, "the record of the transforms is damaged"),
        ({"model": {"kind": "models", "name": 3, "config": 4}}, "model"),
    ],
)
def test_a_damaged_record_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NotelstmError, match=message):
        Recipe.from_dict({**expressive().to_dict(), **change})


def test_a_record_without_a_part_is_rejected() -> None:
    record = expressive().to_dict()
    del record["encoder"]
    with pytest.raises(ConfigError, match="encoder"):
        Recipe.from_dict(record)


def test_records_of_the_first_format_are_read() -> None:
    """There, a part was its name and settings in one mapping."""
    record = expressive().to_dict()
    old = dict(record)
    for key in ("encoder", "model", "sampler"):
        old[key] = {"name": record[key]["name"], **record[key]["config"]}
    old["transforms"] = [{"name": p["name"], **p["config"]} for p in record["transforms"]]
    del old["min_steps_per_epoch"]

    def upgraded(settings: dict[str, Any]) -> Any:
        return upgrade({"settings": settings}, {})[0]["settings"]

    assert Recipe.from_dict(upgraded(old)) == expressive()
    assert upgraded(record) == record
    assert upgraded({"anything": 3}) == {"anything": 3}
