"""``notelstm corpora`` and ``notelstm plugins``."""

from __future__ import annotations

import contextlib
import re

from notelstm.cli.options import Flag
from notelstm.data.cache import cache_folder, clear_caches, list_caches
from notelstm.errors import PluginError, counted
from notelstm.plugins import KINDS, installed

__all__ = ["corpora", "plain", "plugins"]


def corpora(
    *,
    clear: Flag = False,
) -> None:
    """List named corpora with size, license and source, and the contents of the cache.

    The cache holds the notes of files that were read, so that they open quickly. It is rebuilt when
    needed.

    Args:
        clear: Delete the cache, and print its size.
    """
    for plugin in installed("corpora"):
        try:
            corpus = plugin.load()
        except PluginError as error:
            print(f"{plugin.name:<10} broken: {error.problem}")
            continue
        with contextlib.suppress(TypeError):  # one that needs settings is described by its class
            corpus = corpus()
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


def plugins() -> None:
    """List the installed parts: kind, name, package, one line on each."""
    rows = []
    for kind in KINDS:
        for plugin in installed(kind):
            try:
                summary = plain(plugin.summary)
            except PluginError as error:
                summary = f"broken: {error.problem}"
            rows.append((kind, plugin.name, f"{plugin.distribution} {plugin.version}", summary))
    widths = [max(len(row[i]) for row in rows) for i in range(3)] if rows else [0, 0, 0]
    for row in rows:
        columns = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        print("  ".join([*columns, row[3]]))


def plain(text: str) -> str:
    """A line of a docstring without its markup.

    Example:
        >>> plain("Like :class:`~notelstm.notes.Notes`, ``sorted``.")
        'Like Notes, sorted.'
    """
    text = re.sub(r":(?:\w+:)+`~(?:[\w.]*\.)?(\w+)`", r"\1", text)
    text = re.sub(r":(?:\w+:)+`([^`]*)`", r"\1", text)
    return re.sub(r"`+([^`]*)`+_*", r"\1", text)
