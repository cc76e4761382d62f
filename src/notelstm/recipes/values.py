"""Whether a value read from a file or the command line is one that a setting can have."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from notelstm.errors import ConfigError

__all__ = ["checked", "settings_taken"]

_NAMES: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "none",
    tuple: "a list",
    Sequence: "a list",
}


def settings_taken(target: Any) -> dict[str, Any]:
    """The settings that a part, or what makes it, takes, and the type of each.

    Args:
        target: A class, a function or a dataclass.

    Returns:
        By name, the annotation; ``object`` where there is none that can be resolved.
    """
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name, object) for name in inspect.signature(target).parameters}


def checked(key: str, hint: Any, value: object) -> Any:
    """The value, if a setting of that type can have it; the text ``none`` where it may be None.

    Args:
        key: What the setting is called.
        hint: Its type.
        value: What TOML gave.

    Raises:
        ConfigError: If the value is of another type.

    Example:
        >>> checked("training.clip", float | None, 1)
        1
        >>> checked("training.clip", float | None, "none") is None
        True
    """
    if value == "none" and not _accepts(hint, value) and _accepts(hint, None):
        return None
    if not _accepts(hint, value):
        raise ConfigError(f"{key} is {_said(hint)}", got=repr(value))
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _accepts(hint: Any, value: object) -> bool:
    """Whether the type has the value; a type that says nothing of TOML's values has any."""
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
        return isinstance(value, list | tuple)
    if kind in (bool, str, type(None)):
        return isinstance(value, kind)
    # A part's settings may be other parts, which are tables with a name.
    return not isinstance(value, Mapping) or kind in (object, Any)


def _said(hint: Any) -> str:
    """A type in words: ``a number or none``."""
    words: list[str] = []
    for one in _alternatives(hint):
        kind = get_origin(one) or one
        words += [repr(v) for v in get_args(one)] if kind is Literal else [_NAMES.get(kind, "?")]
    return " or ".join(words)
