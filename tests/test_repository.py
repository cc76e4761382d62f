"""The files around the package: workflow, hooks, templates, citation, benchmarks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import notelstm

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted((ROOT / "tests" / "benchmarks").glob("bench_*.py"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

in_a_clone = pytest.mark.skipif(
    not (ROOT / ".github").is_dir(), reason="a source distribution has no .github"
)


def yaml_of(text: str) -> Any:
    return pytest.importorskip("yaml").safe_load(text)


def recipe_of(target: str) -> str:
    """The commands of a target of the Makefile."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, f"no target {target}"
    return found[1]


@pytest.mark.timeout(300)
def test_make_bench_runs_every_benchmark() -> None:
    command = recipe_of("bench").split()
    assert command.pop(0) == "$(BIN)/pytest"
    assert command.pop() == "tests/benchmarks/bench_*.py"
    assert "--timeout 0" in " ".join(command), "a benchmark may take longer than a test"
    files = [str(path) for path in BENCHMARKS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command, "--collect-only", "-q", *files],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    collected = {Path(line.partition("::")[0]).name for line in done.stdout.splitlines()}
    assert {path.name for path in BENCHMARKS} <= collected


@in_a_clone
def test_the_workflow_runs_what_ci_runs() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (job,) = yaml_of(text)["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    named = {
        f"Programming Language :: Python :: {name}" for name in job["strategy"]["matrix"]["python"]
    }
    assert named <= set(PROJECT["classifiers"])


@in_a_clone
def test_hooks_are_targets_of_the_makefile() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    hooks = [hook for repo in yaml_of(text)["repos"] for hook in repo["hooks"]]
    entries = [hook["entry"].split() for hook in hooks]
    assert [command for command, _ in entries] == ["make", "make"]
    assert all(recipe_of(target) for _, target in entries)


@in_a_clone
def test_templates() -> None:
    issues = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))
    assert [path.stem for path in issues] == ["bug_report", "feature_request"]
    for path in issues:
        _, front, text = path.read_text(encoding="utf-8").split("---\n", 2)
        assert {"name", "about"} <= set(yaml_of(front))
        assert 3 < len(text.splitlines()) < 20
    pull = (ROOT / ".github" / "pull_request_template.md").read_text(encoding="utf-8")
    assert "make test" in pull


def test_the_citation_is_of_this_version() -> None:
    found = yaml_of((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(found), "required by the format"
    assert found["version"] == notelstm.__version__
    assert found["authors"] == PROJECT["authors"]
    assert found["license"] in PROJECT["license"].split(" AND ")
