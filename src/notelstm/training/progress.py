"""Progress of a run: a bar in terminals and notebooks, log messages elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.training.trainer import Callback, Trainer

__all__ = ["INTERVAL", "Progress", "ProgressLog", "progress_on_stderr"]

INTERVAL: Final = 10.0
"""The default number of seconds between two messages."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def progress_on_stderr(*, force: bool = False) -> Iterator[None]:
    """Show progress messages on the error stream if the program has not configured logging.

    Args:
        force: Whether to show them in any case.
    """
    if _log.hasHandlers() and not force:
        yield
        return
    handler = logging.StreamHandler()
    before = _log.level, _log.propagate
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    try:
        yield
    finally:
        _log.setLevel(before[0])
        _log.propagate = before[1]
        _log.removeHandler(handler)


@final
class ProgressLog:
    """Logs progress messages, at least some seconds apart."""

    def __init__(self, seconds: float = INTERVAL) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether a message is due; if so, the interval starts again."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True

    def counted(self, what: str, done: int, total: int | None = None) -> None:
        """Log ``pieces <what>: <done> of <total>`` if a message is due."""
        if self.due():
            of = "" if total is None else f" of {total:,}"
            _log.info("pieces %s: %s%s", what, f"{done:,}", of)


@final
@dataclass(kw_only=True)
class Progress(Callback):
    """Shows the progress of a run: epochs done, the last losses, steps per second.

    Attributes:
        bar: Whether to draw a bar; None for a bar in terminals and notebooks only. Without a bar,
            messages are logged.
        seconds: The least number of seconds between two messages.
    """

    bar: bool | None = None
    seconds: float = INTERVAL

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ConfigError(f"seconds is {self.seconds}, below 0")
        self._bar: Any = None
        self._interval = ProgressLog(self.seconds)
        self._since = (0.0, 0)

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        self._interval = ProgressLog(self.seconds)
        self._since = (time.monotonic(), trainer.state.steps)
        drawn = sys.stderr.isatty() or _in_notebook() if self.bar is None else self.bar
        if drawn:
            epochs = trainer.config.epochs
            total = None if epochs is None else epochs * trainer.steps_per_epoch
            start = trainer.state.steps
            self._bar = _bar_class()(total=total, initial=start, unit="step", mininterval=0.5)

    @override
    def on_step_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.update()
        elif self._interval.due():
            _log.info("%s", self._message(trainer))

    @override
    def on_validation_step_end(self, trainer: Trainer) -> None:
        if self._bar is None and self._interval.due():
            _log.info("epoch %s: validating", _of(trainer.state.epoch, trainer.config.epochs))

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if self._bar is not None:
            shown = {name: f"{metrics[name]:.4g}" for name in trainer.metric_names}
            epoch = _of(trainer.state.epoch, trainer.config.epochs)
            self._bar.set_description(f"epoch {epoch}", refresh=False)
            self._bar.set_postfix(shown, refresh=True)

    @override
    def on_rollback(self, trainer: Trainer) -> None:
        self._since = (time.monotonic(), trainer.state.steps)
        if self._bar is not None:
            self._bar.n = trainer.state.steps
            self._bar.refresh()

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _message(self, trainer: Trainer) -> str:
        (then, step), now = self._since, time.monotonic()
        state = trainer.state
        self._since = (now, state.steps)
        speed = (state.steps - step) / max(now - then, 1e-9)
        in_epoch = state.steps - state.epoch * trainer.steps_per_epoch
        epoch = _of(state.epoch + 1, trainer.config.epochs)
        return f"epoch {epoch}, step {_of(in_epoch, trainer.steps_per_epoch)}: {speed:.3g} steps/s"


def _of(number: int, total: int | None) -> str:
    return f"{number}" if total is None else f"{number}/{total}"


def _in_notebook() -> bool:
    """Whether the program runs in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def _bar_class() -> Any:
    """The class of tqdm's bar: a widget in notebooks with ipywidgets, text elsewhere."""
    if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar
    from tqdm.std import tqdm as text_bar

    return text_bar
