"""Several processes take the steps of one, end together, and go on from where they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from notelstm.cli import main
from notelstm.errors import ConfigError
from notelstm.midi import write_midi
from notelstm.testing.makers import long_piece
from notelstm.training import DistributedGroup
from notelstm.training.config import pick_device

pytestmark = [
    pytest.mark.skipif(
        not (hasattr(os, "fork") and torch.distributed.is_available()),
        reason="no processes to join",
    ),
    pytest.mark.xdist_group("processes"),  # the scenarios are played once
]

SCENARIOS = Path(__file__).with_name("several_processes.py")
Played = Callable[[str], Any]


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """What the scenarios came to: all are played in one go, once."""
    place = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCENARIOS), str(place)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]

    def outcome(name: str) -> Any:
        found = torch.load(place / f"{name}.pt", weights_only=False)
        assert "broken" not in found, found["broken"]
        return found

    return outcome


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def agree(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """The outcome of the first process, once it is known to be that of all."""
    first = ranks[0]
    for other in ranks[1:]:
        assert "error" not in other, other.get("where")
        for name in ("epochs", "stopped", "weights", "steps", "precision", "rate"):
            assert same(first[name], other[name]), name
        # One writes.
        assert other["callbacks"] == 0
        assert not other["has_folder"]
    assert "error" not in first, first.get("where")
    return first


def close(a: dict[str, Any], b: dict[str, Any], tolerance: float = 1e-4) -> None:
    assert a["steps"] == b["steps"]
    for one, other in zip(a["epochs"], b["epochs"], strict=True):
        assert one == pytest.approx(other, rel=tolerance)
    for name, value in a["weights"].items():
        torch.testing.assert_close(value, b["weights"][name], rtol=0, atol=30 * tolerance)


def test_any_number_of_processes_has_the_same_losses(played: Played) -> None:
    for name, runs in played("curves").items():
        one = agree(runs[1])
        assert one["epochs"][-1]["loss"] < one["epochs"][0]["loss"] - 0.05, name
        for count in (2, 3):
            close(agree(runs[count]), one, 1e-3 if "half" in name else 1e-5)


def test_the_main_process_chooses_the_precision(played: Played) -> None:
    assert agree(played("one_precision")["ranks"])["precision"] == "bfloat16"


def test_a_callback_of_the_main_process_stops_all(played: Played) -> None:
    found = played("early_stop")
    run = agree(found["ranks"])
    assert run["stopped"].startswith("validation has not fallen")
    assert len(run["epochs"]) == 2
    assert same(run["weights"], found["best"])


def test_the_clock_of_the_main_process_counts(played: Played) -> None:
    run = agree(played("time_budget")["ranks"])
    assert "minutes are over" in run["stopped"]
    assert 1 < len(run["epochs"]) < 60


def test_all_processes_roll_back_when_one_diverges(played: Played) -> None:
    found = played("divergence")
    run = agree(found["ranks"])
    assert [line["epoch"] for line in found["log"]] == [1, 2, 3]
    assert found["last.pt"]["rate_scale"] == 0.5
    assert len(run["epochs"]) == 3
    assert [rank["error"] for rank in found["unguarded"]] == ["TrainingError"] * 2
    assert all("loss is nan" in rank["said"] for rank in found["unguarded"])


def test_ctrl_c_ends_all_processes_and_the_run_resumes_bit_for_bit(played: Played) -> None:
    found = played("resume")
    assert [rank["error"] for rank in found["interrupted"]] == ["KeyboardInterrupt"] * 2
    assert len(agree(found["cut"])["epochs"]) == 2
    assert same(agree(found["cut"])["weights"], agree(found["whole"])["weights"])
    assert same(found["files"]["cut"], found["files"]["whole"])


def test_a_lost_process_ends_all_and_the_run_resumes_bit_for_bit(played: Played) -> None:
    found = played("resume")
    first, lost = found["ended"]
    assert lost == {"error": "killed"}
    assert first["error"] == "TrainingError"
    assert "one of the 2 processes does not answer" in first["said"]
    assert first["said"].endswith("then start all again and resume")
    assert "GLHF" not in first["said"]
    assert first["after"] < 30
    assert same(agree(found["other"])["weights"], agree(found["whole"])["weights"])
    assert same(found["files"]["lost"], found["files"]["whole"])


def test_a_long_epoch_has_checkpoints_of_all_processes(played: Played) -> None:
    found = played("resume")
    assert found["saved"] == 7
    assert same(agree(found["long"])["weights"], agree(found["whole"])["weights"])


def test_a_hanging_process_ends_the_run(played: Played) -> None:
    waits, hangs = played("one_that_hangs")["ranks"]
    assert "Timed out" in waits["said"]
    assert waits["after"] < 30
    assert hangs["error"] == "TrainingError"


def test_an_error_of_the_main_process_ends_all(played: Played) -> None:
    first, other = played("a_folder_that_is_taken")["ranks"]
    assert "the folder holds a run already" in first["said"]
    assert "Look for the first error of the others" in other["said"]


def test_processes_without_a_target_keep_their_sequences(played: Played) -> None:
    found = played("sequences_that_are_empty")
    assert {rank["error"] for rank in found["cut"]} == {"KeyboardInterrupt"}
    close(agree(found["ranks"]), agree(found["whole"]))


def test_a_run_resumes_with_another_number_of_processes(played: Played) -> None:
    found = played("another_number")
    whole = agree(found["whole"])
    whole["epochs"] = whole["epochs"][1:]
    for count in (1, 2):
        close(agree(found[f"{count}"]), whole)


@pytest.mark.parametrize(
    ("environment", "rank", "count"),
    [
        ({}, 0, 1),
        ({"RANK": "3", "WORLD_SIZE": "4"}, 0, 1),
        ({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "here"}, 3, 4),
    ],
)
def test_several_processes_need_a_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], rank: int, count: int
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    group = DistributedGroup()
    assert (group.rank, group.world_size) == (rank, count)
    assert group.is_main_process == (rank == 0)


def test_each_process_uses_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch, "zeros", lambda *_, device: asked.append(device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [str(pick_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:3",
        "cuda:3",
        "cuda:1",
        "cpu",
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert str(pick_device("auto")) == "mps"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert str(pick_device("auto")) == "cpu"
    monkeypatch.setenv("MASTER_ADDR", "here")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ConfigError, match="several processes cannot train on mps"),
        DistributedGroup().initialized(torch.device("mps")),
    ):
        pass


DOOMED = """
import os, signal, sys
from notelstm.cli import main
from notelstm.training import Trainer
ends_here = Trainer._epoch_ends_here
def looks(self, lost):
    if os.environ["RANK"] == "1" and self.state.steps == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return ends_here(self, lost)
Trainer._epoch_ends_here = looks
sys.exit(main())
"""


def launched(*command: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", "2", *command],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def curve(model: Path) -> list[float]:
    lines = model.with_name(f"{model.name}.run").joinpath("log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_the_command_line_under_torchrun(tmp_path: Path) -> None:
    """Two processes are trained, one is killed; resumed, they end where one process does."""
    generator = np.random.default_rng(0)
    for number in range(3):
        piece = long_piece(generator, count=60, seconds=9)
        write_midi(piece, tmp_path / "midi" / f"{number}.mid")
    (tmp_path / "doomed.py").write_text(DOOMED)
    settings = ["batch_size=16", "model.hidden_size=8", "training.checkpoint_every=1"]
    common = ["--recipe", "reference", "--set", *settings, "--epochs", "3"]

    def arguments(name: str) -> list[str]:
        return ["train", str(tmp_path / "midi"), "-o", str(tmp_path / name), *common]

    killed = launched(str(tmp_path / "doomed.py"), *arguments("two.notelstm"))
    assert killed.returncode == 1
    assert "one of the 2 processes does not answer" in killed.stderr
    assert "SIGKILL" in killed.stderr
    assert not (tmp_path / "two.notelstm").exists()

    resumed = launched("-m", "notelstm", *arguments("two.notelstm"), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    said = [line.partition(" ")[0] for line in resumed.stdout.splitlines()]
    assert said == ["midi:", "trained", "wrote", "next:"]

    assert main(arguments("one.notelstm")) == 0
    one, two = (curve(tmp_path / f"{name}.notelstm") for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4)
    assert len(two) == 3
