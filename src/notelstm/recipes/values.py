"""Type checks of settings that come from a file or the command line."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from notelstm.errors import ConfigError, NotelstmError, did_you_mean
from notelstm.plugins import settings_hint

__all__ = ["checked", "checked_settings", "constructed", "settings_taken", "unknown_setting"]

_NAMES: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "none",
    tuple: "a list",
    Sequence: "a list",
}
_ITEMS: Final[dict[tuple[object, ...], str]] = {
    (str,): "texts",
    (int,): "whole numbers",
    (float,): "numbers",
}


def settings_taken(target: Any) -> dict[str, Any]:
    """The settings of a class or function, with the type of each; ``object`` if it is unknown."""
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name, object) for name in inspect.signature(target).parameters}


def checked(key: str, hint: Any, value: object) -> Any:
    """The value of a setting after a check of its type.

    The text ``none`` can stand for None, and a text for a list with this one text.

    Raises:
        ConfigError: If the value is of another type.
    """
    if value == "none" and not _accepts(hint, value) and _accepts(hint, None):
        return None
    if isinstance(value, str) and hint == tuple[str, ...]:
        return (value,)
    if not _accepts(hint, value):
        raise ConfigError(f"{key} is {value!r}, not {_in_words(hint)}")
    return value


def unknown_setting(key: str, known: Iterable[str]) -> ConfigError:
    """The error for a dotted setting that does not exist, with the closest of the known ones."""
    names = list(known)
    before, dot, last = key.rpartition(".")
    similar = did_you_mean(last, names)
    if similar:
        similar = similar.replace("'", f"'{before}{dot}", 1)
        return ConfigError(f"unknown setting {key!r}{similar}")
    hint = f"use one of: {', '.join(names)}" if names else f"leave it out: {before} has no settings"
    return ConfigError(f"unknown setting {key!r}", hint=hint)


def checked_settings(
    key: str, known: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of a part (``""`` for the recipe) after each was checked with :func:`checked`.

    Raises:
        ConfigError: If a setting does not exist or cannot have that value.
    """
    prefix = f"{key}." if key else ""
    for name in settings:
        if name not in known:
            raise unknown_setting(f"{prefix}{name}", known)
    return {name: checked(f"{prefix}{name}", known[name], v) for name, v in settings.items()}


def constructed(key: str, target: Any, settings: Mapping[str, Any]) -> Any:
    """Call a class or function with settings after they were checked.

    Raises:
        ConfigError: If a setting does not exist or cannot have that value.
    """
    settings = checked_settings(key, settings_taken(target), settings)
    try:
        return target(**settings)
    except NotelstmError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{key} does not take these settings: {error}", hint=settings_hint(target)
        ) from error


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _accepts(hint: Any, value: object) -> bool:
    """Whether a value is of a type; types without values in TOML accept all of them."""
    several = _alternatives(hint)
    if len(several) > 1:
        return any(_accepts(one, value) for one in several)
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if kind in (int, float):
        numbers = (int, float) if kind is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    if kind in (tuple, Sequence):
        items = get_args(hint)
        alike = kind is Sequence or items[1:] == (...,)
        return isinstance(value, list | tuple) and (
            not (items and alike) or all(_accepts(items[0], item) for item in value)
        )
    if kind in (bool, str, type(None)) or dataclasses.is_dataclass(kind):
        return isinstance(value, kind)
    # A part's settings may be other parts, which are tables with a name.
    return not isinstance(value, Mapping) or kind in (object, Any)


def _in_words(hint: Any) -> str:
    """A type in words: ``a number or none``."""
    words: list[str] = []
    for one in _alternatives(hint):
        kind = get_origin(one) or one
        if kind is Literal:
            words += map(repr, get_args(one))
        else:
            words.append(_NAMES.get(kind) or f"a {getattr(kind, '__name__', kind)}")
            if kind in (tuple, Sequence) and get_args(one)[:1] in _ITEMS:
                words[-1] += f" of {_ITEMS[get_args(one)[:1]]}"
    return " or ".join(words)
