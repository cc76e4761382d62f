"""``Trainer``: the loop, from top to bottom."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor

from notelstm.batch import Batch
from notelstm.errors import ConfigError, TrainingError
from notelstm.losses import CompositeLoss
from notelstm.protocols import Batches, NoteModel
from notelstm.training.callbacks import Callback, Event, EventName
from notelstm.training.config import TrainingConfig, pick_device
from notelstm.training.keeper import Keeper
from notelstm.training.position import Position
from notelstm.training.precision import faster_precision
from notelstm.training.processes import Processes
from notelstm.training.run_folder import RunFolder
from notelstm.training.signals import ctrl_c_waits
from notelstm.training.step import TrainStep
from notelstm.training.stepper import Stepper
from notelstm.training.throughput import FiniteWatch, Laps
from notelstm.training.wishes import Wishes

__all__ = ["History", "Trainer"]

_log = logging.getLogger(__name__)


class History(NamedTuple):
    """How a run went.

    Attributes:
        epochs: The values of each epoch that was done in this process, oldest first.
        stopped: Why it ended before all epochs were done, "" if it did not.
    """

    epochs: list[dict[str, float]]
    stopped: str


@final
class Trainer:
    """Trains a model on batches.

    Started by ``torchrun``, each process trains on its lanes of the same batches, and the steps are
    those of one process; the first one has the callbacks and the run folder.

    Args:
        model: A ``torch.nn.Module``; it is moved to the device and trained in place.
        loss: What to bring down.
        config: How.
        callbacks: What happens beside it: objects with a ``handle(event, run)``.
        folder: The run folder for checkpoints and log; None to keep nothing.
        settings: More settings, as JSON, that a resumed run must share.

    Raises:
        ConfigError: If there is no such device here, or a callback cannot be told of events.
        FieldError: If the loss has a term of a field that the model has not.
        OutputError: If the run folder cannot be made.

    Example:
        >>> import numpy as np
        >>> from notelstm.data import SequenceDataset, WindowBatches
        >>> from notelstm.encoders import StepDurationEncoder
        >>> from notelstm.losses import CompositeLoss, PositivePressure
        >>> from notelstm.models import ThreeHeadLSTM
        >>> fields = StepDurationEncoder().fields
        >>> data = SequenceDataset([np.ones((40, 3), dtype=np.float32)])
        >>> trainer = Trainer(
        ...     ThreeHeadLSTM(fields=fields, hidden=8),
        ...     CompositeLoss.for_fields(fields, continuous=PositivePressure()),
        ...     config=TrainingConfig(epochs=2),
        ... )
        >>> history = trainer.fit(WindowBatches(dataset=data, batch=8))
        >>> history.epochs[1]["loss"] < history.epochs[0]["loss"]
        True
    """

    def __init__(
        self,
        model: NoteModel,
        loss: CompositeLoss,
        *,
        config: TrainingConfig,
        callbacks: Sequence[Callback] = (),
        folder: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        for callback in callbacks:
            if not callable(getattr(callback, "handle", None)):
                raise ConfigError(
                    "a callback has handle(event, run)",
                    got=repr(callback),
                    hint="make it an object of a class with that method",
                )
        self._processes: Final = Processes()
        first = self._processes.first
        self.config: Final = config
        self.callbacks: Final = tuple(callbacks) if first else ()
        self.device: Final = pick_device(config.device)
        self.step: Final = TrainStep(model, loss).to(self.device)
        self._stepper: Final = Stepper(self.step, config, self.device, self._processes)
        self._run_folder: Final = RunFolder(folder) if first and folder is not None else None
        self._keeper: Final = Keeper(
            self.step.model,
            self._stepper,
            processes=self._processes,
            callbacks=self.callbacks,
            folder=self._run_folder,
        )
        self._settings: Final = {"training": asdict(config), **(settings or {})}
        self._asked: Wishes = Wishes()
        self._fault = ""
        self.steps_per_epoch: int = 0
        self.measured: tuple[str, ...] = ()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self._stepper.optimizer

    @property
    def epochs(self) -> int | None:
        """Epochs asked for; None if only the time says when it ends."""
        return self.config.epochs

    @property
    def precision(self) -> str:
        """In what matrix products are computed."""
        return self._stepper.precision

    @property
    def stopped(self) -> str:
        """Why the run ends before its epochs are done, "" if it does not."""
        return self._asked.stop

    @property
    def folder(self) -> Path | None:
        """The run's folder, if it has one."""
        return None if self._run_folder is None else self._run_folder.path

    def stop(self, reason: str, *, now: bool = False) -> None:
        """End the run after the current epoch, or the epoch too after this step."""
        self._asked.stop = reason
        self._asked.now |= now

    def spend(self, share: float) -> None:
        """Say what share of the run's time is spent."""
        self._asked.spent = share

    def hold(self) -> None:
        """Hold on to the state after each good epoch."""
        self._asked.hold = True

    def go_back(self, rate: float) -> None:
        """Go back to the last good state that was held, and on with a lower learning rate."""
        self._asked.back = rate

    def keep(self) -> None:
        """Keep the model as it is now as the best so far."""
        self._keeper.keep_best()

    def restore_best(self) -> None:
        """Put the best model back in place, if one was kept."""
        self._keeper.restore_best()

    def fit(
        self, batches: Batches, validation: Batches | None = None, *, resume: bool = False
    ) -> History:
        """Train until all epochs are done, a callback stops the run, or Ctrl-C does.

        Args:
            batches: The training set.
            validation: A held-out set, whose losses are measured after each epoch.
            resume: Go on from the run folder's newest checkpoint, as if never stopped.

        Returns:
            The values of each epoch.

        Raises:
            TrainingError: If the run cannot be resumed, the loss is no longer finite, or another
                process of the run is lost.
            KeyboardInterrupt: After Ctrl-C, once the step is done and a checkpoint is written.
        """
        batches = self._processes.shared(batches)
        validation = None if validation is None else self._processes.shared(validation)
        self.steps_per_epoch = -(-batches.steps // self.config.accumulate)
        names = self._stepper.tally.names
        self.measured = (*names("loss"), *(names("validation") if validation else ()))
        history: list[dict[str, float]] = []
        with self._processes.joined(self.device):
            self._begin(batches, resume)
            try:
                self._tell("start")
                self._check_end()
                self._hold_on()
                with ctrl_c_waits(self._interrupt):
                    while not self._finished:
                        history += self._next_epoch(batches, validation)
                    self._keeper.save()
            finally:
                if self._asked.interrupted:
                    where = "" if self.folder is None else f" in {self.folder}"
                    _log.warning("interrupted; the run%s can be resumed", where)
                self._notify("end")
            self._share_model()
        if self._asked.interrupted:
            raise KeyboardInterrupt
        return History(history, self.stopped)

    def _begin(self, batches: Batches, resume: bool) -> None:
        """Start anew or where the newest checkpoint stands."""
        self._asked, self._fault = Wishes(), ""
        self._keeper.forget()
        # Each process drops other units.
        torch.manual_seed(self.config.seed + self._processes.rank)
        if self._run_folder is not None:
            self._run_folder.begin(self._settings, resume=resume)
        self._share_model()
        stepper = self._stepper
        if resume:
            self._keeper.load()
        elif self.config.precision != "auto":
            stepper.precision = self.config.precision
        elif self._processes.first:
            batch = next(iter(batches.epoch(0))).move(self.device)
            stepper.precision = faster_precision(self.step, self.config, batch)
        stepper.precision = self._processes.told(stepper.precision)

    def _share_model(self) -> None:
        """Give all processes the first one's model."""
        self._processes.share(self.step.state_dict().values())

    def _interrupt(self) -> None:
        self._asked.heard = True

    @property
    def _at(self) -> Position:
        """Where the run stands."""
        return self._stepper.at

    @property
    def _finished(self) -> bool:
        done = self.config.epochs is not None and self._at.epoch >= self.config.epochs
        return done or self._asked.interrupted or bool(self._asked.stop)

    def _check_end(self) -> None:
        if self.config.epochs is None and self._asked.spent is None:
            raise ConfigError(
                "a run has an end",
                got="epochs None, and no time budget",
                hint="give epochs, or the callback TimeBudget(minutes=...)",
            )

    def _next_epoch(self, batches: Batches, validation: Batches | None) -> list[dict[str, float]]:
        """Train an epoch to its end; its values, unless Ctrl-C or a divergence came before."""
        values = self._train_epoch(batches)
        if values and validation is not None:
            values |= self._means("validation", self._stepper.measure(validation))
        if self._fault:
            self._tell("diverged")
            if self._asked.back is None:
                raise self._diverged()
            return self._return(self._asked.back)
        if not values:
            return []
        self._tell("epoch", values)
        if self._asked.back is not None:
            return self._return(self._asked.back)
        self._hold_on()
        if self._at.epoch % self.config.checkpoint_every == 0:
            self._keeper.save(f"epoch-{self._at.epoch:04d}")
        return [values]

    def _train_epoch(self, batches: Batches) -> dict[str, float]:
        """Go on with the current epoch to its end; nothing if it does not get there."""
        began, targets, laps, watch = time.perf_counter(), 0, Laps(), FiniteWatch()
        epochs = self.config.epochs
        steps = None if epochs is None else epochs * self.steps_per_epoch
        self.step.train()
        for group in self._groups(batches):
            laps.end("data")
            targets += self._stepper.take(group, batches.carries, steps, laps)
            self._notify("step")
            if self._ends_here(watch.lost(self._stepper.sums)):
                break
            laps.begin()
        values = self._means("loss", self._stepper.sums)
        self._check_weights()
        if self._fault or self._asked.interrupted:
            return {}
        seconds = max(time.perf_counter() - began, 1e-9)
        targets = int(self._processes.add(torch.tensor(targets)))
        self._at.next_epoch()
        return {
            **values,
            "seconds": seconds,
            "targets_per_second": targets / seconds,
            **{f"seconds/{lap}": spent for lap, spent in laps.seconds.items()},
        }

    def _groups(self, batches: Batches) -> Iterator[list[Batch]]:
        """The batches of each step that is left of the current epoch."""
        stream = batches.epoch(self._at.epoch, self._at.batch)
        while group := list(itertools.islice(stream, self.config.accumulate)):
            yield group

    def _ends_here(self, lost: bool) -> bool:
        """Whether the epoch ends after this step, whichever process has the reason."""
        lost = self._asked.agree_on_urgent(lost, self._processes)
        self._at.spent = self._asked.spent
        return lost or self._asked.interrupted or self._asked.now

    def _means(self, prefix: str, sums: Tensor) -> dict[str, float]:
        """The average over all targets of what was added up, by name."""
        values = self._stepper.tally.means(prefix, sums, self._processes)
        if not all(map(math.isfinite, values.values())):
            self._fault = ", ".join(f"{name} {value:g}" for name, value in values.items())
        return values

    def _check_weights(self) -> None:
        """The last step's loss was finite before the step; the next one's cannot be after it."""
        if not all(bool(weights.isfinite().all()) for weights in self._stepper.parameters):
            self._fault = self._fault or "loss finite, but no longer the weights"

    def _diverged(self) -> TrainingError:
        return TrainingError(
            "the loss is finite",
            got=self._fault,
            where=f"step {self._at.steps}",
            hint="lower learning_rate, set clip, add the callback DivergenceGuard, "
            "or go back to an earlier checkpoint",
        )

    def _tell(self, name: EventName, values: Mapping[str, float] | None = None) -> None:
        """Tell the callbacks of an event, and all processes what they asked for."""
        self._notify(name, values)
        self._asked.agree(self._processes)
        self._at.spent = self._asked.spent

    def _notify(self, name: EventName, values: Mapping[str, float] | None = None) -> None:
        event = Event(name, self._at.epoch, self._at.steps, values or {})
        for callback in self.callbacks:
            callback.handle(event, self)

    def _hold_on(self) -> None:
        if self._asked.hold:
            self._keeper.hold()

    def _return(self, rate: float) -> list[dict[str, float]]:
        """Go back to the last good state, and on with a lower learning rate."""
        scale = self._at.rate_scale * rate
        self._keeper.go_back()
        self._at.rate_scale = scale
        self._asked.back, self._fault = None, ""
        self._tell("back")
        return []
