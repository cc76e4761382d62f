"""The processes of a run: one, or several that ``torchrun`` has started.

Each process reads and trains on its own lanes of every batch. Gradients are added up over all of
them, so that a step is the one that a single process would take.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeVar, cast, final, runtime_checkable

import torch
from torch import Tensor, distributed, nn

from notelstm.batch import Batch, share_of
from notelstm.errors import ConfigError, TrainingError
from notelstm.protocols import Batches

__all__ = ["Processes", "SharedBatches"]

T = TypeVar("T")


@runtime_checkable
class SharedBatches(Batches, Protocol):
    """Batches of which each of several processes can read its own lanes alone."""

    def share(self, number: int, count: int) -> Batches:
        """As many batches, each with one process's lanes only; there may be none in them.

        Args:
            number: Of the process, from 0.
            count: How many processes there are; together their lanes are those of `self`, in order.
        """


PATIENCE: Final = timedelta(minutes=10)
"""How long a process waits for one that is there but does not answer."""


@final
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: The number of this one.
        count: How many there are.
    """

    def __init__(self) -> None:
        # A cluster may set a rank for any program; only a launcher says where to meet.
        launched = os.environ if "MASTER_ADDR" in os.environ else {}
        self.rank: int = int(launched.get("RANK", "0"))
        self.count: int = int(launched.get("WORLD_SIZE", "1"))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Where the processes can exchange anything.

        Args:
            device: Where gradients are.

        Yields:
            Nothing.

        Raises:
            ConfigError: If processes cannot exchange what is on such a device.
            TrainingError: If not all of them come.
        """
        if self.count == 1 or distributed.is_initialized():
            yield
            return
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(
                "several processes train on CPUs, or on CUDA devices",
                got=device.type,
                hint="set training.device to cpu, or start one process",
            )
        with self._lost():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def shared(self, batches: Batches) -> Batches:
        """The same batches, each with this process's lanes only."""
        if self.count == 1:
            return batches
        if isinstance(batches, SharedBatches):
            return batches.share(self.rank, self.count)
        return _Sliced(batches, self)

    def lanes(self, count: int) -> slice:
        """Which of so many lanes are this process's; there may be none."""
        return share_of(count, self.rank, self.count)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        if self.count > 1:
            with self._lost():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def add(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.count > 1:
            with self._lost():
                distributed.all_reduce(values)
        return values

    def average_gradients(self, parameters: Iterable[nn.Parameter], targets: int) -> None:
        """Make gradients those of the mean over the targets of all processes.

        Args:
            parameters: With gradients of the mean over this process's targets; one without has
                had no part in it, which counts as 0.
            targets: How many this process has; there may be none.
        """
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                # Also with one process, so that any number of them takes the same step.
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if self.count == 1:
            return
        mine = nn.utils.parameters_to_vector(gradients) * targets
        together = self.add(torch.cat([mine, mine.new_full((1,), targets)]))
        mean = together[:-1] / together[-1].clamp_min(1)
        nn.utils.vector_to_parameters(mean, gradients)

    def told(self, value: T) -> T:
        """What the first process has, in all of them."""
        if self.count == 1:
            return value
        box = [value]
        with self._lost():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """What each process has, in the first one; an empty list in the others."""
        if self.count == 1:
            return [value]
        boxes = cast(list[T], [None] * self.count if self.first else None)
        with self._lost():
            distributed.gather_object(value, boxes, dst=0)
        return boxes if self.first else []

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        """Say what it means when an exchange fails."""
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"all {self.count} processes of a run go on to its end",
                got=f"one that does not answer: {_first_sentence(error)}",
                where=f"process {self.rank}",
                hint="look for the first error of the others, then start all again and resume",
            ) from error


def _first_sentence(error: RuntimeError) -> str:
    """What torch says, without the place in its source and without its advice."""
    text = re.sub(r"^\[[^]]*\.\w+:\d+\] ", "", str(error).splitlines()[0])
    return text.partition(". ")[0]


@final
@dataclass(frozen=True)
class _Sliced:
    """A process's lanes of batches that can only be read whole."""

    batches: Batches
    processes: Processes

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.batches.steps

    @property
    def carries(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        return self.batches.carries

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        for batch in self.batches.epoch(number, first):
            mine = self.processes.lanes(len(batch.rows))
            yield Batch(*(part[mine] for part in batch))
