"""Standard streams that are closed: a command does its work, or ends with another exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from notelstm.bundle import load
from notelstm.cli import main
from notelstm.midi import read_midi

STUDY = Path(__file__).parents[1] / "golden" / "study.mid"
SMALL = [
    "--epochs",
    "3",
    "--set",
    "model.hidden_size=4",
    "sequence_length=8",
    "batch_size=64",
    "--recipe",
    "reference",
]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX")


def broken_pipe() -> int:
    """The end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def run(
    place: Path,
    *argv: str,
    stdout: int | None = subprocess.DEVNULL,
    stderr: int | None = subprocess.PIPE,
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "notelstm", *argv],
        cwd=place,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=before,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.notelstm"
    assert main(["train", str(STUDY), "-o", str(path), *SMALL]) == 0
    return path


def test_training_finishes_when_its_output_is_not_read(tmp_path: Path, model: Path) -> None:
    pipe = broken_pipe()
    done = run(tmp_path, "train", str(STUDY), "-o", "m", *SMALL, stdout=pipe, stderr=pipe)
    os.close(pipe)
    assert done.returncode == 141
    assert (tmp_path / "m").read_bytes() == model.read_bytes()


def test_training_finishes_when_its_reader_closes_the_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "notelstm", "train", str(STUDY), "-o", "m", *SMALL]
    running = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert running.stdout is not None
    for _ in range(2):
        assert running.stdout.readline()
    running.stdout.close()
    assert running.wait(timeout=600) == 141
    assert load(tmp_path / "m").data.notes == 768


def test_a_closed_standard_error_loses_no_work(tmp_path: Path, model: Path) -> None:
    pipe = broken_pipe()
    done = run(tmp_path, "train", str(STUDY), "-o", "m", *SMALL, stderr=pipe)
    os.close(pipe)
    assert done.returncode == 0
    assert (tmp_path / "m").read_bytes() == model.read_bytes()


def test_errors_keep_their_exit_code_when_output_is_closed(tmp_path: Path) -> None:
    pipe = broken_pipe()
    done = run(tmp_path, "inspect", "none.mid", stdout=pipe, stderr=pipe)
    wrong = run(tmp_path, "inspect", "--nonsense", stdout=pipe, stderr=pipe)
    os.close(pipe)
    assert (done.returncode, wrong.returncode) == (1, 2)


COMMANDS = {
    "plugins": [],
    "corpora": [],
    f"inspect {STUDY}": [],
    f"inspect {STUDY} --json": [],
    f"evaluate MODEL {STUDY} --json": [],
    f"render {STUDY} -o x.html": ["x.html"],
    "generate MODEL -o x.mid --notes 40 --seed 1 --html y.html": ["x.mid", "y.html"],
    "plugins --help": [],
    "--help": [],
}


@pytest.mark.parametrize("closed", ["pipe", "descriptor"])
@pytest.mark.parametrize("command", COMMANDS)
def test_closed_standard_output_is_an_error(
    command: str, closed: str, tmp_path: Path, model: Path
) -> None:
    words = [str(model) if word == "MODEL" else word for word in command.split()]
    if closed == "pipe":
        pipe = broken_pipe()
        done = run(tmp_path, *words, stdout=pipe)
        os.close(pipe)
    else:
        done = run(tmp_path, *words, stdout=None, before=lambda: os.close(1))
    assert done.returncode == 141
    assert done.stderr == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == COMMANDS[command]
    for name in COMMANDS[command]:
        text = (tmp_path / name).read_bytes()
        if name.endswith(".html"):
            assert text.rstrip().endswith(b"</html>")
        else:
            assert len(read_midi(tmp_path / name)) > 0


def test_all_streams_closed_at_the_start(tmp_path: Path, model: Path) -> None:
    """No file takes the place of a stream: nothing that is printed gets into the model."""

    def close_all() -> None:
        for descriptor in range(3):
            os.close(descriptor)

    argv = ["train", str(STUDY), "-o", "m", *SMALL]
    done = run(tmp_path, *argv, stdout=None, stderr=None, before=close_all)
    assert done.returncode == 141
    assert (tmp_path / "m").read_bytes() == model.read_bytes()


def test_output_read_to_its_end_is_a_success(tmp_path: Path) -> None:
    done = run(tmp_path, "plugins", stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") > 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_device_is_an_error(tmp_path: Path, model: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(tmp_path, "train", str(STUDY), "-o", "m", *SMALL, stdout=full.fileno())
    assert done.returncode == 1
    *_, line = done.stderr.decode().splitlines()
    assert line == "notelstm: error: cannot write to standard output: No space left on device"
    assert "Traceback" not in done.stderr.decode()
    assert (tmp_path / "m").read_bytes() == model.read_bytes()
