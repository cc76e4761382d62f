"""Checkpoints survive kills, full disks and Ctrl-C; real processes, real signals."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from notelstm.data import SequenceDataset, WindowBatches
from notelstm.encoders import StepDurationEncoder
from notelstm.errors import OutputError, TrainingError
from notelstm.losses import CompositeLoss, PositivePressure
from notelstm.models import ThreeHeadLSTM
from notelstm.training import Callback, JSONLogger, RunFolder, Trainer, TrainingConfig

SAVES_FOR_EVER = """
    import itertools, sys, torch
    from notelstm.training import RunFolder
    folder = RunFolder(sys.argv[1])
    for number in itertools.count(1):
        folder.save("last", {"number": number, "tensor": torch.full((500_000,), float(number))})
        print(number, flush=True)
"""

TRAINS_FOR_EVER = """
    import sys
    import numpy as np
    from notelstm.data import SequenceDataset, WindowBatches
    from notelstm.encoders import StepDurationEncoder
    from notelstm.losses import CompositeLoss, PositivePressure
    from notelstm.models import ThreeHeadLSTM
    from notelstm.training import Callback, JSONLogger, Trainer, TrainingConfig

    class Count(Callback):
        def on_step_end(self, trainer):
            print(trainer.state.steps, flush=True)

    fields = StepDurationEncoder().fields
    rows = np.random.default_rng(0).random((400, 3)).astype(np.float32)
    Trainer(
        ThreeHeadLSTM(fields=fields, hidden_size=4),
        CompositeLoss.for_fields(fields, continuous=PositivePressure()),
        config=TrainingConfig(epochs=100_000, device="cpu", checkpoint_every=100_000),
        callbacks=[JSONLogger(), Count()],
        folder=sys.argv[1],
    ).fit(WindowBatches(dataset=SequenceDataset([rows], sequence_length=4), batch_size=16))
"""


def started(script: str, folder: Path) -> subprocess.Popen[str]:
    """A process that has begun to print numbers."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    return process


def test_a_kill_in_the_middle_of_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    in_the_middle = 0
    for kill in range(4):
        folder = tmp_path / str(kill)
        process = started(SAVES_FOR_EVER, folder)
        # Kill it while it writes: a file beside the checkpoint says so.
        deadline = time.monotonic() + 20
        while not list(folder.glob(".last.pt.*")) and time.monotonic() < deadline:
            pass
        process.kill()
        said, _ = process.communicate()
        in_the_middle += bool(list(folder.glob(".last.pt.*")))
        saved = RunFolder(folder).load("last")
        assert torch.all(saved["tensor"] == saved["number"])
        assert saved["number"] >= int(said.split()[-1] if said else 1)
    assert in_the_middle, "no kill came while a file was being written"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_real_ctrl_c_saves_and_is_reported(tmp_path: Path, number: signal.Signals) -> None:
    process = started(TRAINS_FOR_EVER, tmp_path)
    process.send_signal(number)
    steps, complaint = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert complaint.strip().endswith("KeyboardInterrupt")
    saved = RunFolder(tmp_path).load("last")
    assert saved["steps"] == int(["1", *steps.split()][-1])
    assert not list(tmp_path.glob(".*"))


IN_A_TERMINAL = """
    import json, os, pty, sys, time
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[2]])
    while b"10" not in os.read(terminal, 4096):
        pass
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status))
"""


def test_sighup_and_sigterm_save(tmp_path: Path) -> None:
    script = textwrap.dedent(TRAINS_FOR_EVER).replace("Count()]", "Progress(), Count()]")
    script = "from notelstm.training import Progress" + script
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IN_A_TERMINAL), script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == -signal.SIGINT
    assert RunFolder(tmp_path).load("last")["steps"] >= 10
    assert not list(tmp_path.glob(".*"))


def test_every_flipped_bit_of_a_checkpoint_is_detected(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    (tmp_path / "previous.pt").unlink()
    path = tmp_path / "last.pt"
    data = path.read_bytes()
    rng = random.Random(0)
    unnoticed = 0
    for _ in range(400):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            RunFolder(tmp_path).load("last")
        except TrainingError as error:
            unnoticed += not str(error).startswith(f"damaged checkpoint {path}")
        else:
            unnoticed += 1
    print(f"{unnoticed} of 400 flips unnoticed")
    assert not unnoticed
    path.write_bytes(data)
    assert RunFolder(tmp_path).load("last")["epoch"] == 1


def test_torch_load_reads_checkpoints(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    tensor = torch.rand(1000)
    folder.save("best", {"tensor": tensor, "number": 3, "text": "a"})
    found = torch.load(tmp_path / "best.pt", weights_only=True)
    assert torch.equal(found["tensor"], tensor)
    assert zipfile.ZipFile(tmp_path / "best.pt").comment.startswith(b"notelstm sha256 ")


def resumed(folder: Path, *, resume: bool = True) -> None:
    """Train the study of TRAINS_FOR_EVER for an epoch."""
    fields = StepDurationEncoder().fields
    rows = np.random.default_rng(0).random((400, 3)).astype(np.float32)
    Trainer(
        ThreeHeadLSTM(fields=fields, hidden_size=4),
        CompositeLoss.for_fields(fields, continuous=PositivePressure()),
        config=TrainingConfig(epochs=1, device="cpu", checkpoint_every=100_000),
        callbacks=[JSONLogger()],
        folder=folder,
    ).fit(
        WindowBatches(dataset=SequenceDataset([rows], sequence_length=4), batch_size=16),
        resume=resume,
    )


def test_a_second_run_in_a_folder_is_rejected(tmp_path: Path) -> None:
    process = started(TRAINS_FOR_EVER, tmp_path)
    try:
        being_written = tmp_path / ".last.pt.01234567.part"
        being_written.touch()
        settings = (tmp_path / "settings.json").read_bytes()
        for resume in (False, True):
            with pytest.raises(TrainingError, match=r"another run is using the folder.*Wait until"):
                resumed(tmp_path, resume=resume)
        assert being_written.exists()
        assert (tmp_path / "settings.json").read_bytes() == settings
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        resumed(tmp_path)  # the first one ended
        assert not being_written.exists()
    finally:
        process.kill()
        process.communicate()


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    process = started(TRAINS_FOR_EVER, tmp_path)
    process.kill()
    process.communicate()
    resumed(tmp_path, resume=False)  # there was no checkpoint yet
    resumed(tmp_path)


def test_one_process_cannot_run_twice_in_a_folder(make: Callable[[], Any], tmp_path: Path) -> None:
    study = make()
    found = []

    class Again(Callback):
        """Starts another run in the folder, at each step of the first."""

        def on_step_end(self, trainer: Trainer) -> None:
            with pytest.raises(TrainingError, match="another run is using the folder"):
                make().trainer([], tmp_path).fit(study.batches, resume=True)
            found.append(trainer.state.steps)

    study.trainer([Again()], tmp_path, epochs=1).fit(study.batches)
    assert len(found) == study.batches.num_batches
    # A run that ends with an error gives the folder back.
    with pytest.raises(TrainingError, match="holds a run already"):
        make().trainer([], tmp_path).fit(study.batches)
    make().trainer([], tmp_path).fit(study.batches, resume=True)


def test_a_folder_that_cannot_be_locked_is_an_error(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    study = make()
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(OutputError, match=r"run folder cannot be locked: .*Name a folder"):
        study.trainer([], tmp_path).fit(study.batches)


@pytest.fixture
def small_disk() -> Any:
    """Files can grow to 1 kB and no further, which is what a full disk looks like."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, small_disk: Callable[[], None]
) -> None:
    folder = RunFolder(tmp_path)
    folder.save("last", {"number": 1})
    small_disk()
    with pytest.raises(OutputError, match=r"last\.pt.*Free some space"):
        folder.save("last", {"number": 2, "tensor": torch.zeros(100_000)})
    assert folder.load("last") == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_ends_a_run_that_can_be_resumed(
    make: Callable[[], Any], tmp_path: Path, small_disk: Callable[[], None]
) -> None:
    class Fills(Callback):
        """The disk becomes full in the second epoch."""

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            if trainer.state.epoch == 2:
                small_disk()

    study = make()
    with pytest.raises(OutputError, match="cannot write the file"):
        study.trainer([Fills()], tmp_path).fit(study.batches)
    assert RunFolder(tmp_path).load("last")["epoch"] == 1


def test_a_log_that_cannot_be_written_is_an_output_error(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    (tmp_path / "log.jsonl").mkdir()
    study = make()
    with pytest.raises(OutputError, match=r"log\.jsonl"):
        study.trainer([JSONLogger()], tmp_path).fit(study.batches)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(OutputError, match="run folder cannot be made"):
            RunFolder(path)
