"""``notelstm generate``: what is kept of the prompt, how much of it is used, and the seed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch

from notelstm.bundle import Bundle
from notelstm.cli import main
from notelstm.encoders import BeatEncoder, LogTimeEncoder
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.protocols import NoteEncoder
from notelstm.sampling import Ancestral

ALL = ReadPolicy(tracks="all", drums=True)


def bundle(encoder: NoteEncoder) -> Bundle:
    model = NoteLSTM(fields=encoder.fields, hidden_size=8).eval()
    return Bundle(model=model, encoder=encoder, sampler=Ancestral(), read_policy=ALL)


@pytest.fixture(scope="module", params=[LogTimeEncoder(), BeatEncoder()], ids=["seconds", "beats"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.notelstm"
    bundle(request.param).save(path)
    return path


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Violin and bass in 3/4 with a drum; slower from the third bar (3 s) on, 8 bars in all."""
    beats = TempoMap(
        seconds=[0, 3], tempos=[120, 60], time_signature_beats=[0], numerators=[3], denominators=[4]
    )
    beat = np.repeat(np.arange(24), 3)
    notes = Notes(
        start=beats.seconds_at(beat),
        end=beats.seconds_at(beat + 0.5),
        pitch=np.tile([36, 43, 67], 24) + np.where(np.tile([0, 1, 1], 24), beat % 5, 0),
        track=np.tile([2, 1, 0], 24),
        program=np.tile([0, 33, 40], 24),
        drum=np.tile([True, False, False], 24),
        tempo_map=beats,
    )
    # One note more for the violin, which therefore plays most.
    more = Notes(start=[0.25], end=[0.5], pitch=[70], track=0, program=40, drum=[False])
    path = tmp_path_factory.mktemp("songs") / "song.mid"
    write_midi(Notes.merge([notes, more]), path)
    return path


def instruments(notes: Notes) -> set[tuple[Any, ...]]:
    columns = (notes.track, notes.program, notes.drum)
    assert all(column is not None for column in columns)
    return set(zip(*(column.tolist() for column in columns if column is not None), strict=True))


BAND = {(0, 40, False), (1, 33, False), (2, 0, True)}


def test_the_output_begins_with_the_unchanged_prompt(
    model: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, prompt = tmp_path / "out.mid", read_midi(song, ALL)
    assert main(["generate", str(model), "-o", str(out), "--prompt", str(song)]) == 0
    said = capsys.readouterr().out
    assert f"{len(prompt)} notes of the prompt, 128 new notes" in said
    assert "the new notes are given to Violin, which plays most of the prompt's" in said
    whole = read_midi(out, ALL)
    assert instruments(whole) == BAND
    before = whole[whole.start < prompt.start[-1]]
    after = whole[whole.start > prompt.start[-1]]
    assert instruments(after) == {(0, 40, False)}
    wanted = prompt[prompt.start < prompt.start[-1]]
    for name in ("start", "end", "pitch", "velocity", "program", "drum", "track"):
        np.testing.assert_array_equal(getattr(before, name), getattr(wanted, name))
    assert whole.tempo_map is not None
    assert prompt.tempo_map is not None
    at = np.linspace(0, prompt.start[-1], 50)
    np.testing.assert_allclose(
        whole.tempo_map.beats_at(at), prompt.tempo_map.beats_at(at), atol=1e-3
    )
    assert (whole.tempo_map.numerators[0], whole.tempo_map.denominators[0]) == (3, 4)


def test_program_applies_to_all_notes_but_percussion(
    model: Path, song: Path, tmp_path: Path
) -> None:
    prompt = ["--prompt", str(song)]
    for number, (options, want) in enumerate(
        [
            ([*prompt, "--program", "Flute"], {(0, 73, False), (1, 73, False), (2, 0, True)}),
            (["--program", "73"], {(0, 73, False)}),
            ([], {(0, 0, False)}),
        ]
    ):
        out = tmp_path / f"{number}.mid"
        assert main(["generate", str(model), "-o", str(out), "--notes", "9", *options]) == 0
        assert instruments(read_midi(out, ALL)) == want


@pytest.mark.parametrize(
    ("options", "count", "tempos"),
    [
        (["--prompt-notes", "10"], 10, [120]),
        (["--prompt-seconds", "2.0"], 13, [120]),
        (["--prompt-bars", "2"], 19, [120]),
        (["--prompt-bars", "3"], 28, [120, 60]),
        (["--prompt-bars", "3", "--prompt-notes", "7"], 7, [120]),
        (["--prompt-bars", "99"], 73, [120, 60]),
    ],
)
def test_part_of_a_prompt(
    song: Path, tmp_path: Path, options: list[str], count: int, tempos: list[float]
) -> None:
    path, out = tmp_path / "m.notelstm", tmp_path / "out.mid"
    bundle(LogTimeEncoder()).save(path)
    argv = ["generate", str(path), "-o", str(out), "--prompt", str(song), "--notes", "20"]
    assert main([*argv, *options, "--seed", "1"]) == 0
    whole, prompt = read_midi(out, ALL), read_midi(song, ALL)[:count]
    last = float(prompt.start[-1])
    before = whole[whole.start < last]
    np.testing.assert_array_equal(before.pitch, prompt.pitch[prompt.start < last])
    assert before.program is not None
    assert prompt.program is not None
    np.testing.assert_array_equal(before.program, prompt.program[prompt.start < last])
    assert len(whole) <= count + 20
    assert whole.tempo_map is not None
    np.testing.assert_allclose(whole.tempo_map.tempos, tempos)


def test_only_new_leaves_out_the_prompt(
    model: Path, song: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole, new = tmp_path / "whole.mid", tmp_path / "new.mid"
    argv = ["generate", str(model), "--prompt", str(song), "--seed", "5", "--notes", "30", "-o"]
    page = tmp_path / "new.html"
    assert main([*argv, str(whole)]) == 0
    assert main([*argv, str(new), "--only-new", "--html", str(page)]) == 0
    last = float(read_midi(song, ALL).start[-1])
    both, alone = read_midi(whole, ALL), read_midi(new, ALL)
    assert instruments(alone) == {(0, 40, False)}
    after = both[both.start > last + 1e-3].by_pitch()
    later = alone[alone.start > 1e-3].by_pitch()
    np.testing.assert_allclose(np.sort(later.start), np.sort(after.start - last), atol=1e-3)
    assert sorted(later.pitch.tolist()) == sorted(after.pitch.tolist())
    assert alone.tempo_map is not None
    assert both.tempo_map is not None
    at = np.linspace(0, alone.end_time, 50)
    since = both.tempo_map.beats_at(last + at) - both.tempo_map.beats_at(last)
    np.testing.assert_allclose(alone.tempo_map.beats_at(at), since, rtol=1e-4, atol=1e-3)
    if "seconds" in request.node.name:
        assert alone.tempo_map.numerators.tolist() == [3], "the time signature goes on"
    data = json.loads(page.read_text("utf-8").partition('id="data">')[2].partition("</script>")[0])
    assert data["samples"][0]["prompt_notes"] == 0


def text_of(path: Path) -> str:
    (text,) = [m.text for m in mido.MidiFile(path).tracks[0] if m.type == "text"]
    return str(text)


def test_seeds_differ_and_reproduce_the_piece(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["generate", str(model), "--notes", "30", "--temperature", "1.1"]
    seeds = []
    for name in ("a", "b"):
        out, page = tmp_path / f"{name}.mid", tmp_path / f"{name}.html"
        assert main([*argv, "-o", str(out), "--html", str(page)]) == 0
        said = capsys.readouterr().out
        found = re.search(r"^seed (\d+): --seed \1 makes this piece again$", said, re.MULTILINE)
        assert found
        seeds.append(found[1])
        assert f"model m.notelstm, seed {found[1]}, temperature 1.1" in text_of(out)
        assert text_of(out).startswith("notelstm ")
        text = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
        assert json.loads(text)["details"]["This music"]["random seed"] == found[1]
    assert seeds[0] != seeds[1]
    assert read_midi(tmp_path / "a.mid") != read_midi(tmp_path / "b.mid")
    assert main([*argv, "-o", str(tmp_path / "c.mid"), "--seed", seeds[0]]) == 0
    assert (tmp_path / "c.mid").read_bytes() == (tmp_path / "a.mid").read_bytes()


def test_each_piece_of_a_batch_records_its_seed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["generate", str(model), "-o", str(tmp_path / "a.mid"), "--notes", "9", "--batch", "2"]
    assert main([*argv, "--seed", "3"]) == 0
    assert "seed 3: --seed 3 makes these pieces again" in capsys.readouterr().out
    assert text_of(tmp_path / "a-2.mid").endswith("seed 3, piece 2 of 2")


def test_several_prompts_are_continued_in_files_of_their_own(
    model: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, out = tmp_path / "short.mid", tmp_path / "out.mid"
    write_midi(read_midi(song, ALL)[:10], short)
    prompts = ["--prompt", str(song), "--prompt", str(short)]
    argv = ["generate", str(model), "-o", str(out), "--notes", "9", "--seed", "3"]
    assert main([*argv, *prompts, "--batch", "2"]) == 0
    said = capsys.readouterr().out
    for k, count in ((1, 73), (2, 73), (3, 10), (4, 10)):
        assert f"out-{k}.mid: {count} notes of the prompt, 9 new notes" in said
        assert text_of(tmp_path / f"out-{k}.mid").endswith(f"seed 3, piece {k} of 4")
        before = read_midi(song, ALL)[:count]
        assert read_midi(tmp_path / f"out-{k}.mid", ALL).pitch[: count - 3].tolist() == (
            before.pitch[: count - 3].tolist()
        )
    assert not out.exists()
    # The first is the one alone; no prompt is replaced.
    alone = tmp_path / "alone.mid"
    assert main([*argv[:3], str(alone), *argv[4:], "--prompt", str(song)]) == 0
    assert read_midi(alone, ALL) == read_midi(tmp_path / "out-1.mid", ALL)
    capsys.readouterr()
    taken = ["--prompt", str(tmp_path / "out-2.mid"), "--prompt", str(song), "--overwrite"]
    assert main([*argv, *taken]) == 1
    assert f"the output is the prompt, {tmp_path / 'out-2.mid'}" in capsys.readouterr().err


@pytest.mark.parametrize("silence", [0.5, 3.25])
def test_only_silence_is_trimmed_from_a_prompted_piece(
    silence: float,
    model: Path,
    song: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A stray note and a rest of ten seconds: with --notes, every note is kept.
    start = silence + np.array([0, 10, 10.5, 11])
    made = Notes(start=start, end=start + 0.25, pitch=[60, 62, 64, 65])
    monkeypatch.setattr("notelstm.generation.generate_batch", lambda *_, **__: [made])
    out, page = tmp_path / "a.mid", tmp_path / "a.html"
    assert main(["generate", str(model), "-o", str(out), "--html", str(page)]) == 0
    printed = f"removed {silence:.1f} s of silence before the first note of {out}"
    assert (printed in capsys.readouterr().out) == (silence > 2)
    np.testing.assert_allclose(read_midi(out).start, [0, 10, 10.5, 11], atol=1e-3)
    assert '"start":[0.0,10.0,10.5,11.0]' in page.read_text(encoding="utf-8")
    # After a prompt, the wait before the first new note is music.
    argv = ["generate", str(model), "-o", str(out), "--prompt", str(song), "--only-new"]
    assert main([*argv, "--overwrite"]) == 0
    assert read_midi(out).start[0] == pytest.approx(silence, abs=1e-3)


def test_changed_notes_are_reported_once(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Notes(start=[0, 0.5], end=[1, 1], pitch=[60, 60])
    monkeypatch.setattr("notelstm.generation.generate_batch", lambda *_, **__: [made])
    out, page = str(tmp_path / "a.mid"), str(tmp_path / "a.html")
    assert main(["generate", str(model), "-o", out, "--html", page]) == 0
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_music_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    never = bundle(LogTimeEncoder(exact=True, ends=True))
    last = never.model.heads["end"][-1]  # type: ignore[attr-defined]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([12.0, 0.0]))
    model, out = tmp_path / "m.notelstm", tmp_path / "out.mid"
    never.save(model)
    command = ["generate", str(model), "-o", str(out), "--overwrite", "--seed", "1"]
    assert main([*command, "--until-end", "--notes", "20"]) == 0
    assert "20 new notes" in (said := capsys.readouterr().out)
    assert "s, stopped before its end" in said
    assert main([*command, "--end-at", "6"]) == 0
    assert "s, to its end" in capsys.readouterr().out
    assert read_midi(out).start[-1] >= 2
    assert "end_at 6" in str(mido.MidiFile(out).tracks[0])
    assert main([*command, "--notes", "20"]) == 0
    assert "its end" not in capsys.readouterr().out
    bundle(LogTimeEncoder()).save(model)
    assert main([*command, "--until-end"]) == 1
    assert "the model does not predict the end of a piece" in capsys.readouterr().err
