"""Callbacks: what happens beside the training loop.

A callback is told of each event and may ask the run to stop. One that remembers anything has
``state_dict`` and ``load_state_dict`` too, and a resumed run gives it back what it knew. Of several
processes, only the first one has callbacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, final, runtime_checkable

from notelstm.errors import ConfigError, OutputError
from notelstm.files import written_whole

__all__ = [
    "BestKept",
    "Callback",
    "EarlyStop",
    "Event",
    "EventName",
    "JsonLog",
    "Run",
    "Stateful",
]

EventName: TypeAlias = Literal["start", "step", "epoch", "diverged", "back", "end"]
"""``start`` before the first step, ``step`` and ``epoch`` after each of these, ``end`` at last.
``diverged`` when a loss is no longer finite; ``back`` when the run went back to a good state."""


class Event(NamedTuple):
    """Something that happened in a run.

    Attributes:
        name: What.
        epoch: Epochs finished so far.
        step: Steps taken so far, in all epochs.
        values: At ``epoch``: ``loss`` and ``loss/<field>``, ``validation`` and
            ``validation/<field>`` where there is a validation set, each the mean over targets;
            ``seconds`` and ``targets_per_second``; ``seconds/data``, ``seconds/forward``,
            ``seconds/backward`` and ``seconds/optimizer``.
    """

    name: EventName
    epoch: int
    step: int
    values: Mapping[str, float]


class Run(Protocol):
    """What a callback may do to the run that called it."""

    @property
    def epochs(self) -> int | None:
        """Epochs asked for; None if only the time says when it ends."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        ...

    @property
    def measured(self) -> Sequence[str]:
        """The names of the losses that every epoch has."""
        ...

    @property
    def precision(self) -> str:
        """In what matrix products are computed."""
        ...

    @property
    def stopped(self) -> str:
        """Why the run ends before its epochs are done, "" if it does not."""
        ...

    @property
    def folder(self) -> Path | None:
        """The run's folder, if it has one."""
        ...

    def stop(self, reason: str, *, now: bool = False) -> None:
        """End the run in good order: after the current epoch, or the epoch too after this step."""
        ...

    def spend(self, share: float) -> None:
        """Say what share of the run's time is spent, 0 to 1; the learning rate follows it."""
        ...

    def hold(self) -> None:
        """Hold on to the state after each good epoch, for :meth:`go_back`."""
        ...

    def go_back(self, rate: float) -> None:
        """Go back to the last good state, with every learning rate to come times `rate`."""
        ...

    def keep(self) -> None:
        """Keep the model as it is now as the best so far."""
        ...

    def restore_best(self) -> None:
        """Put the best model back in place, if one was kept."""
        ...


class Callback(Protocol):
    """Is told of every event of a run."""

    def handle(self, event: Event, run: Run) -> None:
        """React to an event."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A callback that remembers; its memory is saved with every checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What it knows, as tensors and plain numbers, strings, lists and dicts."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        ...


@final
class JsonLog:
    """One line of JSON for each epoch, in ``log.jsonl`` of the run folder.

    A run that is resumed, or goes back, takes back the lines of epochs that it will do again.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {}

    def handle(self, event: Event, run: Run) -> None:
        """Cut the log to where the run stands, or add a line."""
        if run.folder is None:
            return
        path = run.folder / "log.jsonl"
        if event.name in ("start", "back"):
            kept = "".join(line + "\n" for line in _lines_until(path, event.epoch))
            with written_whole(path) as beside:
                beside.write_text(kept, encoding="utf-8")
        elif event.name == "epoch":
            line = {"epoch": event.epoch, "step": event.step, **event.values}
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, allow_nan=False) + "\n")
            except OSError as error:
                raise OutputError(
                    "the log can be written",
                    got=error.strerror or str(error),
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
class EarlyStop:
    """Stops a run whose validation loss no longer falls.

    Attributes:
        patience: Epochs without a new best before it stops.
        least: How much lower than the best a loss must be to count as new best.
        watch: The value to look at.
    """

    patience: int = 5
    least: float = 0.0
    watch: str = "validation"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.patience < 1:
            raise ConfigError("patience is at least 1 epoch", got=f"{self.patience}")
        self._best = math.inf
        self._waited = 0

    def handle(self, event: Event, run: Run) -> None:
        """Compare each epoch's value with the best."""
        if event.name == "start":
            _check_watched(self.watch, run)
            self._stop_if_due(run)
        if event.name != "epoch":
            return
        if event.values[self.watch] < self._best - self.least:
            self._best, self._waited = event.values[self.watch], 0
            return
        self._waited += 1
        self._stop_if_due(run)

    def _stop_if_due(self, run: Run) -> None:
        # At the start too: a run that was stopped stays stopped when it is resumed.
        if self._waited >= self.patience:
            epochs = "epoch" if self._waited == 1 else "epochs"
            run.stop(f"{self.watch} has not fallen for {self._waited} {epochs}")

    def state_dict(self) -> dict[str, Any]:
        """The best value, and the epochs since."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._best, self._waited = state["best"], state["waited"]


@final
@dataclass(kw_only=True)
class BestKept:
    """Keeps the model of the best epoch, and puts it back at the end.

    Attributes:
        watch: The value to look at; lower is better.
    """

    watch: str = "validation"

    def __post_init__(self) -> None:
        """Nothing is known yet."""
        self._best = math.inf

    def handle(self, event: Event, run: Run) -> None:
        """Keep a new best; at the end put the best back."""
        if event.name == "start":
            _check_watched(self.watch, run)
        elif event.name == "epoch" and event.values[self.watch] < self._best:
            self._best = event.values[self.watch]
            run.keep()
        elif event.name == "end":
            run.restore_best()

    def state_dict(self) -> dict[str, Any]:
        """The best value."""
        return {"best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._best = state["best"]


def _check_watched(name: str, run: Run) -> None:
    if name not in run.measured:
        raise ConfigError(
            "the watched value is there",
            got=f"{name!r}",
            hint="give a validation set, or watch one of " + ", ".join(run.measured),
        )
