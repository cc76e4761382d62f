"""Tracks and drums that are left out are named in one line, and the reading options read them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from notelstm.bundle import load
from notelstm.cli import main
from notelstm.cli.music import open_corpus
from notelstm.cli.reading_options import Reading, for_command_line
from notelstm.data.corpus import Corpus
from notelstm.encoders import BeatEncoder
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Rows
from notelstm.midi import ReadPolicy, policy, read_midi, write_midi
from notelstm.notes import Notes, TempoMap

SMALL = ["--epochs", "1", "--recipe", "reference", "--set", "model.hidden_size=4", "batch_size=16"]
COUNTS = {"melody": 60, "bass": 40, "drums": 30}


def song(first: int = 0) -> Notes:
    """A melody, a bass and drums."""
    parts = []
    for track, (name, count) in enumerate(COUNTS.items()):
        start = np.arange(count) * 0.25 + 0.01 * track
        pitch = (np.arange(count) * 5 + first) % 20 + 40
        program = {"melody": 0, "bass": 33, "drums": 0}[name]
        parts.append(
            Notes(
                start=start,
                end=start + 0.2,
                pitch=pitch,
                program=program,
                drum=name == "drums",
                track=track,
            )
        )
    return Notes.merge(parts)


def melody(first: int) -> Notes:
    """The song's melody alone."""
    whole = song(first)
    assert whole.track is not None
    return whole[whole.track == 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("songs")
    for k in range(3):
        write_midi(song(k), made / f"{k}.mid")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    path = folder.parent / "model"
    assert main(["train", str(folder), "-o", str(path), *SMALL]) == 0
    return path


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """The lines of a successful command, of both streams, on notes that are left out."""
    capsys.readouterr()
    assert main(list(argv)) == 0
    out, err = capsys.readouterr()
    return [line for line in (out + err).splitlines() if "left out" in line]


OF_FILE = (
    "left out: 70 notes: 30 of drums (track 2: 30 notes), read with --drums; "
    "40 of other tracks (track 1: 40 notes), read with --tracks all"
)
OF_FOLDER = (
    "left out: 210 notes: 90 of drums (in 3 files), read with --drums; "
    "120 of other tracks (in 3 files), read with --tracks all"
)


def commands(folder: Path, model: Path, place: Path) -> dict[str, list[str]]:
    one = str(folder / "0.mid")
    return {
        "inspect file": ["inspect", one],
        "inspect folder": ["inspect", str(folder)],
        "train": ["train", str(folder), "-o", str(place / "m"), *SMALL],
        "evaluate": ["evaluate", str(model), str(folder)],
        "generate": [
            "generate", str(model), "-o", str(place / "x.mid"), "--notes", "4", "--prompt", one,
        ],
        "render": [
            *("render", one, "-o", str(place / "x.html"), "--no-drums", "--tracks", "first"),
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "command", ["inspect file", "inspect folder", "train", "evaluate", "generate", "render"]
)
def test_left_out_notes_are_one_line_and_options_read_them(
    command: str, folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = commands(folder, model, tmp_path)[command]
    (line,) = said(capsys, *argv)
    whole = OF_FOLDER if command in ("inspect folder", "train", "evaluate") else OF_FILE
    assert line.strip().endswith(whole)
    more = [*argv[:-2], "--tracks", "all"] if command == "render" else [*argv, "--tracks", "all"]
    if command in ("train", "generate", "render"):
        more.append("--overwrite")
    (line,) = said(capsys, *more)
    assert "drums" in line
    assert "other tracks" not in line
    assert said(capsys, *(word for word in more if word != "--no-drums"), "--drums") == []


def test_json_has_the_notes_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, whole, times in ((folder / "0.mid", OF_FILE, 1), (folder, OF_FOLDER, 3)):
        assert main(["inspect", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["left_out"] == {"drums": 30 * times, "tracks": 40 * times}
        assert found["left_out_line"] == whole
        assert main(["inspect", str(path), "--json", "--tracks", "all", "--drums"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["left_out"], found["left_out_line"]) == ({}, "")
        assert found["notes"] == 130 * times


def test_json_goes_to_standard_output_alone(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["notes"] == 3 * (60 - 25)
    assert OF_FOLDER in err


def test_reading_options_are_saved_with_the_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all"
    argv = ["train", str(folder), "-o", str(path), *SMALL]
    assert main([*argv, "--tracks", "all", "--no-drums", "--pedal", "extend"]) == 0
    bundle = load(path)
    assert (bundle.read_policy.tracks, bundle.read_policy.pedal) == ("all", "extend")
    assert bundle.data.notes == 300
    # The model's own policy is the default; options replace single settings of it.
    (line,) = said(capsys, "evaluate", str(path), str(folder))
    assert "left out: 90 notes" in line
    assert "other tracks" not in line
    lines = said(capsys, "evaluate", str(path), str(folder), "--tracks", "first")
    assert lines == [f"notelstm: {folder}: {OF_FOLDER}"]


def test_prompts_are_read_with_the_reading_options(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.mid"
    argv = ["generate", str(model), "-o", str(out), "--notes", "0"]
    prompt = ["--prompt", str(folder / "0.mid")]
    assert main([*argv, *prompt]) == 0
    every = ReadPolicy(tracks="all", drums=True)
    assert len(read_midi(out, every)) == 60
    assert main([*argv, *prompt, "--tracks", "all", "--overwrite"]) == 0
    assert len(read_midi(out, every)) == 100


def test_each_setting_of_the_policy_has_its_option() -> None:
    settings = {field.name for field in dataclasses.fields(ReadPolicy)}
    options = {field.name for field in dataclasses.fields(Reading)}
    assert options == settings | {"no_drums"}
    assert Reading().policy(every := ReadPolicy(tracks="all", drums=True)) == every
    for name in settings - {"programs", "names", "drums", "max_seconds"}:
        kind = getattr(policy, "".join(word.title() for word in name.split("_")))
        for value in get_args(kind):
            given: dict[str, Any] = {name: value}
            assert Reading(**given).policy(ReadPolicy()) == ReadPolicy(**given)
    assert Reading(programs=(1,), names=("*a",), max_seconds=9).policy(ReadPolicy()) == ReadPolicy(
        programs=(1,), names=("*a",), max_seconds=9
    )
    assert Reading(no_drums=True).policy(ReadPolicy(drums=True)) == ReadPolicy()
    with pytest.raises(ConfigError, match="contradict"):
        Reading(drums=True, no_drums=True).policy(ReadPolicy())


def test_the_options_reach_a_named_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def record(source: object, **_: object) -> None:
        opened.append(source)

    monkeypatch.setattr(Corpus, "open", record)
    wanted = ReadPolicy(tracks="all", pedal="extend")
    open_corpus("maestro", wanted)
    assert [source.policy for source in opened] == [wanted]


def test_short_pieces_are_counted_in_a_message(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for k in range(3):
        write_midi(melody(k), tmp_path / "in" / f"long {k}.mid")
    for k, count in enumerate((1, 25)):
        write_midi(melody(k)[:count], tmp_path / "in" / f"short {k}.mid")
    where = str(tmp_path / "in")
    assert "left out: 2 pieces of 25 notes or fewer" in said(capsys, "evaluate", str(model), where)
    samples = ["--samples", "2", "--notes", "30"]
    lines = said(capsys, "evaluate", str(model), where, *samples)
    assert "left out: 2 pieces of 25 notes or fewer" in lines
    assert main(["evaluate", str(model), where, *samples, "--json", "--tracks", "first"]) == 0
    out, err = capsys.readouterr()
    assert "not compared with samples: 1 piece of fewer than 2 notes" in err
    found = json.loads(out)
    assert (found["too_short"], found["rejected"], len(found["pieces"])) == (2, {}, 3)
    assert main(["train", where, "-o", str(tmp_path / "m"), *SMALL]) == 0
    line = "left out: 2 pieces of 5, shorter than a window of 25 rows and one target"
    assert line in caplog.text


def in_time_signature(numerator: int, denominator: int) -> Notes:
    beats = TempoMap(
        seconds=[0.0],
        tempos=[120.0],
        time_signature_beats=[0.0],
        numerators=[numerator],
        denominators=[denominator],
    )
    start = np.arange(60) * 0.25
    return Notes(start=start, end=start + 0.2, pitch=np.arange(60) % 12 + 60, tempo_map=beats)


def test_pieces_that_the_encoder_rejects_are_left_out_with_a_reason(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode = BeatEncoder.encode

    def refusing(self: BeatEncoder, notes: Notes) -> Rows:
        assert notes.tempo_map is not None
        if 32 in notes.tempo_map.denominators:
            raise EncodingError("no time signature 7/32", where="note 0", hint="use another")
        return encode(self, notes)

    monkeypatch.setattr(BeatEncoder, "encode", refusing)
    where, odd, model = tmp_path / "in", tmp_path / "odd", str(tmp_path / "m")
    for k in range(2):
        write_midi(in_time_signature(4, 4), where / f"{k}.mid")
    write_midi(in_time_signature(7, 32), where / "odd.mid")
    write_midi(in_time_signature(7, 32), odd / "odd.mid")
    small = [
        "--recipe",
        "expressive",
        "--epochs",
        "1",
        "--set",
        "options.hidden_size=4",
        "batch_size=4",
    ]
    beats = ["encoder.name=beat", "transforms=none", "model.field_order=none"]
    assert main(["train", str(where), "-o", model, *small, *beats]) == 0
    refusal = "left out: 1 piece that the encoder rejects: "
    assert refusal in caplog.text
    assert "7/32" in caplog.text
    assert "(odd.mid, note 0)" in caplog.text
    assert load(model).data.pieces == 2
    caplog.clear()
    capsys.readouterr()
    assert main(["evaluate", model, str(where), "--json", "--train", str(where)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["rejected"]) == ["odd.mid"]
    assert "7/32" in found["rejected"]["odd.mid"]
    assert refusal in caplog.text
    # All is measured on the same notes.
    assert found["notes"] == 2 * 35
    assert {scores["notes"] for scores in found["baselines"].values()} == {2 * 35}
    assert main(["evaluate", model, str(where)]) == 0
    assert "left out: 1 piece rejected by the encoder" in capsys.readouterr().out
    # Where all are refused there is nothing to do.
    for argv in (
        ["evaluate", model, str(odd)],
        ["train", str(odd), "-o", str(tmp_path / "n"), *small, *beats],
    ):
        assert main(argv) == 1
        error = capsys.readouterr().err
        assert "7/32" in error
        assert "odd.mid" in error
    assert not (tmp_path / "n").exists()


def test_hints_name_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of drums alone: the library's hint is for Python, the command line's names options."""
    whole = song()
    assert whole.drum is not None
    write_midi(whole[whole.drum], tmp_path / "in" / "drums.mid")
    assert main(["inspect", str(tmp_path / "in" / "drums.mid")]) == 1
    error = capsys.readouterr().err
    assert "--drums" in error
    assert "=" not in error
    write_midi(melody(0), tmp_path / "in" / "melody.mid")
    assert main(["inspect", str(tmp_path / "in")]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "rejected: drums.mid" in x]
    assert "--drums" in line
    hint = "programs=() or names=() or drums=True or zero_length=\"keep\" or on_error='skip'"
    assert for_command_line(hint) == (
        "an empty --programs or an empty --names or --drums or --zero-length keep or "
        "--on-error skip"
    )
    assert for_command_line("Set epochs, or add the callback TimeBudget(minutes=...)").endswith(
        "or give --minutes"
    )
    hint = "no entry point. Pass the encoder: load(path, encoder=...)"
    assert for_command_line(hint) == "no entry point. Install the package that has it"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs pipes under /dev/fd")
def test_a_pipe_is_inspected(folder: Path) -> None:
    song_path = folder / "0.mid"
    command = f'"{sys.executable}" -m notelstm inspect <(cat "{song_path}") --pedal extend'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "track 1: 40 notes" in done.stdout
    assert OF_FILE in done.stdout


def test_a_corpus_given_by_name_is_read_with_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        "notelstm.data.corpus.Corpus.open", lambda source, **_: opened.append(source)
    )
    policy = ReadPolicy(tracks="all", drums=True)
    open_corpus("maestro", policy)
    assert [source.policy for source in opened] == [policy]
