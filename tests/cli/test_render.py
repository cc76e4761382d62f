"""``notelstm render``: what it writes, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import wave
from pathlib import Path
from typing import NoReturn

import numpy as np
import pretty_midi
import pytest

from notelstm.cli import main
from notelstm.midi import write_midi
from notelstm.notes import Notes

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


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode")
@pytest.mark.parametrize("suffix", [b".wav", b".html", b".png", b".svg"])
def test_file_names_that_are_not_utf_8(
    suffix: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix in (b".png", b".svg"):
        pytest.importorskip("matplotlib")
    name, out = tmp_path / os.fsdecode(b"caf\xe9.mid"), tmp_path / os.fsdecode(b"\xfc" + suffix)
    name.write_bytes(STUDY.read_bytes())
    assert main(["render", str(name), "-o", str(out)]) == 0
    assert out.stat().st_size > 1000
    if suffix == b".html":
        assert "<title>caf\ufffd</title>" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "a.mp3"], "unknown output format '.mp3' (a.mp3). Name a file that ends in .wav"),
        (["-o", "a"], "the output file has no suffix (a)"),
        (["-o", "/dev/full"], "the output file has no suffix"),
        (["-o", "a.png", "--soundfont", "a.sf2"], "--soundfont does nothing for a .png file"),
        (["-o", "a.wav", "--soundfont", "a.sf2"], "no such sound font: a.sf2"),
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


SUFFIXES = (".wav", ".html", ".png", ".svg")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_are_no_music_are_rejected(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mid"
    broken.write_bytes(STUDY.read_bytes()[:10])
    for path, said in ((broken, "broken.mid"), (tmp_path / "none.mid", "no such MIDI file")):
        assert main(["render", str(path), "-o", str(tmp_path / f"a{suffix}")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("notelstm: error: ")
        assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mid"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_outputs_onto_folders_are_rejected(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"a{suffix}").mkdir()
    (tmp_path / "file").touch()
    for out in (f"a{suffix}", f"file/a{suffix}"):
        assert main(["render", str(STUDY), "-o", str(tmp_path / out)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert str(tmp_path / out) in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == [f"a{suffix}", "file"]


def little_room() -> None:
    """Files of this process end after a thousand bytes, as on a disk that is full."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"a{suffix}"
    out.write_text("old", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "notelstm", "render", str(STUDY), "-o", str(out), "--overwrite"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(tmp_path.parent)},
        preexec_fn=little_room,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith("notelstm: error: cannot write the file: File too large")
    assert "Free some space" in line
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {out.name: "old"}


@pytest.mark.parametrize(
    ("suffix", "where"),
    [
        (".wav", "notelstm.listening.audio.synthesize"),
        (".wav", "wave.Wave_write.writeframes"),
        (".html", "pathlib.Path.write_text"),
        (".png", "matplotlib.figure.Figure.savefig"),
    ],
)
def test_ctrl_c(
    suffix: str,
    where: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    assert main(["render", str(STUDY), "-o", str(tmp_path / f"a{suffix}")]) == 130
    assert capsys.readouterr().err == "notelstm: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_instruments_and_drums_are_rendered(tmp_path: Path) -> None:
    """Drums are read by default, for the page, the sound and the picture."""
    band = Notes(
        start=[0, 0, 0.5], end=[0.4, 0.4, 0.9], pitch=[60, 38, 64], program=[40, 0, 40],
        drum=[False, True, False], track=[0, 1, 0],
    )  # fmt: skip
    song = tmp_path / "song.mid"
    write_midi(band, song)
    for suffix in SUFFIXES:
        assert main(["render", str(song), "-o", str(tmp_path / f"song{suffix}")]) == 0
    page = (tmp_path / "song.html").read_text(encoding="utf-8")
    assert '"Violin"' in page
    assert '"Acoustic Snare"' in page
    assert "Acoustic Snare" in (tmp_path / "song.svg").read_text(encoding="utf-8")
    with wave.open(str(tmp_path / "song.wav")) as file:
        sound = np.frombuffer(file.readframes(4410), dtype="<i2").astype(float)
    noise = np.abs(np.fft.rfft(sound[::2]))[400:].max()
    assert noise > 0.02 * np.abs(np.fft.rfft(sound[::2])).max(), "the snare is above 4 kHz"
