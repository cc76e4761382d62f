"""One rule on outputs for all commands: what exists is replaced only with ``--overwrite``."""

from __future__ import annotations

from pathlib import Path

import pytest

from notelstm.bundle import load
from notelstm.cli import main
from notelstm.training.checkpoints import exclusive

STUDY = Path(__file__).parents[1] / "golden" / "study.mid"
SMALL = ["--recipe", "reference", "--epochs", "1", "--set", "model.hidden_size=4", "batch_size=64"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m"
    assert main(["train", str(STUDY), "-o", str(path), *SMALL]) == 0
    return path


GENERATE = ["generate", "MODEL", "--notes", "5"]
COMMANDS = {
    "model": (["train", str(STUDY), *SMALL, "-o", "x.notelstm"], "x.notelstm"),
    "report": (["train", str(STUDY), *SMALL, "-o", "x.notelstm", "--report", "x.html"], "x.html"),
    "report of a callback": (
        ["train", str(STUDY), *SMALL, "-o", "x.notelstm", "--callback", "report:path=x.html"],
        "x.html",
    ),
    "music": ([*GENERATE, "-o", "x.mid"], "x.mid"),
    "batch_size": ([*GENERATE, "-o", "x.mid", "--batch", "3"], "x-2.mid"),
    "music's page": ([*GENERATE, "-o", "x.mid", "--html", "x.html"], "x.html"),
    "picture": ([*GENERATE, "-o", "x.mid", "--picture", "x.svg"], "x.svg"),
    "pictures": ([*GENERATE, "-o", "x.mid", "--picture", "x.svg", "--batch", "2"], "x-1.svg"),
    "sound": (["render", str(STUDY), "-o", "x.wav"], "x.wav"),
    "page": (["render", str(STUDY), "-o", "x.html"], "x.html"),
}


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize("there", ["file", "dangling link"])
def test_outputs_are_overwritten_only_on_request(
    what: str,
    there: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "picture" in what:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    words, name = COMMANDS[what]
    argv = [str(model) if word == "MODEL" else word for word in words]
    if there == "file":
        Path(name).write_text("old", encoding="utf-8")
    else:
        Path(name).symlink_to("nowhere")
    assert main(argv) == 1
    assert f"{name} exists already. Add --overwrite to replace it" in capsys.readouterr().err
    # Nothing was done before the refusal.
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert there != "file" or Path(name).read_text(encoding="utf-8") == "old"
    assert main([*argv, "--overwrite"]) == 0
    assert Path(name).stat().st_size > 3


@pytest.mark.parametrize("what", COMMANDS)
def test_a_folder_is_never_replaced(
    what: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words, name = COMMANDS[what]
    Path(name).mkdir()
    argv = [str(model) if word == "MODEL" else word for word in words]
    assert main([*argv, "--overwrite"]) == 1
    assert f"{name} is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == [name]


def test_overwrite_starts_a_run_from_scratch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["train", str(STUDY), "-o", "m", *SMALL]
    assert main(argv) == 0
    first = Path("m").read_bytes()
    assert main(argv) == 1
    assert "m exists already" in capsys.readouterr().err
    # A run without a model, as after Ctrl-C, is not thrown away either.
    Path("m").unlink()
    assert main(argv) == 1
    assert "m.run" in capsys.readouterr().err
    assert main([*argv, "--overwrite", "--seed", "5"]) == 0
    assert len(Path("m.run/log.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert Path("m").read_bytes() != first
    # A resumed run replaces its own model.
    assert main([*argv, "--seed", "5", "--resume", "--epochs", "2"]) == 0
    assert len(Path("m.run/log.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert load("m").data.notes == 768


def test_a_run_without_its_model_is_rejected_before_files_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(STUDY), *SMALL, "-o", "x"]) == 0
    Path("x").unlink()
    capsys.readouterr()
    assert main(["train", str(STUDY), *SMALL, "-o", "x"]) == 1
    out, err = capsys.readouterr()
    assert (
        "the folder x.run holds an earlier run. Add --resume to continue it, or --overwrite" in err
    )
    assert out == ""
    assert main(["train", str(STUDY), *SMALL, "-o", "x", "--resume", "--epochs", "2"]) == 0


def test_the_demo_needs_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert f"the folder {tmp_path} is not empty. Add --overwrite" in capsys.readouterr().err
    assert main(["demo", "-o", str(tmp_path / "mine.txt"), "--overwrite"]) == 1
    assert "is a file. Name a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_is_in_use_is_not_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.run").mkdir()
    Path("m.run/last.pt").write_text("a checkpoint", encoding="utf-8")
    with exclusive("m.run"):
        assert main(["train", str(STUDY), "-o", "m", *SMALL, "--overwrite"]) == 1
    assert "another run is using the folder (m.run)" in capsys.readouterr().err
    assert Path("m.run/last.pt").read_text(encoding="utf-8") == "a checkpoint"
    assert not Path("m").exists()
