"""Meters of a run: losses summed on the device, and seconds by part of the step."""

from __future__ import annotations

import math
import time
from typing import Final, Literal, TypeAlias, final

import torch
from torch import Tensor

from notelstm.losses import CompositeLoss, Losses
from notelstm.training.distributed import DistributedGroup

__all__ = ["DivergenceMonitor", "LossMeter", "StepPart", "StepTimer"]

StepPart: TypeAlias = Literal["data", "forward", "backward", "optimizer"]
"""A part of a step; ``optimizer`` includes clipping and, with several processes, the exchange."""

_EVERY: Final = 16
"""Steps between two reads of the losses."""


@final
class LossMeter:
    """Sums losses, weighted by their number of targets, without waiting for the device.

    Args:
        loss: A loss of K terms.
        device: The device that computes them.
    """

    def __init__(self, loss: CompositeLoss, device: torch.device) -> None:
        self._terms: Final = tuple(loss.terms)
        self._device: Final = device

    def names(self, prefix: str) -> tuple[str, ...]:
        """The name of the total and of each term."""
        return (prefix, *(f"{prefix}/{name}" for name in self._terms))

    def zeros(self) -> Tensor:
        """(K + 2,) sums of nothing: the total, the terms, the number of targets."""
        # Apple's devices have no float64.
        precise = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(len(self._terms) + 2, dtype=precise, device=self._device)

    @torch.no_grad()
    def add(self, sums: Tensor, losses: Losses, num_targets: int) -> None:
        """Add the means over some targets to `sums`."""
        values = torch.stack([losses.total, *losses.terms.values(), losses.total.new_ones(())])
        sums.add_(values, alpha=num_targets)

    def means(self, prefix: str, sums: Tensor, group: DistributedGroup) -> dict[str, float]:
        """The means over all targets of all processes, by name; waits for the device."""
        *totals, targets = group.all_reduce_sum(sums.clone()).tolist()
        means = (total / targets if targets else math.nan for total in totals)
        return dict(zip(self.names(prefix), means, strict=True))


@final
class StepTimer:
    """Adds up the seconds of each part of the steps, as the process sees them.

    On a device that works beside the process, the process waits where it first needs a result, and
    that part is charged with the wait.
    """

    def __init__(self) -> None:
        self.seconds: dict[StepPart, float] = dict.fromkeys(
            ("data", "forward", "backward", "optimizer"), 0.0
        )
        self._began = self._last = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the timer was made, above 0."""
        return max(time.perf_counter() - self._began, 1e-9)

    def resume(self) -> None:
        """Start a part here; the time since the last one ended is charged to no part."""
        self._last = time.perf_counter()

    def lap(self, part: StepPart) -> None:
        """End a part here and start the next one."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now


@final
class DivergenceMonitor:
    """Checks every 16 steps that the sum of the losses is finite.

    On CUDA it reads the sum as it was 16 steps ago, which has long been computed.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._seen: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def diverged(self, sums: Tensor) -> bool:
        """Whether the first sum is known to be infinite or not a number.

        Args:
            sums: (K,) to which every step adds, so that nothing is overlooked.
        """
        self._steps += 1
        if self._steps % _EVERY:
            return False
        total = sums[0]
        if total.device.type != "cuda":
            return not math.isfinite(float(total))
        if self._copied is not None:
            self._copied.synchronize()
        diverged = self._seen is not None and not math.isfinite(float(self._seen))
        self._seen = total.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(total.device))
        return diverged
