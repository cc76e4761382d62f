"""Changing a recipe: from pairs, from TOML, by part, by setting; what cannot be is refused."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from notelstm.data import Transpose, VelocityShift
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError, FieldError, NotelstmError, PluginError
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.recipes import expressive, from_toml, override, reference
from notelstm.recipes.overrides import named, parse_settings
from notelstm.sampling import Ancestral, Greedy, MinDuration, RawPitch, Temperature, Weighted


def with_settings(*pairs: str, recipe: str = "reference") -> Any:
    return named(recipe, parse_settings(pairs))


def model_settings(recipe: Any) -> dict[str, Any]:
    assert isinstance(recipe.model, functools.partial)
    return dict(recipe.model.keywords)


@pytest.mark.parametrize(
    ("pairs", "tree"),
    [
        ([], {}),
        (["window=50"], {"window": 50}),
        (["a.b=1", "a.c=[1, 2]"], {"a": {"b": 1, "c": [1, 2]}}),
        (["a=0.5", "b=true", "c=1e-3"], {"a": 0.5, "b": True, "c": 0.001}),
        (["a=two words", "b='3'", "c="], {"a": "two words", "b": "3", "c": ""}),
        (["a=x=y"], {"a": "x=y"}),
        ([" a.b =1"], {"a": {"b": 1}}),
        (["p=[{name='temperature'}]"], {"p": [{"name": "temperature"}]}),
    ],
)
def test_pairs_are_a_tree(pairs: list[str], tree: dict[str, Any]) -> None:
    assert parse_settings(pairs) == tree


@pytest.mark.parametrize("pair", ["hidden", "=3", " =3", ""])
def test_a_pair_has_a_key_and_a_value(pair: str) -> None:
    with pytest.raises(ConfigError, match="a setting is key=value"):
        parse_settings([pair])


@pytest.mark.parametrize(
    "pairs", [["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=2", "a=1"], ["a.b=1", "a.b=1"]]
)
def test_nothing_is_lost_where_a_setting_is_given_twice(pairs: list[str]) -> None:
    with pytest.raises(ConfigError, match="a setting is given once"):
        parse_settings(pairs)


def test_settings_of_the_recipe_and_of_its_parts() -> None:
    recipe = with_settings(
        *["window=30", "scored=every", "shuffle=true", "training.epochs=3"],
        *["training.learning_rate=1", "policy.drums=true", "model.hidden=7", "context=none"],
        *["training.clip=0.5", "sampler.processors=[]"],
    )
    assert (recipe.window, recipe.scored, recipe.shuffle) == (30, "every", True)
    assert (recipe.training.epochs, recipe.training.learning_rate) == (3, 1)
    assert recipe.training.clip == 0.5
    assert recipe.policy.drums
    assert recipe.context is None
    assert model_settings(recipe) == {"sigmoid": True, "point_estimates": True, "hidden": 7}
    assert recipe.sampler == Weighted()
    # All else is as it was.
    assert recipe.training.optimizer == "sgd"
    assert recipe.encoder == reference().encoder


def test_the_recipe_given_stays_as_it_is() -> None:
    recipe = reference()
    before = recipe.to_json()
    override(recipe, {"model": {"hidden": 3}, "loss": {"pitch": 2}, "training": {"seed": 3}})
    assert recipe.to_json() == before


@pytest.mark.parametrize("settings", [{}, {"training": {}}, {"model": {}}, {"policy": {}}])
def test_nothing_changed_is_the_same_recipe(settings: dict[str, Any]) -> None:
    assert override(reference(), settings).to_json() == reference().to_json()


def test_options_are_the_arguments_of_the_function() -> None:
    assert model_settings(with_settings("options.sigmoid=false"))["sigmoid"] is False
    both = with_settings("options.hidden=9", "model.layers=2", recipe="expressive")
    assert (model_settings(both)["hidden"], model_settings(both)["layers"]) == (9, 2)


def test_weights_of_the_loss() -> None:
    terms = with_settings("loss.pitch=3").build_loss().terms
    assert terms["pitch"][1] == 3.0
    assert terms["step"] == reference().build_loss().terms["step"]
    # A recipe without a loss of its own has the likelihood of each field.
    assert with_settings("loss.step=0.5", recipe="expressive").build_loss().weights == {
        **dict.fromkeys(("pitch", "duration", "velocity"), 1.0),
        "step": 0.5,
    }
    assert with_settings("loss=none").loss is None


def test_a_part_is_replaced_by_name() -> None:
    recipe = with_settings("encoder.name=log-time", "encoder.cell=0.02", recipe="expressive")
    assert recipe.encoder == LogTimeEncoder(cell=0.02)
    assert with_settings("sampler=greedy").sampler == Greedy()
    assert with_settings("input_transform=raw-pitch").input_transform == RawPitch()
    assert (
        with_settings("options.raw_feedback=true", "input_transform=none").input_transform is None
    )
    model = with_settings("model.name=note-lstm", "model.hidden=4", "loss=none").build_model()
    assert isinstance(model, NoteLSTM)
    assert isinstance(with_settings("model=three-head-lstm").build_model(), ThreeHeadLSTM)


def test_settings_change_a_part_without_replacing_it() -> None:
    recipe = with_settings("encoder.growth=1.5", recipe="expressive")
    assert recipe.encoder == LogTimeEncoder(growth=1.5)


def test_processors_inside_a_sampler() -> None:
    chain = "['min-duration', {name='temperature', temperature=0.5}]"
    recipe = with_settings("sampler.name=ancestral", f"sampler.processors={chain}")
    assert recipe.sampler == Ancestral(processors=(MinDuration(), Temperature(temperature=0.5)))


def test_transforms() -> None:
    recipe = with_settings("transforms=['velocity-shift', {name='transpose', high=5}]")
    assert recipe.transforms == (VelocityShift(), Transpose(high=5))
    assert override(recipe, {"transforms": "none"}).transforms == ()


REFUSED = {
    "modle.hidden=3": "'modle'.*Use one of: .*encoder, model",
    "model.hiden=3": r"'model\.hiden'.*Use one of: hidden, layers",
    "model.fields=3": r"'model\.fields'",
    "model.name.x=3": "unknown model",
    "training.epoch=3": r"'training\.epoch'.*epochs",
    "training=3": "training has settings of its own; got 3",
    "loss.pich=1": r"'loss\.pich'.*pitch, step, duration",
    "loss.pitch=loud": r"loss\.pitch is a number; got 'loud'",
    "loss=3": "loss has settings of its own",
    "options.sigmod=true": r"'options\.sigmod'.*sigmoid",
    "options.sigmoid=1": r"options\.sigmoid is true or false; got 1",
    "window=2.5": r"window is a whole number; got 2\.5",
    "window=true": "window is a whole number; got True",
    "shuffle=1": "shuffle is true or false; got 1",
    "context=all": "context is a whole number or none; got 'all'",
    "context=0": "a context is at least 1 row, or none; got 0",
    "scored=some": "scored is 'last' or 'every'; got 'some'",
    "lanes=true": "lanes score every row",
    "model.hidden=big": r"model\.hidden is a whole number; got 'big'",
    "model.sigmoid=0": r"model\.sigmoid is true or false; got 0",
    "model.hidden={a=1}": r"model\.hidden is a whole number",
    "training.clip=x": r"training\.clip is a number or none; got 'x'",
    "training.clip=-1": "clip is above 0",
    "training.optimizer=foo": r"training\.optimizer is 'sgd' or 'adamw'; got 'foo'",
    "policy.tracks=foo": r"policy\.tracks.*got 'foo'",
    "encoder.cell=0.1": "encoder.cell has no settings",
    "encoder=nope": "unknown encoder 'nope'.*log-time",
    "input_transform.x=1": r"a input_transform to change; got none. Give input_transform\.name",
    "sampler.processors=3": r"sampler\.processors is a list; got 3",
    "sampler.processors=[3]": "processors has settings of its own; got 3",
    "sampler.processors=[{temperature=1}]": "each of the processors has a name",
    "transforms=transpose": r"transforms are a list; got 'transpose'",
    "transforms=['nope']": "unknown transform 'nope'",
    "transforms=[{name='transpose', low=3, high=1}]": "low",
    "training.schedule=linear": r"schedule is 'constant' or 'cosine'; got 'linear'",
    "training.precision=float16": r"precision is 'float32' or 'bfloat16' or 'auto'; got 'float16'",
    "training.warmup=-1": "warmup is at least 0",
    "sampler.processors=['nope']": "unknown processor 'nope'",
    "sampler.processors=[{name='temperature', temperatur=1}]": r"temperatur'.*temperature",
    "sampler.processors=[{name='temperature', temperature=0}]": "temperature 0 is not a number",
}


@pytest.mark.parametrize("pair", REFUSED)
def test_what_cannot_be_is_refused(pair: str) -> None:
    with pytest.raises(NotelstmError, match=REFUSED[pair]) as caught:
        with_settings(pair)
    assert isinstance(caught.value, ConfigError | PluginError)


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(FieldError, match="one categorical and two continuous"):
        with_settings("encoder=log-time").build_model()
    odd = with_settings("encoder=performance-event", "model=note-lstm")
    with pytest.raises(FieldError, match="got pitch, step, duration; the fields are event"):
        odd.build_loss()
    with pytest.raises(ConfigError, match="hidden 0 is less than 1"):
        with_settings("model.hidden=0").build_model()


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'nope'.*expressive, reference"):
        named("nope", {})


TOML = """
recipe = "expressive"
window = 32
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
    assert (recipe.name, recipe.window, recipe.training.epochs) == ("expressive", 32, 3)
    assert recipe.sampler == Greedy(processors=(MinDuration(seconds=0.05),))
    assert recipe.training.optimizer == expressive().training.optimizer


def test_settings_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    recipe = from_toml(path, parse_settings(["training.epochs=7", "encoder.cell=0.02"]))
    assert (recipe.training.epochs, recipe.training.learning_rate) == (7, 0.01)
    # The file names the encoder, the setting is laid over it.
    assert recipe.encoder == LogTimeEncoder(cell=0.02)


def test_a_file_without_a_recipe_is_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("window = 10")
    assert (from_toml(path).name, from_toml(path).window) == ("reference", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a recipe file can be read; got No such file or directory \(.*mine\.toml\)"),
        (b"window 10", "a recipe file is TOML.*line 1"),
        (b"\xff\xfe", "a recipe file is TOML"),
        (b"wndow = 10", "a setting exists; got 'wndow'"),
        (b"recipe = 3", "unknown recipe 3"),
    ],
)
def test_a_bad_file_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotelstmError, match=message):
        from_toml(path)
