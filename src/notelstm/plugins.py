"""Plugins: parts by name, and their records of name and settings.

Built-in parts and those of other packages are entry points of an installed distribution, which are
imported on first use::

    [project.entry-points."notelstm.encoders"]
    my-encoder = "my_package:MyEncoder"

The settings of a part are the fields of a frozen dataclass, or its mapping ``config``. They are
JSON values, :class:`~notelstm.fields.Field`, other parts, or tuples and mappings of these. A part
is rebuilt as ``Part(**config)``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np

from notelstm.errors import ConfigError, PluginError, did_you_mean
from notelstm.fields import Field
from notelstm.labels import LabelMap
from notelstm.parts import PartMap

__all__ = [
    "KINDS",
    "Plugin",
    "Saved",
    "build",
    "describe",
    "find",
    "installed",
    "missing_parts",
    "settings_hint",
    "settings_of",
]

KINDS: Final = (
    "readers",
    "encoders",
    "models",
    "losses",
    "samplers",
    "processors",
    "input_transforms",
    "transforms",
    "callbacks",
    "corpora",
    "recipes",
)
"""The kinds of part; the entry point group of each is ``notelstm.<kind>``."""

_SINGULAR: Final = {
    **{kind: kind.removesuffix("s") for kind in KINDS},
    "losses": "loss",
    "corpora": "corpus",
}
"""The singular of each kind, for messages."""

Saved: TypeAlias = dict[str, Any]
"""The record of a part: ``kind``, ``name``, ``distribution``, ``version``, ``config``."""


@final
@dataclass(frozen=True, kw_only=True)
class Plugin:
    """An installed part.

    Attributes:
        kind: One of :data:`KINDS`.
        name: Its name in files and on the command line.
        distribution: The package that installed it.
        version: The version of the package.
        entry_point: The entry point, which :meth:`load` imports.
    """

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import the part.

        Raises:
            PluginError: If its package cannot be imported.
        """
        try:
            return self.entry_point.load()
        except Exception as error:  # an import can raise anything
            raise PluginError(
                f"cannot import the {self.kind} plugin {self.name!r}: "
                f"{type(error).__name__}: {error}",
                where=f"package {self.distribution} {self.version}, {self.entry_point.value}",
                hint=f"repair or uninstall {self.distribution}",
            ) from error

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        lines = (inspect.getdoc(self.load()) or "").splitlines()
        return lines[0] if lines else ""


def installed(kind: str) -> tuple[Plugin, ...]:
    """All installed parts of a kind, by name, including several of the same name.

    Raises:
        PluginError: If there is no such kind.
    """
    if kind not in KINDS:
        closest = did_you_mean(kind, KINDS)
        raise PluginError(
            f"unknown kind of part {kind!r}{closest}",
            hint="" if closest else f"use one of: {', '.join(KINDS)}",
        )
    return _scan(kind, tuple((entry, _changed_at(entry)) for entry in sys.path))


def _changed_at(entry: str) -> int | None:
    """The time of the last installation into an entry of the path, or removal from it."""
    try:
        return Path(entry).stat().st_mtime_ns
    except OSError:
        return None


@functools.lru_cache(maxsize=len(KINDS))
def _scan(
    kind: str,
    path: tuple[tuple[str, int | None], ...],  # noqa: ARG001 - part of the key of the cache
) -> tuple[Plugin, ...]:
    """The parts of a kind, cached: reading the metadata of all packages takes milliseconds."""
    found = [
        Plugin(
            kind=kind,
            name=point.name,
            distribution=point.dist.name if point.dist else "unknown",
            version=point.dist.version if point.dist else "unknown",
            entry_point=point,
        )
        for point in entry_points(group=f"notelstm.{kind}")
    ]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def find(kind: str, name: str) -> Plugin:
    """The installed part of a kind and name.

    Raises:
        PluginError: If there is none, or two packages claim the name.
    """
    everything = installed(kind)
    found = [plugin for plugin in everything if plugin.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise PluginError(
            f"the {_SINGULAR.get(kind, kind)} name {name!r} is claimed by several packages: "
            + " and ".join(p.distribution for p in found),
            hint="uninstall one of them",
        )
    names = [plugin.name for plugin in everything]
    closest = did_you_mean(str(name), names)
    known = f"use one of: {', '.join(names)}; or " if names else ""
    raise PluginError(
        f"unknown {_SINGULAR.get(kind, kind)} {name!r}{closest}",
        hint="" if closest else f"{known}install the package that has it",
    )


def _plugin_of(target: object) -> Plugin:
    """The entry point of a class or function."""
    name, module = getattr(target, "__qualname__", ""), getattr(target, "__module__", "?")
    # Only plugins of this name are imported.
    alike = [
        plugin for kind in KINDS for plugin in installed(kind) if plugin.entry_point.attr == name
    ]
    for plugin in sorted(alike, key=lambda plugin: plugin.entry_point.module != module):
        try:
            found = plugin.load() is target
        except PluginError:
            # Another package's part of this name.
            continue
        if found:
            return find(plugin.kind, plugin.name)
    raise PluginError(
        f"{module}.{name} has no entry point, so it cannot be saved by name",
        hint='declare it under [project.entry-points."notelstm.<kind>"] and install its package; '
        "or pass checkpoints without it and give the part to load(path, encoder=...)",
    )


def settings_of(part: object) -> dict[str, Any]:
    """The settings of a part: its dataclass fields or its ``config``; none for a function.

    Raises:
        PluginError: If it has no configuration, or one that has no names.
    """
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init}
    if isinstance(part, functools.partial):
        if part.args:
            raise PluginError(
                "the settings of a partial have no names: " + ", ".join(map(repr, part.args)),
                where=getattr(part.func, "__qualname__", repr(part.func)),
                hint="pass them as keywords",
            )
        return dict(part.keywords)
    if inspect.isroutine(part):
        return {}
    config = getattr(part, "config", None)
    if isinstance(config, Mapping):
        return dict(config)
    raise PluginError(
        f"{type(part).__name__} has no configuration to save",
        hint="make it a frozen dataclass, or store the keywords it was built with as self.config",
    )


def describe(part: object, *, lenient: bool = False) -> Saved:
    """The record of a part as JSON: its name, its package and its settings.

    Args:
        part: The part, or a ``functools.partial`` of a class or a function.
        lenient: Whether to record parts that cannot be rebuilt as ``{"missing": <qualified name>,
            "config": ...}``, which :func:`missing_parts` finds, instead of raising.

    Raises:
        PluginError: If it, or a part inside it, has no entry point, no settings to save, or a
            setting that is not JSON.
    """
    if isinstance(part, functools.partial):
        target: object = part.func
    else:
        target = part if inspect.isroutine(part) or inspect.isclass(part) else type(part)
    name = f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', '?')}"
    record: Saved = {"missing": name}
    settings: dict[str, Any] = {}
    try:
        settings = {} if part is target else settings_of(part)
        plugin = _plugin_of(target)
        name = plugin.name
        record = {
            "kind": plugin.kind,
            "name": name,
            "distribution": plugin.distribution,
            "version": plugin.version,
        }
    except PluginError:
        if not lenient:
            raise
    config = {key: _to_json(value, f"{name}.{key}", lenient) for key, value in settings.items()}
    return {**record, "config": config}


def missing_parts(saved: object) -> list[str]:
    """The qualified names of the parts that cannot be rebuilt, in a lenient record or a tree."""
    if isinstance(saved, Mapping):
        own = [str(saved["missing"])] if "missing" in saved else []
        return own + [name for value in saved.values() for name in missing_parts(value)]
    if isinstance(saved, list | tuple):
        return [name for value in saved for name in missing_parts(value)]
    return []


def _to_json(value: object, where: str, lenient: bool) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    finite = isinstance(value, float) and math.isfinite(value)
    if value is None or finite or isinstance(value, bool | int | str):
        return value
    for kind, type_ in (("$field", Field), ("$parts", PartMap), ("$labels", LabelMap)):
        if isinstance(value, type_):
            return {kind: dataclasses.asdict(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item, f"{where}.{key}", lenient) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_to_json(item, where, lenient) for item in value]
    foreign = type(value).__module__ not in ("builtins", "numpy") or inspect.isroutine(value)
    if isinstance(value, Mapping) or not foreign:
        if lenient:
            # The value is in the name, so that the records of different settings differ.
            plain = isinstance(value, float | complex | bytes)
            name = f"{type(value).__name__} {value!r}" if plain else type(value).__name__
            return {"$part": {"missing": name, "config": {}}}
        raise PluginError(
            f"{where} = {value!r} cannot be saved as JSON",
            hint="give the part finite numbers, text, fields, parts, or lists and mappings of "
            "these, and None for an unbounded value",
        )
    return {"$part": describe(value, lenient=lenient)}


def _from_json(value: object) -> Any:
    if isinstance(value, Mapping):
        if "$field" in value:
            settings = dict(value["$field"])
            settings.pop("drums", None)  # of files of earlier versions
            return Field(**settings)
        for kind, type_ in (("$parts", PartMap), ("$labels", LabelMap)):
            if kind in value:
                return type_.from_json(value[kind])
        if "$part" in value:
            return build(value["$part"])
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_from_json(item) for item in value)
    return value


def build(saved: Mapping[str, Any], *, unbuilt: bool = False) -> Any:
    """Rebuild a part from its record of :func:`describe`.

    Args:
        saved: The record.
        unbuilt: Whether to return a ``functools.partial`` in place of the part.

    Raises:
        PluginError: If the part is not installed.
        ConfigError: If the part does not take its settings.
    """
    if "missing" in saved:
        raise PluginError(
            f"{saved['missing']} has no entry point, so it cannot be rebuilt",
            hint="pass the part itself",
        )
    kind, name = saved["kind"], saved["name"]
    try:
        plugin = find(kind, name)
    except PluginError as error:
        source = saved.get("distribution")
        there = any(plugin.name == name for plugin in installed(kind))
        if source is None or there:
            raise
        package = {"notelstm": "another version of notelstm", "unknown": "the package that has it"}
        raise PluginError(
            f"unknown {_SINGULAR.get(kind, kind)} {name!r}",
            where=f"saved with the package {source} {saved.get('version', '')}".rstrip(),
            # No pip command: a package index may have another package of this name.
            hint=f"install {package.get(source, f'the package {source}')}, or pass the part itself "
            "when you load",
        ) from error
    target = plugin.load()
    config = {key: _from_json(item) for key, item in saved.get("config", {}).items()}
    if unbuilt:
        return functools.partial(target, **config)
    if inspect.isroutine(target):
        # A function is itself the part.
        return functools.partial(target, **config) if config else target
    try:
        return target(**config)
    except TypeError as error:
        raise ConfigError(
            f"{kind} {name!r} does not take these settings: {error}",
            hint=settings_hint(target),
        ) from error


def settings_hint(target: Any) -> str:
    """A hint that names the settings of a class or function."""
    names = ", ".join(inspect.signature(target).parameters)
    return f"use its settings: {names}" if names else "leave them out: it has no settings"
