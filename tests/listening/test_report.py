"""The report of a run: the page has what is in the folder, and copes with damage."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import ConfigError, DataError, DataNotFoundError, NotelstmError
from notelstm.listening import save_report
from notelstm.midi import write_midi
from notelstm.notes import Notes

SETTINGS = {
    "training": {"epochs": 40},
    "batch": 8,
    "input_transform": None,
    "encoder": {"kind": "encoders", "name": "log-time", "config": {"cell": 0.01}},
    "sampler": {"missing": "mine.Sampler", "config": {"inner": {"deep": [1, "x"]}}},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "mine.notelstm.run"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    (folder / "log.jsonl").touch()
    return folder


def log(run: Path, epochs: int, **more: float) -> None:
    lines = [
        {"epoch": n, "seconds": 2.0, "loss": 5.0 - n, "loss/pitch": 3.0, "loss/step": 2.0 - n}
        | more
        for n in range(1, epochs + 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "log.jsonl").write_text(text, encoding="utf-8")


def sample(run: Path, epoch: int) -> None:
    notes = Notes(start=[0, 1], end=[1, 2], pitch=[epoch % 100, 60])
    write_midi(notes, run / "samples" / f"epoch-{epoch:04d}.mid")


def page(run: Path, **settings: Any) -> str:
    path = run.with_name("page.html")
    save_report(run, path, **settings)
    return path.read_text(encoding="utf-8")


def data(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    return found


def captions(text: str) -> list[str]:
    return re.findall("<figcaption>(.*?)</figcaption>", text)


def test_before_the_first_epoch(run: Path) -> None:
    text = page(run, running=True)
    assert "No epoch is done yet: reload this page" in text
    assert captions(text) == []
    assert data(text)["samples"] == []
    assert "<h1>mine.notelstm</h1>" in text


def test_curves_of_the_whole_and_of_each_field(run: Path) -> None:
    log(run, 3, validation=1.5, **{"validation/pitch": 1.0, "validation/step": 0.5})
    text = page(run)
    assert captions(text) == ["Loss", "Loss of pitch", "Loss of step"]
    assert "training from 4.000 at epoch 1 to 2.000 at epoch 3" in text
    assert text.count("validation: lowest 1.500 at epoch 1") == 1
    assert text.count("validation: lowest 0.500 at epoch 1") == 1


def test_without_validation_there_is_one_line(run: Path) -> None:
    log(run, 2)
    assert "validation:" not in page(run)


def test_it_says_where_the_run_stands(run: Path) -> None:
    log(run, 3)
    going, done = page(run, running=True), page(run)
    assert "3 of 40 epochs in 6 seconds so far: reload this page" in going
    assert "3 of 40 epochs in 6 seconds.</p>" in done
    log(run, 300)
    assert "300 of 40 epochs in 10 minutes." in page(run)


def test_samples_the_newest_first(run: Path) -> None:
    log(run, 3)
    for epoch in (1, 2, 3, 4):
        sample(run, epoch)
    titles = [s["title"] for s in data(page(run))["samples"]]
    # The log does not know of epoch 4: it was not finished.
    assert titles == ["After epoch 3", "After epoch 2", "After epoch 1"]
    assert [s["pitch"] for s in data(page(run))["samples"]] == [[3, 60], [2, 60], [1, 60]]


def test_of_many_samples_twelve_from_first_to_last(run: Path) -> None:
    log(run, 100)
    for epoch in range(1, 101):
        sample(run, epoch)
    epochs = [int(s["title"].split()[-1]) for s in data(page(run))["samples"]]
    assert len(epochs) == 12
    assert (epochs[0], epochs[-1]) == (100, 1)
    assert all(8 <= a - b <= 10 for a, b in itertools.pairwise(epochs))


def test_a_model_that_played_nothing_is_left_out(run: Path) -> None:
    log(run, 2)
    sample(run, 1)
    write_midi(Notes.empty(), run / "samples" / "epoch-0002.mid")
    assert [s["title"] for s in data(page(run))["samples"]] == ["After epoch 1"]


def test_every_setting_is_there(run: Path) -> None:
    details = data(page(run))["details"]
    assert details == {
        "Recipe and training": {"batch": "8", "input_transform": "none"},
        "Training": {"epochs": "40"},
        "Encoder": {"name": "log-time", "cell": "0.01"},
        "Sampler": {"name": "mine.Sampler", "inner.deep": '[1, "x"]'},
    }


def test_a_folder_that_is_no_run(run: Path, tmp_path: Path) -> None:
    (run / "log.jsonl").unlink()
    with pytest.raises(DataNotFoundError, match=r"no such log: .*log\.jsonl"):
        page(run)
    for text in (b"[1", b"\xff", b"[" * 100_000, b"[]"):
        (run / "settings.json").write_bytes(text)
        with pytest.raises(DataError, match=r"the settings of the run .*the folder of a run"):
            page(run)
    with pytest.raises(DataNotFoundError, match=r"no such file: .*the folder of a run"):
        save_report(tmp_path, tmp_path / "a.html")
    log(run, 1)
    (run / "settings.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown page format '\.pdf'"):
        save_report(run, tmp_path / "a.pdf")
    assert not list(tmp_path.glob("*.html"))


def test_a_damaged_log_is_read_as_far_as_it_goes(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log(run, 4)
    path = run / "log.jsonl"
    first, _, third, fourth = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, b"\xff{", third.replace(b"2.0", b"NaN"), fourth, b""]))
    text = page(run)
    assert "4 of 40 epochs in 4 seconds." in text
    assert captions(text) == ["Loss", "Loss of pitch", "Loss of step"]
    assert "1 damaged of 4 lines left out" in caplog.text


def test_a_run_that_diverged_has_a_report(run: Path) -> None:
    (run / "log.jsonl").write_text('{"epoch": 1, "loss": NaN, "seconds": 1}\n', encoding="utf-8")
    text = page(run)
    assert "1 of 40 epochs in 1 second." in text
    assert captions(text) == []


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1))
def test_a_log_with_any_damage_gives_a_report_or_an_error_of_ours(
    flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "settings.json").write_text("{}", encoding="utf-8")
    log(folder, 3)
    content = bytearray((folder / "log.jsonl").read_bytes())
    for at, mask in flips:
        content[at % len(content)] ^= mask
    (folder / "log.jsonl").write_bytes(content)
    with contextlib.suppress(NotelstmError):
        save_report(folder, folder / "page.html")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode")
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9.run")
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"data": folder.name}), encoding="utf-8")
    log(folder, 1)
    sample(folder, 1)
    text = page(folder)
    assert "<h1>caf\ufffd</h1>" in text
    assert data(text)["details"]["Recipe and training"] == {"data": "caf\ufffd.run"}
