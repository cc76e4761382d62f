"""Changing a recipe: from pairs, from TOML, by part, by setting; what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from notelstm.data import Transpose, VelocityShift
from notelstm.encoders import BeatEncoder, LogTimeEncoder, PerformanceEventEncoder
from notelstm.errors import ConfigError, FieldError, NotelstmError, PluginError
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.parts import Part, PartMap
from notelstm.plugins import describe
from notelstm.protocols import NoteEncoder
from notelstm.recipes import (
    ModelSpec,
    Recipe,
    expressive,
    from_toml,
    load_recipe,
    reference,
    with_settings,
)
from notelstm.recipes.overrides import parse_settings
from notelstm.sampling import Ancestral, Greedy, MinDuration, RawPitch, Temperature, Weighted


def changed(*pairs: str, recipe: str = "reference") -> Any:
    return load_recipe(recipe, parse_settings(pairs))


def model_settings(recipe: Any) -> dict[str, Any]:
    assert isinstance(recipe.model, ModelSpec)
    return dict(recipe.model.settings)


@pytest.mark.parametrize(
    ("pairs", "tree"),
    [
        ([], {}),
        (["sequence_length=50"], {"sequence_length": 50}),
        (["a.b=1", "a.c=[1, 2]"], {"a": {"b": 1, "c": [1, 2]}}),
        (["a=0.5", "b=true", "c=1e-3"], {"a": 0.5, "b": True, "c": 0.001}),
        (["a=two words", "b='3'", "c="], {"a": "two words", "b": "3", "c": ""}),
        (["a=x=y"], {"a": "x=y"}),
        ([" a.b =1"], {"a": {"b": 1}}),
        (["p=[{name='temperature'}]"], {"p": [{"name": "temperature"}]}),
    ],
)
def test_dotted_settings_are_a_tree(pairs: list[str], tree: dict[str, Any]) -> None:
    assert parse_settings(pairs) == tree


@pytest.mark.parametrize("pair", ["hidden_size", "=3", " =3", ""])
def test_a_pair_has_a_key_and_a_value(pair: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a setting. Write key=value"):
        parse_settings([pair])


@pytest.mark.parametrize(
    "pairs", [["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=2", "a=1"], ["a.b=1", "a.b=1"]]
)
def test_repeated_settings_are_merged(pairs: list[str]) -> None:
    with pytest.raises(ConfigError, match="is given after another setting"):
        parse_settings(pairs)


def test_settings_of_the_recipe_and_of_its_parts() -> None:
    recipe = changed(
        *["sequence_length=30", "targets=every", "shuffle=true", "training.epochs=3"],
        *[
            "training.learning_rate=1",
            "read_policy.drums=true",
            "model.hidden_size=7",
            "context_length=none",
        ],
        *["training.max_grad_norm=0.5", "sampler.processors=[]"],
    )
    assert (recipe.sequence_length, recipe.targets, recipe.shuffle) == (30, "every", True)
    assert (recipe.training.epochs, recipe.training.learning_rate) == (3, 1)
    assert recipe.training.max_grad_norm == 0.5
    assert recipe.read_policy.drums
    assert recipe.context_length is None
    assert model_settings(recipe) == {"sigmoid": True, "point_estimates": True, "hidden_size": 7}
    assert recipe.sampler == Weighted()
    # All else is as it was.
    assert recipe.training.optimizer == "sgd"
    assert recipe.encoder == reference().encoder


def test_with_settings_does_not_change_its_argument() -> None:
    recipe = reference()
    before = recipe.to_dict()
    with_settings(
        recipe, {"model": {"hidden_size": 3}, "loss": {"pitch": 2}, "training": {"seed": 3}}
    )
    assert recipe.to_dict() == before


@pytest.mark.parametrize("settings", [{}, {"training": {}}, {"model": {}}, {"read_policy": {}}])
def test_without_settings_the_recipe_is_equal(settings: dict[str, Any]) -> None:
    assert with_settings(reference(), settings).to_dict() == reference().to_dict()


def test_options_are_the_arguments_of_the_function() -> None:
    assert model_settings(changed("options.sigmoid=false"))["sigmoid"] is False
    both = changed("options.hidden_size=9", "model.num_layers=2", recipe="expressive")
    assert (model_settings(both)["hidden_size"], model_settings(both)["num_layers"]) == (9, 2)


def test_weights_of_the_loss() -> None:
    terms = changed("loss.pitch=3").build_loss().terms
    assert terms["pitch"][1] == 3.0
    assert terms["step"] == reference().build_loss().terms["step"]
    # A recipe without a loss of its own has the likelihood of each field.
    assert changed("loss.step=0.5", recipe="expressive").build_loss().weights == {
        **dict.fromkeys(("pitch", "duration", "velocity"), 1.0),
        "step": 0.5,
    }
    assert changed("loss=none").loss is None


def test_a_part_is_replaced_by_name() -> None:
    recipe = changed("encoder.name=log-time", "encoder.cell=0.02", recipe="expressive")
    assert recipe.encoder == LogTimeEncoder(cell=0.02)
    assert changed("sampler=greedy").sampler == Greedy()
    assert changed("input_transform=raw-pitch").input_transform == RawPitch()
    assert changed("options.raw_feedback=true", "input_transform=none").input_transform is None
    model = changed("model.name=note-lstm", "model.hidden_size=4", "loss=none").build_model()
    assert isinstance(model, NoteLSTM)
    assert isinstance(changed("model=three-head-lstm").build_model(), ThreeHeadLSTM)


def test_settings_change_a_part_without_replacing_it() -> None:
    recipe = changed("encoder.growth=1.5", recipe="expressive")
    assert recipe.encoder == LogTimeEncoder(growth=1.5, exact=True)


def test_processors_inside_a_sampler() -> None:
    chain = "['min-duration', {name='temperature', temperature=0.5}]"
    recipe = changed("sampler.name=ancestral", f"sampler.processors={chain}")
    assert recipe.sampler == Ancestral(processors=(MinDuration(), Temperature(temperature=0.5)))


def test_transforms() -> None:
    recipe = changed("transforms=['velocity-shift', {name='transpose', high=5}]")
    assert recipe.transforms == (VelocityShift(), Transpose(high=5))
    assert with_settings(recipe, {"transforms": "none"}).transforms == ()


REFUSED = {
    "modle.hidden_size=3": "unknown setting 'modle': did you mean 'model'",
    "model.hiden=3": r"unknown setting 'model\.hiden': did you mean 'model\.hidden_size'",
    "model.fields=3": r"unknown setting 'model\.fields'",
    "model.name.x=3": "unknown model .*note-lstm",
    "training.epoch=3": r"unknown setting 'training\.epoch': did you mean 'training\.epochs'",
    "training=3": "training is 3, not a table of settings",
    "loss.pich=1": r"unknown setting 'loss\.pich': did you mean 'loss\.pitch'",
    "loss.zzz=1": r"unknown setting 'loss\.zzz'. Use one of: pitch, step, duration",
    "loss.pitch=loud": r"loss\.pitch is 'loud', not a number",
    "loss=3": "loss is 3, not a table of settings",
    "options.sigmod=true": r"'options\.sigmod': did you mean 'options\.sigmoid'",
    "options.sigmoid=1": r"options\.sigmoid is 1, not true or false",
    "sequence_length=2.5": r"sequence_length is 2\.5, not a whole number",
    "sequence_length=true": "sequence_length is True, not a whole number",
    "sequence_length=0": "sequence_length is 0, below 1",
    "batch_size=0": "batch_size is 0, below 1",
    "shuffle=1": "shuffle is 1, not true or false",
    "context_length=all": "context_length is 'all', not a whole number or none",
    "context_length=0": "context_length is 0, below 1",
    "targets=some": "targets is 'some', not 'last' or 'every'",
    "stateful=true": "stateful with targets='last'",
    "model.hidden_size=big": r"model\.hidden_size is 'big', not a whole number",
    "model.sigmoid=0": r"model\.sigmoid is 0, not true or false",
    "model.hidden_size={a=1}": r"model\.hidden_size is .*, not a whole number",
    "training.max_grad_norm=x": r"training\.max_grad_norm is 'x', not a number or none",
    "training.max_grad_norm=-1": "max_grad_norm is -1",
    "training.optimizer=foo": r"training\.optimizer is 'foo', not 'sgd' or 'adamw'",
    "read_policy.tracks=foo": r"read_policy\.tracks is 'foo'",
    "encoder.cell=0.1": r"unknown setting 'encoder\.cell'. Leave it out: encoder has no settings",
    "encoder=nope": "'nope'.*log-time",
    "input_transform.x=1": r"no input_transform to change. Give input_transform\.name",
    "sampler.processors=3": r"sampler\.processors is 3, not a list",
    "sampler.processors=[3]": "processors is 3, not a table of settings",
    "sampler.processors=[{temperature=1}]": "one of the processors has no name",
    "transforms=transpose": r"transforms is 'transpose', not a list",
    "transforms=['nope']": "'nope'",
    "transforms=[{name='transpose', low=3, high=1}]": "low",
    "training.schedule=linear": r"schedule is 'linear', not 'constant' or 'cosine'",
    "training.precision=float16": r"precision is 'float16', not 'float32' or 'bfloat16' or 'auto'",
    "training.warmup_steps=-1": "warmup_steps is -1",
    "training.seed=1000000000000000000000": "seed is 1000000000000000000000, above 9",
    "sampler.processors=['nope']": "'nope'",
    "sampler.processors=[{name='temperature', temperatur=1}]": r"temperatur'.*temperature",
    "sampler.processors=[{name='temperature', temperature=0}]": "temperature",
}


@pytest.mark.parametrize("pair", REFUSED)
def test_invalid_settings_are_rejected(pair: str) -> None:
    with pytest.raises(NotelstmError, match=REFUSED[pair]) as caught:
        changed(pair)
    assert isinstance(caught.value, ConfigError | PluginError)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("encoder.parts=5", r"encoder\.parts is 5, not a PartMap or none"),
        ("encoder.conditions=5", r"encoder\.conditions is 5, not a LabelMap or none"),
        ("encoder.conditions.a=5", r"encoder\.conditions is .*, not a LabelMap or none"),
        ("conditions=[1, 2]", r"conditions is \[1, 2\], not a list of texts"),
        ("read_policy.programs=['a']", r"programs is \('a',\), not a list of whole numbers"),
        ("model.field_order=[1]", r"model\.field_order is \(1,\), not a list of texts"),
    ],
)
def test_other_kinds_of_values_are_rejected(pair: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(pair, recipe="expressive")


def test_options_are_for_the_function_of_a_recipe() -> None:
    with pytest.raises(ConfigError, match=r"options are arguments.*model\.hidden_size"):
        with_settings(expressive(), {"options": {"hidden_size": 8}})


def test_parts_that_do_not_fit_are_rejected() -> None:
    with pytest.raises(FieldError, match="one categorical and two continuous"):
        changed("encoder=log-time").build_model()
    odd = changed("encoder=performance-event", "model=note-lstm")
    with pytest.raises(FieldError, match="lacks: pitch, step, duration"):
        odd.build_loss()
    with pytest.raises(ConfigError, match="hidden_size"):
        changed("model.hidden_size=0").build_model()


def test_an_unknown_recipe_is_rejected() -> None:
    with pytest.raises(PluginError, match=r"'nope'.*expressive, reference"):
        load_recipe("nope", {})


TOML = """
recipe = "expressive"
sequence_length = 32
encoder = "log-time"
[training]
epochs = 3
learning_rate = 0.01
[sampler]
name = "greedy"
[[sampler.processors]]
name = "min-duration"
seconds = 0.05
"""


def test_a_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    recipe = from_toml(path)
    assert (recipe.name, recipe.sequence_length, recipe.training.epochs) == ("expressive", 32, 3)
    assert recipe.sampler == Greedy(processors=(MinDuration(seconds=0.05),))
    assert recipe.training.optimizer == expressive().training.optimizer


def test_a_given_batch_size_is_kept() -> None:
    assert expressive().min_steps_per_epoch == 50
    assert changed("batch_size=64", recipe="expressive").min_steps_per_epoch == 0
    both = changed("batch_size=64", "min_steps_per_epoch=9", recipe="expressive")
    assert both.min_steps_per_epoch == 9


def test_given_settings_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    recipe = from_toml(path, parse_settings(["training.epochs=7", "encoder.cell=0.02"]))
    assert (recipe.training.epochs, recipe.training.learning_rate) == (7, 0.01)
    # The file names the encoder, the setting is laid over it.
    assert recipe.encoder == LogTimeEncoder(cell=0.02)


ORDER = ["step", "instrument", "pitch", "velocity", "duration"]
PARTS = (Part(name="Lead", program=40), Part(name="Kit", drum=True))
BY_NAME = PartMap(by="name", unknown="other", parts=PARTS)


@pytest.mark.parametrize(
    ("encoder", "order"),
    [
        (LogTimeEncoder(exact=True, parts=BY_NAME), ORDER),
        (BeatEncoder(parts=BY_NAME), ["time_signature", *ORDER, "position", "tempo"]),
        (PerformanceEventEncoder(parts=BY_NAME), ["event"]),
    ],
    ids=["log-time", "beat", "performance-event"],
)
def test_a_part_map_is_a_table(encoder: NoteEncoder, order: list[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    name = describe(encoder)["name"]
    # The recipe's own encoder keeps its other settings; another one is named.
    named = "" if name == "log-time" else f"encoder.name = '{name}'"
    path.write_text(
        f"""
        model.field_order = {order}
        model.memory_window = 0
        {named}
        [encoder.parts]
        by = "name"
        unknown = "other"
        parts = [{{name = "Lead", program = 40}}, {{name = "Kit", drum = true}}]
        """
    )
    recipe = from_toml(path)
    assert recipe.encoder == encoder
    recipe.build_model()
    saved = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(saved) == recipe
    path.write_text("[encoder.parts]\nby = 'colour'")
    with pytest.raises(ConfigError, match="by of a part map cannot be 'colour'"):
        from_toml(path)


def test_a_file_without_a_recipe_changes_the_expressive_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("sequence_length = 10")
    assert (from_toml(path).name, from_toml(path).sequence_length) == ("expressive", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no such recipe file: .*mine\.toml"),
        (b"sequence_length 10", "the recipe file is not TOML.*line 1"),
        (b"\xff\xfe", "the recipe file is not TOML"),
        (b"sequence_lenght = 10", "'sequence_lenght': did you mean 'sequence_length'"),
        (b"recipe = 3", "'3'"),
    ],
)
def test_invalid_files_are_rejected(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotelstmError, match=message):
        from_toml(path)
