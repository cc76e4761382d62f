"""``Report``: a callback that writes a page about the run."""

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

    It reads the files that the callbacks before it wrote to the run folder.
    :class:`~notelstm.training.callbacks.JsonLog` must be one of them. The page has music if
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

    def handle(self, event: Event, run: Run) -> None:
        """Write the page."""
        if event.name not in ("start", "epoch", "end"):
            return
        if run.folder is None:
            raise ConfigError(
                "a report needs a run with a folder", hint="train with Recipe.train(folder=...)"
            )
        save_report(run.folder, self.path, title=self.title, running=event.name != "end")
