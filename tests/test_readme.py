"""The README: its figures are the measured ones, and its claims about the package hold."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from notelstm.bundle import PRETRAINED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture
def headline(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that writes the figures."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "measured")
    return importlib.import_module("headline")


def between(start: str, stop: str) -> str:
    """The text between two marks, each of which stands there once."""
    assert README.count(start) == README.count(stop) == 1
    return README.partition(start)[2].partition(stop)[0]


def test_figures_are_the_measured_ones(headline: Any) -> None:
    assert between(headline.START, headline.STOP) == headline.table(), (
        "run python docs/measured/headline.py"
    )
    assert len(headline.rows()) >= 8
    assert not re.search(r"\bnan\b|\bNone\b", headline.table())


def test_figures_follow_the_results(headline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = headline.results

    def changed(name: str) -> dict[str, Any]:
        found: dict[str, Any] = measured(name)
        return {**found, "total": 9.87} if name == "pretrained" else found

    monkeypatch.setattr(headline, "results", changed)
    assert "| 9.9 and" in headline.table()


def test_the_table_of_alternatives_is_complete() -> None:
    table = between("<!-- alternatives: start -->\n", "<!-- alternatives: end -->\n")
    rows = [line.strip("|").split("|") for line in table.splitlines()]
    assert {len(row) for row in rows} == {6}
    assert all(cell.strip() for row in rows[2:] for cell in row)


def test_versions_sizes_and_licenses() -> None:
    versions = [
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)
    ]
    assert f"Python {versions[0]} to {versions[-1]}" in README
    assert f"{PRETRAINED.stat().st_size / 1e6:.0f} MB" in README
    code, weights = PROJECT["license"].split(" AND ")
    assert f"[{code} license](LICENSE)" in README
    assert f"[{weights.replace('CC-BY-NC-SA-', 'CC BY-NC-SA ')}]" in README
