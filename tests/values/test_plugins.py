"""Plugins: found by name in installed packages, described as JSON, rebuilt alike.

The packages are made up in a temporary folder on ``sys.path``, so nothing is installed.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notelstm import plugins
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, PluginError
from notelstm.fields import Event, Field
from notelstm.losses import CompositeLoss, Likelihood, PositivePressure
from notelstm.models import NoteLSTM
from notelstm.sampling import Ancestral, MinDuration, Temperature

Install = Callable[..., None]

PARTS = '''
"""Parts of a made-up package."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Louder:
    """Makes everything louder.

    And nothing else.
    """

    by: int = 10
    inner: object = None
    table: tuple = ()


def warm(field, prediction, views):
    """Leaves everything as it is."""
    return prediction


class Modular:
    """A part with a config, like a module."""

    def __init__(self, *, fields, size=3):
        self.config = {"fields": fields, "size": size}


class Unsaved:
    """A part that forgot its config."""


@dataclass(frozen=True, kw_only=True)
class Homeless:
    """A part without an entry point."""
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes up an installed package with parts and entry points."""
    before = set(sys.modules)

    def make(package: str, points: dict[str, dict[str, str]], source: str = PARTS) -> None:
        folder = tmp_path / package
        (folder / f"{package}-1.2.dist-info").mkdir(parents=True)
        (folder / f"{package}.py").write_text(source, encoding="utf-8")
        info = folder / f"{package}-1.2.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        lines = []
        for kind, names in points.items():
            lines.append(f"[notelstm.{kind}]")
            lines += [f"{name} = {target}" for name, target in names.items()]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.syspath_prepend(folder)

    yield make
    for name in set(sys.modules) - before:
        if name.startswith("madeup"):
            del sys.modules[name]


def test_a_part_is_found_by_name(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    plugin = plugins.find("processors", "louder")
    assert (plugin.distribution, plugin.version, plugin.kind) == ("madeup", "1.2", "processors")
    assert "madeup" not in sys.modules, "finding a part imported it"
    assert plugin.summary == "Makes everything louder."
    assert plugin.load() is sys.modules["madeup"].Louder
    assert plugin in plugins.installed("processors")
    assert plugin not in plugins.installed("samplers")


def test_built_ins_are_found_by_entry_points() -> None:
    own = {
        (kind, plugin.name)
        for kind in plugins.KINDS
        for plugin in plugins.installed(kind)
        if plugin.distribution == "notelstm"
    }
    assert ("encoders", "step-duration") in own
    for kind, name in own:
        plugin = plugins.find(kind, name)
        assert callable(plugin.load()), plugin
        assert plugin.summary.endswith("."), plugin


def test_an_unknown_name_lists_the_installed_parts(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    with pytest.raises(PluginError, match=r"unknown processor 'softer'.*louder.*temperature"):
        plugins.find("processors", "softer")
    with pytest.raises(PluginError, match=r"unknown kind of part 'toys'.*readers, encoders"):
        plugins.installed("toys")


def test_a_misspelt_name_is_corrected() -> None:
    with pytest.raises(
        PluginError, match=r"^unknown recipe 'expresive': did you mean 'expressive'"
    ) as e:
        plugins.find("recipes", "expresive")
    assert str(e.value) == "unknown recipe 'expresive': did you mean 'expressive'?"
    with pytest.raises(PluginError, match="unknown kind of part 'recipe': did you mean 'recipes'"):
        plugins.installed("recipe")


def test_a_name_claimed_twice_is_an_error(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    install("madeup_too", {"processors": {"louder": "madeup_too:Louder"}})
    assert len([p for p in plugins.installed("processors") if p.name == "louder"]) == 2
    with pytest.raises(
        PluginError, match="'louder' is claimed by several packages: madeup and madeup_too"
    ):
        plugins.find("processors", "louder")


def test_a_name_claimed_twice_has_no_hint_to_install(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    saved = plugins.describe(plugins.find("processors", "louder").load()())
    install("madeup_too", {"processors": {"louder": "madeup_too:Louder"}})
    with pytest.raises(PluginError, match="Uninstall one of them") as caught:
        plugins.build(saved)
    assert "pip install" not in str(caught.value)


def test_a_broken_part_of_the_same_name_does_not_prevent_saving(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    install("madeup_ill", {"encoders": {"loud": "madeup_ill:Louder"}}, "raise RuntimeError('ill')")
    part = plugins.find("processors", "louder").load()(by=2)
    saved = plugins.describe(part)
    assert (saved["distribution"], plugins.build(saved)) == ("madeup", part)
    assert "madeup_ill" not in sys.modules


def test_a_built_in_cannot_be_replaced_in_silence(install: Install) -> None:
    install("madeup", {"processors": {"temperature": "madeup:Louder"}})
    with pytest.raises(PluginError, match=r"'temperature' is claimed .*: madeup and notelstm"):
        plugins.find("processors", "temperature")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("import a_package_that_is_not_there", "madeup:Louder", "ModuleNotFoundError"),
        ("raise RuntimeError('no luck')", "madeup:Louder", "RuntimeError: no luck"),
        ("", "madeup:Louder", "AttributeError"),
        ("", "madeup_elsewhere:Louder", "ModuleNotFoundError"),
    ],
)
def test_a_broken_package_is_named(install: Install, source: str, target: str, words: str) -> None:
    install("madeup", {"processors": {"louder": target}}, source)
    plugin = plugins.find("processors", "louder")
    with pytest.raises(PluginError, match=rf"{words}.*package madeup 1\.2, {target}"):
        plugin.load()


@pytest.mark.parametrize(
    "part",
    [
        StepDurationEncoder(),
        LogTimeEncoder(cell=0.02, growth=1.1),
        CompositeLoss(terms={"pitch": (Likelihood(), 0.1), "step": (PositivePressure(), 20.0)}),
        Ancestral(processors=(Temperature(temperature=0.9), MinDuration())),
    ],
    ids=lambda part: type(part).__name__,
)
def test_built_ins_are_rebuilt_equal(part: object) -> None:
    saved = json.loads(json.dumps(plugins.describe(part)))
    assert saved["distribution"] == "notelstm"
    assert plugins.build(saved) == part


def test_a_model_is_rebuilt_from_its_config() -> None:
    model = NoteLSTM(
        fields=StepDurationEncoder().fields,
        hidden_size=8,
        field_order=("step", "pitch", "duration"),
    )
    rebuilt = plugins.build(json.loads(json.dumps(plugins.describe(model))))
    assert isinstance(rebuilt, NoteLSTM)
    assert dict(rebuilt.config) == dict(model.config)


def test_parts_inside_parts_and_fields_are_rebuilt(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder", "modular": "madeup:Modular"}})
    louder, modular = (plugins.find("processors", n).load() for n in ("louder", "modular"))
    part = louder(
        by=3, inner=louder(inner=Temperature(temperature=2.0)), table=((1, "a"), (2, "b"))
    )
    saved = json.loads(json.dumps(plugins.describe(part)))
    assert saved["config"]["inner"]["$part"]["name"] == "louder"
    assert plugins.build(saved) == part
    columns = (
        Field.continuous("step", "step", unit="s", low=0.0),
        Field.of_events("event", [Event("note-on", 60)]),
    )
    saved = json.loads(json.dumps(plugins.describe(modular(fields=columns))))
    assert plugins.build(saved).config == {"fields": columns, "size": 3}
    for field in saved["config"]["fields"]:
        field["$field"]["drums"] = []  # as model files of earlier versions have it
    assert plugins.build(saved).config == {"fields": columns, "size": 3}


def test_a_function_is_saved_as_its_name(install: Install) -> None:
    install("madeup", {"processors": {"warm": "madeup:warm"}})
    warm = plugins.find("processors", "warm").load()
    saved = plugins.describe(warm)
    assert (saved["name"], saved["config"]) == ("warm", {})
    assert plugins.build(saved) is warm


def test_a_function_with_settings_is_rebuilt_with_them(install: Install) -> None:
    install("madeup", {"processors": {"warm": "madeup:warm"}})
    warm = plugins.find("processors", "warm").load()
    rebuilt = plugins.build(json.loads(json.dumps(plugins.describe(functools.partial(warm, by=2)))))
    assert (rebuilt.func, rebuilt.keywords) == (warm, {"by": 2})
    with pytest.raises(PluginError, match="settings of a partial have no names: 2"):
        plugins.describe(functools.partial(warm, 2))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), {1: "a"}, {1, 2}, b"ab", 1j])
def test_a_setting_that_is_not_json_is_rejected_by_name(value: object, install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    part = plugins.find("processors", "louder").load()(inner=((value,),))
    with pytest.raises(PluginError, match=r"louder\.inner = .* cannot be saved as JSON"):
        plugins.describe(part)


def test_numpy_numbers_are_saved_as_plain_ones(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder"}})
    part = plugins.find("processors", "louder").load()(by=np.int64(3), inner=np.float32(0.5))
    assert plugins.build(json.loads(json.dumps(plugins.describe(part)))) == part


def test_a_part_not_yet_built_is_saved_and_stays_unbuilt() -> None:
    unbuilt = functools.partial(NoteLSTM, hidden_size=16)
    saved = json.loads(json.dumps(plugins.describe(unbuilt)))
    rebuilt = plugins.build(saved, unbuilt=True)
    assert isinstance(rebuilt, functools.partial)
    assert (rebuilt.func, rebuilt.keywords) == (NoteLSTM, {"hidden_size": 16})
    assert rebuilt(fields=StepDurationEncoder().fields).config["hidden_size"] == 16


def test_the_error_of_an_unsaveable_part_has_the_reason(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder", "unsaved": "madeup:Unsaved"}})
    plugins.find("processors", "louder").load()
    madeup = sys.modules["madeup"]
    with pytest.raises(PluginError, match=r"madeup\.Homeless has no entry point"):
        plugins.describe(madeup.Homeless())
    with pytest.raises(PluginError, match=r"madeup\.Homeless has no entry point"):
        plugins.describe(madeup.Louder(inner=madeup.Homeless()))
    with pytest.raises(PluginError, match="Unsaved has no configuration to save"):
        plugins.describe(madeup.Unsaved())


def test_a_lenient_record_names_what_cannot_be_rebuilt(install: Install) -> None:
    install("madeup", {"processors": {"louder": "madeup:Louder", "unsaved": "madeup:Unsaved"}})
    plugins.find("processors", "louder").load()
    madeup = sys.modules["madeup"]
    part = madeup.Louder(inner=(madeup.Homeless(), madeup.Unsaved(), float("inf"), {3}))
    saved = json.loads(json.dumps(plugins.describe(part, lenient=True), allow_nan=False))
    missing = ["madeup.Homeless", "madeup.Unsaved", "float inf", "set"]
    assert plugins.missing_parts(saved) == missing
    with pytest.raises(PluginError, match=r"madeup\.Homeless has no entry point"):
        plugins.build(saved)
    whole = plugins.describe(madeup.Louder(by=3), lenient=True)
    assert whole == plugins.describe(madeup.Louder(by=3))
    assert plugins.missing_parts(whole) == []


@pytest.mark.parametrize(
    ("distribution", "hint"),
    [
        ("afar", "Install the package afar, or"),
        ("unknown", "Install the package that has it, or"),
        ("notelstm", "Install another version of notelstm, or"),
    ],
)
def test_a_missing_package_is_named(distribution: str, hint: str) -> None:
    saved = {
        "kind": "encoders",
        "name": "from-afar",
        "distribution": distribution,
        "version": "3.1",
        "config": {},
    }
    with pytest.raises(PluginError, match=rf"package {distribution} 3\.1.*{hint}") as caught:
        plugins.build(saved)
    # An index need not have the package, and what it has by that name may be another's.
    assert "pip install" not in str(caught.value)


def test_settings_that_a_part_rejects_are_a_config_error() -> None:
    saved: dict[str, Any] = plugins.describe(Temperature(temperature=2.0))
    saved["config"]["heat"] = 1
    with pytest.raises(ConfigError, match=r"'temperature' does not take these settings: .*heat"):
        plugins.build(saved)
    saved["config"] = {"temperature": -1}
    with pytest.raises(ConfigError, match="temperature -1 is not a number from"):
        plugins.build(saved)
