"""``notelstm corpora``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import tyro
from tyro.conf import arg

__all__ = ["corpora"]


def _corpus(kind: Callable[[], object]) -> object:
    """A corpus as it is without settings; one that needs some says what its class can say."""
    try:
        return kind()
    except TypeError:
        return kind


def corpora(
    *,
    clear: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """List named corpora with size, licence and source, and what is kept of music that was read.

    What is kept makes the next opening quick; it can be made again at any time.

    Args:
        clear: Delete all that is kept, and say how much that was.
    """
    from notelstm.data.cache import cache_folder
    from notelstm.data.caches import clear_caches, list_caches
    from notelstm.plugins import installed

    for plugin in installed("corpora"):
        corpus = _corpus(plugin.load())
        print(f"{plugin.name:<10} {plugin.summary}")
        for label in ("size", "licence", "source"):
            value = getattr(corpus, label, "")
            if isinstance(value, str) and value:
                print(f"{'':<10} {label}: {value}")
    kept = list_caches()
    size = sum(cached.bytes for cached in kept)
    print(f"\nkept in {cache_folder()}: {len(kept)} items, {size / 2**20:,.1f} MiB")
    for cached in kept:
        print(f"  {cached.bytes / 2**20:8.1f} MiB  {cached.kind}  {cached.source or cached.name}")
    if clear:
        freed = sum(cached.bytes for cached in clear_caches())
        print(f"cleared {freed / 2**20:,.1f} MiB")
