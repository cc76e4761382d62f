"""Callbacks that keep a run within bounds: of time, and of what is still learning."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from notelstm.errors import ConfigError
from notelstm.training.callbacks import Event, Run

__all__ = ["DivergenceGuard", "TimeBudget"]

_log = logging.getLogger(__name__)


@final
@dataclass(kw_only=True)
class TimeBudget:
    """Ends a run after some minutes; a falling learning rate is at its lowest by then.

    The epoch that is under way is cut short, measured on the validation set and kept like any
    other. Where the epochs end first, nothing changes. A resumed run has what is left of the time.
    Such a run follows the clock: it does not come out the same twice.

    Attributes:
        minutes: Above 0; time is left for measuring the last epoch on the validation set if
            another one was measured before.
    """

    minutes: float

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (math.isfinite(self.minutes) and self.minutes > 0):
            raise ConfigError("minutes is above 0", got=f"{self.minutes}")
        self._before = 0.0
        self._began = self._stepped = time.monotonic()
        self._kept = 0.0

    @property
    def _used(self) -> float:
        """Seconds, those before the run was resumed among them."""
        return self._before + time.monotonic() - self._began

    def handle(self, event: Event, run: Run) -> None:
        """Tell the run how much of its time is spent."""
        if event.name == "start":
            self._began = time.monotonic()
        if event.name == "epoch":
            self._kept = time.monotonic() - self._stepped
        if event.name == "step":
            self._stepped = time.monotonic()
        if event.name in ("start", "step", "epoch"):
            share = self._used / max(60 * self.minutes - self._kept, 1e-9)
            run.spend(min(1.0, share))
            if share >= 1:
                run.stop(f"its {self.minutes:g} minutes are over", now=True)

    def state_dict(self) -> dict[str, Any]:
        """The seconds used."""
        return {"used": self._used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._before, self._began = state["used"], time.monotonic()


@final
@dataclass(kw_only=True)
class DivergenceGuard:
    """Takes a run that diverges back to its last good epoch and lowers the learning rate.

    Attributes:
        times: How often at most; then the run ends with an error.
        factor: What the learning rate is multiplied by each time, above 0 and below 1.
        rise: How far above the lowest loss so far an epoch's loss has diverged; None if only
            a loss that is not finite has.
    """

    times: int = 3
    factor: float = 0.5
    rise: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.times < 1:
            raise ConfigError("times is at least 1", got=f"{self.times}")
        if not 0 < self.factor < 1:
            raise ConfigError("factor is above 0 and below 1", got=f"{self.factor}")
        if self.rise is not None and not self.rise > 0:
            raise ConfigError("rise is above 0, or None", got=f"{self.rise}")
        self._done = 0
        self._lowest = math.inf

    def handle(self, event: Event, run: Run) -> None:
        """Look at each epoch's loss, and go back where it has to be."""
        if event.name == "start":
            run.hold()
        elif event.name == "diverged":
            self._go_back("a loss is not finite", event, run)
        elif event.name == "epoch":
            loss = event.values["loss"]
            if self.rise is not None and loss > self._lowest + self.rise:
                self._go_back(f"the loss rose from {self._lowest:.4g} to {loss:.4g}", event, run)
            self._lowest = min(self._lowest, loss)

    def _go_back(self, why: str, event: Event, run: Run) -> None:
        if self._done == self.times:
            _log.warning("%s at step %d, for time %d: too often", why, event.step, self.times + 1)
            return
        self._done += 1
        _log.warning(
            "%s at step %d: back to the last good epoch, with the learning rate times %g "
            "(time %d of at most %d)",
            why,
            event.step,
            self.factor,
            self._done,
            self.times,
        )
        run.go_back(self.factor)

    def state_dict(self) -> dict[str, Any]:
        """How often it has gone back, and the lowest loss."""
        return {"done": self._done, "lowest": self._lowest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._done, self._lowest = state["done"], state["lowest"]
