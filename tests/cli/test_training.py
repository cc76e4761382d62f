"""What ``notelstm train`` says of a run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from notelstm import load
from notelstm.cli import main
from notelstm.cli.runs import all_callbacks
from notelstm.cli.streams import silent_unless_main
from notelstm.encoders.rows import label_map_of
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.notes import Notes
from notelstm.testing.makers import long_piece
from notelstm.training import (
    BestCheckpoint,
    Callback,
    EarlyStopping,
    JSONLogger,
    Progress,
    step,
)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    generator = np.random.default_rng(0)
    for number in range(3):
        piece = long_piece(generator, count=40, seconds=6)
        write_midi(piece, tmp_path / "midi" / f"{number}.mid")
    small = ["--set", "model.hidden_size=4", "batch_size=8"]
    return ["train", str(tmp_path / "midi"), "-o", str(tmp_path / "a.notelstm"), *small]


def test_the_reason_of_a_stop_is_printed(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_times", lambda *_: (2.0, 1.0))
    timed = ["--minutes", "0.0001", "--precision", "auto", "--validation", "0.01"]
    assert main([*arguments, *timed]) == 0
    out, err = capsys.readouterr()
    assert "no piece is set aside for validation" in out
    assert "bfloat16" in out
    assert err.splitlines()[-1] == "stopped: its 0.0001 minutes are over"
    # What is written to a log has no trace of a bar.
    assert "\r" not in out + err
    assert "\x1b" not in out + err


def test_a_finished_run_prints_no_reason(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    assert "float32" in out
    assert [line.partition(" ")[0] for line in err.splitlines()] == ["epoch"]


def test_expressive_is_the_default_recipe(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--epochs", "1"]) == 0
    assert load(tmp_path / "a.notelstm").settings["name"] == "expressive"
    assert "recipe: expressive" in capsys.readouterr().out
    other = [*arguments, "--epochs", "1", "--recipe", "reference"]
    other[3] = str(tmp_path / "b.notelstm")
    assert main(other) == 0
    assert load(tmp_path / "b.notelstm").settings["name"] == "reference"


def test_a_reduced_batch_size_is_printed(
    arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    small = [*arguments[:4], "--set", "model.hidden_size=4", "--epochs", "1"]
    assert main(small) == 0
    assert "too few steps per epoch: 1 with batch 64; training with batch 1" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "batch_size=0"],
        ["--set", "training.device=nonsense"],
        ["--set", "model.hidden_size=0"],
        ["--minutes", "0"],
        ["--callback", "samples:every=0"],
        ["--callback", "nothing"],
    ],
)
def test_settings_are_checked_before_files_are_read(
    arguments: list[str],
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In the module that uses it, which may be imported first here and would keep a replacement.
    monkeypatch.setattr(
        "notelstm.cli.train.open_music", lambda *_, **__: pytest.fail("files were read")
    )
    before = [arg for arg in arguments if arg != "batch_size=8"]
    assert main([*before, *options]) == 1
    assert capsys.readouterr().err.startswith("notelstm: error: ")


def test_progress_is_logged_without_a_terminal(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    set_clock: Callable[[Callable[[], float]], None],
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 4.0
        return now[0]

    set_clock(clock)
    assert main([*arguments, "--epochs", "3"]) == 0
    err = capsys.readouterr().err
    assert "steps/s" in err
    assert "warning" not in err


@pytest.mark.parametrize(
    "command", ["early-stopping:patience=x", "nothing", "samples:every=0", "time-budget", "report"]
)
def test_invalid_callbacks_are_rejected(
    arguments: list[str], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([*arguments, "--callback", command]) == 1
    assert capsys.readouterr().err.startswith("notelstm: error: ")


def test_a_callback_replaces_the_usual_one_of_its_kind(arguments: list[str]) -> None:
    usual = all_callbacks([], validation=True)
    assert [type(callback) for callback in usual] == [JSONLogger, Progress, BestCheckpoint]
    chosen: list[Callback] = [
        EarlyStopping(),
        BestCheckpoint(monitor="validation/pitch"),
        Progress(seconds=1.0),
        JSONLogger(),
    ]
    order = [chosen[3], chosen[2], chosen[1], chosen[0]]
    assert all(a is b for a, b in zip(all_callbacks(chosen, validation=True), order, strict=True))
    assert main([*arguments, "--epochs", "2", "--callback", "jsonl"]) == 0
    lines = Path(f"{arguments[3]}.run", "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_a_folder_with_a_name_that_is_not_text(arguments: list[str], tmp_path: Path) -> None:
    midi = tmp_path / os.fsdecode(b"caf\xe9")
    (tmp_path / "midi").rename(midi)
    for folder in (b"\xe8", b"a"):
        shutil.copytree(midi, midi / os.fsdecode(folder))
    arguments[1] = str(midi)
    assert main([*arguments, "conditions=folder", "--epochs", "1"]) == 0
    bundle = load(arguments[3])
    assert bundle.data.name == "caf\ufffd"
    label_map = label_map_of(bundle.encoder)
    assert label_map is not None
    assert label_map.labels[0].values == ("a", "\ufffd")


@pytest.mark.parametrize(("rank", "said"), [("0", "heard\n"), ("1", "")])
def test_only_the_main_process_prints(
    rank: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    with silent_unless_main():
        print("heard")
    assert capsys.readouterr().out == said


def test_reading_without_a_terminal_is_logged(
    arguments: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notelstm.data.corpus.corpus.LOG_INTERVAL", 0.0)
    assert main([*arguments, "--epochs", "0"]) == 0
    progress = [r.getMessage() for r in caplog.records if r.name.endswith(".progress")]
    assert "reading midi: 2 of 3 files" in progress


BAND = [("MELODY", 0, False), ("BRIDGE", 0, False), ("Bass", 33, False), ("Kit", 0, True)]


@pytest.fixture
def band(tmp_path: Path) -> list[str]:
    """The arguments to train on two songs of a band."""
    generator = np.random.default_rng(1)
    for number in range(2):
        start = np.sort(generator.integers(0, 200, 80)) / 10
        track = generator.integers(0, len(BAND), 80)
        program, drum = ([BAND[k][column] for k in track] for column in (1, 2))
        song = Notes(
            start=start,
            end=start + 0.2,
            pitch=36 + np.arange(80) % 20,
            program=program,
            drum=drum,
            track=track,
            track_names=[name for name, *_ in BAND],
        )
        write_midi(song, tmp_path / "band" / f"{number}.mid")
    small = ["--set", "model.hidden_size=4", "model.head_size=4", "batch_size=8", "--epochs", "1"]
    folder, model = str(tmp_path / "band"), str(tmp_path / "band.notelstm")
    return ["train", folder, "-o", model, "--recipe", "ensemble", *small]


@pytest.mark.parametrize(
    ("options", "by", "names"),
    [
        ([], "name", "Bass, BRIDGE, MELODY, Kit"),
        (["--parts", "program"], "program", "Acoustic Grand Piano, Electric Bass (finger), Drums"),
        (["--parts", "family"], "family", "Piano, Bass, Drums"),
        (["--parts", "name"], "name", "Bass, BRIDGE, MELODY, Kit"),
        (["--parts", "track"], "track", "MELODY, BRIDGE, Bass, Kit"),
    ],
)
def test_training_prints_the_instruments(
    band: list[str],
    options: list[str],
    by: str,
    names: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*band, *options]) == 0
    out = capsys.readouterr().out
    assert f"instruments by {by}: {names}\n" in out
    assert "left out" not in out
    model, song = str(tmp_path / "band.notelstm"), str(tmp_path / "band" / "0.mid")
    assert main(["inspect", model]) == 0
    inspected = capsys.readouterr().out
    for number, name in enumerate(names.split(", ")):
        assert f"class {number}: {name}, " in inspected
    made = str(tmp_path / "new.mid")
    assert main(["generate", model, "--prompt", song, "--notes", "50", "-o", made]) == 0
    assert "are given to" not in capsys.readouterr().out, "the model chooses their instruments"
    assert main(["evaluate", model, str(tmp_path / "band")]) == 0
    read = read_midi(made, ReadPolicy(tracks="all", drums=True))
    assert set(read.track_names or ()) == {name for name, *_ in BAND}, "the tracks of the prompt"


def test_every_note_is_accounted_for(
    band: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*band, "--parts", "family"]) == 0
    model, folder = str(tmp_path / "band.notelstm"), tmp_path / "new"
    start = np.arange(30) / 10
    new = Notes(
        start=np.concatenate([start, start + 0.001]),
        end=4,
        pitch=np.tile(np.arange(30) + 40, 2),
        program=np.tile([0, 70, 33], 20),
        track=np.repeat([0, 1], 30),
        track_names=("one", "two"),
    )
    write_midi(new, folder / "new.mid")
    capsys.readouterr()
    assert main(["inspect", str(folder), "--model", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    merged = {"that repeat a pitch within a cell, merged": 30}
    counts = {"notes": 60, "changes": merged, "unknown": 20, "rejected": 0}
    assert found["model"] == counts
    assert found["notes"] == 60
    assert found["instruments"] == {"one": 30, "two": 30}
    for path in (folder, folder / "new.mid"):
        assert main(["inspect", str(path), "--model", model]) == 0
        assert (
            "  60 notes for the model; 30 notes that repeat a pitch within a cell, merged; "
            "20 of unknown instruments (nearest); 0 in pieces that it rejects\n"
        ) in capsys.readouterr().out
    write_midi(replace(new, drum=np.ones(60, np.bool_)), folder / "drums.mid")
    assert main(["inspect", str(folder), "--model", model]) == 0
    assert "notes by instrument: " in capsys.readouterr().out


def test_instruments_of_the_wrong_recipe_or_of_a_model(
    band: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["expressive" if arg == "ensemble" else arg for arg in band]
    assert main([*other, "--parts", "name"]) == 1
    assert "--parts name with a recipe without instruments, expressive" in capsys.readouterr().err
    start = [arg for arg in band if arg not in ("--recipe", "ensemble")]
    assert main([*start, "--from", "--parts", "name"]) == 1
    assert "--from and --parts name contradict each other" in capsys.readouterr().err


def test_chorales_are_four_parts_for_an_ensemble_and_one_for_a_piano(
    band: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("music21")
    chorales = ["train", "bach", *band[2:], "--max-files", "2"]
    assert main(chorales) == 0
    out, err = capsys.readouterr()
    assert "instruments by name: Alto, Bass, Soprano, Tenor" in out
    assert "instruments" not in err
    piano = ["expressive" if arg == "ensemble" else arg for arg in chorales]
    assert main([*piano, "--overwrite"]) == 0
    out, err = capsys.readouterr()
    assert "instruments" not in out + err
