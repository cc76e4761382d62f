"""``notelstm plugins``."""

from __future__ import annotations

__all__ = ["plugins"]


def plugins() -> None:
    """List the installed parts: kind, name, package, one line on each."""
    from notelstm.cli.words import plain
    from notelstm.errors import PluginError
    from notelstm.plugins import KINDS, installed

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
