"""``notelstm demo``: what it leaves behind, and what it does without."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from notelstm.bundle import load
from notelstm.cli import main
from notelstm.midi import read_midi

pytestmark = pytest.mark.timeout(300)  # four pieces of two models, beside other tests

MOMENT = ["--chorales", "2", "--epochs", "1"]


def samples(page: Path) -> list[dict[str, Any]]:
    text = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    found: list[dict[str, Any]] = json.loads(text)["samples"]
    return found


def test_a_demo_of_a_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("music21")
    pytest.importorskip("matplotlib")
    folder = tmp_path / "de mo"
    assert main(["demo", "-o", str(folder), *MOMENT]) == 0
    said = capsys.readouterr().out
    named = ["demo.html", "demo.png", "demo.notelstm", "training.html"]
    music = ["bach.mid", "bach-continued.mid", "piano.mid", "piano-continued.mid"]
    assert {path.name for path in folder.iterdir()} == {*named, *music, "demo.notelstm.run"}
    for name in ("demo.html", "training.html"):
        assert (folder / name).as_uri() in said
    assert all(str(folder / name) in said for name in ["demo.png", "demo.notelstm", *music])
    assert "next:     notelstm render" in said
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    shown = samples(folder / "demo.html")
    assert [s["prompt_notes"] for s in shown] == [0, 48, 0, 48]
    for sample, name in zip(shown, music, strict=True):
        # A model that has learnt little draws some notes that MIDI cannot hold.
        assert 100 < len(read_midi(folder / name)) <= len(sample["pitch"])
    first, second = shown[1], shown[3]
    assert first["pitch"][:48] == second["pitch"][:48]
    assert first["pitch"][48:] != second["pitch"][48:]
    # The piano is the model that comes along, at its own velocities.
    assert len(set(shown[2]["velocity"])) > 5
    assert load(folder / "demo.notelstm").data.pieces == 2


def test_without_bach_and_without_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("music21", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo", "-o", str(tmp_path), *MOMENT]) == 0
    said = capsys.readouterr().out
    assert "nothing is trained: no music21 here: run pip install 'notelstm[bach]'" in said
    assert "nothing is drawn: no matplotlib here: run pip install 'notelstm[plot]'" in said
    assert {path.name for path in tmp_path.iterdir()} == {
        "demo.html",
        "piano.mid",
        "piano-again.mid",
    }
    first, second = samples(tmp_path / "demo.html")
    assert first["pitch"] != second["pitch"]
    assert "look:" not in said
    assert "demo.notelstm" not in said


def test_the_time_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("music21")
    argv = ["demo", "-o", str(tmp_path), "--chorales", "30", "--epochs", "500"]
    assert main([*argv, "--minutes", "0.02"]) == 0
    assert "trained " in capsys.readouterr().out
    log = (tmp_path / "demo.notelstm.run" / "log.jsonl").read_text("utf-8").splitlines()
    assert 1 <= len(log) < 20
