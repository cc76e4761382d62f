"""Training targets per second, compared with the original training loop.

Both train an LSTM of 128 units on pitch, step and duration with the same losses and optimizer; the
stateful batches are those of the expressive recipe. The original is a plain torch loop: windows of
25 rows, one target in each, batches of 64. Run it as a file, or with pytest's ``-s``. A step of one
is followed by some of the other; the figure is the median of the ratios, and a second figure leaves
out the data loading of the original.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from notelstm.recipes import reference, with_settings
from notelstm.testing.makers import long_piece
from notelstm.training import Callback, Trainer

STEPS: Final = 60
"""Of carried state."""

EACH: Final = 3
"""The original's, after each of these."""

BATCH_SIZE: Final = 16
LENGTH: Final = 256
AIM: Final = 20


class Windows(Dataset[Any]):
    """Every window of 25 notes, and the note after it."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows) - 25

    def __getitem__(self, index: int) -> Any:
        pitch, step, duration = self.rows[index + 25]
        scaled = self.rows[index : index + 25] / torch.tensor([128.0, 1.0, 1.0])
        return scaled, {"pitch": pitch.long(), "step": step, "duration": duration}


class Original:
    """The loop, a step at a time."""

    def __init__(self, rows: Tensor) -> None:
        self.lstm = nn.LSTM(3, 128, batch_first=True)
        self.heads = nn.ModuleList([nn.Linear(128, n) for n in (128, 1, 1)])
        parameters = [*self.lstm.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=0.005)
        self.loader = DataLoader(Windows(rows), batch_size=64)
        self.batches: Iterator[Any] = iter(())
        self.training = 0.0

    def __call__(self) -> None:
        try:
            inputs, labels = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            inputs, labels = next(self.batches)
        began = time.perf_counter()
        output, _ = self.lstm(inputs)
        p, s, d = (head(output[:, -1]) for head in self.heads)
        loss = (
            0.1 * functional.cross_entropy(p.sigmoid(), labels["pitch"])
            + 20 * with_pressure(s.squeeze(-1), labels["step"])
            + with_pressure(d.squeeze(-1), labels["duration"])
        )
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.training += time.perf_counter() - began


def with_pressure(value: Tensor, target: Tensor) -> Tensor:
    return ((target - value) ** 2 + 10 * (-value).clamp_min(0)).mean()


class TakeTurns(Callback):
    """Stops the clock after each step of carried state and lets the original's run."""

    def __init__(self, original: Original) -> None:
        self.original = original
        self.began = 0.0
        self.seconds: list[tuple[float, float, float]] = []

    def on_step_end(self, trainer: Trainer) -> None:
        carried = time.perf_counter()
        self.original.training = 0.0
        for _ in range(EACH):
            self.original()
        original = time.perf_counter()
        self.seconds.append((carried - self.began, original - carried, self.original.training))
        self.began = time.perf_counter()


def measure() -> NDArray[np.float64]:
    """(steps, 3) targets per second: of carried state, of the original, of its steps alone."""
    torch.manual_seed(0)
    recipe = with_settings(
        reference(last_only=False),
        {
            "stateful": True,
            "sequence_length": LENGTH,
            "batch_size": BATCH_SIZE,
            "training": {"epochs": 1, "device": "cpu"},
        },
    )
    generator = np.random.default_rng(0)
    count = LENGTH * STEPS + 1
    piece = long_piece(generator, count=count, seconds=count / 8)
    rows = recipe.encoder.encode(piece)
    turns = TakeTurns(Original(torch.from_numpy(rows)))
    batches = recipe.batches([rows] * BATCH_SIZE)
    trainer = Trainer(
        recipe.build_model(), recipe.build_loss(), config=recipe.training, callbacks=[turns]
    )
    trainer.fit(batches)
    scored = [int(batch.target_mask.sum()) for batch in itertools.islice(batches.epoch(0), STEPS)]
    seconds = np.array(turns.seconds)
    targets = np.stack([scored, [64 * EACH] * STEPS, [64 * EACH] * STEPS], axis=1)
    # The first steps warm up.
    speeds: NDArray[np.float64] = targets / seconds
    return speeds[3:]


def figures() -> dict[str, float]:
    """Targets a second of both, and the ratios' medians."""
    carried, original, steps = measure().T
    return {
        "carried state, targets/s": float(np.median(carried)),
        "the original, targets/s": float(np.median(original)),
        "ratio": float(np.median(carried / original)),
        "ratio to the original's steps without data loading": float(np.median(carried / steps)),
    }


def test_carried_state_scores_many_times_the_targets() -> None:
    carried, original, steps = measure().T
    low, ratio, high = np.percentile(carried / original, [25, 50, 75])
    print(
        f"\ncarried state {np.median(carried):,.0f} targets/s, the original "
        f"{np.median(original):,.0f}: {ratio:.1f} times (quartiles {low:.1f} to {high:.1f}); "
        f"{np.median(carried / steps):.1f} times its steps without data loading; "
        f"aim at least {AIM}"
    )
    assert ratio >= AIM


if __name__ == "__main__":
    test_carried_state_scores_many_times_the_targets()
