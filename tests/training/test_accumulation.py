"""Several batches to a step are one large batch; where the time goes is told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from notelstm.batch import Batch
from notelstm.data import SequenceDataset, WindowBatches
from notelstm.encoders import StepDurationEncoder
from notelstm.losses import CompositeLoss, PositivePressure
from notelstm.models import ThreeHeadLSTM
from notelstm.protocols import Batches
from notelstm.training import Callback, Trainer, TrainingConfig

Make = Callable[[], Any]


@dataclass(frozen=True)
class Joined:
    """Several windows' batches as one."""

    batches: Batches
    count: int
    stateful: bool = False

    @property
    def num_batches(self) -> int:
        return -(-self.batches.num_batches // self.count)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        stream = self.batches.epoch(number, first * self.count)
        while group := list(itertools.islice(stream, self.count)):
            yield Batch(*(torch.cat(parts) for parts in zip(*group, strict=True)))


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in trainer.module.model.state_dict().items()}


@pytest.mark.parametrize("targets", ["last", "every"])
@pytest.mark.parametrize("count", [2, 3, 100])
def test_accumulated_batches_equal_one_large_batch(make: Make, targets: Any, count: int) -> None:
    study = make()
    rows = [torch.rand(n, len(study.model.fields)).round().numpy() for n in (47, 33)]
    dataset = SequenceDataset(rows, sequence_length=5, targets=targets)
    # The last batch of an epoch is smaller, and so is the last group.
    batches = WindowBatches(dataset=dataset, batch_size=4)
    options = {"learning_rate": 0.1, "max_grad_norm": 0.5, "epochs": 2, "schedule": "cosine"}

    def trained(some: Batches, **more: Any) -> tuple[dict[str, Tensor], Any]:
        study = make()
        study.model.dropout = torch.nn.Dropout(0.0)
        trainer = study.trainer(**options, **more)
        return weights(trainer), (trainer.fit(some).epochs, weights(trainer), trainer.state.steps)

    start, (losses, several, steps) = trained(batches, accumulate_grad_batches=count)
    _, (wanted, one, few) = trained(Joined(batches, count))
    assert steps == few == 2 * -(-batches.num_batches // count)
    for name, value in one.items():
        torch.testing.assert_close(several[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(several[name], start[name]) for name in start)
    for a, b in zip(losses, wanted, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_states_are_carried_within_accumulated_steps(make: Make) -> None:
    study = make()
    seen: list[Any] = []
    trainer = study.trainer(accumulate_grad_batches=2, epochs=1)
    trainer.module.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    trainer.fit(study.batches)
    assert [state is None for state in seen] == [
        n == 0 or not study.batches.stateful for n in range(study.batches.num_batches)
    ]


def test_the_step_timer_reports_shares(make: Make) -> None:
    study = make()
    values = study.trainer(epochs=1).fit(study.batches).epochs[0]
    laps = [values[f"seconds/{n}"] for n in ("data", "forward", "backward", "optimizer")]
    assert min(laps) > 0
    assert 0.3 * values["seconds"] < sum(laps) <= values["seconds"]


def test_the_step_timer_excludes_callbacks(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

    monkeypatch.setattr("time.perf_counter", lambda: Clock.now)

    class Slow(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            Clock.now += 1.0

    study = make()
    values = study.trainer([Slow()], epochs=1).fit(study.batches).epochs[0]
    assert values["seconds"] == study.batches.num_batches
    assert sum(v for k, v in values.items() if k.startswith("seconds/")) == 0


def test_a_non_finite_loss_is_detected_within_some_steps() -> None:
    fields = StepDurationEncoder().fields
    rows = torch.rand(2000, 3).numpy()
    steps: list[int] = []

    class Breaks(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            steps.append(trainer.state.steps)
            if trainer.state.steps == 20:
                with torch.no_grad():
                    model.get_parameter("lstm.weight_hh_l0").fill_(math.nan)

    model = ThreeHeadLSTM(fields=fields, hidden_size=2)
    trainer = Trainer(
        model,
        CompositeLoss.for_fields(fields, continuous=PositivePressure()),
        config=TrainingConfig(epochs=2, device="cpu"),
        callbacks=[Breaks()],
    )
    batches = WindowBatches(dataset=SequenceDataset([rows], sequence_length=4), batch_size=4)
    assert batches.num_batches > 400
    with pytest.raises(RuntimeError, match=r"the run diverged: loss is nan.*step"):
        trainer.fit(batches)
    assert 20 < max(steps) <= 36


def test_non_finite_weights_are_detected(make: Make) -> None:
    study = make()

    class Spoils(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.state.steps == study.batches.num_batches:
                with torch.no_grad():
                    next(study.model.parameters()).fill_(math.inf)

    with pytest.raises(RuntimeError, match="the weights are not finite"):
        study.trainer([Spoils()]).fit(study.batches)
