"""The processes of a run: one, or several that ``torchrun`` has started.

Every process reads the very same batches and trains on its own lanes of each. Gradients are added
up over all of them, so that a step is the one that a single process would take.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TypeVar, cast, final

import torch
from torch import Tensor, distributed, nn

from notelstm.batch import Batch
from notelstm.errors import TrainingError

__all__ = ["Processes"]

T = TypeVar("T")


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
        """
        if self.count == 1 or distributed.is_initialized():
            yield
            return
        with self._lost():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def lanes(self, count: int) -> slice:
        """Which of so many lanes are this process's; there may be none."""
        low, high = (count * n // self.count for n in (self.rank, self.rank + 1))
        return slice(low, high)

    def part(self, batch: Batch) -> Batch:
        """This process's lanes of a batch."""
        if self.count == 1:
            return batch
        mine = self.lanes(len(batch.rows))
        return Batch(*(part[mine] for part in batch))

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

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up gradients over all processes; what a process did not use counts as 0."""
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                # Also with one process, so that any number of them takes the same step.
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if self.count > 1:
            together = self.add(nn.utils.parameters_to_vector(gradients))
            nn.utils.vector_to_parameters(together, gradients)

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
                got=f"one that does not answer: {str(error).splitlines()[0]}",
                where=f"process {self.rank}",
                fix="look for the first error of the others, then start all again and resume",
            ) from error
