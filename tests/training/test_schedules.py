"""The learning rate of each step, and matrix products in half precision."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from notelstm.errors import ConfigError
from notelstm.training import Callback, Trainer, TrainingConfig


@given(st.integers(0, 300), st.integers(1, 2000))
def test_a_cosine_rises_then_falls_to_a_hundredth(warmup: int, steps: int) -> None:
    config = TrainingConfig(learning_rate=0.5, schedule="cosine", warmup_steps=warmup)
    rates = [config.rate(step, steps) for step in range(steps + 1)]
    top = min(warmup, steps // 10)
    assert max(rates) == pytest.approx(0.5)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.005)
    assert min(rates) > 0
    middle = top + (steps - top) / 2
    if middle.is_integer():
        assert rates[int(middle)] == pytest.approx(0.5 * 1.01 / 2)


def test_without_a_schedule_the_rate_stays() -> None:
    config = TrainingConfig(learning_rate=0.5)
    assert {config.rate(step, 100) for step in (0, 50, 1000)} == {0.5}
    warm = TrainingConfig(learning_rate=0.5, warmup_steps=4)
    assert [warm.rate(step, 100) for step in range(6)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


class Rates(Callback):
    """Notes the learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_end(self, trainer: Trainer) -> None:
        self.seen.append(trainer.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_each_step_has_its_learning_rate(make: Any, schedule: Any) -> None:
    study, rates = make(), Rates()
    trainer = study.trainer([rates], schedule=schedule, warmup_steps=2, learning_rate=0.1, epochs=6)
    trainer.fit(study.batches)
    steps = 6 * study.batches.num_batches
    assert rates.seen == [trainer.config.rate(step, steps) for step in range(steps)]
    assert len(set(rates.seen)) == (2 if schedule == "constant" else steps - 1)


def test_bfloat16_is_close_and_losses_stay_in_float32(make: Any) -> None:
    kinds = set()

    def watch(_module: nn.Module, _given: Any, made: Any) -> None:
        kinds.add(made[0].dtype)

    def trained(precision: str) -> list[dict[str, float]]:
        study = make()
        trainer = study.trainer(precision=precision, epochs=2)
        trainer.module.model.get_submodule("lstm").register_forward_hook(watch)
        losses = trainer.fit(study.batches, study.validation).epochs
        assert all(p.dtype == torch.float32 for p in trainer.module.parameters())
        return [{k: v for k, v in e.items() if "second" not in k} for e in losses]

    whole = trained("float32")
    assert kinds == {torch.float32}
    half = trained("bfloat16")
    assert torch.bfloat16 in kinds
    for a, b in zip(whole, half, strict=True):
        assert a != b
        assert a == pytest.approx(b, rel=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2.5}, "epochs is 2.5, not a whole number"),
        ({"epochs": "3"}, "epochs is '3', not a whole number"),
        ({"checkpoint_every": True}, "checkpoint_every is True, not a whole number"),
        ({"accumulate_grad_batches": 1.5}, "accumulate_grad_batches is 1.5, not a whole number"),
        ({"weight_decay": math.inf}, "weight_decay is inf, not a number of at least 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, not a number of at least 0"),
        ({"seed": -1}, "seed is -1, below 0"),
        ({"seed": 2**63}, "seed is .*, above 9"),
        ({"seed": 10**30}, "seed is .*, above 9"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)


def test_numbers_of_numpy_are_numbers() -> None:
    config = TrainingConfig(epochs=np.int64(3), learning_rate=np.float32(0.5))  # type: ignore[arg-type]
    same = TrainingConfig(epochs=3, learning_rate=0.5)
    assert json.loads(json.dumps(asdict(config))) == asdict(same)
