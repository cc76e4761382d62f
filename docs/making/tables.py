"""Tables and figures: the built-in parts, and the results of the scripts in ``measured``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from notelstm.plugins import KINDS, installed

__all__ = ["figures", "make"]

# Docstrings are not Markdown: their references become plain names.
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")


def make(measured: Path, folder: Path) -> None:
    """Write ``parts.md`` and ``benchmarks.md``.

    Args:
        measured: The folder of the scripts and their results.
        folder: The folder to write to.
    """
    (folder / "parts.md").write_text(_parts(), encoding="utf-8")
    # The table exists once somebody has measured on an idle machine.
    table, missing = measured / "benchmarks.md", "Not measured yet on this version.\n"
    text = table.read_text(encoding="utf-8") if table.exists() else missing
    (folder / "benchmarks.md").write_text(text, encoding="utf-8")


def _parts() -> str:
    """All built-in parts by kind, without those of other installed packages."""
    lines = []
    for kind in KINDS:
        lines += [f"## {kind.capitalize()}", "", "| name | description |", "|---|---|"]
        for plugin in installed(kind):
            if plugin.distribution == "notelstm":
                target = plugin.entry_point.value.replace(":", ".")
                summary = _ROLE.sub(r"`\1`", plugin.summary).replace("|", "\\|")
                lines.append(f"| {{py:obj}}`{plugin.name} <{target}>` | {summary} |")
        lines.append("")
    return "\n".join(lines)


def figures(measured: Path) -> dict[str, str]:
    """Measured figures that pages refer to by name.

    Args:
        measured: The folder of the results.
    """
    rows = json.loads((measured / "models.json").read_text(encoding="utf-8"))["rows"]
    return {
        "original_nats": f"{rows['original, as printed']['pitch_step_duration']:.1f}",
        "notes_nats": f"{rows['notes']['pitch_step_duration']:.1f}",
    }
