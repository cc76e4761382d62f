"""Tables and figures: of the installed parts, and of what the scripts in ``measured`` found."""

from __future__ import annotations

import json
import re
from pathlib import Path

from notelstm.plugins import KINDS, installed

__all__ = ["figures", "make"]

# A docstring is not Markdown: its references become plain names here.
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")


def make(measured: Path, folder: Path) -> None:
    """Write ``parts.md`` and ``benchmarks.md``.

    Args:
        measured: The folder of the scripts and of what they found.
        folder: Where to.
    """
    (folder / "parts.md").write_text(_parts(), encoding="utf-8")
    # Until somebody with a quiet machine has measured, there is no such table.
    table, missing = measured / "benchmarks.md", "Not measured yet on this version.\n"
    text = table.read_text(encoding="utf-8") if table.exists() else missing
    (folder / "benchmarks.md").write_text(text, encoding="utf-8")


def _parts() -> str:
    """All built-in parts by kind; those of other packages in this environment are not ours."""
    lines = []
    for kind in KINDS:
        lines += [f"## {kind.capitalize()}", "", "| name | what it is |", "|---|---|"]
        for plugin in installed(kind):
            if plugin.distribution == "notelstm":
                target = plugin.entry_point.value.replace(":", ".")
                what = _ROLE.sub(r"`\1`", plugin.summary).replace("|", "\\|")
                lines.append(f"| {{py:obj}}`{plugin.name} <{target}>` | {what} |")
        lines.append("")
    return "\n".join(lines)


def figures(measured: Path) -> dict[str, str]:
    """Figures that pages name, as they were measured.

    Args:
        measured: The folder of what the scripts found.
    """
    original = json.loads((measured / "original.json").read_text(encoding="utf-8"))
    shipped = json.loads((measured / "pretrained.json").read_text(encoding="utf-8"))
    printed = [run["psd"] for run in original["variants"]["as printed"]]
    ngram = shipped["baselines"]["4-gram"]
    return {
        "original_psd": f"{sum(printed) / len(printed):.1f}",
        "shipped_psd": f"{shipped['psd']:.1f}",
        "shipped_total": f"{shipped['total']:.1f}",
        "ngram_total": f"{ngram['total']:.1f}",
        "pieces": f"{ngram['difference']['pieces']}",
        "better": f"{ngram['difference']['better']['total']}",
    }
