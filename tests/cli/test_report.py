"""``notelstm report``: a page on one run or two, by its model file or its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notelstm.cli import main


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders, one of them beside its model file."""
    folders = tmp_path / "mine.notelstm.run", tmp_path / "other.run"
    for number, folder in enumerate(folders):
        folder.mkdir()
        settings = {"training": {"epochs": 2}, "batch_size": 8 + number}
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        lines = [{"epoch": n, "seconds": 1, "loss": 3.0 - n - number} for n in (1, 2)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "log.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "mine.notelstm").touch()
    return folders


def test_a_page_on_a_run(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_folder, by_model = tmp_path / "a.html", tmp_path / "b.html"
    assert main(["report", str(runs[0]), "-o", str(by_folder)]) == 0
    assert capsys.readouterr().out == f"wrote {by_folder}: open it in a browser\n"
    assert "2 of 2 epochs in 2 seconds." in by_folder.read_text(encoding="utf-8")
    assert main(["report", str(runs[0])[: -len(".run")], "-o", str(by_model)]) == 0
    assert by_model.read_bytes() == by_folder.read_bytes()


def test_a_page_on_two_runs(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    assert main(["report", *map(str, runs), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "<h1>mine.notelstm and other</h1>" in text
    assert "8 (mine.notelstm), 9 (other)" in text


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["nothing", "-o", "a.html"], "no such file: nothing/settings.json. Name the folder"),
        (["mine.notelstm", "nothing", "-o", "a.html"], "no such file: nothing/settings.json"),
        (["mine.notelstm", "-o", "a.pdf"], "unknown page format '.pdf'"),
        (["mine.notelstm", "-o", "mine.notelstm.html"], "exists already. Add --overwrite"),
    ],
)
def test_refusals(
    argv: list[str],
    problem: str,
    runs: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(runs[0].parent)
    Path("mine.notelstm.html").touch()
    assert main(["report", *argv]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line.replace("\\", "/")
    assert not Path("a.html").exists()


def test_overwriting(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.touch()
    assert main(["report", str(runs[0]), "-o", str(page), "--overwrite"]) == 0
    assert page.stat().st_size > 1000
