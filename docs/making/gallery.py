"""The gallery: docstring and code of each example, and the output of the quick ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from making.frames import frame

__all__ = ["run", "write"]

TITLES = {
    "train_and_play": "Train and generate",
    "steer_by_key": "Control the key",
    "fine_tune_on_bach": "Fine-tune on one composer",
    "compare_models": "Compare models",
    "swap_the_encoder": "Swap the encoder",
    "write_a_sampler": "Write a sampler",
    "play_with_a_bot": "Play with a bot",
    "bare_torch_loop": "Plain PyTorch training loop",
    "lightning_loop": "PyTorch Lightning training loop",
}
"""Titles in the order of the gallery; other examples follow in the order of their names."""

QUICK = ("steer_by_key",)
"""Examples that take a few seconds: the build runs them and shows their output."""


def run(examples: Path, folder: Path) -> None:
    """Run the quick examples.

    Args:
        examples: Their folder.
        folder: The folder to run them in, which receives their output.
    """
    for name in QUICK:
        script = (examples / f"{name}.py").resolve()
        subprocess.run([sys.executable, str(script)], cwd=folder, check=True, capture_output=True)


def write(examples: Path, made: Path, page: Path) -> None:
    """Write the text of the gallery.

    Args:
        examples: The folder of examples.
        made: The folder that :func:`run` wrote to.
        page: The file to write.
    """
    scripts = {path.stem: path for path in sorted(examples.glob("*.py"))}
    names = [*TITLES, *(name for name in scripts if name not in TITLES)]
    sections = [
        _section(scripts[name], TITLES.get(name, name.replace("_", " ").capitalize()), made)
        for name in names
    ]
    page.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _section(script: Path, title: str, made: Path) -> str:
    source = script.read_text(encoding="utf-8")
    tree = ast.parse(source)
    first, _, rest = (ast.get_docstring(tree) or "").partition("\n\n")
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno or 0 :]).strip()
    parts = [f"## {title}", f"*{first}*", rest, f"```python\n{code}\n```"]
    if script.stem in QUICK:
        for path in sorted(made.iterdir()):
            if path.suffix == ".html":
                parts.append(frame(path.read_text(encoding="utf-8"), title))
            elif path.suffix == ".svg":
                picture = f"/_made/{made.name}/{path.name}\n:alt: Piano roll: {title}\n:class: roll"
                parts.append(f"```{{image}} {picture}\n```")
    parts.append(f"`examples/{script.name}`")
    return "\n\n".join(filter(None, parts))
