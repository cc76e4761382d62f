"""``Report``: a callback that writes a page about the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.listening.page import check_page_path
from notelstm.listening.report import save_report
from notelstm.training.callbacks import Callback, JSONLogger

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["Report"]


@final
@dataclass(kw_only=True)
class Report(Callback):
    """Writes a page at the start, after each epoch and at the end: curves, samples, settings.

    It reads the files that the callbacks before it wrote to the run folder.
    :class:`~notelstm.training.callbacks.JSONLogger` must be one of them. The page has music if
    :class:`~notelstm.training.samples.Samples` is another.

    Attributes:
        path: The page to write, ``.html`` or ``.htm``.
        title: The heading; "" for the name of the run folder.
    """

    path: str
    title: str = ""

    def __post_init__(self) -> None:
        """Check the path."""
        check_page_path(self.path)

    @override
    def check(self, trainer: Trainer) -> None:
        """Check that there are a run folder and a log."""
        if trainer.folder is None:
            raise ConfigError("there is no run folder to report on", hint="train with folder=...")
        before = trainer.callbacks[: trainer.callbacks.index(self)]
        if not any(isinstance(callback, JSONLogger) for callback in before):
            raise ConfigError(
                "the report has no log to read", hint="add the callback JSONLogger() before it"
            )

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        """Write the page."""
        self._write(trainer, running=True)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Write the page."""
        self._write(trainer, running=True)

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        """Write the page."""
        self._write(trainer, running=False)

    def _write(self, trainer: Trainer, *, running: bool) -> None:
        folder = cast(Path, trainer.folder)
        save_report(folder, self.path, title=self.title, running=running)
