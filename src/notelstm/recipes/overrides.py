"""Changing a recipe from a file or the command line.

A recipe is a tree of settings. A key is a setting of the recipe (``window``), or a setting of one
of its parts (``training.epochs``, ``model.hidden``, ``policy.drums``, ``loss.step`` for a weight).
``options`` are the arguments of the function that makes the recipe (``options.sigmoid``). A part
is replaced by giving its ``name``; what else is given then are its settings.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from notelstm.errors import ConfigError
from notelstm.plugins import build, find, settings_of
from notelstm.recipes.recipe import Recipe

__all__ = ["from_toml", "named", "override", "parse_settings"]

_KINDS: Final = {
    "encoder": "encoders",
    "model": "models",
    "sampler": "samplers",
    "feedback": "feedbacks",
}


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["training.epochs=2", "model.hidden=64"]`` as a tree of settings.

    A value is read as TOML (``2``, ``0.5``, ``true``, ``[1, 2]``); what is not TOML is a string.

    Raises:
        ConfigError: If a pair has no ``=``.

    Example:
        >>> parse_settings(["training.epochs=2", "policy.tracks=all"])
        {'training': {'epochs': 2}, 'policy': {'tracks': 'all'}}
    """
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                "a setting is key=value", got=repr(pair), fix="for example training.epochs=2"
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
                raise ConfigError("a setting is given once", got=repr(pair))
        at[last] = value
    return tree


def named(name: str, settings: Mapping[str, Any]) -> Recipe:
    """An installed recipe by its name, with changes.

    Args:
        name: As ``notelstm plugins`` lists it.
        settings: A tree of settings.

    Raises:
        PluginError: If there is no such recipe.
        ConfigError: If a setting does not exist or cannot have that value.
    """
    make = find("recipes", name).load()
    rest = dict(settings)
    options = rest.pop("options", {})
    known = inspect.signature(make).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise _unknown(f"options.{unknown[0]}", known)
    for key, value in options.items():
        _check_type(f"options.{key}", known[key].default, value)
    return override(make(**options), rest)


def from_toml(path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from a TOML file: ``recipe = "reference"`` and what differs from it.

    Args:
        path: The file.
        settings: A tree of settings that go before those of the file.

    Raises:
        ConfigError: If the file cannot be read, or a setting does not exist.
        PluginError: If there is no such recipe.
    """
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "a recipe file can be read", got=error.strerror or str(error), where=str(path)
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("a recipe file is TOML", got=str(error), where=str(path)) from error
    name = tree.pop("recipe", "reference")
    return named(name, _merged(tree, settings or {}))


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """`a` with `b` laid over it."""
    both = dict(a)
    for key, value in b.items():
        old = both.get(key)
        deeper = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[key] = _merged(old, value) if deeper else value  # type: ignore[arg-type]
    return both


def override(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed.

    Args:
        recipe: Where to start.
        settings: A tree of settings, as :func:`parse_settings` gives it.

    Raises:
        ConfigError: If a setting does not exist or cannot have that value.
        PluginError: If a named part is not installed.
    """
    known = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
    changes: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            raise _unknown(key, known)
        if key in ("training", "policy"):
            changes[key] = _replaced(key, known[key], value)
        elif key == "loss":
            changes[key] = _reweighted(recipe, value)
        elif key in _KINDS:
            changes[key] = _part(key, known[key], value)
        else:
            _check_type(key, known[key], value)
            changes[key] = value
    return dataclasses.replace(recipe, **changes)


def _unknown(key: str, known: Mapping[str, object]) -> ConfigError:
    return ConfigError("a setting exists", got=repr(key), fix=f"use one of: {', '.join(known)}")


def _check_type(key: str, old: object, new: object) -> None:
    """A number stays a number, a switch a switch; None and text say nothing."""
    if isinstance(old, bool) != isinstance(new, bool) and old is not None:
        fits = False
    elif isinstance(old, float):
        fits = isinstance(new, int | float)
    elif isinstance(old, int | str | tuple):
        fits = isinstance(new, list if isinstance(old, tuple) else type(old))
    else:
        fits = True
    if not fits:
        raise ConfigError(f"{key} is like {old!r}", got=repr(new))


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{key} has settings of its own", got=repr(value), fix=f"give {key}.<setting>"
        )
    return value


def _replaced(key: str, old: Any, value: object) -> Any:
    changes = dict(_table(key, value))
    known = settings_of(old)
    for name, new in changes.items():
        if name not in known:
            raise _unknown(f"{key}.{name}", known)
        _check_type(f"{key}.{name}", known[name], new)
    return dataclasses.replace(old, **changes)


def _reweighted(recipe: Recipe, value: object) -> Any:
    loss = recipe.build_loss()
    terms = dict(loss.terms)
    for name, weight in _table("loss", value).items():
        if name not in terms:
            raise _unknown(f"loss.{name}", terms)
        _check_type(f"loss.{name}", 1.0, weight)
        terms[name] = (terms[name][0], float(weight))
    return dataclasses.replace(loss, terms=terms)


def _part(key: str, old: Any, value: object) -> Any:
    """A part with other settings, or another part where a name is given."""
    if isinstance(value, str):
        value = {"name": value}
    changes = dict(_table(key, value))
    name = changes.pop("name", None)
    changes = {k: _nested(v) for k, v in changes.items()}
    unbuilt = key == "model"
    if name is not None:
        part = build({"kind": _KINDS[key], "name": name}, unbuilt=True)
        return functools.partial(part, **changes) if unbuilt else _call(key, part, changes)
    if old is None:
        raise ConfigError(f"there is a {key} to change", got="none", fix=f"give {key}.name")
    target: Any = old.func if isinstance(old, functools.partial) else type(old)
    settings: dict[str, Any]
    if inspect.isclass(old) or isinstance(old, types.FunctionType):
        target, settings = old, {}
    else:
        settings = settings_of(old)
    known = inspect.signature(target).parameters
    for setting in changes:
        if setting not in known:
            raise _unknown(f"{key}.{setting}", known)
    settings |= changes
    return functools.partial(target, **settings) if unbuilt else _call(key, target, settings)


def _call(key: str, target: Any, settings: Mapping[str, Any]) -> Any:
    try:
        return target(**settings)
    except TypeError as error:
        raise ConfigError(
            f"{key} takes these settings: {inspect.signature(target)}", got=str(error)
        ) from error


def _nested(value: object) -> Any:
    """Processors inside a sampler's settings: tables with a name."""
    if isinstance(value, list):
        return tuple(_nested(item) for item in value)
    if isinstance(value, Mapping) and "name" in value:
        config = {k: v for k, v in value.items() if k != "name"}
        return build({"kind": "processors", "name": value["name"], "config": config})
    return value
