"""``Progress``: a bar where someone looks, a line now and then where nobody does."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, final

from tqdm.auto import tqdm

from notelstm.errors import ConfigError
from notelstm.training.callbacks import Event, Run

__all__ = ["Progress"]


@final
@dataclass(kw_only=True)
class Progress:
    """Shows how far a run is: epochs done, the last losses, steps per second.

    Attributes:
        bar: Whether to draw a bar; None for a bar in terminals and notebooks, and lines elsewhere,
            where a bar would fill a log.
        seconds: At least so long between two lines.
    """

    bar: bool | None = None
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.seconds >= 0:
            raise ConfigError("seconds is at least 0", got=f"{self.seconds}")
        self._shown: tqdm[Any] | None = None
        self._drawn = False
        self._since = (0.0, 0)

    def handle(self, event: Event, run: Run) -> None:
        """Draw the bar, or write a line when it is time."""
        if event.name == "start":
            self._begin(event, run)
        elif self._drawn and self._shown is not None:
            self._draw(self._shown, event, run)
        elif event.name == "step":
            self._write_if_due(event, run)

    def _begin(self, event: Event, run: Run) -> None:
        self._drawn = _watched() if self.bar is None else self.bar
        self._since = (time.monotonic(), event.step)
        if self._drawn:
            total = None if run.epochs is None else run.epochs * run.steps_per_epoch
            self._shown = tqdm(total=total, initial=event.step, unit="step", mininterval=0.5)

    def _draw(self, bar: tqdm[Any], event: Event, run: Run) -> None:
        if event.name == "step":
            bar.update()
        elif event.name == "epoch":
            shown = {k: f"{v:.4g}" for k, v in event.values.items() if "second" not in k}
            bar.set_description(f"epoch {_of(event.epoch, run.epochs)}", refresh=False)
            bar.set_postfix(shown, refresh=True)
        elif event.name == "back":
            bar.n = event.step
            bar.refresh()
        elif event.name == "end":
            bar.close()
            self._shown = None

    def _write_if_due(self, event: Event, run: Run) -> None:
        now = time.monotonic()
        then, step = self._since
        if now - then < self.seconds:
            return
        self._since = (now, event.step)
        in_epoch = event.step - event.epoch * run.steps_per_epoch
        speed = (event.step - step) / max(now - then, 1e-9)
        tqdm.write(
            f"epoch {_of(event.epoch + 1, run.epochs)}, "
            f"step {_of(in_epoch, run.steps_per_epoch)}: {speed:.3g} steps/s",
            file=sys.stderr,
        )


def _of(number: int, most: int | None) -> str:
    return f"{number}" if most is None else f"{number}/{most}"


def _watched() -> bool:
    """Whether the error stream is a terminal, or a notebook draws bars."""
    return sys.stderr.isatty() or "notebook" in tqdm.__mro__[1].__module__
