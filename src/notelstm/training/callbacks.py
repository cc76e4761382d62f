"""Callbacks of the library: the log, early stopping, the best model, time and divergence."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from notelstm.errors import ConfigError, OutputError, TrainingError, counted
from notelstm.files import atomic_write
from notelstm.training.config import check_least
from notelstm.training.trainer import Callback, Trainer

__all__ = [
    "BestCheckpoint",
    "DivergenceGuard",
    "EarlyStopping",
    "JSONLogger",
    "TimeBudget",
]

_log = logging.getLogger(__name__)


@final
class JSONLogger(Callback):
    """Writes one line of JSON for each epoch to ``log.jsonl`` in the run folder.

    The losses of simple predictions, if the trainer has them, are in ``baselines.json``. A run that
    is resumed or rolled back drops the lines of epochs that it repeats.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {}

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        if trainer.folder is None:
            return
        path = trainer.folder / "log.jsonl"
        kept = "".join(line + "\n" for line in _lines_until(path, trainer.state.epoch))
        with atomic_write(path) as beside:
            beside.write_text(kept, encoding="utf-8")
        if trainer.baselines:
            with atomic_write(trainer.folder / "baselines.json") as beside:
                beside.write_text(json.dumps(trainer.baselines, indent=2) + "\n", encoding="utf-8")

    @override
    def on_rollback(self, trainer: Trainer) -> None:
        self.on_train_start(trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if trainer.folder is None:
            return
        path = trainer.folder / "log.jsonl"
        line = {"epoch": trainer.state.epoch, "step": trainer.state.steps, **metrics}
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write the log: {error.strerror or error}",
                where=str(path),
                hint="free some space, then resume the run",
            ) from error


def _lines_until(path: Path, epoch: int) -> list[str]:
    """The lines of a log up to an epoch; a line cut off by a crash is dropped."""
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            done = json.loads(line)["epoch"] <= epoch
        except (ValueError, KeyError, TypeError):
            continue
        if done:
            kept.append(line)
    return kept


@final
@dataclass(kw_only=True)
class EarlyStopping(Callback):
    """Stops a run when a metric has stopped falling.

    Attributes:
        patience: Epochs without a new best value before the run stops.
        min_delta: The smallest decrease that counts as a new best value.
        monitor: The metric; lower is better.
    """

    patience: int = 5
    min_delta: float = 0.0
    monitor: str = "validation"

    def __post_init__(self) -> None:
        check_least(self, patience=1)
        self._best = math.inf
        self._waited = 0

    @override
    def check(self, trainer: Trainer) -> None:
        self._best, self._waited = math.inf, 0
        _check_monitor(self.monitor, trainer)

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        self._stop_if_due(trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if metrics[self.monitor] < self._best - self.min_delta:
            self._best, self._waited = metrics[self.monitor], 0
            return
        self._waited += 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self._waited >= self.patience:
            trainer.stop(f"{self.monitor} has not fallen for {counted(self._waited, 'epoch')}")

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]


@final
@dataclass(kw_only=True)
class BestCheckpoint(Callback):
    """Keeps the weights of the best epoch, and loads them at the end.

    Attributes:
        monitor: The metric; lower is better.
    """

    monitor: str = "validation"

    def __post_init__(self) -> None:
        self._best = math.inf

    @override
    def check(self, trainer: Trainer) -> None:
        self._best = math.inf
        if sum(isinstance(callback, BestCheckpoint) for callback in trainer.callbacks) > 1:
            raise ConfigError(
                "several callbacks keep the best model, of which there is only one",
                hint="give one BestCheckpoint",
            )
        _check_monitor(self.monitor, trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if metrics[self.monitor] < self._best:
            self._best = metrics[self.monitor]
            trainer.save_best()

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        trainer.load_best()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best = state["best"]


@final
@dataclass(kw_only=True)
class TimeBudget(Callback):
    """Ends a run after some minutes; a learning rate with a schedule is at its lowest by then.

    The last epoch is cut short, validated and kept like any other. A resumed run has the rest of
    the time. The run depends on the clock and is not reproducible.

    Attributes:
        minutes: The time, above 0; from the second epoch on, it includes a validation.
    """

    minutes: float

    def __post_init__(self) -> None:
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
        self._before = self._reserved = 0.0
        trainer.time_fraction = 0.0

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        self._began = time.monotonic()
        self._update(trainer)

    @override
    def on_step_end(self, trainer: Trainer) -> None:
        self._stepped = time.monotonic()
        self._update(trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self._reserved = time.monotonic() - self._stepped  # the time of the validation
        self._update(trainer)

    def _update(self, trainer: Trainer) -> None:
        fraction = self._used / max(60 * self.minutes - self._reserved, 1e-9)
        trainer.time_fraction = min(1.0, fraction)
        if fraction >= 1:
            trainer.stop(f"its {self.minutes:g} minutes are over", now=True)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"used": self._used}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._before, self._began = state["used"], time.monotonic()


@final
@dataclass(kw_only=True)
class DivergenceGuard(Callback):
    """Rolls a run that diverges back to its last good epoch and lowers the learning rate.

    Attributes:
        max_rollbacks: Rollbacks after which a divergence ends the run with an error.
        lr_factor: Factor on the learning rate at each rollback, above 0 and below 1.
        max_increase: The increase of an epoch's loss over the lowest so far from which the run has
            diverged; None to detect only a loss that is not finite.
    """

    max_rollbacks: int = 3
    lr_factor: float = 0.5
    max_increase: float | None = None

    def __post_init__(self) -> None:
        check_least(self, max_rollbacks=1)
        if not 0 < self.lr_factor < 1:
            raise ConfigError(f"lr_factor is {self.lr_factor}, not between 0 and 1")
        if self.max_increase is not None and not self.max_increase > 0:
            raise ConfigError(f"max_increase is {self.max_increase}, not above 0 or None")
        self._rollbacks = 0
        self._lowest = math.inf

    @override
    def check(self, trainer: Trainer) -> None:
        self._rollbacks, self._lowest = 0, math.inf

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        trainer.snapshot()

    @override
    def on_divergence(self, trainer: Trainer) -> None:
        self._roll_back("a loss is not finite", trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        loss = metrics["loss"]
        if self.max_increase is not None and loss > self._lowest + self.max_increase:
            why = f"the loss rose from {self._lowest:.4g} to {loss:.4g}"
            if not self._roll_back(why, trainer):
                raise TrainingError(
                    f"the run diverged: {why}",
                    where=f"step {trainer.state.steps}",
                    hint="lower learning_rate, set max_grad_norm, or raise max_increase",
                )
        self._lowest = min(self._lowest, loss)

    def _roll_back(self, why: str, trainer: Trainer) -> bool:
        """Roll back; False if there were too many rollbacks, and the run has to end."""
        step = trainer.state.steps
        if self._rollbacks == self.max_rollbacks:
            _log.warning("%s at step %d, after %d rollbacks: giving up", why, step, self._rollbacks)
            return False
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
        return True

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"rollbacks": self._rollbacks, "lowest": self._lowest}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rollbacks, self._lowest = state["rollbacks"], state["lowest"]


def _check_monitor(name: str, trainer: Trainer) -> None:
    if name not in trainer.metric_names:
        raise ConfigError(
            f"there is no metric {name!r} to monitor",
            hint="give a validation set, or monitor one of " + ", ".join(trainer.metric_names),
        )
