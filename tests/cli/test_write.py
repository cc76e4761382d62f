"""``notelstm write``: gaps, spans and parts, what is reported, and mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.bundle import Bundle
from notelstm.cli import main
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.parts import Part, PartMap
from notelstm.protocols import NoteEncoder
from notelstm.sampling import Ancestral

ALL = ReadPolicy(tracks="all", drums=True)
DUET = PartMap(by="name", parts=(Part(name="Flute", program=73), Part(name="Bass", program=33)))


def save(encoder: NoteEncoder, path: Path) -> Path:
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4)
    with torch.no_grad():
        # Short steps are likely.
        bias = cast(nn.Linear, model.heads["step"].get_submodule("2")).bias
        bias.copy_(bias - 0.06 * torch.arange(len(bias)))
    Bundle(model=model, encoder=encoder, sampler=Ancestral(), read_policy=ALL).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inner = LogTimeEncoder(exact=True, linear=2.0, parts=DUET)
    encoder = AnticipatingEncoder(inner=inner, seconds=2.0)
    return save(encoder, tmp_path_factory.mktemp("models") / "duet.notelstm")


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flute and a bass, eight seconds in 3/4."""
    start = np.repeat(0.5 * np.arange(16), 2)
    beats = TempoMap(time_signature_beats=[0], numerators=[3], denominators=[4])
    notes = Notes(
        start=start,
        end=start + 0.5,
        pitch=np.tile([72, 40], 16) + np.arange(32) // 2 % 5,
        program=np.tile([73, 33], 16),
        track=np.tile([0, 1], 16),
        track_names=["Flute", "Bass"],
        tempo_map=beats,
    )
    path = tmp_path_factory.mktemp("songs") / "song.mid"
    write_midi(notes, path)
    return path


def by_track(notes: Notes, track: int) -> Notes:
    assert notes.track is not None
    return notes[np.isin(notes.track, (track,))]


def same(a: Notes, b: Notes) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("start", "end", "pitch"))


def test_a_gap_is_filled_and_reported(
    model: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "out.mid", tmp_path / "out.html"
    argv = ["write", str(model), str(song), "-o", str(out), "--gap", "2", "5", "--seed", "4"]
    assert main([*argv, "--html", str(page), "--notes", "30"]) == 0
    printed = capsys.readouterr().out
    assert "32 notes given, none left out" in printed
    found = re.search(r"wrote .*: (\d+) new notes from 2.0 to 5.0 s \(.*\), [\d.]+ s\n", printed)
    assert found
    assert "seed 4: --seed 4 makes this piece again" in printed
    whole, before = read_midi(out, ALL), read_midi(song, ALL)
    assert len(whole) == 32 + int(found[1])
    for track in (0, 1):
        kept, own = by_track(whole, track), by_track(before, track)
        assert same(
            kept[(kept.start < 2) | (kept.start >= 5)], own[(own.start < 2) | (own.start >= 5)]
        )
    assert whole.tempo_map == before.tempo_map
    data = json.loads(page.read_text("utf-8").partition('id="data">')[2].partition("</script>")[0])
    assert [sample["title"] for sample in data["samples"]] == ["given", "out"]
    assert data["details"]["This music"]["random seed"] == "4"
    # The file records where it comes from; the same seed gives the same file.
    again = tmp_path / "again.mid"
    argv[argv.index(str(out))] = str(again)
    assert main([*argv, "--notes", "30"]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert b"model duet.notelstm, seed 4" in out.read_bytes()


def test_a_span_of_a_part_is_written_anew(
    model: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mid"
    argv = ["write", str(model), str(song), "-o", str(out), "--vary", "2", "5", "--parts", "Bass"]
    assert main([*argv, "--batch", "2", "--best-of", "2", "--temperature", "0.9"]) == 0
    printed = capsys.readouterr().out
    assert "26 notes given, 6 notes left out" in printed
    assert "temperature 0.9" in (tmp_path / "out-2.mid").read_bytes().decode("latin-1")
    before = read_midi(song, ALL)
    for name in ("out-1.mid", "out-2.mid"):
        whole = read_midi(tmp_path / name, ALL)
        assert same(by_track(whole, 0), by_track(before, 0))
        bass = by_track(whole, 1)
        outside = (bass.start < 2) | (bass.start >= 5)
        own = by_track(before, 1)
        assert same(bass[outside], own[(own.start < 2) | (own.start >= 5)])
    assert read_midi(tmp_path / "out-1.mid", ALL) != read_midi(tmp_path / "out-2.mid", ALL)


def test_missing_parts_are_written(
    model: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flute, out = tmp_path / "flute.mid", tmp_path / "out.mid"
    write_midi(by_track(read_midi(song, ALL), 0), flute)
    argv = ["write", str(model), str(flute), "-o", str(out), "--seed", "2", "--notes", "20"]
    assert main(argv) == 0
    assert re.search(r"new notes? from 0.0 to 8.0 s \(\d+ Bass\)", capsys.readouterr().out)
    assert same(by_track(read_midi(out, ALL), 0), read_midi(flute, ALL))
    assert main([*argv, "--parts", "flute", "Bass", "--overwrite"]) == 1
    assert "the piece has no notes of other parts" in capsys.readouterr().err


def test_mistakes_are_explained(
    model: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = save(LogTimeEncoder(exact=True), tmp_path / "plain.notelstm")
    solo = AnticipatingEncoder(inner=LogTimeEncoder(exact=True), seconds=2.0)
    one = save(solo, tmp_path / "one.notelstm")
    copy = tmp_path / "copy.mid"
    copy.write_bytes(song.read_bytes())
    out = str(tmp_path / "out.mid")
    cases = [
        ([str(plain), str(song), "--gap", "1", "2"], "cannot be given notes", 1),
        ([str(model), str(song), "--gap", "2", "1"], "there is no span from 2.0 s to 1.0 s", 1),
        ([str(model), str(song), "--gap", "1", "2", "--vary", "1", "2"], "contradict", 1),
        ([str(model), str(song), "--gap", "1", "2", "--parts", "Oboe"], "named 'Oboe'", 1),
        ([str(model), str(song)], "the piece has all parts of the model", 1),
        ([str(one), str(song)], "no parts. Give --gap START END or --vary START END", 1),
        ([str(model), str(song), "--gap", "1", "2", "--batch", "0"], "--batch 0 is not", 1),
        (["--gap", "1", "2"], "no MIDI file is given", 1),
        ([str(model), str(song), "a.mid", "--gap", "1", "2"], "3 names are given", 1),
        ([str(model), "missing.mid", "--gap", "1", "2"], "no such MIDI file: missing.mid", 1),
        ([str(model), str(song), "--gap", "1", "2", "--given", "key=C"], "no field 'key'", 1),
        ([str(model), str(song), "--gap", "1", "2", "--given", "pitch=C4"], "is sampled, not", 1),
        ([str(model), str(song), "--gap", "1", "2", "--given", "origin=1"], "MIDI file", 1),
        ([str(model), str(song), "--gap", "1"], "--gap", 2),
        ([str(model), str(song), "--gap", "1", "2", "--seconds", "3"], "unknown option", 2),
    ]
    for argv, message, code in cases:
        assert main(["write", *argv, "-o", out]) == code, argv
        assert message in capsys.readouterr().err, argv
    assert not Path(out).exists()
    argv = ["write", str(model), str(copy), "--gap", "1", "2", "--overwrite", "-o", str(copy)]
    assert main(argv) == 1
    assert "the output is the file that is read" in capsys.readouterr().err
    # A batch has numbered outputs, of which none may be the file, either.
    second = tmp_path / "song-2.mid"
    second.write_bytes(song.read_bytes())
    argv = ["write", str(model), str(second), "--gap", "1", "2", "--overwrite", "--batch", "2"]
    assert main([*argv, "-o", str(tmp_path / "song.mid")]) == 1
    assert f"the output is the file that is read, {second}" in capsys.readouterr().err
    assert copy.read_bytes() == second.read_bytes() == song.read_bytes()
    Path(out).write_bytes(b"mine")
    assert main(["write", str(model), str(song), "--gap", "1", "2", "-o", out]) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["write", "--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("--gap", "--vary", "--parts", "--best-of", "--scale", "--html"):
        assert option in printed
