"""``Batch``: the input of a training step, one tensor of rows and two masks.

Shape legend of the whole library: N notes, B batch size (sequences), T time steps, F fields,
H hidden units, C classes, S positions with a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from notelstm.fields import Field, written_rows

__all__ = ["Batch", "columns", "send", "shard_slice"]


class Batch(NamedTuple):
    """Rows of B sequences: ``rows[:, :-1]`` are the inputs, all of ``rows`` can be targets.

    If a sequence continues its piece from the previous batch, row 0 is the last row of that batch:
    it was a target there and is an input here.

    Attributes:
        rows: (B, T + 1, F) float32.
        target_mask: (B, T + 1) bool, on the CPU: the rows that are targets; row 0 only where
            `reset_state` is True.
        reset_state: (B,) bool, on the CPU: whether the sequence begins a new piece, from the
            initial state.
    """

    rows: Tensor
    target_mask: Tensor
    reset_state: Tensor

    def move(self, device: torch.device | str) -> Batch:
        """The batch with its rows on `device`; the masks stay on the CPU."""
        return self._replace(rows=send(self.rows, device))

    def only_written(self, fields: Sequence[Field]) -> Batch:
        """The batch without targets among the rows of notes that are given to a model.

        Args:
            fields: The F fields; see :func:`notelstm.fields.written_rows`.
        """
        written = written_rows(self.rows, fields)
        if written is None:
            return self
        return self._replace(target_mask=self.target_mask & written.cpu())


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a CPU tensor to a device, asynchronously for CUDA."""
    if torch.device(device).type == "cuda":
        # Copies are asynchronous only from pinned memory.
        return tensor.pin_memory().to(device, non_blocking=True)
    # Elsewhere they block: on Apple's devices, an asynchronous copy can read freed memory.
    return tensor.to(device)


def shard_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """The sequences of a batch of `batch_size` that process `rank` of `world_size` trains on."""
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


def columns(rows: Tensor, fields: Sequence[Field]) -> dict[str, Tensor]:
    """The columns of rows by field name.

    Args:
        rows: (..., F).
        fields: The F fields.

    Returns:
        (...) each: class ids (int64) of categorical fields, values of the others.
    """
    return {
        field.name: rows[..., i].long() if field.is_categorical else rows[..., i]
        for i, field in enumerate(fields)
    }
