"""Where the time goes, and whether the losses are still finite; without waiting for the device."""

from __future__ import annotations

import math
import time
from typing import Final, Literal, TypeAlias, final

import torch
from torch import Tensor

__all__ = ["FiniteWatch", "Lap", "Laps"]

Lap: TypeAlias = Literal["data", "forward", "backward", "optimizer"]
"""A part of a step; ``optimizer`` includes clipping and, with several processes, the exchange."""

_EVERY: Final = 16
"""Steps between two looks at the losses."""


@final
class Laps:
    """Adds up what each part of the steps takes, as the process sees it.

    On a device that works beside the process, the process waits where it first needs a result:
    there the laps say where it waits.
    """

    def __init__(self) -> None:
        self.seconds: dict[Lap, float] = dict.fromkeys(
            ("data", "forward", "backward", "optimizer"), 0.0
        )
        self._last = time.perf_counter()

    def begin(self) -> None:
        """What comes now is no part of what was before."""
        self._last = time.perf_counter()

    def end(self, lap: Lap) -> None:
        """A lap is over and the next one begins."""
        now = time.perf_counter()
        self.seconds[lap] += now - self._last
        self._last = now


@final
class FiniteWatch:
    """Looks every 16 steps whether a sum of losses is finite.

    On CUDA it reads what the sum was 16 steps ago, which has long been computed.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._seen: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def lost(self, sums: Tensor) -> bool:
        """Whether the first sum is known to be infinite or no number.

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
        lost = self._seen is not None and not math.isfinite(float(self._seen))
        self._seen = total.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(total.device))
        return lost
