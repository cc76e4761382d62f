"""The command line reference: the ``--help`` text of each command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["make"]


def make(to: Path) -> None:
    """Write ``commands.md``: a section for ``notelstm`` and one for each of its commands.

    Args:
        to: The folder to write to.
    """
    overview = _help()
    # A command has a line of its own: its name, then a sentence.
    names = re.findall(r"^\W+(\w+) {2,}[A-Z]", overview, re.MULTILINE)
    sections = [_section("notelstm", overview)]
    sections += [_section(f"notelstm {name}", _help(name)) for name in names]
    (to / "commands.md").write_text("\n".join(sections), encoding="utf-8")


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n```text\n{text.strip()}\n```\n"


def _help(*command: str) -> str:
    """The help text, 80 columns wide and without colour."""
    return subprocess.run(
        [sys.executable, "-m", "notelstm", *command, "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    ).stdout
