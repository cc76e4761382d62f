"""``Profile``: which operations the steps spend their time on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch

from notelstm.errors import ConfigError
from notelstm.files import written_whole
from notelstm.training.callbacks import Event, Run

__all__ = ["Profile"]

_ROWS: Final = 25


@final
@dataclass(kw_only=True)
class Profile:
    """Watches some steps with torch's profiler and writes a table, ``profile.txt``.

    Steps that are watched take longer than others; those before and after do not.

    Attributes:
        after: Steps before the first that is watched, so that everything is warm.
        steps: How many are watched, at most, all of one epoch.
    """

    after: int = 5
    steps: int = 20

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value in (("after", self.after), ("steps", self.steps)):
            if value < 1:
                raise ConfigError(f"{name} is at least 1", got=f"{value}")
        self._profiler: Any = None
        self._seen = self._first = 0
        self._done = False

    def handle(self, event: Event, run: Run) -> None:
        """Start and stop the profiler at its steps."""
        if run.folder is None:
            raise ConfigError("a profile is written to a run folder", got="no folder")
        if event.name == "step":
            self._seen += 1
            ends = event.step % run.steps_per_epoch == 0
            if self._profiler is None and self._seen >= self.after and not (ends or self._done):
                self._profiler = torch.profiler.profile()
                self._profiler.start()
                self._first = self._seen
            # What comes after an epoch is no step.
            elif self._profiler is not None and (ends or self._seen - self._first == self.steps):
                self._write(run.folder)
        elif event.name == "end" and self._profiler is not None:
            self._write(run.folder)

    def _write(self, folder: Path) -> None:
        self._profiler.stop()
        profiler, self._profiler, self._done = self._profiler, None, True
        with written_whole(folder / "profile.txt") as beside:
            beside.write_text(_table(profiler, self._seen - self._first), encoding="utf-8")


def _table(profiler: Any, steps: int) -> str:
    """The operations that take longest, by their own time."""
    averages = profiler.key_averages()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = averages.table(sort_by=f"self_{device}_time_total", row_limit=_ROWS)
    return f"{steps} steps\n{table}\n"
