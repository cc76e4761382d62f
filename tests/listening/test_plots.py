"""Matplotlib charts of training runs and features, and the data that they reject."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from notelstm.errors import ConfigError, DataError, DataNotFoundError
from notelstm.evaluation.features import FEATURES, bin_names, histograms
from notelstm.listening import feature_shares, training_curves
from notelstm.listening.plots import epochs_of
from notelstm.notes import Notes

LOW = Notes(start=[0, 0.5, 1], end=[0.5, 1, 2], pitch=[60, 62, 60], velocity=64)
HIGH = Notes(start=[0, 0, 2], end=[2, 2, 2.5], pitch=[71, 83, 71], velocity=[20, 90, 126])


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = [
        {"epoch": n, "loss": 5 - n, "loss/pitch": 2 - n / 2, "validation": (n - 2) ** 2 + 1}
        for n in (1, 2, 3)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def curves(ax: Axes) -> dict[str, list[list[float]]]:
    lines = {str(line.get_label()): line for line in ax.lines}
    return {
        name: np.asarray(line.get_xydata()).tolist()
        for name, line in lines.items()
        if not name.startswith("_")
    }


def test_losses_are_drawn_by_epoch_with_the_best_one_marked(log: Path, ax: Axes) -> None:
    training_curves(log, ax)
    assert curves(ax) == {
        "training": [[1, 4], [2, 3], [3, 2]],
        "validation": [[1, 2], [2, 1], [3, 2]],
    }
    assert [text.get_text() for text in ax.texts] == ["1.000 at epoch 2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert {line.get_linestyle() for line in ax.lines if len(np.asarray(line.get_xdata())) > 1}


def test_one_field_of_a_running_run_is_drawn(log: Path, ax: Axes) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write('{"epoch": 4, "lo')
    training_curves(log.parent, ax, field="pitch")
    assert curves(ax) == {"training": [[1, 1.5], [2, 1], [3, 0.5]]}
    assert ax.get_ylabel() == "loss of pitch"


def test_a_single_epoch_is_drawn_as_a_point(log: Path, ax: Axes) -> None:
    log.write_text('{"epoch": 1, "loss": 4.0}\n', encoding="utf-8")
    training_curves(log, ax)
    (line,) = ax.lines
    assert line.get_marker() == "o"


def test_logs_without_losses_are_rejected(log: Path, ax: Axes) -> None:
    with pytest.raises(ConfigError, match=r"'velocity' .*Use one of: pitch"):
        training_curves(log, ax, field="velocity")
    with pytest.raises(ConfigError, match=r"'pich': did you mean 'pitch'\?"):
        training_curves(log, ax, field="pich")
    for text, field, match in (
        ('{"epoch": 1, "loss/pitch": 2.0}\n', "", r"no total losses .*Use one of: pitch"),
        ('{"epoch": 1}\n', "", r"no total losses .*Name the log\.jsonl of another run"),
        ('{"epoch": 1}\n', "pitch", r"'pitch' .*Name the log\.jsonl of another run"),
        ('{"epoch": 1, "loss": 2.0}\n', "pitch", r"'pitch' .*Leave out the field"),
    ):
        log.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=match):
            training_curves(log, ax, field=field)
    for text, match in (("", "no epochs in the log"), ("no\n", "every line of the log is damaged")):
        log.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=match):
            training_curves(log, ax)
    with pytest.raises(DataNotFoundError, match="no such log"):
        training_curves(log.with_name("none"), ax)
    with pytest.raises(DataError, match="the log cannot be read"):
        epochs_of(log.parent)


@pytest.mark.parametrize(
    "damaged",
    [
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"3",
        b"null",
        b"{}",
        b'{"epoch": "2", "loss": 1}',
        b'{"epoch": true, "loss": 1}',
        b'{"epoch": 1.5, "loss": 1}',
        b'{"epoch": -1, "loss": 1}',
        b'{"epoch": NaN, "loss": 1}',
        b'{"epoch": 1e99, "loss": 1}',
        b'{"epoch": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"",
    ],
)
def test_a_damaged_line_is_left_out_with_a_warning(
    damaged: bytes, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([first, damaged, third, b""]))
    assert [epoch["epoch"] for epoch in epochs_of(log)] == [1, 3]
    assert "1 damaged of 3 lines left out" in caplog.text
    log.write_bytes(b"\n".join([first, second, third, b""]))
    caplog.clear()
    assert len(epochs_of(log)) == 3
    assert not caplog.text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1e300", "null", '"x"', "[1]", "true"])
def test_a_value_that_cannot_be_drawn_is_left_out(value: str, log: Path) -> None:
    log.write_text(f'{{"epoch": 1, "loss": {value}, "loss/pitch": 2}}\n', encoding="utf-8")
    assert epochs_of(log) == [{"epoch": 1, "loss/pitch": 2}]


@pytest.mark.parametrize("feature", FEATURES)
def test_feature_shares_are_drawn_for_both_sets(feature: str, ax: Axes) -> None:
    feature_shares([LOW, HIGH], [HIGH], ax, feature=feature)
    bars = [bar.get_height() for bar in ax.patches]  # type: ignore[attr-defined]  # rectangles
    wanted = (histograms(LOW)[feature] + histograms(HIGH)[feature]) / 2
    assert np.allclose(bars, wanted)
    (line,) = ax.lines
    assert np.allclose(np.asarray(line.get_ydata()), histograms(HIGH)[feature])
    assert len(bin_names(feature)) == len(bars)
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown[0] == bin_names(feature)[0]
    assert 4 <= len(shown) <= len("".join(shown)) <= 32
    legend = ax.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"real", "generated"}
    assert ax.get_xlabel() == feature


def test_bins_are_labelled() -> None:
    def fullest(feature: str, piece: Notes) -> str:
        return bin_names(feature)[int(np.argmax(histograms(piece)[feature]))]

    assert fullest("pitch class", LOW) == "C"
    assert fullest("pitch class", HIGH) == "B"
    assert fullest("velocity", LOW) == "64"
    assert fullest("polyphony", LOW) == "1"
    assert histograms(HIGH)["interval"][bin_names("interval").index("+12")] == 0.5
    assert histograms(LOW)["step"][bin_names("step").index("460 ms")] == 1
    assert histograms(HIGH)["duration"][-1] == 0


def test_refusals(ax: Axes) -> None:
    with pytest.raises(ConfigError, match=r"unknown feature 'tempo'.*pitch class"):
        feature_shares([LOW], [HIGH], ax, feature="tempo")
    with pytest.raises(DataError, match="no pieces to draw"):
        feature_shares([LOW], [], ax, feature="step")
    with pytest.raises(DataError, match="fewer than the 2"):
        feature_shares([LOW], [HIGH[:1]], ax, feature="step")
