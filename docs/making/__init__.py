"""Files that the documentation build generates: music, pictures, tables, the executed notebook.

They are in ``docs/_made``, none of which is committed. A folder there is kept until one of its
sources changes: the library, an example, a page, or the script that makes it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import notelstm
from making import commands, gallery, music, notebook, tables, written

__all__ = ["make_all"]

_HERE = Path(__file__).parent
_LIBRARY = Path(notelstm.__file__).parent


def make_all(docs: Path) -> None:
    """Make the folders that are missing or out of date.

    Args:
        docs: The folder of the documentation; the examples are beside it.
    """
    made, examples = docs / "_made", docs.parent / "examples"
    library = [path for path in _LIBRARY.rglob("*.*") if "__pycache__" not in path.parts]
    measured = [path for path in docs.glob("measured/*") if path.suffix in (".md", ".json")]
    scripts = [*examples.glob("*.py"), *examples.glob("*.ipynb")]
    examples_of_writing = docs / "measured" / "written.json"
    todo: dict[str, tuple[Callable[[Path], None], list[Path]]] = {
        "listen": (lambda to: music.make(docs / "index.md", to), [docs / "index.md"]),
        "written": (lambda to: written.make(examples_of_writing, to), [examples_of_writing]),
        "examples": (lambda to: gallery.run(examples, to), scripts),
        "notebook": (lambda to: notebook.make(examples / "first_session.ipynb", to), scripts),
        "tables": (lambda to: tables.make(docs / "measured", to), measured),
        "commands": (commands.make, []),
    }
    for name, (make, sources) in todo.items():
        _keep(made / name, make, [*_HERE.glob("*.py"), *library, *sources])
    # The text of the gallery takes milliseconds, so it is written each time.
    gallery.write(examples, made / "examples", made / "gallery.md")


def _keep(folder: Path, make: Callable[[Path], None], sources: Iterable[Path]) -> None:
    """Make a folder unless it was made from exactly these sources."""
    digest, stamp = hashlib.sha256(), folder.with_suffix(".made-of")
    for path in sorted(sources):
        digest.update(path.name.encode() + path.read_bytes())
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    stamp.write_text(digest.hexdigest())
