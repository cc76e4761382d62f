"""The layers of the library: a file imports only from lower layers.

A part is a file or folder directly inside the package; files of one part may import each other.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import notelstm

PACKAGE = Path(notelstm.__file__).parent

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "_version"}),
    frozenset({"notes", "fields", "tree", "files", "programs"}),
    frozenset({"parts", "labels"}),
    frozenset({"batch", "tracker", "_bundle_format_1"}),
    frozenset({"protocols", "plugins"}),
    frozenset({"predictions"}),
    frozenset({"midi", "encoders", "models", "losses", "sampling"}),
    frozenset({"data", "bundle", "adaptation"}),
    frozenset({"generation", "evaluation"}),
    frozenset({"listening"}),
    frozenset({"training"}),
    frozenset({"recipes"}),
    frozenset({"play"}),
    frozenset({"cli", "testing"}),
    frozenset({"__init__", "__main__"}),
)
LAYER_OF: Mapping[str, int] = {part: n for n, parts in enumerate(LAYERS) for part in parts}


LATE: frozenset[tuple[str, str]] = frozenset({("bundle", "recipes")})
"""Imports upwards that a method makes when it is called.

A recipe builds bundles, and ``Bundle.recipe`` gives the recipe that trained one: users look for it
at the bundle.
"""


class Import(NamedTuple):
    """One import of a part of the package."""

    path: str
    line: int
    part: str
    imported: str


def parts_in(package: Path) -> set[str]:
    files = {path.stem for path in package.glob("*.py")}
    return files | {path.parent.name for path in package.glob("*/__init__.py")}


def imported_by_name(node: ast.AST) -> list[str]:
    """The module that ``importlib.import_module`` or ``__import__`` imports, as far as it is known.

    Of an f-string, this is its beginning: ``f"notelstm.{name}"`` may be any module of the package.
    """
    if not (isinstance(node, ast.Call) and node.args):
        return []
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    argument = node.args[0]
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = next(iter(argument.values))
    if called not in ("import_module", "__import__") or not isinstance(argument, ast.Constant):
        return []
    return [str(argument.value)]


def imported_parts(node: ast.AST, parts: set[str]) -> Iterator[str]:
    """The parts that one statement imports; names of no part are those of ``__init__``."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif found := imported_by_name(node):
        names = found
    elif isinstance(node, ast.ImportFrom) and node.module == "notelstm":
        names = [f"notelstm.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        return
    for name in names:
        top, _, rest = name.partition(".")
        if top == "notelstm":
            part = rest.partition(".")[0]
            yield part if part in parts else "__init__"


def imports_of(package: Path) -> Iterator[Import]:
    """Every import of the package by itself, also inside functions and for type checking."""
    parts = parts_in(package)
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        part = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for imported in imported_parts(node, parts):
                yield Import(str(relative), node.lineno, part, imported)  # type: ignore[attr-defined]


def offences_in(package: Path) -> list[str]:
    """The imports that break the rules, one per line."""
    found = [f"{part} is in no layer" for part in sorted(parts_in(package)) if part not in LAYER_OF]
    for where, line, part, imported in imports_of(package):
        if (
            part == imported
            or (part, imported) in LATE
            or part not in LAYER_OF
            or imported not in LAYER_OF
        ):
            continue
        if LAYER_OF[imported] >= LAYER_OF[part]:
            way = "sideways" if LAYER_OF[imported] == LAYER_OF[part] else "upwards"
            found.append(f"{where}, line {line}: {part} imports {way} from {imported}")
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            if relative or any(name.startswith(".") for name in imported_by_name(node)):
                found.append(f"{path.relative_to(package)}, line {node.lineno}: relative import")  # type: ignore[attr-defined]
    return found


def test_files_import_only_from_lower_layers() -> None:
    assert offences_in(PACKAGE) == []


def test_the_page_on_concepts_has_the_same_layers() -> None:
    page = (Path(__file__).parents[1] / "docs" / "concepts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page.partition("\n## Layers\n")[2], re.MULTILINE)
    shown = [set(re.findall(r"`(\w+)`", cell)) for _, cell in rows]
    public = [{part for part in parts if not part.startswith("_")} for parts in LAYERS]
    assert [int(number) for number, _ in rows] == list(range(len(rows)))
    assert shown == [parts for parts in public if parts]


def test_every_entry_of_the_layer_table_exists() -> None:
    assert set(LAYER_OF) - parts_in(PACKAGE) == set()


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
        (
            "notes.py",
            "import importlib\nimportlib.import_module('notelstm.midi.reading')",
            "line 2: notes imports upwards from midi",
        ),
        (
            "notes.py",
            "def f():\n    import_module(name='x') or import_module(f'notelstm.midi.{x}')",
            "line 2: notes imports upwards from midi",
        ),
        ("notes.py", "__import__('notelstm.data')", "notes imports upwards from data"),
        ("notes.py", "import_module(f'notelstm.{x}')", "notes imports upwards from __init__"),
        ("notes.py", "import_module('.midi', 'notelstm')", "line 1: relative import"),
        ("shed.py", "", "shed is in no layer"),
    ],
)
def test_an_offending_file_is_caught(tmp_path: Path, file: str, source: str, offence: str) -> None:
    for part in LAYER_OF:
        (tmp_path / f"{part}.py").write_text("", encoding="utf-8")
    for part in ("midi", "data", "cli"):
        (tmp_path / f"{part}.py").unlink()
        (tmp_path / part).mkdir()
        (tmp_path / part / "__init__.py").write_text("", encoding="utf-8")
    assert offences_in(tmp_path) == []
    (tmp_path / file).write_text(source, encoding="utf-8")
    found = offences_in(tmp_path)
    assert len(found) == 1
    assert offence in found[0]


def test_imports_downwards_and_inside_a_part_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "midi").mkdir()
    source = "from notelstm.midi.policy import X\nfrom notelstm import errors\nimport torch"
    (tmp_path / "midi" / "__init__.py").write_text(source, encoding="utf-8")
    (tmp_path / "errors.py").write_text("", encoding="utf-8")
    assert offences_in(tmp_path) == []


def module_name(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of ``if TYPE_CHECKING``, whose imports no program makes."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from run_time_nodes(node)


def cycles_in(package: Path) -> list[list[str]]:
    """Files that import each other, directly or through others; also inside functions."""
    files = {module_name(path, package): path for path in package.rglob("*.py")}
    imports: dict[str, set[str]] = {}
    for name, path in files.items():
        found = set()
        for node in run_time_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # An imported name may be a file of a folder, or a name in a file.
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inside & files.keys() or {node.module}
            found |= set(imported_by_name(node))
        part = name.split(".")[1] if "." in name else "__init__"
        late = {there for here, there in LATE if here == part}
        found = {other for other in found if not late & set(other.split(".")[1:2])}
        imports[name] = found & files.keys() - {name}
    # A file that imports no other that is left, or that no other imports, is in no circle.
    left = set(imports)
    while done := {n for n in left if not imports[n] & left or n not in _union(imports, left)}:
        left -= done
    imports = {name: imports[name] for name in left}
    return sorted([name, *sorted(found & imports.keys())] for name, found in imports.items())


def _room(name: str) -> str:
    """The room of a module: ``recipes`` of ``notelstm.recipes.recipe``."""
    return name.split(".")[1] if "." in name else name


def _union(imports: Mapping[str, set[str]], names: set[str]) -> set[str]:
    return set().union(*(imports[name] for name in names))


def test_there_are_no_import_cycles() -> None:
    assert cycles_in(PACKAGE) == []


@pytest.mark.parametrize(
    "back",
    [
        "from notelstm.midi import reading",
        "from notelstm.midi.reading import x",
        "def f():\n    import notelstm.midi.reading",
        "import_module('notelstm.midi.reading')",
    ],
)
def test_an_import_cycle_is_caught(tmp_path: Path, back: str) -> None:
    package = tmp_path / "notelstm"
    (package / "midi").mkdir(parents=True)
    (package / "midi" / "__init__.py").write_text("from notelstm.midi.reading import x", "utf-8")
    (package / "midi" / "policy.py").write_text("import notelstm.errors", encoding="utf-8")
    (package / "errors.py").touch()
    reading = package / "midi" / "reading.py"
    reading.write_text("from notelstm.midi.policy import Policy", encoding="utf-8")
    assert cycles_in(package) == []
    (package / "midi" / "policy.py").write_text(back, encoding="utf-8")
    names = {name for name, *_ in cycles_in(package)}
    assert {"notelstm.midi.policy", "notelstm.midi.reading"} <= names


MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("_version", "__main__") and "__pycache__" not in path.parts
)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_dunder_all_lists_every_public_definition(path: Path) -> None:
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
        "notelstm.protocols",
        "notelstm.tracker",
    ],
)
def test_torch_is_imported_only_where_needed(module: str) -> None:
    heavy = ("torch", "pretty_midi", "matplotlib", "music21", "hypothesis")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("part", ["sampling", "evaluation", "generation", "losses"])
def test_predictions_are_not_tested_for_their_class(part: str) -> None:
    classes = {"Categorical", "LogisticMixture", "Normal", "PointEstimate"}
    files = [path for path in MODULES if path.relative_to(PACKAGE).parts[0].split(".")[0] == part]
    asked = [
        f"{path.name}, line {node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and classes & {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
    ]
    assert files
    assert asked == []
