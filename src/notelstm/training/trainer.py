"""``Trainer``: the loop, from top to bottom."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.errors import ConfigError, TrainingError
from notelstm.losses import CompositeLoss, Losses
from notelstm.protocols import Batches, NoteModel, State
from notelstm.training.callbacks import Callback, Event, EventName, Stateful
from notelstm.training.config import TrainingConfig, pick_device
from notelstm.training.run_folder import RunFolder
from notelstm.training.step import TrainStep
from notelstm.tree import detach, flatten, move, unflatten

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
        self.callbacks: Final = tuple(callbacks)
        self.device: Final = pick_device(config.device)
        self.step: Final = TrainStep(model, loss).to(self.device)
        self.optimizer: Final = config.build_optimizer(self.step.parameters())
        self._run_folder: Final = None if folder is None else RunFolder(folder)
        self._settings: Final = {**asdict(config), **(settings or {})}
        self._best: dict[str, Tensor] | None = None
        self._stop_reason = ""
        self._interrupted = False
        self._epoch = 0
        self._batch = 0
        self._total_steps = 0
        self._state: State | None = None
        self._sums: Tensor | None = None
        self.steps_per_epoch: int = 0

    @property
    def epochs(self) -> int:
        """Epochs asked for."""
        return self.config.epochs

    @property
    def folder(self) -> Path | None:
        """The run's folder, if it has one."""
        return None if self._run_folder is None else self._run_folder.path

    def stop(self, reason: str) -> None:
        """End the run after the current epoch."""
        self._stop_reason = reason

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
            TrainingError: If the run cannot be resumed, or the loss is no longer finite.
            KeyboardInterrupt: After Ctrl-C, once the step is done and a checkpoint is written.
        """
        self.steps_per_epoch = batches.steps
        self._stop_reason, self._interrupted = "", False
        torch.manual_seed(self.config.seed)
        if self._run_folder is not None:
            self._run_folder.begin(self._settings, resume=resume)
        if resume:
            self._load()
        history: list[dict[str, float]] = []
        try:
            self._tell("start", {})
            with self._ctrl_c_waits():
                while self._epoch < self.config.epochs and not self._ending:
                    values = self._train_epoch(batches)
                    if values is None:
                        break
                    if validation is not None:
                        values |= self._validate(validation)
                    history.append(values)
                    self._tell("epoch", values)
                    if self._epoch % self.config.checkpoint_every == 0:
                        self._save(f"epoch-{self._epoch:04d}")
                self._save(None)
        finally:
            if self._interrupted:
                where = "" if self.folder is None else f" in {self.folder}"
                _log.warning("interrupted; the run%s can be resumed", where)
            self._tell("end", {})
        if self._interrupted:
            raise KeyboardInterrupt
        return History(history, self._stop_reason)

    @property
    def _ending(self) -> bool:
        return self._interrupted or bool(self._stop_reason)

    def _train_epoch(self, batches: Batches) -> dict[str, float] | None:
        """Go on with the current epoch to its end; None if Ctrl-C came before it."""
        began, targets = time.perf_counter(), 0
        self.step.train()
        for batch in batches.epoch(self._epoch, self._batch):
            carried = self._state if batches.carries else None
            self._set_rate()
            with self._precision():
                losses, state = self.step(batch.move(self.device), carried)
            self.optimizer.zero_grad()
            losses.total.backward()
            if self.config.clip is not None:
                nn.utils.clip_grad_norm_(self.step.parameters(), self.config.clip)
            self.optimizer.step()
            self._state = detach(state) if batches.carries else None
            count = int(np.count_nonzero(batch.scored.numpy()))
            self._sums = self._added(self._sums, losses, count)
            targets += count
            self._batch += 1
            self._total_steps += 1
            self._tell("step", {})
            if self._interrupted:
                return None
        assert self._sums is not None
        values = self._means("loss", self._sums)
        self._epoch, self._batch, self._state, self._sums = self._epoch + 1, 0, None, None
        seconds = time.perf_counter() - began
        return {**values, "seconds": seconds, "targets_per_second": targets / max(seconds, 1e-9)}

    def _set_rate(self) -> None:
        """Set the learning rate of the step to come."""
        if self.config.schedule == "constant" and self._total_steps > self.config.warmup:
            return
        rate = self.config.rate(self._total_steps, self.config.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Where matrix products are computed as precisely as the configuration says."""
        if self.config.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @torch.no_grad()
    def _added(self, sums: Tensor | None, losses: Losses, targets: int) -> Tensor:
        """A step's losses and targets added up where they are, without waiting for the device."""
        values = torch.stack([losses.total, *losses.terms.values(), losses.total.new_ones(())])
        if sums is None:
            # Apple's devices have no float64.
            precise = torch.float32 if self.device.type == "mps" else torch.float64
            sums = torch.zeros_like(values, dtype=precise)
        return sums.add_(values, alpha=targets)

    def _means(self, prefix: str, sums: Tensor) -> dict[str, float]:
        """The average over targets of what was added up, by name."""
        names = [prefix, *(f"{prefix}/{name}" for name in self.step.loss.terms)]
        values = dict(zip(names, (sums[:-1] / sums[-1]).tolist(), strict=True))
        if not all(math.isfinite(value) for value in values.values()):
            raise TrainingError(
                "the loss is finite",
                got=", ".join(f"{name} {value:g}" for name, value in values.items()),
                where=f"step {self._total_steps}",
                fix="lower learning_rate, set clip, or go back to an earlier checkpoint",
            )
        return values

    @torch.no_grad()
    def _validate(self, validation: Batches) -> dict[str, float]:
        """The losses of a held-out set."""
        self.step.eval()
        sums: Tensor | None = None
        state: State | None = None
        for batch in validation.epoch(0):
            with self._precision():
                losses, after = self.step(batch.move(self.device), state)
            state = after if validation.carries else None
            sums = self._added(sums, losses, int(np.count_nonzero(batch.scored.numpy())))
        return {} if sums is None else self._means("validation", sums)

    def _tell(self, name: EventName, values: Mapping[str, float]) -> None:
        event = Event(name, self._epoch, self._total_steps, values)
        for callback in self.callbacks:
            callback.handle(event, self)

    def _save(self, name: str | None) -> None:
        """Write the newest checkpoint, and a copy of the model under `name`."""
        if self._run_folder is None:
            return
        if name is not None:
            self._run_folder.save(name, self.step.model.state_dict())
        self._run_folder.save(
            "last",
            {
                "model": self.step.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self._epoch,
                "batch": self._batch,
                "steps": self._total_steps,
                "carried": {} if self._state is None else flatten(self._state),
                "sums": self._sums,
                "rng": torch.get_rng_state(),
                "device_rng": [] if self.device.type != "cuda" else torch.cuda.get_rng_state_all(),
                "best": self._best,
                "callbacks": [(type(c).__name__, c.state_dict()) for c in self._stateful],
            },
        )

    @property
    def _stateful(self) -> list[Stateful]:
        return [callback for callback in self.callbacks if isinstance(callback, Stateful)]

    def _load(self) -> None:
        """Go back to the newest checkpoint."""
        if self._run_folder is None:
            raise TrainingError("a resumed run has a folder", fix="pass folder= to the Trainer")
        saved = self._run_folder.load("last")
        try:
            self._restore(saved)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                "a checkpoint is of this model, optimizer and callbacks",
                got=str(error).strip().splitlines()[-1].strip(),
                where=str(self._run_folder.path),
                fix="resume with the parts the run was started with",
            ) from error

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what :meth:`_save` wrote."""
        now, then = ([type(c).__name__ for c in self._stateful], [n for n, _ in saved["callbacks"]])
        if now != then:
            raise TrainingError(
                "a run is resumed with the callbacks it was started with",
                got=f"{', '.join(now) or 'none'}; it had {', '.join(then) or 'none'}",
            )
        self.step.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self._epoch, self._batch = saved["epoch"], saved["batch"]
        self._total_steps = saved["steps"]
        if saved["carried"]:
            lanes = next(iter(saved["carried"].values())).shape[0]
            template = cast(NoteModel, self.step.model).start(lanes)[1]
            self._state = move(unflatten(template, saved["carried"]), self.device)
        self._sums = None if saved["sums"] is None else saved["sums"].to(self.device)
        torch.set_rng_state(saved["rng"])
        if saved["device_rng"] and self.device.type == "cuda":
            torch.cuda.set_rng_state_all(saved["device_rng"])
        self._best = saved["best"]
        for callback, (_, state) in zip(self._stateful, saved["callbacks"], strict=True):
            callback.load_state_dict(state)

    @contextlib.contextmanager
    def _ctrl_c_waits(self) -> Iterator[None]:
        """Let the first Ctrl-C end the run after the current step; a second one ends it at once."""
        before = signal.getsignal(signal.SIGINT)
        # A run in the background, which the shell has told to ignore Ctrl-C, goes on ignoring it.
        ignored = before in (None, signal.SIG_IGN)
        if ignored or threading.current_thread() is not threading.main_thread():
            yield
            return

        def later(_number: int, _frame: FrameType | None) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, later)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
