"""``Stepper``: one step of training, from batches to new weights, without a wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.batch import Batch
from notelstm.protocols import Batches, NoteModel
from notelstm.training.config import TrainingConfig
from notelstm.training.position import Position
from notelstm.training.precision import Precision, autocast
from notelstm.training.processes import Processes
from notelstm.training.step import TrainStep
from notelstm.training.tally import Tally
from notelstm.training.throughput import Laps
from notelstm.tree import detach

__all__ = ["Stepper"]


@final
class Stepper:
    """Takes the steps of a run, of one process or of several.

    Nothing here reads a number that the device has computed: it is given work and never waited for.

    Args:
        step: A model and its loss, on their device.
        config: How it is trained.
        device: That device.
        processes: All of which take each step together.

    Attributes:
        parameters: The model's.
        optimizer: Theirs.
        at: Where the run stands.
        tally: How losses are added up.
        precision: In what matrix products are computed.
    """

    def __init__(
        self, step: TrainStep, config: TrainingConfig, device: torch.device, processes: Processes
    ) -> None:
        self.parameters: Final[list[nn.Parameter]] = list(step.parameters())
        self.optimizer: Final[torch.optim.Optimizer] = config.build_optimizer(self.parameters)
        self.at: Final[Position] = Position()
        self.tally: Final[Tally] = Tally(step.loss, device)
        self.precision: Precision = "float32"
        self._step: Final = step
        self._config: Final = config
        self._device: Final = device
        self._processes: Final = processes

    def take(self, group: Sequence[Batch], carries: bool, steps: int | None, laps: Laps) -> int:
        """Take one step.

        Args:
            group: This process's lanes of the step's batches.
            carries: Whether states are carried from batch to batch.
            steps: Steps in the whole run; None if only the time says how many.
            laps: Where the time goes is added to it.

        Returns:
            How many targets this process had.
        """
        self._set_rate(steps)
        self.optimizer.zero_grad()
        counts = [_targets(batch) for batch in group]
        for batch, count in zip(group, counts, strict=True):
            self._accumulate(batch, count, sum(counts), carries, laps)
        self._processes.average_gradients(self.parameters, sum(counts))
        if self._config.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._config.clip)
        self.optimizer.step()
        self.at.advance(len(group))
        laps.end("optimizer")
        return sum(counts)

    def _accumulate(
        self, batch: Batch, count: int, targets: int, carries: bool, laps: Laps
    ) -> None:
        """Add the gradient of a batch of `count` targets to that of a step of so many."""
        if not count:
            if carries and self.at.carried is None and len(batch.rows):
                model = cast(NoteModel, self._step.model)
                self.at.carried = model.initial_state(len(batch.rows))[1]
            return
        with autocast(self.precision, self._device):
            losses, state = self._step(
                batch.move(self._device), self.at.carried if carries else None
            )
        laps.end("forward")
        whole = count == targets
        losses.total.backward(None if whole else torch.full_like(losses.total, count / targets))
        self.at.carried = detach(state) if carries else None
        self.tally.add(self.sums, losses, count)
        laps.end("backward")

    def _set_rate(self, steps: int | None) -> None:
        """Set the learning rate of the step to come."""
        rate = self._config.rate(self.at.steps, steps, self.at.spent or 0.0) * self.at.rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @property
    def sums(self) -> Tensor:
        """(K + 2,) what this process has added up in this epoch."""
        if self.at.sums is None:
            self.at.sums = self.tally.zeros()
        return self.at.sums

    @torch.no_grad()
    def measure(self, batches: Batches) -> Tensor:
        """(K + 2,) the sums of this process over held-out batches; the model is in evaluation mode.

        Args:
            batches: This process's lanes.
        """
        self._step.eval()
        sums, state = self.tally.zeros(), None
        for batch in batches.epoch(0):
            count = _targets(batch)
            if not count:
                continue
            with autocast(self.precision, self._device):
                losses, after = self._step(batch.move(self._device), state)
            state = after if batches.carries else None
            self.tally.add(sums, losses, count)
        return sums


def _targets(batch: Batch) -> int:
    return int(np.count_nonzero(batch.scored.numpy()))
