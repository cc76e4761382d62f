"""``Batch``: what a model is trained on, one tensor and two flags.

Shape legend of the whole library: N notes, B batch (lanes), T steps of time, F fields, H hidden
units, C classes, S scored positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch"]


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
    scored: Tensor
    fresh: Tensor

    def move(self, device: torch.device | str) -> Batch:
        """The batch with its rows on `device`; the flags stay on the CPU."""
        return self._replace(rows=self.rows.to(device, non_blocking=True))
