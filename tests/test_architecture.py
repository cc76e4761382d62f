"""The floors of the house: a file imports only from floors below its own.

A room is a file or folder directly inside the package; files of one room may import each other.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import notelstm

PACKAGE = Path(notelstm.__file__).parent

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "_format_1", "_version"}),
    frozenset({"notes", "fields", "tree", "batch", "files"}),
    frozenset({"protocols", "plugins"}),
    frozenset({"predictions"}),
    frozenset({"midi", "encoders", "models", "losses", "sampling"}),
    frozenset({"data", "bundle"}),
    frozenset({"generation", "evaluation"}),
    frozenset({"listening"}),
    frozenset({"training"}),
    frozenset({"recipes"}),
    frozenset({"cli", "testing"}),
    frozenset({"__init__", "__main__"}),
)
FLOOR_OF: Mapping[str, int] = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}


LATE: frozenset[tuple[str, str]] = frozenset({("bundle", "recipes")})
"""Imports upwards that a method makes when it is called: ``Bundle.recipe``."""


class Import(NamedTuple):
    """One import of a room of the package."""

    path: str
    line: int
    room: str
    imported: str


def rooms_in(package: Path) -> set[str]:
    files = {path.stem for path in package.glob("*.py")}
    return files | {path.parent.name for path in package.glob("*/__init__.py")}


def imported_rooms(node: ast.AST, rooms: set[str]) -> Iterator[str]:
    """The rooms that one statement imports; what is no room comes from ``__init__``."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == "notelstm":
        names = [f"notelstm.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        return
    for name in names:
        top, _, rest = name.partition(".")
        if top == "notelstm":
            room = rest.partition(".")[0]
            yield room if room in rooms else "__init__"


def imports_of(package: Path) -> Iterator[Import]:
    """Every import of the package by itself, also inside functions and for type checking."""
    rooms = rooms_in(package)
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for imported in imported_rooms(node, rooms):
                yield Import(str(relative), node.lineno, room, imported)  # type: ignore[attr-defined]


def offences_in(package: Path) -> list[str]:
    """What breaks the rules, as a line each."""
    found = [
        f"{room} stands on no floor" for room in sorted(rooms_in(package)) if room not in FLOOR_OF
    ]
    for where, line, room, imported in imports_of(package):
        if (
            room == imported
            or (room, imported) in LATE
            or room not in FLOOR_OF
            or imported not in FLOOR_OF
        ):
            continue
        if FLOOR_OF[imported] >= FLOOR_OF[room]:
            way = "sideways" if FLOOR_OF[imported] == FLOOR_OF[room] else "upwards"
            found.append(f"{where}, line {line}: {room} imports {way} from {imported}")
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                found.append(f"{path.relative_to(package)}, line {node.lineno}: relative import")
    return found


def test_files_import_only_from_floors_below() -> None:
    assert offences_in(PACKAGE) == []


def test_every_room_of_the_table_is_there() -> None:
    assert set(FLOOR_OF) - rooms_in(PACKAGE) == set()


@pytest.mark.parametrize(
    ("file", "source", "offence"),
    [
        ("notes.py", "from notelstm.midi import read_midi", "notes imports upwards from midi"),
        ("notes.py", "import notelstm.fields", "notes imports sideways from fields"),
        ("losses.py", "from notelstm import models", "losses imports sideways from models"),
        ("losses.py", "from notelstm import generate", "losses imports upwards from __init__"),
        ("losses.py", "import notelstm", "losses imports upwards from __init__"),
        (
            "midi/reading.py",
            "def f():\n    from notelstm.data.folder import Folder",
            "line 2: midi imports upwards from data",
        ),
        (
            "midi/reading.py",
            "if TYPE_CHECKING:\n    from notelstm.cli import main",
            "line 2: midi imports upwards from cli",
        ),
        ("cli/train.py", "from notelstm.testing import check_model", "sideways from testing"),
        ("midi/reading.py", "from ..data import Folder", "relative import"),
        ("shed.py", "", "shed stands on no floor"),
    ],
)
def test_an_offending_file_is_caught(tmp_path: Path, file: str, source: str, offence: str) -> None:
    for room in FLOOR_OF:
        (tmp_path / f"{room}.py").write_text("", encoding="utf-8")
    for room in ("midi", "data", "cli"):
        (tmp_path / f"{room}.py").unlink()
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("", encoding="utf-8")
    assert offences_in(tmp_path) == []
    (tmp_path / file).write_text(source, encoding="utf-8")
    found = offences_in(tmp_path)
    assert len(found) == 1
    assert offence in found[0]


def test_imports_downwards_and_inside_a_room_are_fine(tmp_path: Path) -> None:
    (tmp_path / "midi").mkdir()
    source = "from notelstm.midi.policy import X\nfrom notelstm import errors\nimport torch"
    (tmp_path / "midi" / "__init__.py").write_text(source, encoding="utf-8")
    (tmp_path / "errors.py").write_text("", encoding="utf-8")
    assert offences_in(tmp_path) == []


MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("_version", "__main__") and "__pycache__" not in path.parts
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_says_what_is_public(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    public = module.__all__
    assert len(set(public)) == len(public)
    assert [name for name in public if not hasattr(module, name)] == []
    defined = {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    assert defined <= set(public), "a public name that __all__ lacks: add it or underscore it"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls or path.relative_to(PACKAGE).parts[0] == "cli", calls


@pytest.mark.parametrize(
    "module",
    [
        "notelstm",
        "notelstm.cli",
        "notelstm.midi",
        "notelstm.notes",
        "notelstm.fields",
        "notelstm.errors",
        "notelstm.plugins",
    ],
)
def test_torch_is_imported_only_where_needed(module: str) -> None:
    heavy = ("torch", "pretty_midi", "matplotlib", "music21", "hypothesis")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
