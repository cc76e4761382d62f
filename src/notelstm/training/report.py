"""``Report``: a page on the run, to look at while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from notelstm.errors import ConfigError
from notelstm.listening.page import check_page_path
from notelstm.listening.report import save_report
from notelstm.training.callbacks import Event, Run

__all__ = ["Report"]


@final
@dataclass(kw_only=True)
class Report:
    """Writes a page at the start, after each epoch and at the end: curves, samples, settings.

    It reads what the callbacks before it wrote into the run folder:
    :class:`~notelstm.training.callbacks.JsonLog` must be among them, and without
    :class:`~notelstm.training.samples.Samples` there is nothing to hear.

    Attributes:
        path: The page, ``.html``.
        title: Its heading; "" for the run folder's name.
    """

    path: str
    title: str = ""

    def __post_init__(self) -> None:
        """Check the path."""
        check_page_path(self.path)

    def handle(self, event: Event, run: Run) -> None:
        """Write the page."""
        if event.name not in ("start", "epoch", "end"):
            return
        if run.folder is None:
            raise ConfigError(
                "a report is of a run with a folder",
                got="none",
                hint="train with Recipe.train(folder=...)",
            )
        save_report(run.folder, self.path, title=self.title, running=event.name != "end")
