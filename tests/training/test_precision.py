"""``precision="auto"``: measured before the first step, kept for good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from notelstm.training import step as steps

Make = Callable[[], Any]


def trained(study: Any, folder: Path | None = None, **options: Any) -> dict[str, Tensor]:
    resume = options.pop("resume", False)
    study.trainer([], folder, **{"epochs": 2, **options}).fit(study.batches, resume=resume)
    model: dict[str, Tensor] = study.model.state_dict()
    return model


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [((2.0, 1.0), "bfloat16"), ((1.0, 1.0), "float32"), ((1.05, 1.0), "float32")],
)
def test_the_faster_precision_is_chosen(
    make: Make, monkeypatch: pytest.MonkeyPatch, times: Any, chosen: str
) -> None:
    monkeypatch.setattr(steps, "_times", lambda *_: times)
    auto = trained(make(), precision="auto")
    assert same(auto, trained(make(), precision=chosen))
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    assert not same(auto, trained(make(), precision=other))


def test_measuring_the_precision_does_not_change_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    times = steps._times

    def watched(step: Any, config: Any, batch: Any) -> tuple[float, float]:
        measured.append(times(step, config, batch))
        return 1.0, 1.0

    monkeypatch.setattr(steps, "_times", watched)
    auto = trained(make(), precision="auto")
    assert min(measured[0]) > 0
    assert len(measured) == 1
    assert same(auto, trained(make(), precision="float32"))


def test_without_bfloat16_training_is_in_float32(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> tuple[float, float]:
        raise RuntimeError("no such product here")

    monkeypatch.setattr(steps, "_times", refuse)
    assert same(trained(make(), precision="auto"), trained(make(), precision="float32"))


def test_a_resumed_run_has_the_precision_it_was_started_with(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = trained(make(), precision="bfloat16")
    monkeypatch.setattr(steps, "_times", lambda *_: (2.0, 1.0))
    trained(make(), tmp_path, precision="auto", epochs=1)
    monkeypatch.setattr(steps, "_times", lambda *_: (1.0, 2.0))
    assert same(trained(make(), tmp_path, precision="auto", resume=True), whole)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["training"]["precision"] == "auto"
    assert torch.load(tmp_path / "last.pt", weights_only=True)["precision"] == "bfloat16"
