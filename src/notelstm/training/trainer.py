"""``Trainer``: the loop, from top to bottom."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.batch import Batch
from notelstm.errors import ConfigError, TrainingError
from notelstm.losses import CompositeLoss, Losses
from notelstm.protocols import Batches, NoteModel
from notelstm.training.callbacks import Callback, Event, EventName, Stateful
from notelstm.training.checkpoint import put_state, take_state
from notelstm.training.config import TrainingConfig, pick_device
from notelstm.training.position import Position
from notelstm.training.precision import Precision, autocast, faster_precision
from notelstm.training.processes import Processes
from notelstm.training.run_folder import RunFolder
from notelstm.training.signals import ctrl_c_waits
from notelstm.training.step import TrainStep
from notelstm.training.throughput import FiniteWatch, Laps
from notelstm.tree import detach

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
                    fix="make it an object of a class with that method",
                )
        self.config: Final = config
        self._processes: Final = Processes()
        first = self._processes.first
        self.callbacks: Final = tuple(callbacks) if first else ()
        self.device: Final = pick_device(config.device)
        self.step: Final = TrainStep(model, loss).to(self.device)
        self._parameters: Final = list(self.step.parameters())
        self.optimizer: Final = config.build_optimizer(self._parameters)
        self._run_folder: Final = RunFolder(folder) if first and folder is not None else None
        self._settings: Final = {**asdict(config), **(settings or {})}
        self._at: Position = Position()
        self._rate: float | None = None
        self._precision: Precision = "float32"
        self._best: dict[str, Tensor] | None = None
        self._good: dict[str, Any] | None = None
        self._holds = False
        self._back: float | None = None
        self._fault = ""
        self._stop_reason = ""
        self._stops_now = False
        self._interrupted = False
        self.steps_per_epoch: int = 0
        self.measured: tuple[str, ...] = ()

    @property
    def epochs(self) -> int | None:
        """Epochs asked for; None if only the time says when it ends."""
        return self.config.epochs

    @property
    def folder(self) -> Path | None:
        """The run's folder, if it has one."""
        return None if self._run_folder is None else self._run_folder.path

    def stop(self, reason: str, *, now: bool = False) -> None:
        """End the run after the current epoch, or the epoch too after this step."""
        self._stop_reason = reason
        self._stops_now |= now

    def spend(self, share: float) -> None:
        """Say what share of the run's time is spent."""
        self._at.spent = share

    def hold(self) -> None:
        """Hold on to the state after each good epoch."""
        self._holds = True

    def go_back(self, rate: float) -> None:
        """Go back to the last good state that was held, and on with a lower learning rate."""
        self._back = rate

    def keep(self) -> None:
        """Keep the model as it is now as the best so far."""
        model = self.step.model.state_dict()
        self._best = {name: tensor.detach().cpu().clone() for name, tensor in model.items()}
        if self._run_folder is not None:
            self._run_folder.save("best", self._best)

    def restore_best(self) -> None:
        """Put the best model back in place, if one was kept."""
        if self._best is not None:
            self.step.model.load_state_dict(self._best)

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
        self.steps_per_epoch = -(-batches.steps // self.config.accumulate)
        self.measured = (*self._names("loss"), *(self._names("validation") if validation else ()))
        history: list[dict[str, float]] = []
        with self._processes.joined(self.device):
            self._begin(batches, resume)
            try:
                self._tell("start")
                self._agree()
                self._check_end()
                self._hold_on()
                with ctrl_c_waits(self._interrupt):
                    while not self._finished:
                        history += self._next_epoch(batches, validation)
                    self._save(None)
            finally:
                if self._interrupted:
                    where = "" if self.folder is None else f" in {self.folder}"
                    _log.warning("interrupted; the run%s can be resumed", where)
                self._tell("end")
            self._share_model()
        if self._interrupted:
            raise KeyboardInterrupt
        return History(history, self._stop_reason)

    def _begin(self, batches: Batches, resume: bool) -> None:
        """Start anew or where the newest checkpoint stands."""
        self._stop_reason, self._stops_now, self._interrupted = "", False, False
        self._fault, self._good, self._holds, self._rate = "", None, False, None
        self._at.spent = None
        # Each process drops other units.
        torch.manual_seed(self.config.seed + self._processes.rank)
        if self._run_folder is not None:
            self._run_folder.begin(self._settings, resume=resume)
        self._share_model()
        if resume:
            self._load()
        elif self.config.precision != "auto":
            self._precision = self.config.precision
        elif self._processes.first:
            batch = next(iter(batches.epoch(0))).move(self.device)
            self._precision = faster_precision(self.step, self.config, batch)
        self._precision = self._processes.told(self._precision)

    def _interrupt(self) -> None:
        self._interrupted = True

    @property
    def _finished(self) -> bool:
        done = self.config.epochs is not None and self._at.epoch >= self.config.epochs
        return done or self._interrupted or bool(self._stop_reason)

    def _check_end(self) -> None:
        if self.config.epochs is None and self._processes.told(self._at.spent) is None:
            raise ConfigError(
                "a run has an end",
                got="epochs None, and no time budget",
                fix="give epochs, or the callback TimeBudget(minutes=...)",
            )

    def _next_epoch(self, batches: Batches, validation: Batches | None) -> list[dict[str, float]]:
        """Train an epoch to its end; its values, unless Ctrl-C or a divergence came before."""
        values = self._train_epoch(batches)
        if values and validation is not None:
            values |= self._validate(validation)
        if self._fault:
            self._tell("diverged")
            self._agree()
            if self._back is None:
                raise self._diverged()
            return self._return()
        if not values:
            return []
        self._tell("epoch", values)
        self._agree()
        if self._back is not None:
            return self._return()
        self._hold_on()
        if self._at.epoch % self.config.checkpoint_every == 0:
            self._save(f"epoch-{self._at.epoch:04d}")
        return [values]

    def _train_epoch(self, batches: Batches) -> dict[str, float]:
        """Go on with the current epoch to its end; nothing if it does not get there."""
        began, targets, laps, watch = time.perf_counter(), 0, Laps(), FiniteWatch()
        self.step.train()
        for group in self._groups(batches):
            laps.end("data")
            self._set_rate()
            self.optimizer.zero_grad()
            count = sum(int(np.count_nonzero(batch.scored.numpy())) for batch in group)
            for batch in group:
                self._accumulate(batch, count, batches.carries, laps)
            self._processes.add_gradients(self._parameters)
            if self.config.clip is not None:
                nn.utils.clip_grad_norm_(self._parameters, self.config.clip)
            self.optimizer.step()
            self._at.advance(len(group))
            targets += count
            laps.end("optimizer")
            self._tell("step")
            if self._ends_here(watch):
                break
            laps.begin()
        values = self._means("loss", self._sums)
        self._check_weights()
        if self._fault or self._interrupted:
            return {}
        seconds = time.perf_counter() - began
        self._at.next_epoch()
        return {
            **values,
            "seconds": seconds,
            "targets_per_second": targets / max(seconds, 1e-9),
            **{f"seconds/{lap}": spent for lap, spent in laps.seconds.items()},
        }

    def _groups(self, batches: Batches) -> Iterator[list[Batch]]:
        """The batches of each step that is left of the current epoch."""
        stream = batches.epoch(self._at.epoch, self._at.batch)
        while group := list(itertools.islice(stream, self.config.accumulate)):
            yield group

    def _accumulate(self, batch: Batch, targets: int, carries: bool, laps: Laps) -> None:
        """Add the gradient of this process's lanes of a batch to a step of so many targets."""
        part = self._processes.part(batch)
        count = int(np.count_nonzero(part.scored.numpy()))
        if not count:
            return
        with autocast(self._precision, self.device):
            losses, state = self.step(part.move(self.device), self._at.carried if carries else None)
        laps.end("forward")
        whole = count == targets
        losses.total.backward(None if whole else torch.full_like(losses.total, count / targets))
        self._at.carried = detach(state) if carries else None
        self._add(self._sums, losses, count)
        laps.end("backward")

    def _ends_here(self, watch: FiniteWatch) -> bool:
        """Whether the epoch ends after this step, whichever process has the reason."""
        lost = watch.lost(self._sums)
        if self._processes.count > 1:
            first = self._processes.first
            told = [lost, self._interrupted, first and self._stops_now]
            spent = self._at.spent if first and self._at.spent is not None else 0.0
            flags = torch.tensor([*told, spent], dtype=torch.float64)
            lost, self._interrupted, self._stops_now, self._at.spent = self._processes.add(
                flags
            ).tolist()
        return bool(lost or self._interrupted or self._stops_now)

    def _set_rate(self) -> None:
        """Set the learning rate of the step to come."""
        epochs = self.config.epochs
        steps = None if epochs is None else epochs * self.steps_per_epoch
        rate = self.config.rate(self._at.steps, steps, self._at.spent or 0.0)
        rate *= self._at.rate_scale
        if rate == self._rate:
            return
        self._rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @property
    def _sums(self) -> Tensor:
        """What is added up in this epoch."""
        if self._at.sums is None:
            self._at.sums = self._zeros()
        return self._at.sums

    def _zeros(self) -> Tensor:
        # Apple's devices have no float64.
        precise = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.zeros(len(self.step.loss.terms) + 2, dtype=precise, device=self.device)

    @torch.no_grad()
    def _add(self, sums: Tensor, losses: Losses, targets: int) -> None:
        """Add up losses and targets where they are, without waiting for the device."""
        values = torch.stack([losses.total, *losses.terms.values(), losses.total.new_ones(())])
        sums.add_(values, alpha=targets)

    def _names(self, prefix: str) -> list[str]:
        return [prefix, *(f"{prefix}/{name}" for name in self.step.loss.terms)]

    def _means(self, prefix: str, sums: Tensor) -> dict[str, float]:
        """The average over all targets of what was added up, by name."""
        *totals, targets = self._processes.add(sums.clone()).tolist()
        means = (total / targets if targets else math.nan for total in totals)
        values = dict(zip(self._names(prefix), means, strict=True))
        if not all(map(math.isfinite, values.values())):
            self._fault = ", ".join(f"{name} {value:g}" for name, value in values.items())
        return values

    def _check_weights(self) -> None:
        """The last step's loss was finite before the step; the next one's cannot be after it."""
        if not all(bool(weights.isfinite().all()) for weights in self._parameters):
            self._fault = self._fault or "loss finite, but no longer the weights"

    def _diverged(self) -> TrainingError:
        return TrainingError(
            "the loss is finite",
            got=self._fault,
            where=f"step {self._at.steps}",
            fix="lower learning_rate, set clip, add the callback DivergenceGuard, "
            "or go back to an earlier checkpoint",
        )

    @torch.no_grad()
    def _validate(self, validation: Batches) -> dict[str, float]:
        """The losses of a held-out set."""
        self.step.eval()
        sums, state = self._zeros(), None
        for batch in validation.epoch(0):
            part = self._processes.part(batch)
            count = int(np.count_nonzero(part.scored.numpy()))
            if not count:
                continue
            with autocast(self._precision, self.device):
                losses, after = self.step(part.move(self.device), state)
            state = after if validation.carries else None
            self._add(sums, losses, count)
        return self._means("validation", sums)

    def _tell(self, name: EventName, values: Mapping[str, float] | None = None) -> None:
        event = Event(name, self._at.epoch, self._at.steps, values or {})
        for callback in self.callbacks:
            callback.handle(event, self)

    def _agree(self) -> None:
        """Let all processes know what the first one's callbacks asked for."""
        asked = (self._stop_reason, self._stops_now, self._holds, self._back)
        self._stop_reason, self._stops_now, self._holds, self._back = self._processes.told(asked)

    def _hold_on(self) -> None:
        """Keep the state as it is now, to go back to."""
        if self._holds and not (self._good and self._at.batch):
            self._good = copy.deepcopy(self._state())

    def _return(self) -> list[dict[str, float]]:
        """Go back to the state that was kept."""
        good = self._processes.told(self._good)
        if not good or self._back is None:
            raise ConfigError(
                "a run goes back to a state that it holds on to",
                got="none",
                fix="call run.hold() when the run starts",
            )
        scale = self._at.rate_scale * self._back
        # The optimizer goes on with the very tensors that it is given.
        self._restore(copy.deepcopy(good))
        self._at.rate_scale = scale
        self._back, self._fault = None, ""
        self._tell("back")
        return []

    def _share_model(self) -> None:
        """Give all processes the first one's model."""
        self._processes.share(self.step.state_dict().values())

    def _state(self) -> dict[str, Any]:
        """All that is needed to go on from here; in the first process."""
        return take_state(self.step.model, self.optimizer, self._at, self._processes)

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what :meth:`_state` gave."""
        self._rate = None
        put_state(saved, self.step.model, self.optimizer, self._at, self._processes)

    def _save(self, name: str | None) -> None:
        """Write the newest checkpoint, and a copy of the model under `name`."""
        state = self._state()
        if self._run_folder is None:
            return
        if name is not None:
            self._run_folder.save(name, self.step.model.state_dict())
        self._run_folder.save(
            "last",
            {
                **state,
                "precision": self._precision,
                "best": self._best,
                # In the middle of an epoch, the last good state is not this one.
                "good": self._good if self._at.batch else None,
                "callbacks": [(type(c).__name__, c.state_dict()) for c in self._stateful],
            },
        )

    @property
    def _stateful(self) -> list[Stateful]:
        return [callback for callback in self.callbacks if isinstance(callback, Stateful)]

    def _load(self) -> None:
        """Go back to the newest checkpoint."""
        saved: dict[str, Any] = {}
        if self._processes.first:
            if self._run_folder is None:
                raise TrainingError("a resumed run has a folder", fix="pass folder= to the Trainer")
            saved = self._run_folder.load("last")
        saved = self._processes.told(saved)
        try:
            self._restore(saved)
            self._precision = saved["precision"]
            if self._processes.first:
                self._best, self._good = saved["best"], saved["good"]
                self._remind(saved["callbacks"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                "a checkpoint is of this model, optimizer and callbacks",
                got=str(error).strip().splitlines()[-1].strip(),
                where=str(self.folder),
                fix="resume with the parts the run was started with",
            ) from error

    def _remind(self, saved: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Give the callbacks back what they knew."""
        now, then = [type(c).__name__ for c in self._stateful], [name for name, _ in saved]
        if now != then:
            raise TrainingError(
                "a run is resumed with the callbacks it was started with",
                got=f"{', '.join(now) or 'none'}; it had {', '.join(then) or 'none'}",
            )
        for callback, (_, state) in zip(self._stateful, saved, strict=True):
            callback.load_state_dict(state)
