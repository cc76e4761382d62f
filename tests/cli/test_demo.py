"""``notelstm demo``: the files it writes, and how it works without the extras."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from notelstm.bundle import load
from notelstm.cli import main
from notelstm.cli.music import open_corpus
from notelstm.midi import ReadPolicy, read_midi
from notelstm.notes import Notes

pytestmark = pytest.mark.timeout(300)  # four pieces of two models, beside other tests

MOMENT = ["--chorales", "2", "--epochs", "1"]


def samples(page: Path) -> list[dict[str, Any]]:
    text = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    found: list[dict[str, Any]] = json.loads(text)["samples"]
    return found


def test_a_short_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("music21")
    pytest.importorskip("matplotlib")
    folder = tmp_path / "de mo"
    assert main(["demo", "-o", str(folder), *MOMENT]) == 0
    said = capsys.readouterr().out
    named = ["demo.html", "demo.png", "demo.notelstm", "training.html"]
    harmonised = "bach-harmonised.mid"
    music = ["bach-continued.mid", "piano-continued.mid", "bach.mid", harmonised, "piano.mid"]
    assert {path.name for path in folder.iterdir()} == {*named, *music, "demo.notelstm.run"}
    for name in ("demo.html", "training.html"):
        assert (folder / name).as_uri() in said
    assert all(str(folder / name) in said for name in ["demo.png", "demo.notelstm", *music])
    assert "next:     notelstm render" in said
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    shown = samples(folder / "demo.html")
    # The page opens with a continuation.
    assert [s["prompt_notes"] for s in shown] == [48, 48, 0, 0, 0]
    assert [s["start"][0] for s in shown] == [0, 0, 0, 0, 0]
    assert max(np.diff(shown[4]["start"][:9])) <= 2, "no silence in the opening"
    for sample, name in zip(shown, music, strict=True):
        # A model that has learnt little draws some notes that MIDI cannot hold.
        read = read_midi(folder / name, ReadPolicy(tracks="all"))
        # How many notes are under the soprano depends on the model.
        assert (40 if name == harmonised else 100) < len(read) <= len(sample["pitch"])
    first, second = shown[:2]
    assert first["pitch"][48:] != second["pitch"][48:]
    # The chorale has four voices, and is one piano for the pretrained model.
    voices = ["Soprano", "Alto", "Tenor", "Bass"]
    assert [one["name"] for one in first["instruments"]] == voices
    assert len({one["colour"] for one in first["instruments"]}) == 4
    assert {one["name"] for one in shown[2]["instruments"]} <= set(voices)
    assert [len(sample["instruments"]) for sample in (second, shown[4])] == [1, 1]
    # The soprano of the third chorale, with other voices.
    chorale = open_corpus("bach", ReadPolicy(tracks="all"))[2]
    assert chorale.track is not None
    read = read_midi(folder / harmonised, ReadPolicy(tracks="all"))
    assert read.track_names is not None
    assert read.track is not None
    soprano = read[read.track == read.track_names.index("Soprano")]
    assert soprano.pitch.tolist() == chorale[chorale.track == 0].pitch.tolist()
    assert len(read) > len(soprano)
    (seed,) = re.findall(r"random seed (\d+): repeat", said)
    for name in music:
        texts = [
            m.text
            for track in mido.MidiFile(folder / name).tracks
            for m in track
            if m.type == "text"
        ]
        assert texts == [f"notelstm demo, random seed {seed}"]
    for name, policy in zip(music[:2], (ReadPolicy(tracks="all"), ReadPolicy()), strict=True):
        prompt = open_corpus("bach", policy)[2][:48]
        assert shown[music.index(name)]["pitch"][:48] == prompt.pitch.tolist()
        # A continuation keeps the tempo map of the prompt.
        whole = read_midi(folder / name, policy)
        assert whole.tempo_map is not None
        assert prompt.tempo_map is not None
        at = np.linspace(0, prompt.start[-1], 20)
        expected = prompt.tempo_map.beats_at(at)
        np.testing.assert_allclose(whole.tempo_map.beats_at(at), expected, atol=1e-2)
    # The piano is the pretrained model, with velocities of its own.
    assert len(set(shown[4]["velocity"])) > 5
    assert load(folder / "demo.notelstm").data.pieces == 2


def test_without_bach_and_without_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("music21", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo", "-o", str(tmp_path), *MOMENT]) == 0
    said = capsys.readouterr().out
    assert "nothing is trained, since music21 is not installed: run pip install 'notelstm[" in said
    assert "no picture is drawn, since matplotlib is not installed: run pip install 'note" in said
    assert {path.name for path in tmp_path.iterdir()} == {
        "demo.html",
        "piano.mid",
        "piano-continued.mid",
    }
    first, second = samples(tmp_path / "demo.html")
    # The prompt is Bach's, and needs no package.
    assert (first["prompt_notes"], second["prompt_notes"]) == (64, 0)
    assert first["pitch"][:8] == [60, 64, 67, 72, 76, 67, 72, 76]
    assert len(first["pitch"]) > 250
    assert "look:" not in said
    assert "demo.notelstm" not in said


def played(page: Path) -> list[list[int]]:
    """The pitches of each piece on a page."""
    return [sample["pitch"] for sample in samples(page)]


def test_the_demo_generates_a_new_piece_unless_seeded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("music21", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    seeds = []
    for name in ("a", "b"):
        assert main(["demo", "-o", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        (seed,) = re.findall(r"random seed (\d+): repeat with --seed \1", said)
        page = (tmp_path / name / "demo.html").read_text(encoding="utf-8")
        assert f"Random seed {seed}." in page
        assert f'"random seed":"{seed}"' in page
        for path in (tmp_path / name).glob("*.mid"):
            assert f"random seed {seed}".encode() in path.read_bytes()
        seeds.append(seed)
    assert seeds[0] != seeds[1], "one time in a million they are the same"
    first, second = (played(tmp_path / name / "demo.html") for name in ("a", "b"))
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert main(["demo", "-o", str(tmp_path / "c"), "--seed", seeds[0]]) == 0
    assert played(tmp_path / "c" / "demo.html") == first


def test_an_opening_with_a_stray_note_is_trimmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("music21", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    start = np.concatenate([[0.4], 11 + np.arange(60) / 4])
    stray = Notes(start=start, end=start + 0.2, pitch=np.arange(61) + 30)
    monkeypatch.setattr("notelstm.generation.generate", lambda *_, **__: stray)
    assert main(["demo", "-o", str(tmp_path)]) == 0
    free = read_midi(tmp_path / "piano.mid")
    assert free.pitch.tolist() == stray.pitch[1:].tolist()
    assert np.allclose(free.start, stray.start[1:] - 11, atol=1e-3)
    (shown,) = (s for s in samples(tmp_path / "demo.html") if not s["prompt_notes"])
    assert shown["pitch"] == stray.pitch[1:].tolist()
    # After a prompt nothing is removed.
    assert len(read_midi(tmp_path / "piano-continued.mid")) == 64 + 61


def test_without_chorales_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "-o", str(tmp_path / "demo"), "--chorales", "0"]) == 1
    assert "error: cannot train on 0 chorales. Give at least 1" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_the_demo_keeps_its_time_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("music21")
    argv = ["demo", "-o", str(tmp_path), "--chorales", "30", "--epochs", "500"]
    assert main([*argv, "--minutes", "0.02"]) == 0
    assert "trained " in capsys.readouterr().out
    log = (tmp_path / "demo.notelstm.run" / "log.jsonl").read_text("utf-8").splitlines()
    assert 1 <= len(log) < 20
