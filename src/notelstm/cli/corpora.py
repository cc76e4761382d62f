"""``notelstm corpora``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import tyro
from tyro.conf import arg

__all__ = ["corpora"]


def _corpus(kind: Callable[[], object]) -> object:
    """A corpus with its default settings, or its class if it needs settings."""
    try:
        return kind()
    except TypeError:
        return kind


def corpora(
    *,
    clear: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """List named corpora with size, license and source, and the contents of the cache.

    The cache keeps the notes of files that were read, so that they open quickly; it is built again
    when it is needed.

    Args:
        clear: Delete the cache, and print its size.
    """
    from notelstm.cli.words import plain
    from notelstm.data.cache import cache_folder, clear_caches, list_caches
    from notelstm.errors import counted
    from notelstm.plugins import installed

    for plugin in installed("corpora"):
        corpus = _corpus(plugin.load())
        print(f"{plugin.name:<10} {plain(plugin.summary)}")
        for label in ("size", "license", "source"):
            value = getattr(corpus, label, "")
            if isinstance(value, str) and value:
                print(f"{'':<10} {label}: {plain(value)}")
    kept = list_caches()
    size = sum(cached.bytes for cached in kept)
    items = counted(len(kept), "item")
    print(f"\nkept in {cache_folder()}: {items}, {size / 2**20:,.1f} MiB")
    for cached in kept:
        print(f"  {cached.bytes / 2**20:8.1f} MiB  {cached.kind}  {cached.source or cached.name}")
    if clear:
        freed = sum(cached.bytes for cached in clear_caches())
        print(f"cleared {freed / 2**20:,.1f} MiB")
