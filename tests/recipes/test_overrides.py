"""Settings of a recipe, from a file or the command line."""

import functools
from pathlib import Path
from typing import Any

import pytest

from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError, NotelstmError, PluginError
from notelstm.models import NoteLSTM
from notelstm.recipes import Recipe, from_toml, override, reference
from notelstm.recipes.overrides import named, parse_settings
from notelstm.sampling import Ancestral, Temperature


def changed(*pairs: str) -> Recipe:
    return named("reference", parse_settings(pairs))


def test_settings_of_the_recipe_and_of_its_parts() -> None:
    recipe = changed(
        "window=30",
        "training.epochs=3",
        "training.learning_rate=1",
        "model.hidden=32",
        "policy.tracks=all",
        "loss.step=5",
        "options.sigmoid=false",
    )
    assert recipe.window == 30
    assert (recipe.training.epochs, recipe.training.learning_rate) == (3, 1)
    assert isinstance(recipe.model, functools.partial)
    assert recipe.model.keywords == {"sigmoid": False, "point_times": True, "hidden": 32}
    assert recipe.policy.tracks == "all"
    assert recipe.build_loss().weights == {"pitch": 0.1, "step": 5.0, "duration": 1.0}


def test_parts_are_replaced_by_name() -> None:
    recipe = changed(
        "encoder.name=log-time",
        "encoder.linear=0.2",
        "model.name=note-lstm",
        "model.hidden=16",
        'sampler={name="ancestral", processors=[{name="temperature", temperature=0.9}]}',
    )
    assert recipe.encoder == LogTimeEncoder(linear=0.2)
    assert isinstance(recipe.build_model(), NoteLSTM)
    assert recipe.sampler == Ancestral(processors=(Temperature(temperature=0.9),))


@pytest.mark.parametrize(
    ("pair", "error", "said"),
    [
        ("windw=3", ConfigError, "windw"),
        ("training.epoch=3", ConfigError, "epochs"),
        ("model.hiden=3", ConfigError, "hidden"),
        ("options.sigmoidal=true", ConfigError, "options.sigmoidal"),
        ("training.epochs=many", ConfigError, "many"),
        ("window=true", ConfigError, "window"),
        ("options.sigmoid=1", ConfigError, "sigmoid"),
        ("loss.velocity=1", ConfigError, "velocity"),
        ("training=3", ConfigError, "training"),
        ("window", ConfigError, "key=value"),
        ("sampler=no-such", PluginError, "ancestral"),
        ("encoder.name=no-such", PluginError, "log-time"),
        ("feedback.x=1", ConfigError, "feedback"),
        ("training.epochs=-1", ConfigError, "epochs"),
    ],
)
def test_a_wrong_setting_is_one_error_that_names_it(
    pair: str, error: type[NotelstmError], said: str
) -> None:
    with pytest.raises(error, match=said):
        changed(pair)


def test_a_file_says_what_differs_and_the_command_line_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'recipe = "reference"\nwindow = 30\n[options]\nin_order = false\n'
        "[training]\nepochs = 7\nseed = 3\n",
        encoding="utf-8",
    )
    recipe = from_toml(file, parse_settings(["training.epochs=2"]))
    assert (recipe.window, recipe.shuffle) == (30, True)
    assert (recipe.training.epochs, recipe.training.seed) == (2, 3)


@pytest.mark.parametrize("text", ["window = ", 'recipe = "no-such"', "windw = 3"])
def test_a_wrong_file_is_one_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises((ConfigError, PluginError)):
        from_toml(file)


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can be read"):
        from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("settings", [{}, {"training": {}}])
def test_nothing_changed_is_the_same_recipe(settings: dict[str, Any]) -> None:
    assert override(reference(), settings).to_json() == reference().to_json()
