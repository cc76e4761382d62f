"""``Tally``: losses added up over targets, on the device, and read once at the end."""

from __future__ import annotations

import math
from typing import Final, final

import torch
from torch import Tensor

from notelstm.losses import CompositeLoss, Losses
from notelstm.training.processes import Processes

__all__ = ["Tally"]


@final
class Tally:
    """Adds up losses, weighted by their targets.

    Args:
        loss: Of K terms.
        device: Where they are computed.
    """

    def __init__(self, loss: CompositeLoss, device: torch.device) -> None:
        self._terms: Final = tuple(loss.terms)
        self._device: Final = device

    def names(self, prefix: str) -> tuple[str, ...]:
        """The name of the total and of each term."""
        return (prefix, *(f"{prefix}/{name}" for name in self._terms))

    def zeros(self) -> Tensor:
        """(K + 2,) nothing yet: the total, the terms, the number of targets."""
        # Apple's devices have no float64.
        precise = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(len(self._terms) + 2, dtype=precise, device=self._device)

    @torch.no_grad()
    def add(self, sums: Tensor, losses: Losses, targets: int) -> None:
        """Add the means over some targets to `sums`, without waiting for them."""
        values = torch.stack([losses.total, *losses.terms.values(), losses.total.new_ones(())])
        sums.add_(values, alpha=targets)

    def means(self, prefix: str, sums: Tensor, processes: Processes) -> dict[str, float]:
        """The means over all targets of all processes, by name; waits for the device."""
        *totals, targets = processes.add(sums.clone()).tolist()
        means = (total / targets if targets else math.nan for total in totals)
        return dict(zip(self.names(prefix), means, strict=True))
