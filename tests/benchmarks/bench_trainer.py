"""Time of a training step, compared with bare PyTorch: the reference recipe.

Run it as a file, or with pytest's ``-s``. Blocks of a few steps take turns in one process, so that
whatever else the machine does falls on both sides; the figure is the median of the ratios of
neighbouring blocks. All run on one thread and are timed by the processor, as is what the trainer
reads and writes.
"""

from __future__ import annotations

import tempfile
import time
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from notelstm.batch import Batch
from notelstm.data import SequenceDataset, WindowBatches
from notelstm.encoders import StepDurationEncoder
from notelstm.losses import CompositeLoss, Likelihood, PositivePressure
from notelstm.models import ThreeHeadLSTM
from notelstm.testing.makers import long_piece
from notelstm.training import Callback, JSONLogger, Progress, Trainer, TrainingConfig

BATCH: Final = 64
HIDDEN: Final = 128
STEPS: Final = 100
EPOCHS: Final = 12
BLOCK: Final = 5
AIM: Final = 1.05
RATIO: Final = "trainer / bare step"


class BareStep:
    """Forward, backward, optimizer; nothing else."""

    def __init__(self, batches: list[Batch]) -> None:
        self.lstm = nn.LSTM(3, HIDDEN, batch_first=True)
        self.heads = nn.ModuleList([nn.Linear(HIDDEN, n) for n in (128, 1, 1)])
        parameters = [*self.lstm.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=0.005)
        scale = torch.tensor([1 / 128, 1.0, 1.0])
        self.ready = [
            (rows[:, :-1] * scale, rows[:, -1, 0].long(), rows[:, -1, 1], rows[:, -1, 2])
            for rows, _, _ in batches
        ]

    def __call__(self, number: int) -> None:
        rows, pitch, step, duration = self.ready[number % len(self.ready)]
        output, _ = self.lstm(rows)
        p, s, d = (head(output[:, -1]) for head in self.heads)
        loss = (
            0.1 * functional.cross_entropy(p.sigmoid(), pitch)
            + 20 * with_pressure(s.squeeze(-1), step)
            + with_pressure(d.squeeze(-1), duration)
        )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()


def with_pressure(value: Tensor, target: Tensor) -> Tensor:
    return ((target - value) ** 2 + 10 * (-value).clamp_min(0)).mean()


class TakeTurns(Callback):
    """A callback that stops the clock after each block of the trainer's and lets bare steps run."""

    def __init__(self, bare: BareStep) -> None:
        self.bare = bare
        self.began = 0.0
        self.seconds: list[tuple[float, float]] = []

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.steps % BLOCK == 0:
            ours = time.process_time()
            for number in range(BLOCK):
                self.bare(number)
            bare = time.process_time()
            self.seconds.append((ours - self.began, bare - ours))
            self.began = time.process_time()


def measure() -> list[tuple[float, float]]:
    """Seconds of the trainer's and of the bare blocks, pair by pair."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = StepDurationEncoder()
    piece = long_piece(np.random.default_rng(0), count=BATCH * STEPS + 25, seconds=900)
    batches = WindowBatches(dataset=SequenceDataset([encoder.encode(piece)]), batch_size=BATCH)
    bare = BareStep([batch for batch, _ in zip(batches.epoch(0), range(BLOCK), strict=False)])
    turns = TakeTurns(bare)
    times = PositivePressure()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            ThreeHeadLSTM(fields=encoder.fields, hidden_size=HIDDEN),
            CompositeLoss(
                terms={"pitch": (Likelihood(), 0.1), "step": (times, 20.0), "duration": (times, 1)}
            ),
            config=TrainingConfig(epochs=EPOCHS, device="cpu", checkpoint_every=EPOCHS),
            callbacks=[turns, JSONLogger(), Progress()],
            folder=folder,
        ).fit(batches)
    # The first blocks warm up.
    return turns.seconds[3:]


def figures() -> dict[str, float]:
    """The ratio's median and quartiles, and the bare step."""
    pairs = measure()
    low, median, high = np.percentile([trainer / bare for trainer, bare in pairs], [25, 50, 75])
    return {
        RATIO: float(median),
        "its lower quartile": float(low),
        "its upper quartile": float(high),
        f"pairs of {BLOCK} steps": len(pairs),
        "bare step, ms": 1e3 * float(np.median([bare for _, bare in pairs])) / BLOCK,
    }


def test_the_trainer_costs_little_more_than_the_bare_step() -> None:
    found = figures()
    print(found, "aim at most", AIM)
    assert found[RATIO] <= AIM


if __name__ == "__main__":
    test_the_trainer_costs_little_more_than_the_bare_step()
