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
    "batch_size": 8,
    "input_transform": None,
    "encoder": {"kind": "encoders", "name": "log-time", "config": {"cell": 0.01}},
    "sampler": {"missing": "mine.Sampler", "config": {"inner": {"deep": [1, "x"]}}},
}
HUGE = '{"a": {"loss": 1' + "0" * 400 + "}}"
"""A number that is too large for a float."""


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
        "Recipe and training": {"batch_size": "8", "input_transform": "none"},
        "Training": {"epochs": "40"},
        "Encoder": {"name": "log-time", "cell": "0.01"},
        "Sampler": {"name": "mine.Sampler", "inner.deep": '[1, "x"]'},
    }


@pytest.mark.parametrize("damaged", [None, 3, [1], {"config": None}, {"config": 3}], ids=str)
def test_settings_of_another_form_are_shown_as_they_are(run: Path, damaged: object) -> None:
    log(run, 1)
    text = json.dumps({"training": damaged, "encoder": damaged})
    (run / "settings.json").write_text(text, encoding="utf-8")
    assert captions(page(run))[0] == "Loss"


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


def baselines(run: Path, **losses: float) -> None:
    """Store two baselines, of which the second is better."""
    better = {name: value - 0.25 for name, value in losses.items()}
    text = json.dumps({"unigram": losses, "repeat-last": better})
    (run / "baselines.json").write_text(text, encoding="utf-8")


def test_baselines_are_lines_where_they_are_known(run: Path) -> None:
    log(run, 3)
    assert "level-" not in page(run).partition("<body")[2]
    baselines(run, **{"loss": 5.5, "loss/pitch": 3.75})
    figures = re.findall("<figure.*?</figure>", page(run))
    assert [len(re.findall('class="level-. ?"? d="M50', f)) for f in figures] == [2, 2, 0]
    assert "unigram: 5.500" in figures[0]
    assert "repeat-last: 3.500" in figures[1]


@pytest.mark.parametrize(
    "text", ["[1", "[]", '{"a": 1}', '{"a": {"loss": "x"}}', "null", HUGE], ids=range(6)
)
def test_damaged_baselines_are_left_out(
    run: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    log(run, 1)
    (run / "baselines.json").write_text(text, encoding="utf-8")
    assert captions(page(run)) == ["Loss", "Loss of pitch", "Loss of step"]
    assert "the baselines cannot be read" in caplog.text


def test_baselines_that_no_axis_can_hold(run: Path) -> None:
    log(run, 1)
    (run / "baselines.json").write_text('{"a": {"loss": NaN}, "b": {"loss": 1e300}}')
    assert "level-" not in page(run).partition("<body")[2]


def test_learning_rate_and_throughput(run: Path) -> None:
    log(run, 3, learning_rate=0.0005, targets_per_second=12345.0)
    text = page(run)
    assert captions(text)[3:] == ["Learning rate", "Throughput (targets per second)"]
    assert "learning rate: 0.0005 at epoch 3" in text
    assert "targets per second: 12,345 at epoch 3" in text


def test_a_minute_of_a_long_sample(run: Path) -> None:
    log(run, 3)
    start = [100.0, 130.0, 159.0, 161.0]
    long = Notes(start=start, end=[120, 140, 200, 170], pitch=[60, 62, 64, 65])
    write_midi(long, run / "samples" / "epoch-0003.mid")
    sample(run, 2)
    first, second = data(page(run))["samples"]
    # From the first note on: an untrained model may begin with minutes of silence.
    assert first["title"] == "After epoch 3, 60 of 200 s"
    assert (first["seconds"], first["pitch"]) == (60, [60, 62, 64])
    assert first["start"] == pytest.approx([0, 30, 59], abs=0.01)
    assert first["duration"][2] == pytest.approx(1, abs=0.01)
    assert (second["title"], second["seconds"]) == ("After epoch 2", 2)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "other.run"
    folder.mkdir()
    changed = {**SETTINGS, "batch_size": 16, "extra": True}
    (folder / "settings.json").write_text(json.dumps(changed), encoding="utf-8")
    (folder / "log.jsonl").touch()
    return folder


def test_two_runs_are_in_the_same_charts(run: Path, other: Path) -> None:
    log(run, 3, learning_rate=1e-3, validation=1.5)
    log(other, 5, learning_rate=2e-3, validation=1.25)
    for one in (run, other):
        for epoch in range(1, 4):
            sample(one, epoch)
        baselines(one, loss=6.0)
    text = page(run, compare_to=other)
    assert "<h1>mine.notelstm and other</h1>" in text
    states = "mine.notelstm: 3 of 40 epochs in 6 seconds. other: 5 of 40 epochs in 10 seconds."
    assert states in text
    assert captions(text) == [
        "Validation loss",
        "Training loss",
        "Training loss of pitch",
        "Training loss of step",
        "Learning rate",
    ]
    figures = re.findall("<figure.*?</figure>", text)
    for figure in figures:
        assert re.findall('data-name="(.*?)"', figure) == ["mine.notelstm", "other"]
    assert "mine.notelstm: lowest 1.500 at epoch 1" in figures[0]
    assert "other: lowest 1.250 at epoch 1" in figures[0]
    assert "unigram: 6.000" in figures[0]
    assert "unigram: 6.000" in figures[1]
    titles = [s["title"] for s in data(text)["samples"]]
    assert titles[0] == "mine.notelstm: after epoch 3"
    assert titles[3:] == [f"other: after epoch {n}" for n in (3, 2, 1)]


def test_settings_that_differ_are_side_by_side(run: Path, other: Path) -> None:
    details = data(page(run, compare_to=other))["details"]
    assert details["Settings that differ"] == {
        "Recipe and training: batch_size": "8 (mine.notelstm), 16 (other)",
        "Recipe and training: extra": "none (mine.notelstm), true (other)",
    }
    assert details["Encoder of both"] == {"name": "log-time", "cell": "0.01"}


def test_baselines_of_other_data_are_left_out(run: Path, other: Path) -> None:
    for one, level in ((run, 6.0), (other, 7.0)):
        log(one, 2)
        baselines(one, loss=level)
    assert "level-" not in page(run, compare_to=other).partition("<body")[2]


def test_two_runs_of_one_name(run: Path, tmp_path: Path) -> None:
    log(run, 1)
    twin = tmp_path / "later" / run.name
    twin.mkdir(parents=True)
    for name in ("settings.json", "log.jsonl"):
        (twin / name).write_bytes((run / name).read_bytes())
    text = page(run, compare_to=twin)
    assert f"{tmp_path.name}/mine.notelstm and later/mine.notelstm" in text
    assert "mine.notelstm (1) and mine.notelstm (2)" in page(run, compare_to=run)


def test_a_second_run_that_is_none(run: Path, tmp_path: Path) -> None:
    log(run, 1)
    with pytest.raises(DataNotFoundError, match=r"no such file: .*the folder of a run"):
        page(run, compare_to=tmp_path / "nothing")
