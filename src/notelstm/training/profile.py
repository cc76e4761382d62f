"""``Profile``: the operations that the steps spend their time on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

import torch
from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.files import atomic_write
from notelstm.training.callbacks import Callback

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["Profile"]

_ROWS: Final = 25


@final
@dataclass(kw_only=True)
class Profile(Callback):
    """Profiles some steps with torch's profiler and writes a table, ``profile.txt``.

    Profiled steps take longer than others; those before and after do not.

    Attributes:
        after: Steps before the first that is profiled, to warm up.
        steps: Number of profiled steps, at most, all of one epoch.
    """

    after: int = 5
    steps: int = 20

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value in (("after", self.after), ("steps", self.steps)):
            if value < 1:
                raise ConfigError(f"{name} is {value}, below 1")
        self._profiler: Any = None
        self._seen = self._first = 0
        self._done = False

    @override
    def check(self, trainer: Trainer) -> None:
        """Check that there is a run folder."""
        if trainer.folder is None:
            raise ConfigError(
                "there is no run folder to write a profile to", hint="train with folder=..."
            )

    @override
    def on_step_end(self, trainer: Trainer) -> None:
        """Start and stop the profiler at its steps."""
        self._seen += 1
        ends = trainer.state.steps % trainer.steps_per_epoch == 0
        if self._profiler is None and self._seen >= self.after and not (ends or self._done):
            self._profiler = torch.profiler.profile()
            self._profiler.start()
            self._first = self._seen
        # The end of an epoch is no part of a step.
        elif self._profiler is not None and (ends or self._seen - self._first == self.steps):
            self._write(cast(Path, trainer.folder))

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        """Write the table if the run ended before it was due."""
        if self._profiler is not None:
            self._write(cast(Path, trainer.folder))

    def _write(self, folder: Path) -> None:
        self._profiler.stop()
        profiler, self._profiler, self._done = self._profiler, None, True
        with atomic_write(folder / "profile.txt") as beside:
            beside.write_text(_table(profiler, self._seen - self._first), encoding="utf-8")


def _table(profiler: Any, steps: int) -> str:
    """The operations that take longest, by their own time."""
    averages = profiler.key_averages()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = averages.table(sort_by=f"self_{device}_time_total", row_limit=_ROWS)
    return f"{steps} steps\n{table}\n"
