"""Errors of users: one line, exit code 1, and nothing half-written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import notelstm
from notelstm.cli import main
from notelstm.midi import read_midi, write_midi

STUDY = Path(__file__).parents[1] / "golden" / "study.mid"
Failed = Callable[[str], str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands below name."""
    made = tmp_path_factory.mktemp("place")
    small = [
        "--recipe",
        "reference",
        "--epochs",
        "1",
        "--set",
        "model.hidden_size=8",
        "read_policy.simultaneous_order=pitch",
    ]
    assert main(["train", str(STUDY), "-o", str(made / "model"), *small]) == 0
    (made / "cut").write_bytes((made / "model").read_bytes()[:3000])
    (made / "study.mid").write_bytes(STUDY.read_bytes())
    write_midi(read_midi(STUDY)[:10], made / "ten.mid")
    write_midi(read_midi(STUDY).shifted(5.0), made / "late.mid")
    (made / "empty").mkdir()
    broken = made / "broken"
    broken.mkdir()
    (broken / "a.mid").write_bytes(b"no MIDI at all")
    (broken / "b.mid").write_bytes(b"")
    (made / "bad.toml").write_text("sequence_length 10")
    (made / "odd.toml").write_text("wndow = 10")
    return made


@pytest.fixture
def failed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Failed:
    """Runs a command in the place; what it says of its failure."""
    monkeypatch.chdir(place)

    def run(command: str) -> str:
        capsys.readouterr()
        assert main(command.split()) == 1
        said = capsys.readouterr()
        *before, last = said.err.splitlines()
        assert all(line.startswith("notelstm: warning: ") for line in before)
        assert last.startswith("notelstm: error: ")
        return last

    return run


GENERATE = {
    "generate none -o x.mid": "no such model file: none",
    "generate cut -o x.mid": "truncated, or not a safetensors file",
    "generate study.mid -o x.mid": "use a file that `notelstm train` wrote",
    "generate empty -o x.mid": "a folder or a device, not a model file (empty)",
    "generate model -o empty": "the MIDI file has no suffix (empty). Write a .mid file",
    "generate model -o x.wav": "with notelstm render",
    "generate model -o study.mid --prompt study.mid": "the output is the prompt, study.mid",
    "generate model -o x.mid --picture x.bmp": "unknown picture format '.bmp' (x.bmp)",
    "generate model -o x.mid --html x.png": "unknown page format '.png' (x.png)",
    "generate model -o x.mid --batch 10001": "--batch 10001 is not 1 to 10,000 pieces",
    "generate model -o x.mid --density 1e38": "is not a number from 0.001 to 1000",
    "generate model -o x.mid --max-polyphony 1000000000": "from 1 to 128",
    "generate model -o x.mid --no-repeat-ngram 2000": "2000 is not a whole number from 1 to 1024",
    "generate model -o study.mid/x.mid": "study.mid",
    "generate model -o x.mid --prompt none.mid": "no such MIDI file: none.mid",
    "generate model -o x.mid --prompt empty": "not a file but a folder: empty",
    "generate model -o x.mid --prompt broken/a.mid": "(broken/a.mid)",
    "generate model -o x.mid --prompt ten.mid": "10 rows, fewer than the model's context of 25",
    "generate model -o x.mid --only-new": "--only-new is given without a prompt",
    "generate model -o x.mid --prompt-bars 4": "--prompt-bars is given without a prompt",
    "generate model -o x.mid --prompt ten.mid --prompt-notes 0": "--prompt-notes 0 is not above 0",
    "generate model -o x.mid --prompt study.mid --prompt-seconds nan": "nan is not above 0",
    "generate model -o x.mid --prompt late.mid --prompt-seconds 3": "no notes before 5.00 s (late",
    "generate model -o x.mid --prompt late.mid --prompt-bars 2": "Use more of it with --prompt-s",
    "generate model -o x.mid --seed -1": "seed -1 is not a whole number, at least 0",
    "generate model -o x.mid --notes -1": "--notes -1 is not a finite number",
    "generate model -o x.mid --seconds nan": "seconds nan is not a finite number",
    "generate model -o x.mid --seconds inf": "seconds inf is not a finite number",
    "generate model -o x.mid --temperature 0": "Use the greedy sampler for 0",
    "generate model -o x.mid --temperature nan": "temperature nan is not a number",
    "generate model -o x.mid --sampler none": "Use one of: ancestral, greedy",
    "generate model -o x.mid --batch 0": "--batch 0 is not 1 to 10,000 pieces",
    "generate model -o x.mid --best-of 0": "best_of 0 is not a whole number, at least 1",
    "generate model -o x.mid --scale H-dur": "H-dur",
    "generate model -o x.mid --pitch-range C6 C2": "the range from C6 to C2 is empty",
    "generate model -o x.mid --pitch-range X9 C2": "X9",
    "generate model -o x.mid --top-k 0": "top-k 0 is not a whole number from 1",
    "generate model -o x.mid --top-p 1.5": "top-p 1.5 is not above 0 and up to 1",
    "generate model -o x.mid --min-p -1": "min-p -1.0 is not a number from 0 to 1",
    "generate model -o x.mid --max-polyphony 0": "0 is not a whole number from 1 to 128",
    "generate model -o x.mid --max-chord-size 0": "0 is not a whole number from 1 to 1024",
    "generate model -o x.mid --density 0": "notes_per_second 0.0 is not a number",
    "generate model -o x.mid --grid 0": "grid 0.0 is not a number from 0.001 to 3600",
    "generate model -o x.mid --no-repeat-ngram 0": "ngram_size 0 is not",
    "generate model -o x.mid --sampler greedy --temperature 2": "do nothing with a greedy sampler",
    "generate model -o x.mid --sampler greedy --min-p 0.1": "do nothing with a greedy sampler",
    "generate model -o x.mid --program Kazoo": "no General MIDI program is called 'Kazoo'",
    "generate model -o x.mid --program 128": "no General MIDI program is called 128",
}

TRAIN = {
    "train none -o x": "no folder, MIDI file or corpus is called 'none'. Check the path, or name a "
    "corpus: bach, maestro",
    "train empty -o x": ". ",
    "train broken -o x": "broken",
    "train ten.mid -o x --recipe reference": "no piece has more than 25 rows",
    "train study.mid -o empty": "empty is a folder. Name a file in it",
    "train study.mid -o study.mid/x": "study.mid",
    "train study.mid -o x --recipe none": "unknown recipe 'none'. Use one of: chorales, ensemble",
    "train study.mid -o x --recipe expresive": "'expresive': did you mean 'expressive'?",
    "train study.mid -o x --recipe none.toml": "no such recipe file: none.toml",
    "train study.mid -o x --recipe bad.toml": "the recipe file is not TOML",
    "train study.mid -o x --recipe odd.toml": "unknown setting 'wndow'",
    "train study.mid -o x --set modle.dropout=0": "unknown setting 'modle': did you mean 'model'",
    "train study.mid -o x --set model.hiden_size=3": "did you mean 'model.hidden_size'",
    "train study.mid -o x --set hidden": "'hidden' is not a setting",
    "train study.mid -o x --set seed=9 --set seed=8": "after another setting of that name",
    "train study.mid -o x --set model.hidden_size=big": "'big', not a whole number",
    "train study.mid -o x --set model.hidden_size=0": "hidden_size 0 is less than 1",
    "train study.mid -o x --set batch_size=0": "batch_size is 0, below 1",
    "train study.mid -o x --set sequence_length=0": "sequence_length is 0, below 1",
    "train study.mid -o x --set training.device=abacus": "there is no device 'abacus'",
    "train study.mid -o x --set training.learning_rate=1e9 --epochs 2": "the run diverged",
    "train study.mid -o x --epochs -1": "epochs is -1, below 0",
    "train study.mid -o x --seed -1": "seed is -1, below 0",
    "train study.mid -o x --max-files 0": "--max-files 0 is below 1",
    "train study.mid -o x --report a.pdf": "unknown page format '.pdf' (a.pdf)",
    "train study.mid -o x --report study.mid/a.html": "study.mid/a.html",
    "train study.mid -o x --validation 1": "validation 1.0 and test 0.0 leave nothing to train on",
    "train study.mid -o x --validation nan": "validation nan and test 0.0 leave nothing",
    "train study.mid -o x --seed 1000000000000000000000": "seed is 1000000000000000000000, above 9",
    "train study.mid -o x --set training.device=meta": "there is no device 'meta'",
    "train study.mid -o x --set encoder.parts=5": "encoder.parts is 5, not a PartMap or none",
    "train study.mid -o x --callback early-stopping": "Give --validation, or monitor one of loss",
    "train study.mid -o x --from model --set model.hidden_size=3": "Leave out the settings of the",
    "train study.mid -o x --from model --set options.hidden_size=3": "such as model.hidden_size",
    "train study.mid -o x --resume": "there is no checkpoint to resume from (x.run)",
    "train study.mid -o x --from none": "no such model file: none",
    "train study.mid -o x --from model ten.mid": "--from is given several models: model ten.mid",
    "train study.mid -o x --from model --recipe expressive": "expressive contradict each other",
    "train study.mid -o model": "model exists already. Add --overwrite",
    "train study.mid -o model --resume --set batch_size=9": "batch_size: 64 became 9",
}

OTHERS = {
    "evaluate none study.mid": "no such model file: none",
    "evaluate model none": "no folder, MIDI file or corpus is called 'none'",
    "evaluate model maestr": "is called 'maestr': did you mean 'maestro'?",
    "evaluate model study.mid empty": "3 names are given. Run notelstm evaluate [MODEL] FOLDER",
    "evaluate model empty": ". ",
    "evaluate model study.mid --max-files 0": "--max-files 0 is below 1",
    "evaluate model study.mid --max-files -1": "--max-files -1 is below 1",
    "evaluate model ten.mid": "to be scored: 1 piece of 25 notes or fewer",
    "evaluate model broken": "broken",
    "inspect none.mid": "no such MIDI file: none.mid",
    "inspect broken/a.mid": "(broken/a.mid)",
    "inspect broken/b.mid": "(broken/b.mid)",
    "inspect empty": ". ",
    "evaluate": "no folder is given",
    "evaluate model.notelstm": "no folder is given. Run notelstm evaluate [MODEL] FOLDER",
    "evaluate model study.mid --samples 2 --notes 1": "--notes 1: samples of fewer than 2 notes",
    "inspect study.mid --drums --no-drums": "--drums and --no-drums contradict each other",
    "inspect study.mid --programs 128": "128",
    "demo --chorales 0": "cannot train on 0 chorales. Give at least 1",
    "demo --epochs -1": "epochs is -1, below 0",
    "demo --minutes 0": "minutes is 0.0, not a number above 0",
    "demo --chorales 1 --epochs 0 -o study.mid": "study.mid",
}


@pytest.mark.parametrize("command", GENERATE)
def test_failed_generate_commands_write_nothing(command: str, failed: Failed, place: Path) -> None:
    assert GENERATE[command] in failed(command)
    assert not (place / "x.mid").exists()
    assert not list((place / "empty").iterdir())


@pytest.mark.parametrize("command", TRAIN)
def test_failed_train_commands_write_nothing(command: str, failed: Failed, place: Path) -> None:
    before = (place / "model").read_bytes()
    assert TRAIN[command] in failed(command)
    assert not (place / "x").exists()
    assert (place / "model").read_bytes() == before


@pytest.mark.parametrize("command", OTHERS)
def test_other_failed_commands_are_one_line(command: str, failed: Failed) -> None:
    assert OTHERS[command] in failed(command)


@pytest.mark.parametrize(
    "command",
    [
        "nonsense",
        "train",
        "train a b -o x",
        "train a",
        "train a -o x --epochs 1.5",
        "train a -o x --epoch",
        "generate m",
        "generate m -o x --notes many",
        "inspect",
        "plugins --json=3",
        "--nonsense",
    ],
)
def test_a_wrong_option_is_a_usage_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("notelstm: error: ")
    assert line.endswith("--help")
    assert not said.out


COMMANDS = (
    "demo",
    "inspect",
    "train",
    "report",
    "generate",
    "render",
    "evaluate",
    "corpora",
    "plugins",
)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["-h"]):
        assert main(argv) == 0
        said = capsys.readouterr().out
        assert all(f"\n  {command} " in said for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    # The names of types in Python are of no use at the command line.
    assert re.findall(r"\b(?:STR|INT|FLOAT|PATH|BOOL|None|MISSING)\b|[{}]|\x1b", said) == []


def lower_or_raise(path: Path, layer: str, output: int, bias: float) -> None:
    """Make a saved model's output larger or smaller."""
    bundle = notelstm.load(path)
    assert isinstance(bundle.model, nn.Module)
    linear = bundle.model.get_submodule(layer)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.bias[output] += bias
    bundle.save(path)


def test_a_model_that_generates_no_notes_is_an_error(failed: Failed, place: Path) -> None:
    """An event model that would rather wait a second than anything else."""
    small = "--recipe expressive --epochs 0 --set encoder.name=performance-event transforms=none"
    model = "model.name=note-lstm model.hidden_size=4"
    assert main(["train", "study.mid", "-o", "silent", *small.split(), *model.split()]) == 0
    lower_or_raise(place / "silent", "heads.event.2", 355, 100.0)
    line = failed("generate silent -o x.mid --sampler greedy")
    assert "the model generated no notes (silent). Try another --seed" in line
    assert not (place / "x.mid").exists()


class TestProcess:
    """The same from outside: exit codes and streams of a process."""

    def run(self, place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "notelstm", *argv],
            cwd=place,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def test_exit_codes(self, place: Path) -> None:
        assert self.run(place, "plugins").returncode == 0
        refused = self.run(place, "inspect", "none.mid")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.count("\n") == 1
        assert self.run(place, "inspect").returncode == 2

    def test_messages_go_to_standard_error_and_results_to_standard_output(
        self, place: Path
    ) -> None:
        """Losses go to the error stream; JSON is alone on standard output."""
        done = self.run(place, "evaluate", "model", "study.mid", "--json")
        assert done.stdout.count("\n") == 1
        assert done.stdout.startswith('{"pitch": ')


def test_notes_that_midi_cannot_represent_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The original as printed may draw notes of no length, and a note on top of itself."""
    model = tmp_path / "printed"
    options = [
        "--recipe",
        "reference",
        "--set",
        "options.as_printed=true",
        "model.hidden_size=4",
        "--epochs",
        "1",
    ]
    assert main(["train", str(STUDY), "-o", str(model), *options]) == 0
    for layer in ("step_linear", "duration_linear"):
        lower_or_raise(model, layer, 0, -100.0)
    capsys.readouterr()
    out = tmp_path / "x.mid"
    assert main(["generate", str(model), "-o", str(out), "--sampler", "greedy"]) == 0
    assert "128 new notes" in capsys.readouterr().out
    lost = 128 - len(read_midi(out))
    assert lost > 100
    assert f"x.mid: {lost} of 128 notes start together with another of their pitch" in caplog.text
    assert f"{128 - lost} of 128 notes were too short and last one tick" in caplog.text
