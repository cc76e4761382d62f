"""Recipes from settings: of a TOML file, of the command line, and of a bundle.

A recipe is a tree of settings. A key is a setting of the recipe (``batch_size``), or a setting of
one of its parts (``training.epochs``, ``model.hidden_size``, ``read_policy.drums``, ``loss.step``
for a weight). ``options`` are the arguments of the function that makes the recipe
(``options.sigmoid``). A part is replaced if its ``name`` is given, with the other settings of the
table. A part that wraps another one of its kind has it as its setting ``inner``
(``encoder.inner.cell``). The text ``none`` stands for None; ``loss = "none"`` is the likelihood of
every field. Processors and transforms are lists of names, or of tables with a ``name``.
``encoder.parts`` is a table with the settings of a :class:`~notelstm.parts.PartMap`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from notelstm.bundle import PART_KINDS, Bundle
from notelstm.data import GivenMixture
from notelstm.errors import ConfigError, ConfigNotFoundError
from notelstm.parts import PartMap
from notelstm.plugins import find, missing_parts, settings_of
from notelstm.recipes.recipe import ModelSpec, Recipe
from notelstm.recipes.values import (
    checked,
    checked_settings,
    constructed,
    settings_taken,
    unknown_setting,
)

__all__ = [
    "from_toml",
    "load_recipe",
    "parse_settings",
    "part",
    "recorded_recipe",
    "with_settings",
]

DEFAULT: Final = "expressive"
"""The recipe of a file that names none."""


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["training.epochs=2", "model.hidden_size=64"]`` as a tree of settings.

    A value that is not valid TOML (``2``, ``0.5``, ``true``, ``[1, 2]``) is a string.

    Raises:
        ConfigError: If a pair has no ``=``, or a setting is given twice.

    Example:
        >>> parse_settings(["training.epochs=2", "read_policy.tracks=all"])
        {'training': {'epochs': 2}, 'read_policy': {'tracks': 'all'}}
    """
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"{pair!r} is not a setting", hint="write key=value, such as training.epochs=2"
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *path, last = key.strip().split(".")
        at = tree
        for name in path:
            at = at.setdefault(name, {})
            if not isinstance(at, dict):
                raise _twice(pair)
        if last in at:
            raise _twice(pair)
        at[last] = value
    return tree


def _twice(pair: str) -> ConfigError:
    return ConfigError(
        f"{pair!r} is given after another setting of that name",
        hint="leave one out; for a part and its settings, give part.name and part.setting",
    )


def load_recipe(name: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """An installed recipe, by its name in ``notelstm plugins``, with some settings changed.

    Args:
        name: The name.
        settings: A tree of settings; ``options`` are the arguments of the recipe's function.

    Raises:
        PluginError: If there is no such recipe.
        ConfigError: If a setting does not exist or cannot have that value.
    """
    make = find("recipes", name).load()
    rest = dict(settings or {})
    options = _table("options", rest.pop("options", {}))
    return with_settings(constructed("options", make, options), rest)


def from_toml(path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from a TOML file: ``recipe = "reference"`` and the settings that differ from it.

    A file that names no recipe changes ``expressive``. `settings` is a tree of settings that take
    precedence over the file's.

    Raises:
        ConfigNotFoundError: If there is no such file.
        ConfigError: If the file cannot be read, or a setting does not exist.
        PluginError: If there is no such recipe.
    """
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigNotFoundError(f"no such recipe file: {path}", hint="check the path") from error
    except OSError as error:
        raise ConfigError(
            f"cannot read the recipe file: {error.strerror or error}", where=str(path)
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe file is not TOML: {error}", where=str(path)) from error
    name = str(tree.pop("recipe", DEFAULT))
    return load_recipe(name, _merged(tree, settings or {}))


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """`a`, overridden by `b`."""
    both = dict(a)
    for key, value in b.items():
        old = both.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"name": old}
        deeper = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[key] = _merged(old, value) if deeper else value  # type: ignore[arg-type]
    return both


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed.

    Args:
        recipe: The recipe, which is not changed.
        settings: A tree of settings, as from :func:`parse_settings`. A ``batch_size`` without
            ``min_steps_per_epoch`` sets that to 0, so that the batch size is kept.

    Raises:
        ConfigError: If a setting does not exist or cannot have that value.
        PluginError: If a named part is not installed.
    """
    known = settings_taken(Recipe)
    changes: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "options":
            raise ConfigError(
                "options are arguments of a recipe's function, which was called already",
                hint="give the settings that they change, such as model.hidden_size",
            )
        if key not in known:
            raise unknown_setting(key, known)
        if value == "none" and key in ("loss", "input_transform", "given"):
            changes[key] = None
        elif key in ("training", "read_policy", "given"):
            old = getattr(recipe, key)
            old = GivenMixture() if old is None else old
            changes[key] = _changed(key, old, _table(key, value))
        elif key == "loss":
            changes[key] = _reweighted(recipe, value)
        elif key == "transforms":
            changes[key] = () if value == "none" else _listed(key, value)
        elif key in PART_KINDS:
            changes[key] = _part(key, getattr(recipe, key), value)
        else:
            changes[key] = checked(key, known[key], value)
    if "batch_size" in changes:
        changes.setdefault("min_steps_per_epoch", 0)
    changed = dataclasses.replace(recipe, **changes)
    parts = changes.get("parts")
    return changed if parts is None or "encoder" in changes else changed.by_parts(parts)


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{key} is {value!r}, not a table of settings", hint=f"give {key}.<setting>"
        )
    return value


def _reweighted(recipe: Recipe, value: object) -> Any:
    """The loss with other weights."""
    loss = recipe.build_loss()
    weights = checked_settings("loss", dict.fromkeys(loss.terms, float), _table("loss", value))
    new = {name: (loss.terms[name][0], float(weight)) for name, weight in weights.items()}
    return dataclasses.replace(loss, terms={**loss.terms, **new})


def _part(key: str, old: Any, value: object) -> Any:
    """A part with other settings, or another part if a name is given."""
    changes = {"name": value} if isinstance(value, str) else dict(_table(key, value))
    if "name" in changes:
        kind = PART_KINDS[key.partition(".")[0]]
        named_part = find(kind, str(changes.pop("name"))).load()
        return _changed(key, named_part, changes)
    if old is None:
        raise ConfigError(f"the recipe has no {key} to change", hint=f"give {key}.name")
    return _changed(key, old, changes)


def _changed(key: str, old: Any, changes: Mapping[str, Any]) -> Any:
    """A part with other settings, or a part of a class with these settings."""
    own = {} if inspect.isclass(old) or inspect.isfunction(old) else settings_of(old)
    new = {
        # A part inside another one, such as the encoder that an encoder wraps, is of its kind.
        name: _part(f"{key}.{name}", own.get(name), value)
        if name == "inner" and isinstance(value, str | Mapping)
        else _built(name, value)
        for name, value in changes.items()
    }
    if key == "model":
        spec = ModelSpec.of(old)
        known = settings_taken(spec.factory)
        known.pop("fields", None)  # these are the encoder's
        return ModelSpec(spec.factory, {**spec.settings, **checked_settings(key, known, new)})
    if inspect.isfunction(old):
        checked_settings(key, {}, new)
        return old
    target: Any = old if inspect.isclass(old) else type(old)
    settings = {} if target is old else settings_of(old)
    given = {**settings, **checked_settings(key, settings_taken(target), new)}
    for name, parameter in inspect.signature(target).parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if named and parameter.default is parameter.empty and name not in given:
            raise ConfigError(f"missing setting '{key}.{name}'", hint=f"give {name} a value")
    return target(**given)


def _built(setting: str, value: object) -> object:
    """A setting of a part: processors and part maps are built, other lists become tuples."""
    if setting == "parts" and isinstance(value, Mapping):
        return PartMap.from_json(value)
    if not isinstance(value, list):
        return value
    return _listed(setting, value) if setting == "processors" else tuple(value)


def _listed(kind: str, value: object) -> tuple[Any, ...]:
    """Parts of one kind, given as names or as tables with a name."""
    if not isinstance(value, list):
        raise ConfigError(f"{kind} is {value!r}, not a list", hint='write a list: ["transpose"]')
    parts = []
    for item in value:
        table = {"name": item} if isinstance(item, str) else dict(_table(kind, item))
        if "name" not in table:
            raise ConfigError(f"one of the {kind} has no name: {item!r}", hint="give its name")
        name = str(table.pop("name"))
        parts.append(_changed(f"{kind}.{name}", find(kind, name).load(), table))
    return tuple(parts)


def part(kind: str, name: str, settings: Sequence[str] = ()) -> Any:
    """An installed part with settings from the command line, ``key=value`` each.

    Example:
        >>> part("callbacks", "early-stopping", ["patience=3"])
        EarlyStopping(patience=3, min_delta=0.0, monitor='validation')
    """
    return _changed(f"{kind}.{name}", find(kind, name).load(), parse_settings(settings))


def recorded_recipe(
    bundle: Bundle, *, epochs: int, lr_divisor: float, parts: Mapping[str, Any]
) -> Recipe:
    """The recipe of :meth:`Bundle.recipe <notelstm.bundle.Bundle.recipe>`."""
    if not (lr_divisor > 0 and math.isfinite(lr_divisor)):
        raise ConfigError(f"lr_divisor is {lr_divisor}, not a number above 0")
    # A bundle's settings may have more than the recipe, such as the held-out fraction.
    names = {field.name for field in dataclasses.fields(Recipe)}
    record = {key: value for key, value in bundle.settings.items() if key in names}
    if not {"encoder", "model", "sampler", "training"} <= record.keys():
        raise ConfigError(
            "the bundle does not record how its model was trained",
            hint="build a Recipe of its parts, and pass init_from=bundle when you train",
        )
    own: dict[str, Any] = {
        "encoder": bundle.encoder,
        "sampler": bundle.sampler,
        "input_transform": bundle.input_transform,
        "read_policy": bundle.read_policy,
        "context_length": bundle.context_length,
    }
    if missing_parts(record["model"]):
        settings = {k: v for k, v in settings_of(bundle.model).items() if k != "fields"}
        own["model"] = ModelSpec(type(bundle.model), settings)
    recipe = Recipe.from_dict(record, **{**own, **parts})
    training = dataclasses.replace(
        recipe.training,
        epochs=epochs,
        learning_rate=recipe.training.learning_rate / lr_divisor,
        device="auto",
    )
    return recipe if "training" in parts else dataclasses.replace(recipe, training=training)
