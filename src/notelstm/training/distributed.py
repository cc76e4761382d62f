"""Distributed training: the processes of a run, one or several of ``torchrun``.

Each process reads and trains on its own sequences of every batch. Gradients are summed over the
processes, so that a step equals that of a single process.
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

from notelstm.batch import Batch, shard_slice
from notelstm.errors import ConfigError, TrainingError
from notelstm.protocols import Batches

__all__ = ["DistributedGroup", "ShardableBatches"]

T = TypeVar("T")


@runtime_checkable
class ShardableBatches(Batches, Protocol):
    """Batches that can be divided among processes, each of which reads its own sequences only."""

    def shard(self, rank: int, world_size: int) -> Batches:
        """The same number of batches, each with the sequences of one process, maybe none.

        In the order of their ranks, the processes have the sequences of `self`.
        """
        ...


TIMEOUT: Final = timedelta(minutes=10)
"""The time that a process waits for another one."""


@final
class DistributedGroup:
    """The processes of a run, of which this is one.

    Attributes:
        rank: The number of this process, from 0.
        world_size: The number of processes.
    """

    def __init__(self) -> None:
        # A cluster may set RANK for any program, but only a launcher sets MASTER_ADDR.
        launched = os.environ if "MASTER_ADDR" in os.environ else {}
        self.rank: int = int(launched.get("RANK", "0"))
        self.world_size: int = int(launched.get("WORLD_SIZE", "1"))

    @property
    def is_main_process(self) -> bool:
        """Whether this process has the callbacks and writes files."""
        return self.rank == 0

    @contextlib.contextmanager
    def initialized(self, device: torch.device) -> Iterator[None]:
        """Initialise communication between the processes, with gradients on `device`.

        Raises:
            ConfigError: If processes cannot exchange tensors of this device.
            TrainingError: If a process does not connect.
        """
        if self.world_size == 1 or distributed.is_initialized():
            yield
            return
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(
                f"several processes cannot train on {device.type}, only on CPUs or CUDA devices",
                hint="set training.device to cpu, or start one process",
            )
        with self._exchange():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=TIMEOUT)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def shard(self, batches: Batches) -> Batches:
        """The batches with this process's sequences only."""
        if self.world_size == 1:
            return batches
        if isinstance(batches, ShardableBatches):
            return batches.shard(self.rank, self.world_size)
        return _Sliced(batches, self)

    def shard_slice(self, size: int) -> slice:
        """This process's sequences of a batch of `size` sequences, maybe none."""
        return shard_slice(size, self.rank, self.world_size)

    def broadcast_parameters(self, tensors: Iterable[Tensor]) -> None:
        """Copy the main process's tensors to every process, in place."""
        if self.world_size > 1:
            with self._exchange():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.world_size > 1:
            with self._exchange():
                distributed.all_reduce(values)
        return values

    def average_gradients(self, parameters: Iterable[nn.Parameter], targets: int) -> None:
        """Average gradients over the targets of all processes, in place.

        Args:
            parameters: Their gradients are means over this process's targets; None counts as 0.
            targets: Number of this process's targets, which may be 0.
        """
        gradients = []
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                # Also with one process: the step must not depend on their number.
                gradient = parameter.grad = torch.zeros_like(parameter)
            gradients.append(gradient)
        if self.world_size == 1:
            return
        mine = nn.utils.parameters_to_vector(gradients) * targets
        together = self.all_reduce_sum(torch.cat([mine, mine.new_full((1,), targets)]))
        mean = together[:-1] / together[-1].clamp_min(1)
        nn.utils.vector_to_parameters(mean, gradients)

    def broadcast_object(self, value: T) -> T:
        """The main process's value, in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        with self._exchange():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather_object(self, value: T) -> list[T]:
        """The value of each process, in the main one; an empty list in the others."""
        if self.world_size == 1:
            return [value]
        boxes = cast(list[T], [None] * self.world_size if self.is_main_process else None)
        with self._exchange():
            distributed.gather_object(value, boxes, dst=0)
        return boxes if self.is_main_process else []

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Raise failures of an exchange as TrainingError."""
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"one of the {self.world_size} processes does not answer: {_first_sentence(error)}",
                where=f"process {self.rank}",
                hint="look for the first error of the others, then start all again and resume",
            ) from error


def _first_sentence(error: RuntimeError) -> str:
    """Torch's message without its source line and its advice."""
    text = re.sub(r"^\[[^]]*\.\w+:\d+\] ", "", str(error).splitlines()[0])
    return text.partition(". ")[0]


@final
@dataclass(frozen=True)
class _Sliced:
    """A process's sequences of batches that are read whole."""

    batches: Batches
    group: DistributedGroup

    @property
    def num_batches(self) -> int:
        return self.batches.num_batches

    @property
    def stateful(self) -> bool:
        return self.batches.stateful

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        for batch in self.batches.epoch(number, first):
            mine = self.group.shard_slice(len(batch.rows))
            yield Batch(*(part[mine] for part in batch))
