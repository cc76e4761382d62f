"""``Trainer``: the training loop, in :meth:`Trainer.fit`, and the hooks of its callbacks."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.batch import Batch
from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, TrainingError
from notelstm.losses import CompositeLoss
from notelstm.protocols import Batches, NoteEncoder, NoteModel
from notelstm.training.checkpoints import Checkpoints, RunFolder, exclusive
from notelstm.training.config import TrainingConfig, pick_device
from notelstm.training.distributed import DistributedGroup
from notelstm.training.step import (
    DivergenceMonitor,
    LossMeter,
    Precision,
    StepTimer,
    TrainerControl,
    TrainerState,
    TrainStep,
    autocast,
    defer_interrupts,
    faster_precision,
)
from notelstm.tree import detach

__all__ = ["Callback", "History", "Trainer"]

_log = logging.getLogger(__name__)


class Callback:
    """Base class of callbacks; each hook does nothing unless it is overridden.

    A hook may read the trainer (``trainer.state``, ``trainer.optimizer``, ``trainer.module`` ...)
    and direct it with :meth:`Trainer.stop <notelstm.training.Trainer.stop>`,
    :meth:`~notelstm.training.Trainer.save_best`, :meth:`~notelstm.training.Trainer.rollback` and
    the like. In a distributed run, only the main process has callbacks.

    Example:
        >>> class StopAtLoss(Callback):
        ...     def on_epoch_end(self, trainer, metrics):
        ...         if metrics["loss"] < 1.0:
        ...             trainer.stop("the loss is below 1")
    """

    def check(self, trainer: Trainer) -> None:
        """Raise :class:`~notelstm.errors.ConfigError` if the callback cannot work in this run.

        Called at the start of each run, maybe several times, before any data are read;
        ``trainer.metric_names`` and ``trainer.folder`` are set. A callback with a state resets it
        here. One that ends runs by the clock sets ``trainer.time_fraction``.
        """

    def on_bundle_ready(self, bundle: Bundle) -> None:
        """Called by :meth:`Recipe.train <notelstm.recipes.Recipe.train>` before the run starts.

        Args:
            bundle: The model that is trained, with its parts.
        """

    def on_train_start(self, trainer: Trainer) -> None:
        """Called before the first step, after a checkpoint was loaded."""

    def on_step_end(self, trainer: Trainer) -> None:
        """Called after each optimizer step."""

    def on_validation_step_end(self, trainer: Trainer) -> None:
        """Called after each batch of the validation set."""

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Called after each epoch and its validation.

        Args:
            trainer: The trainer; ``trainer.state.epoch`` counts the epochs that are finished.
            metrics: ``loss`` and ``loss/<field>``, ``validation`` and ``validation/<field>`` where
                there is a validation set, each the mean over targets; ``learning_rate``, that of
                the last step; ``seconds``, ``targets_per_second``, and ``seconds/data``,
                ``seconds/forward``, ``seconds/backward``, ``seconds/optimizer``.
        """

    def on_divergence(self, trainer: Trainer) -> None:
        """Called when a loss or a weight is no longer finite; without a rollback the run ends."""

    def on_rollback(self, trainer: Trainer) -> None:
        """Called after the last snapshot was restored."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Called at the end of the run, also when it is interrupted or fails."""

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints: tensors, numbers, strings, lists and dicts."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of :meth:`state_dict` when a run is resumed."""


class History(NamedTuple):
    """The course of a run.

    Attributes:
        epochs: The metrics of each epoch since the start or the resumption, oldest first.
        stopped: Why the run ended before its last epoch, "" if it did not.
    """

    epochs: list[dict[str, float]]
    stopped: str


@final
class Trainer:
    """Trains a model on batches.

    Processes of ``torchrun`` divide each batch among them, and their steps equal those of a single
    process. The main process has the callbacks and the run folder.

    Args:
        model: A ``torch.nn.Module``; it is moved to the device and trained in place.
        loss: The loss to minimise.
        config: Optimizer, schedule, number of epochs and the like.
        callbacks: Objects of subclasses of :class:`~notelstm.training.Callback`.
        folder: The run folder for checkpoints and log, made when the run starts; None for none.
        settings: More settings, as JSON, that a resumed run must share.
        encoder: The encoder of the rows, which may limit the classes that are predicted, see
            :class:`~notelstm.protocols.ConstrainingEncoder`; None for no limits.

    Attributes:
        config: The configuration.
        callbacks: The callbacks, in the order in which they are called.
        device: The device that trains.
        module: Model and loss as one module.
        optimizer: The optimizer.
        state: The position of the run.
        precision: The precision of matrix products.
        steps_per_epoch: Optimizer steps in an epoch, set when the run starts.
        metric_names: The names of the losses among the metrics of an epoch.
        baselines: Losses of simple predictions, by their name and the name of the loss, which
            callbacks can show beside the metrics; a recipe sets them.

    Raises:
        ConfigError: If the device does not exist, or a callback is not a ``Callback``.
        FieldError: If the loss has a term of a field that the model lacks.

    Example:
        >>> import numpy as np
        >>> from notelstm.data import SequenceDataset, WindowBatches
        >>> from notelstm.encoders import StepDurationEncoder
        >>> from notelstm.losses import CompositeLoss, PositivePressure
        >>> from notelstm.models import ThreeHeadLSTM
        >>> fields = StepDurationEncoder().fields
        >>> data = SequenceDataset([np.ones((40, 3), dtype=np.float32)])
        >>> trainer = Trainer(
        ...     ThreeHeadLSTM(fields=fields, hidden_size=8),
        ...     CompositeLoss.for_fields(fields, continuous=PositivePressure()),
        ...     config=TrainingConfig(epochs=2),
        ... )
        >>> history = trainer.fit(WindowBatches(dataset=data, batch_size=8))
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
        encoder: NoteEncoder | None = None,
    ) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ConfigError(
                    f"{callback!r} is not a callback",
                    hint="give objects of subclasses of notelstm.training.Callback",
                )
        self._group: Final = DistributedGroup()
        self.config: Final = config
        is_main = self._group.is_main_process
        self.callbacks: Final = tuple(callbacks) if is_main else ()
        self.folder: Final = Path(folder) if is_main and folder is not None else None
        self.device: Final = pick_device(config.device)
        self.module: Final = TrainStep(model, loss, encoder).to(self.device)
        self.parameters: Final[list[nn.Parameter]] = list(self.module.parameters())
        self.optimizer: Final[torch.optim.Optimizer] = config.build_optimizer(self.parameters)
        self.state: Final = TrainerState()
        self.precision: Precision = "float32"
        self.steps_per_epoch: int = 0
        self.metric_names: tuple[str, ...] = ()
        self.baselines: Mapping[str, Mapping[str, float]] = {}
        self._checkpoints = self._checkpoints_in(None)
        self._settings: Final = {"training": asdict(config), **(settings or {})}
        self._loss_meter: Final = LossMeter(loss, self.device)
        self._control = TrainerControl()
        self._divergence = ""

    def fit(
        self,
        batches: Batches,
        validation: Batches | None = None,
        *,
        resume: bool = False,
        data: Mapping[str, Any] | None = None,
    ) -> History:
        """Train until the last epoch, or until a callback or Ctrl-C stops the run.

        Args:
            batches: The training set.
            validation: A held-out set, whose losses are measured after each epoch.
            resume: Continue from the run folder's newest checkpoint, bit for bit.
            data: A description of the training set, as JSON, that a resumed run must share.

        Returns:
            The metrics of each epoch.

        Raises:
            TrainingError: If the run cannot be resumed, the loss is no longer finite, or another
                process of the run is lost.
            OutputError: If the run folder cannot be written to.
            KeyboardInterrupt: After Ctrl-C, once the step is done and a checkpoint is written.
        """
        history: list[dict[str, float]] = []
        self.check(validation=validation is not None)
        batches = self._group.shard(batches)
        validation = None if validation is None else self._group.shard(validation)
        with self._running(batches, resume, data):
            while not self._finished:
                self.module.train()
                timer, monitor, num_targets = StepTimer(), DivergenceMonitor(), 0
                for group in self._fetch(batches):
                    timer.record("data")
                    self._set_learning_rate()
                    self.optimizer.zero_grad()
                    targets = [_num_targets(batch) for batch in group]
                    for batch, count in zip(group, targets, strict=True):
                        loss = self._forward(batch, count, sum(targets), batches.stateful)
                        timer.record("forward")
                        if loss is not None:
                            loss.backward()  # type: ignore[no-untyped-call]
                        timer.record("backward")
                    self._group.average_gradients(self.parameters, sum(targets))
                    if self.config.max_grad_norm is not None:
                        nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
                    self.optimizer.step()
                    self.state.advance(len(group))
                    timer.record("optimizer")
                    num_targets += sum(targets)
                    self._call(lambda callback: callback.on_step_end(self))
                    if self._epoch_ends_here(monitor.diverged(self._sums)):
                        break
                    if self._control.save_now:
                        self._checkpoints.save(self.precision)
                    timer.resume()
                history += self._end_epoch(timer, num_targets, validation)
        return History(history, self.stopped)

    # Parts of a step.

    def _fetch(self, batches: Batches) -> Iterator[list[Batch]]:
        """The batches of each remaining step of the epoch."""
        stream = self._written(batches.epoch(self.state.epoch, self.state.batch))
        while group := list(itertools.islice(stream, self.config.accumulate_grad_batches)):
            yield group

    def _written(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, in which rows of given notes are no targets."""
        fields = cast(NoteModel, self.module.model).fields
        return (batch.only_written(fields) for batch in stream)

    def _set_learning_rate(self) -> None:
        epochs = self.config.epochs
        num_steps = None if epochs is None else epochs * self.steps_per_epoch
        rate = self.config.rate(self.state.steps, num_steps, self.time_fraction or 0.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.state.rate_scale

    def _forward(self, batch: Batch, count: int, targets: int, stateful: bool) -> Tensor | None:
        """The loss of a batch, weighted by its part of the step's targets; None without targets.

        It reads no result of the device, so as not to wait for it.
        """
        if not count:
            if stateful and len(batch.rows):
                # Rows without a target, such as those of given notes, are context.
                with torch.no_grad(), autocast(self.precision, self.device):
                    _, carried = self.module(batch.move(self.device), self.state.carried)
                self.state.carried = detach(carried)
            return None
        with autocast(self.precision, self.device):
            losses, carried = self.module(
                batch.move(self.device), self.state.carried if stateful else None
            )
        self.state.carried = detach(carried) if stateful else None
        self._loss_meter.add(self._sums, losses, count)
        return cast(Tensor, losses.total if count == targets else losses.total * (count / targets))

    @property
    def _sums(self) -> Tensor:
        """(K + 2,) sums of this process and epoch."""
        if self.state.sums is None:
            self.state.sums = self._loss_meter.zeros()
        return self.state.sums

    def _epoch_ends_here(self, diverged: bool) -> bool:
        """Whether the epoch ends after this step, for a reason of any process."""
        self._control.save_now = self._checkpoints.are_due
        diverged = self._control.synchronize_step(diverged, self._group)
        return diverged or self._control.interrupted or self._control.stop_now

    def _end_epoch(
        self, timer: StepTimer, num_targets: int, validation: Batches | None
    ) -> list[dict[str, float]]:
        """Validate, call the callbacks and save; the metrics, unless the epoch is repeated."""
        metrics = self._epoch_metrics(timer, num_targets)
        if metrics and validation is not None:
            metrics |= self._means("validation", self.evaluate(validation))
        if self._divergence:
            self._call_and_synchronize(lambda callback: callback.on_divergence(self))
            if self._control.rollback_factor is None:
                raise TrainingError(
                    f"the run diverged: {self._divergence}",
                    where=f"step {self.state.steps}",
                    hint="lower learning_rate, set max_grad_norm, or add DivergenceGuard()",
                )
            return self._rolled_back(self._control.rollback_factor)
        if not metrics:
            return []
        self._call_and_synchronize(lambda callback: callback.on_epoch_end(self, metrics))
        if self._control.rollback_factor is not None:
            return self._rolled_back(self._control.rollback_factor)
        self._take_snapshot()
        if self.state.epoch % self.config.checkpoint_every == 0:
            self._checkpoints.save(self.precision, f"epoch-{self.state.epoch:04d}")
        return [metrics]

    def _epoch_metrics(self, timer: StepTimer, num_targets: int) -> dict[str, float]:
        """The losses and times of the epoch; empty if it was not finished."""
        losses = self._means("loss", self._sums)
        # The last step can spoil the weights after a loss that is finite.
        if not all(bool(weights.isfinite().all()) for weights in self.parameters):
            self._divergence = self._divergence or "the weights are not finite"
        if self._divergence or self._control.interrupted:
            return {}
        seconds = timer.total
        num_targets = int(self._group.all_reduce_sum(torch.tensor(num_targets)))
        self.state.next_epoch()
        return {
            **losses,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "seconds": seconds,
            "targets_per_second": num_targets / seconds,
            **{f"seconds/{part}": spent for part, spent in timer.seconds.items()},
        }

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> Tensor:
        """(K + 2,) sums over this process's held-out batches, in evaluation mode."""
        self.module.eval()
        sums, carried = self._loss_meter.zeros(), None
        for batch in self._written(batches.epoch(0)):
            count = _num_targets(batch)
            if count or (batches.stateful and len(batch.rows)):
                with autocast(self.precision, self.device):
                    losses, after = self.module(batch.move(self.device), carried)
                carried = after if batches.stateful else None
                self._loss_meter.add(sums, losses, count)
            self._call(lambda callback: callback.on_validation_step_end(self))
        return sums

    def _means(self, prefix: str, sums: Tensor) -> dict[str, float]:
        """The means over all targets of all processes, by name."""
        values = self._loss_meter.means(prefix, sums, self._group)
        if not all(map(math.isfinite, values.values())):
            self._divergence = ", ".join(f"{name} is {value:g}" for name, value in values.items())
        return values

    def _rolled_back(self, lr_factor: float) -> list[dict[str, float]]:
        """Restore the last snapshot and lower the learning rate; no metrics."""
        scale = self.state.rate_scale * lr_factor
        self._checkpoints.rollback()
        self.state.rate_scale = scale
        self._control.rollback_factor, self._divergence = None, ""
        self._call_and_synchronize(lambda callback: callback.on_rollback(self))
        return []

    def _take_snapshot(self) -> None:
        if self._control.snapshots:
            self._checkpoints.snapshot()

    # Start and end of a run.

    def check(self, *, validation: bool) -> None:
        """Check the run before any data are read; :meth:`fit` does so too.

        Args:
            validation: Whether there is a validation set.

        Raises:
            ConfigError: If the run has no end, or a callback cannot work in it.
        """
        self.metric_names = self._loss_meter.names("loss")
        if validation:
            self.metric_names += self._loss_meter.names("validation")
        for callback in self.callbacks:
            callback.check(self)
        endless = self.config.epochs is None and self.time_fraction is None
        if endless and self._group.is_main_process:
            raise ConfigError(
                "the run has no end: epochs is None and there is no time budget",
                hint="set epochs, or add the callback TimeBudget(minutes=...)",
            )

    @contextlib.contextmanager
    def _running(
        self, batches: Batches, resume: bool, data: Mapping[str, Any] | None
    ) -> Iterator[None]:
        """Set up and close the processes, the checkpoints and the signals of a run."""
        self.steps_per_epoch = -(-batches.num_batches // self.config.accumulate_grad_batches)
        with self._group.initialized(self.device), exclusive(self.folder):
            self._start(batches, resume, data)
            try:
                self._call_and_synchronize(lambda callback: callback.on_train_start(self))
                self._take_snapshot()
                with defer_interrupts(self._receive_signal):
                    yield
                    self._checkpoints.save(self.precision)
            finally:
                if self._control.interrupted:
                    where = "" if self.folder is None else f" in {self.folder}"
                    _log.warning("interrupted; the run%s can be resumed", where)
                self._call(lambda callback: callback.on_train_end(self))
            self._broadcast_model()
        if self._control.interrupted:
            raise KeyboardInterrupt

    def _start(self, batches: Batches, resume: bool, data: Mapping[str, Any] | None) -> None:
        """Start a new run, or load the newest checkpoint."""
        self._control, self._divergence = TrainerControl(), ""
        # Dropout differs between the processes.
        torch.manual_seed(self.config.seed + self._group.rank)
        run_folder = None if self.folder is None else RunFolder(self.folder)
        self._checkpoints = self._checkpoints_in(run_folder)
        if run_folder is not None:
            settings = self._settings if data is None else {**self._settings, "data": data}
            run_folder.open(settings, resume=resume)
        self._broadcast_model()
        if resume:
            self.precision = self._checkpoints.load()
        elif self.config.precision != "auto":
            self.precision = self.config.precision
        elif self._group.is_main_process:
            batch = next(self._written(batches.epoch(0))).move(self.device)
            self.precision = faster_precision(self.module, self.config, batch)
        self.precision = self._group.broadcast_object(self.precision)

    def _checkpoints_in(self, folder: RunFolder | None) -> Checkpoints:
        plain = Callback.state_dict
        saves_state = [c for c in self.callbacks if type(c).state_dict is not plain]
        return Checkpoints(
            model=self.module.model,
            optimizer=self.optimizer,
            position=self.state,
            group=self._group,
            callbacks=saves_state,
            folder=folder,
        )

    def _broadcast_model(self) -> None:
        """Copy the main process's model to all processes."""
        self._group.broadcast_parameters(self.module.state_dict().values())

    def _receive_signal(self) -> None:
        self._control.signal_received = True

    @property
    def _finished(self) -> bool:
        done = self.config.epochs is not None and self.state.epoch >= self.config.epochs
        return done or self._control.interrupted or bool(self._control.stop_reason)

    def _call_and_synchronize(self, hook: Callable[[Callback], None]) -> None:
        """Call a hook of each callback, and send its requests to all processes."""
        self._call(hook)
        self._control.synchronize(self._group)

    def _call(self, hook: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            hook(callback)

    # Requests of callbacks.

    @property
    def stopped(self) -> str:
        """Why the run ends before its last epoch, "" if it does not."""
        return self._control.stop_reason

    @property
    def interrupted(self) -> bool:
        """Whether a signal, such as that of Ctrl-C, ended the run."""
        return self._control.interrupted

    def stop(self, reason: str, *, now: bool = False) -> None:
        """End the run after the current epoch, or with `now` after the current step.

        The reason is shown to the user: ``"validation has not fallen for 3 epochs"``.
        """
        self._control.stop_reason = reason
        self._control.stop_now |= now

    @property
    def time_fraction(self) -> float | None:
        """Fraction of the time budget that is used, 0 to 1; the learning rate follows it."""
        return self._control.time_fraction

    @time_fraction.setter
    def time_fraction(self, fraction: float) -> None:
        self._control.time_fraction = fraction

    def snapshot(self) -> None:
        """Keep the state in memory now and after each good epoch, for :meth:`rollback`."""
        self._control.snapshots = True

    def rollback(self, lr_factor: float) -> None:
        """Restore the last snapshot, and multiply all later learning rates by `lr_factor`."""
        self._control.rollback_factor = lr_factor

    def save_best(self) -> None:
        """Keep the current weights as the best so far."""
        self._checkpoints.save_best()

    def load_best(self) -> None:
        """Load the best weights, if some were kept."""
        self._checkpoints.load_best()


def _num_targets(batch: Batch) -> int:
    return int(np.count_nonzero(batch.target_mask.numpy()))
