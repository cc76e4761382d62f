"""``Batch``: what a model is trained on, one tensor and two flags.

Shape legend of the whole library: N notes, B batch (lanes), T steps of time, F fields, H hidden
units, C classes, S scored positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from notelstm.fields import Field

__all__ = ["Batch", "columns", "send", "shard_slice"]


class Batch(NamedTuple):
    """Rows of B lanes: the inputs are ``rows[:, :-1]``, the targets all of ``rows``.

    Row 0 of a lane that goes on with a piece was the last row of that lane's batch before: it is
    an input here and was a target there.

    Attributes:
        rows: (B, T + 1, F) float32.
        scored: (B, T + 1) bool, kept on the CPU: which rows count as targets. Row 0 only where
            fresh.
        fresh: (B,) bool, kept on the CPU: this lane starts a new piece, its state starts anew.
    """

    rows: Tensor
    target_mask: Tensor
    reset_state: Tensor

    def move(self, device: torch.device | str) -> Batch:
        """The batch with its rows on `device`; the flags stay on the CPU."""
        return self._replace(rows=send(self.rows, device))


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU's on a device, without waiting for what CUDA is still doing."""
    if torch.device(device).type == "cuda":
        # Only from pinned memory does a copy go its way alone.
        return tensor.pin_memory().to(device, non_blocking=True)
    # Elsewhere it is waited for: on Apple's devices, a copy that is not can read freed memory.
    return tensor.to(device)


def shard_slice(lanes: int, number: int, count: int) -> slice:
    """Which of a batch's lanes are one of several processes'; there may be none.

    Args:
        lanes: B.
        number: Of the process, from 0.
        count: How many processes there are.
    """
    return slice(lanes * number // count, lanes * (number + 1) // count)


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
