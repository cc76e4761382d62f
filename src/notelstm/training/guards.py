"""Callbacks that limit a run: a time budget, and rollbacks of runs that diverge."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.training.callbacks import Callback

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["DivergenceGuard", "TimeBudget"]

_log = logging.getLogger(__name__)


@final
@dataclass(kw_only=True)
class TimeBudget(Callback):
    """Ends a run after some minutes; a falling learning rate is at its lowest by then.

    The current epoch is cut short, validated and kept like any other. Where the epochs end first,
    nothing changes. A resumed run has the rest of the time. Such a run depends on the clock and is
    not reproducible.

    Attributes:
        minutes: Above 0. From the second epoch on, the time of a validation is set aside.
    """

    minutes: float

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (math.isfinite(self.minutes) and self.minutes > 0):
            raise ConfigError(f"minutes is {self.minutes}, not a number above 0")
        self._before = 0.0
        self._began = self._stepped = time.monotonic()
        self._reserved = 0.0

    @property
    def _used(self) -> float:
        """Seconds, including those before the run was resumed."""
        return self._before + time.monotonic() - self._began

    @override
    def check(self, trainer: Trainer) -> None:
        """Declare that the run ends by the clock."""
        trainer.time_fraction = 0.0

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._update(trainer)

    @override
    def on_step_end(self, trainer: Trainer) -> None:
        """Update the fraction of the time that is used."""
        self._stepped = time.monotonic()
        self._update(trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Measure how long the validation took."""
        self._reserved = time.monotonic() - self._stepped
        self._update(trainer)

    def _update(self, trainer: Trainer) -> None:
        fraction = self._used / max(60 * self.minutes - self._reserved, 1e-9)
        trainer.time_fraction = min(1.0, fraction)
        if fraction >= 1:
            trainer.stop(f"its {self.minutes:g} minutes are over", now=True)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The seconds used."""
        return {"used": self._used}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the seconds used."""
        self._before, self._began = state["used"], time.monotonic()


@final
@dataclass(kw_only=True)
class DivergenceGuard(Callback):
    """Rolls a run that diverges back to its last good epoch and lowers the learning rate.

    Attributes:
        max_rollbacks: Rollbacks after which a divergence ends the run with an error.
        lr_factor: Factor on the learning rate at each rollback, above 0 and below 1.
        max_increase: An epoch's loss this far above the lowest so far counts as a divergence; None
            if only a loss that is not finite does.
    """

    max_rollbacks: int = 3
    lr_factor: float = 0.5
    max_increase: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.max_rollbacks < 1:
            raise ConfigError(f"max_rollbacks is {self.max_rollbacks}, below 1")
        if not 0 < self.lr_factor < 1:
            raise ConfigError(f"lr_factor is {self.lr_factor}, not between 0 and 1")
        if self.max_increase is not None and not self.max_increase > 0:
            raise ConfigError(f"max_increase is {self.max_increase}, not above 0 or None")
        self._rollbacks = 0
        self._lowest = math.inf

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        """Have the trainer take snapshots."""
        trainer.snapshot()

    @override
    def on_divergence(self, trainer: Trainer) -> None:
        """Roll back."""
        self._roll_back("a loss is not finite", trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Roll back if the loss rose too far."""
        loss = metrics["loss"]
        if self.max_increase is not None and loss > self._lowest + self.max_increase:
            self._roll_back(f"the loss rose from {self._lowest:.4g} to {loss:.4g}", trainer)
        self._lowest = min(self._lowest, loss)

    def _roll_back(self, why: str, trainer: Trainer) -> None:
        step = trainer.state.steps
        if self._rollbacks == self.max_rollbacks:
            _log.warning("%s at step %d, after %d rollbacks: giving up", why, step, self._rollbacks)
            return
        self._rollbacks += 1
        _log.warning(
            "%s at step %d: rolled back to the last good epoch, learning rate times %g "
            "(rollback %d of at most %d)",
            why,
            step,
            self.lr_factor,
            self._rollbacks,
            self.max_rollbacks,
        )
        trainer.rollback(self.lr_factor)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The number of rollbacks, and the lowest loss."""
        return {"rollbacks": self._rollbacks, "lowest": self._lowest}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the number of rollbacks, and the lowest loss."""
        self._rollbacks, self._lowest = state["rollbacks"], state["lowest"]
