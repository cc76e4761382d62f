"""``notelstm render``: what it writes, and what it refuses."""

from __future__ import annotations

import wave
from pathlib import Path

import pretty_midi
import pytest

from notelstm.cli import main

STUDY = Path(__file__).parents[1] / "golden" / "study.mid"


def test_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "a.wav"
    assert main(["render", str(STUDY), "-o", str(out)]) == 0
    assert f"wrote {out}: " in capsys.readouterr().out
    with wave.open(str(out)) as file:
        assert any(file.readframes(44_100))


def test_a_page(tmp_path: Path) -> None:
    assert main(["render", str(STUDY), "-o", str(tmp_path / "a.html")]) == 0
    assert "<title>study</title>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_sound_with_a_font(tmp_path: Path) -> None:
    pytest.importorskip("fluidsynth", reason="needs pyfluidsynth", exc_type=ImportError)
    font = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")
    plain, played = tmp_path / "a.wav", tmp_path / "b.wav"
    assert main(["render", str(STUDY), "-o", str(plain)]) == 0
    assert main(["render", str(STUDY), "-o", str(played), "--soundfont", str(font)]) == 0
    assert plain.read_bytes()[:4] == played.read_bytes()[:4] == b"RIFF"
    assert plain.read_bytes() != played.read_bytes()


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
