"""A notebook as a page: it is executed, and its cells and their output become Markdown."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["make"]


def make(path: Path, folder: Path) -> None:
    """Execute a notebook and write it as ``page.md``, with its pictures beside it.

    Args:
        path: The notebook.
        folder: The folder to write to and to run it in.
    """
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, timeout=120, resources={"metadata": {"path": str(folder)}})
    # An exception in a cell is raised here; the kernel's own log lines are discarded.
    client.execute(stderr=subprocess.DEVNULL)
    blocks: list[str] = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            blocks.append(cell.source)
            continue
        blocks.append(f"```python\n{cell.source}\n```")
        blocks += [
            _shown(output, folder, f"{cell.id}-{n}") for n, output in enumerate(cell.outputs)
        ]
    (folder / "page.md").write_text("\n\n".join(filter(None, blocks)) + "\n", encoding="utf-8")


def _shown(output: Any, folder: Path, name: str) -> str:
    """One output of a cell: a player, a picture, or text."""
    if output.output_type == "stream":
        return f"```text\n{output.text}```" if output.name == "stdout" else ""
    data = output.data
    if "text/html" in data:
        return f"```{{raw}} html\n{data['text/html']}\n```"
    if "image/png" in data:
        (folder / f"{name}.png").write_bytes(base64.b64decode(data["image/png"]))
        picture = f"/_made/{folder.name}/{name}.png\n:alt: Output of the cell above\n:class: roll"
        return f"```{{image}} {picture}\n```"
    return f"```text\n{data['text/plain']}\n```"
