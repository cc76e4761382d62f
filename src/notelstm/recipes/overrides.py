"""Changing a recipe from a file or the command line.

A recipe is a tree of settings. A key is a setting of the recipe (``window``), or a setting of one
of its parts (``training.epochs``, ``model.hidden``, ``policy.drums``, ``loss.step`` for a weight).
``options`` are the arguments of the function that makes the recipe (``options.sigmoid``). A part
is replaced by giving its ``name``; what else is given then are its settings. Where a setting may be
None, the text ``none`` says so; ``loss = "none"`` is the likelihood of every field. Processors and
transforms are lists of names, or of tables with a ``name``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from notelstm.errors import ConfigError, NotelstmError
from notelstm.plugins import find, settings_of
from notelstm.recipes.recipe import Recipe
from notelstm.recipes.values import checked, settings_taken

__all__ = ["from_toml", "named", "override", "parse_settings", "part"]

_KINDS: Final = {
    "encoder": "encoders",
    "model": "models",
    "sampler": "samplers",
    "input_transform": "input_transforms",
}


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["training.epochs=2", "model.hidden=64"]`` as a tree of settings.

    A value is read as TOML (``2``, ``0.5``, ``true``, ``[1, 2]``); what is not TOML is a string.

    Raises:
        ConfigError: If a pair has no ``=``, or a setting is given twice.

    Example:
        >>> parse_settings(["training.epochs=2", "policy.tracks=all"])
        {'training': {'epochs': 2}, 'policy': {'tracks': 'all'}}
    """
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                "a setting is key=value", got=repr(pair), hint="for example training.epochs=2"
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
        "a setting is given once",
        got=f"{pair!r} after another of that name",
        hint="leave one out; for a part and its settings, give part.name and part.setting",
    )


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
    options = _table("options", rest.pop("options", {}))
    known = settings_taken(make)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise _unknown(f"options.{unknown[0]}", known)
    chosen = {key: checked(f"options.{key}", known[key], value) for key, value in options.items()}
    return override(make(**chosen), rest)


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
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"name": old}
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
    known = settings_taken(Recipe)
    changes: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            raise _unknown(key, known)
        if value == "none" and key in ("loss", "input_transform"):
            changes[key] = None
        elif key in ("training", "policy"):
            changes[key] = _changed(key, getattr(recipe, key), _table(key, value))
        elif key == "loss":
            changes[key] = _reweighted(recipe, value)
        elif key == "transforms":
            changes[key] = () if value == "none" else _listed(key, value)
        elif key in _KINDS:
            changes[key] = _part(key, getattr(recipe, key), value)
        else:
            changes[key] = checked(key, known[key], value)
    return dataclasses.replace(recipe, **changes)


def _unknown(key: str, known: Iterable[str]) -> ConfigError:
    names = ", ".join(known)
    return ConfigError(
        "a setting exists",
        got=repr(key),
        hint=f"use one of: {names}" if names else f"leave it out: {key} has no settings",
    )


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{key} has settings of its own", got=repr(value), hint=f"give {key}.<setting>"
        )
    return value


def _reweighted(recipe: Recipe, value: object) -> Any:
    loss = recipe.build_loss()
    terms = dict(loss.terms)
    for name, weight in _table("loss", value).items():
        if name not in terms:
            raise _unknown(f"loss.{name}", terms)
        terms[name] = (terms[name][0], float(checked(f"loss.{name}", float, weight)))
    return dataclasses.replace(loss, terms=terms)


def _part(key: str, old: Any, value: object) -> Any:
    """A part with other settings, or another part where a name is given."""
    changes = {"name": value} if isinstance(value, str) else dict(_table(key, value))
    if "name" in changes:
        named_part = find(_KINDS[key], str(changes.pop("name"))).load()
        return _changed(key, named_part, changes)
    if old is None:
        raise ConfigError(f"there is a {key} to change", got="none", hint=f"give {key}.name")
    return _changed(key, old, changes)


def _changed(key: str, old: Any, changes: Mapping[str, Any]) -> Any:
    """A part, or what builds it, with other settings, each of which it must take."""
    unbuilt = inspect.isclass(old) or inspect.isfunction(old)
    is_model = key == "model"
    if inspect.isfunction(old) and not is_model:
        if changes:
            raise _unknown(f"{key}.{next(iter(changes))}", ())
        return old
    target: Any = type(old)
    if unbuilt or isinstance(old, functools.partial):
        target = old if unbuilt else old.func
    known = settings_taken(target)
    if is_model:
        # The encoder decides on these.
        known.pop("fields", None)
    settings = {} if unbuilt else settings_of(old)
    for name, new in changes.items():
        if name not in known:
            raise _unknown(f"{key}.{name}", known)
        settings[name] = checked(f"{key}.{name}", known[name], _built(name, new))
    if is_model:
        return functools.partial(target, **settings)
    try:
        return target(**settings)
    except NotelstmError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{key} takes these settings: {inspect.signature(target)}", got=str(error)
        ) from error


def _built(setting: str, value: object) -> object:
    """Processors, given as names or as tables with a name, built; lists as tuples."""
    if not isinstance(value, list):
        return value
    return _listed(setting, value) if setting == "processors" else tuple(value)


def _listed(kind: str, value: object) -> tuple[Any, ...]:
    """Parts of one kind, given as names or as tables with a name."""
    if not isinstance(value, list):
        raise ConfigError(f"{kind} are a list", got=repr(value), hint='for example ["transpose"]')
    return tuple(_listed_part(kind, item) for item in value)


def part(kind: str, name: str, settings: Sequence[str] = ()) -> Any:
    """An installed part with settings as the command line gives them.

    Args:
        kind: One of :data:`notelstm.plugins.KINDS`.
        name: As ``notelstm plugins`` lists it.
        settings: ``key=value`` each.

    Raises:
        PluginError: If there is no such part.
        ConfigError: If a setting does not exist or cannot have that value.

    Example:
        >>> part("callbacks", "early-stop", ["patience=3"])
        EarlyStop(patience=3, least=0.0, watch='validation')
    """
    return _changed(f"{kind}.{name}", find(kind, name).load(), parse_settings(settings))


def _listed_part(kind: str, item: object) -> Any:
    table = {"name": item} if isinstance(item, str) else dict(_table(kind, item))
    if "name" not in table:
        raise ConfigError(f"each of the {kind} has a name", got=repr(item))
    name = str(table.pop("name"))
    return _changed(f"{kind}.{name}", find(kind, name).load(), table)
