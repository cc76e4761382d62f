"""The documentation: it builds, it names everything, its code runs, its commands exist."""

from __future__ import annotations

import importlib
import json
import linecache
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import notelstm
from notelstm.data.bach import BachChorales
from notelstm.midi import write_midi
from notelstm.recipes import expressive, with_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
VIRTUAL_ENVIRONMENT = ("python3 -m venv .venv", ". .venv/bin/activate")
"""Commands of the installation that are not pip's."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The code blocks of a language: the line each begins on, and its text."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] == language:
            yield text.count("\n", 0, match.start(2)), match[2]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it who ran `make demo` and has MIDI files."""
    folder = tmp_path_factory.mktemp("reader")
    pieces = list(BachChorales().pieces(limit=4))
    (folder / "my-midi-files").mkdir()
    for name, notes in pieces:
        write_midi(notes, folder / "my-midi-files" / f"{name}.mid")
    (folder / "my-songs").mkdir()
    for name, notes in pieces:
        # A bass below middle C, and drums above.
        program, drum = np.where(notes.pitch < 60, 33, 0), notes.pitch > 72
        band = replace(notes, program=program, drum=drum, track=np.where(drum, 2, program // 33))
        write_midi(band, folder / "my-songs" / f"{name}.mid")
    recipe = with_settings(expressive(hidden_size=16), {"training": {"epochs": 1}})
    recipe.train([notes for _, notes in pieces]).save(folder / "demo" / "demo.notelstm")
    return folder


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(blocks(page, "python"))], ids=lambda page: page.name
)
def test_code_runs(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {"__name__": page.stem}
    for line, code in blocks(page, "python"):
        # With the page's own lines in front, an error shows the place in the page.
        source = "\n" * line + code
        linecache.cache[str(page)] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            str(page),
        )
        exec(compile(source, str(page), "exec", dont_inherit=True), names)


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for _, text in blocks(page, "console"):
            for line in text.splitlines():
                assert line.startswith("$ "), f"{page.name}: {line}"
                yield page.name, line[2:].split("  #")[0].strip()


def helps() -> dict[str, str]:
    """The output of ``notelstm COMMAND --help``, by command."""
    words = {shlex.split(line)[1] for _, line in commands() if line.startswith("notelstm ")}
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return {
        word: subprocess.run(
            [sys.executable, "-m", "notelstm", word, "--help"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        ).stdout
        for word in sorted(words)
    }


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    help_of = helps()
    for page, line in commands():
        program, *words = shlex.split(line)
        if program == "make":
            for target in words:
                assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), f"{page}: {line}"
        elif program == "notelstm":
            for word in words[1:]:
                if word.startswith("-"):
                    assert re.search(rf"(^|[\s,|]){word}\b", help_of[words[0]]), f"{page}: {line}"
        elif line not in VIRTUAL_ENVIRONMENT:
            assert (program, words[0]) == ("pip", "install"), f"{page}: {line}"
            extras = re.findall(r"\[(.*)\]", line)
            for extra in ",".join(extras).split(","):
                assert not extra or f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


def modules() -> Iterator[ModuleType]:
    yield notelstm
    for info in pkgutil.walk_packages(notelstm.__path__, "notelstm."):
        if "._" not in info.name:
            yield importlib.import_module(info.name)


def test_dunder_all_names_exist_in_every_module() -> None:
    for module in modules():
        assert module.__doc__, module.__name__
        assert isinstance(module.__all__, list), module.__name__
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for requirement in project["dependencies"]:
        package = re.split(r"[<>=\[; ]", requirement)[0]
        assert re.search(rf"^\| {re.escape(package)} \|", page, re.MULTILINE), package
    for extra, requirements in project["optional-dependencies"].items():
        row = re.search(rf"^\| `{extra}` \|.*$", page, re.MULTILINE)
        assert row, extra
        for package in distributions(requirements) - {"notelstm"}:
            words = set(re.findall(r"\w+", row[0].lower()))
            assert set(package.split("-")) <= words, (extra, package)


IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import making, notelstm
for info in pkgutil.walk_packages(notelstm.__path__, "notelstm."):
    if info.name != "notelstm.__main__":
        importlib.import_module(info.name)
"""


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", line)[0].lower().replace("_", "-") for line in requirements}


@pytest.mark.timeout(300)
def test_the_site_needs_the_extra_docs_alone() -> None:
    """Every module that the site documents can be imported without the other extras."""
    import tomllib
    from importlib.metadata import packages_distributions

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    every = distributions([line for lines in extras.values() for line in lines]) - {"notelstm"}
    others = every - distributions(extras["docs"])
    blocked = [
        module
        for module, owners in packages_distributions().items()
        if {owner.lower().replace("_", "-") for owner in owners} & others
    ]
    assert "music21" in blocked
    subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(ROOT / "docs"), *blocked], check=True, timeout=280
    )


def test_the_readme_names_every_page() -> None:
    """A reader of the repository finds the pages that the site has in its contents."""
    pages = set(re.findall(r"^(?:\w+ <)?(\w+)>?$", "\n".join(contents()), re.MULTILINE))
    assert "songs" in pages
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    # The folder, the notebook in it, and files that the README names by their own names.
    pages -= {"examples", "notebook", "contributing", "changelog"}
    # A list that the build makes.
    pages -= {"parts"}
    assert sorted(page for page in pages if f"](docs/{page}.md)" not in readme) == []


def contents() -> Iterator[str]:
    """The entries of the first page's tables of contents."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for text in re.findall(r"^```\{toctree\}\n(.*?)^```$", index, re.MULTILINE | re.DOTALL):
        yield "\n".join(line for line in text.splitlines() if not line.startswith(":"))


def test_every_contract_check_is_named() -> None:
    from notelstm import testing

    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    checks = [name for name in testing.__all__ if name.startswith("check_")]
    assert "check_reader" in checks
    assert [name for name in checks if f"`{name}`" not in page] == []


def test_speeds_of_generation_are_those_measured() -> None:
    """The table, the times of a note and the growth of a stream are rounded figures."""
    measured = json.loads((ROOT / "docs" / "measured" / "benchmarks.json").read_text("utf-8"))
    page = (ROOT / "docs" / "generation.md").read_text("utf-8")
    figures, processor = (measured["generation"][k] for k in ("figures", "machine"))
    assert f"core of an {processor['processor'].partition(',')[0]}" in page
    rows = {"windowed": "windowed, context of 25", "carried": "state carried"}
    rows["batch of 256"] = "batch of 256, state carried"
    for name, shown in rows.items():
        speedup = figures[f"{name}, times the article's loop"]
        bound = figures[f"{name}, products and activations alone"]
        cells = [f"{n:.1f}" if n < 10 else f"{n:.0f}" for n in (speedup, bound)]
        assert f"| {shown} | {' | '.join(cells)} |" in page
    growth = figures["growth of a stream of 100,000 notes, bytes"]
    assert f"grew by {growth / 1000:.0f} kilobytes" in page
    for share, words in (
        ("median", "median time of a note is"),
        ("99th percentile of", "99th percentile"),
    ):
        wall = figures[f"a note of the pretrained model, {share} wall time, ms"]
        assert f"{words} {wall:.1f} ms" in page


def test_links_in_the_readme_resolve() -> None:
    for page in PAGES:
        prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
