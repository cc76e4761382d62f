"""``notelstm render``: what it writes, and what it refuses."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from notelstm.cli import main

STUDY = Path(__file__).parents[1] / "golden" / "study.mid"


def test_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "a.wav"
    assert main(["render", str(STUDY), "-o", str(out)]) == 0
    assert f"wrote {out}: " in capsys.readouterr().out
    with wave.open(str(out)) as file:
        assert any(file.readframes(44_100))


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml")])
def test_pictures(name: str, begin: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["render", str(STUDY), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begin)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "a.mp3"], "what is rendered ends in .wav"),
        (["-o", "a.png", "--soundfont", "a.sf2"], "a sound font is for a .wav"),
        (["-o", "a.wav", "--soundfont", "a.sf2"], "a sound font is a file"),
    ],
)
def test_refusals(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["render", str(STUDY), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
