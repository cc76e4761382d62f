"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from notelstm.protocols import State

__all__ = ["Position"]


@final
@dataclass(kw_only=True)
class Position:
    """Where a run stands, but for model, optimizer and generators.

    Attributes:
        epoch: Epochs finished.
        batch: Batches of the epoch under way that are done.
        steps: Steps taken, in all epochs.
        spent: Share of the run's time that is spent; None without a time budget.
        rate_scale: What the learning rate is multiplied by since the run went back.
        carried: What the last batch left in this process's lanes.
        sums: (K + 2,) of this process in this epoch: loss and K terms, each times its targets, and
            the number of targets; float64 where the device has it.
    """

    epoch: int = 0
    batch: int = 0
    steps: int = 0
    spent: float | None = None
    rate_scale: float = 1.0
    carried: State | None = None
    sums: Tensor | None = None

    def advance(self, batches: int) -> None:
        """Count a step."""
        self.batch += batches
        self.steps += 1

    def next_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.carried = self.sums = None
