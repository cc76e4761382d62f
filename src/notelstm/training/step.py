"""The state of a run and one training step: forward pass, meters, precision, signals."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Literal, TypeAlias, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.batch import Batch, columns, send
from notelstm.errors import FieldError
from notelstm.fields import by_name
from notelstm.losses import CompositeLoss, Losses
from notelstm.models.inference import has_float64, in_use
from notelstm.protocols import Batches, Context, NoteEncoder, NoteModel, State
from notelstm.sampling.masking import Constraints, rows_before
from notelstm.training.config import TrainingConfig
from notelstm.training.distributed import DistributedGroup
from notelstm.tree import choose, index, join, leaf, map_tree

__all__ = [
    "DivergenceMonitor",
    "LossMeter",
    "Precision",
    "StepTimer",
    "TrainStep",
    "TrainerControl",
    "TrainerState",
    "autocast",
    "defer_interrupts",
    "faster_precision",
    "measure_terms",
]

_log = logging.getLogger(__name__)

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""The precision of matrix products."""

StepPart: TypeAlias = Literal["data", "forward", "backward", "optimizer"]
"""A part of a step; ``optimizer`` includes clipping and, with several processes, the exchange."""

_CHECK_EVERY: Final = 16
"""Steps between two reads of the losses."""

_TRIALS: Final = 8
"""Steps that are timed in each precision."""

_MIN_SPEEDUP: Final = 1.1
"""The speedup at which half precision is worth its rounding."""


@final
class TrainStep(nn.Module):
    """A model and its loss as one module; the heads run only where there is a target.

    Args:
        model: The model.
        loss: Its loss.
        encoder: The encoder of the rows, which may limit the classes that are predicted, see
            :class:`~notelstm.protocols.ConstrainingEncoder`; None for no limits.

    Raises:
        FieldError: If the loss has a term of a field that the model lacks, or that is given.
    """

    def __init__(
        self, model: NoteModel, loss: CompositeLoss, encoder: NoteEncoder | None = None
    ) -> None:
        super().__init__()
        self.model: nn.Module = cast(nn.Module, model)
        self.loss: Final = loss
        self._constraints: Final = Constraints(encoder, model.field_order)
        self._fields: Final = model.fields
        names = by_name(model.fields)
        unknown = [name for name in loss.terms if name not in names]
        if unknown:
            raise FieldError(
                f"the loss has terms of fields that the model lacks: {', '.join(unknown)}",
                hint=f"use {', '.join(names)}",
            )
        given = [name for name in loss.terms if names[name].given]
        if given:
            raise FieldError(
                f"the loss has terms of given fields: {', '.join(given)}",
                hint="leave these terms out: given fields are not predicted",
            )

    @override
    def forward(self, batch: Batch, state: State | None) -> tuple[Losses, State]:
        """The loss of a batch.

        Args:
            batch: B sequences of T + 1 rows, with targets only among the rows that the model
                writes: see :meth:`~notelstm.batch.Batch.only_written`.
            state: The state after the previous batch; None to reset all sequences.

        Returns:
            The total and the terms, scalars, which are 0 without a target; and the state after the
            batch.
        """
        model = cast(NoteModel, self.model)
        context, initial = model.initial_state(batch.rows.shape[0])
        if state is None:
            state = initial
        elif bool(batch.reset_state.any()):
            state = choose(send(batch.reset_state, batch.rows.device), initial, state)
        contexts, state = model.forward(batch.rows[:, :-1], state)
        if not bool(batch.target_mask.any()):
            # Means over no positions would be NaN.
            zero = batch.rows.new_zeros(())
            return Losses(zero, dict.fromkeys(self.loss.terms, zero)), state
        at: Tensor | None = None
        if _last_only(batch.target_mask):
            context = index(contexts, (slice(None), -1))
            targets = batch.rows[:, -1]  # (S, F)
        else:
            context = _target_contexts(context, contexts, batch.target_mask)
            at = _positions(batch.target_mask, batch.rows.device)
            targets = batch.rows.flatten(0, 1)[at]
        known = columns(targets, self._fields)
        predictions = {name: model.predict(name, context, known) for name in self.loss.terms}
        if self._constraints:
            # Row 0 is a target only at the start of a piece.
            before = rows_before(batch.rows, self._fields)  # (B, T + 1, F)
            previous = before[:, -1] if at is None else before.flatten(0, 1)[at]
            for name, prediction in predictions.items():
                predictions[name] = self._constraints.apply(
                    name, prediction, known, previous, keep_own=True
                )
        return self.loss(predictions, known), state


def _last_only(target_mask: Tensor) -> bool:
    """Whether the last row of each sequence is its only target: a slice can replace an index."""
    flags = target_mask.numpy()
    return int(np.count_nonzero(flags)) == len(flags) == int(np.count_nonzero(flags[:, -1]))


def _target_contexts(initial: Context, contexts: Context, target_mask: Tensor) -> Context:
    """The contexts (S, ...) that predict the targets, from (B, 1, ...) and (B, T, ...)."""
    if bool(target_mask[:, 0].any()):
        contexts = join([initial, contexts], axis=1)  # (B, T + 1, ...)
    else:
        target_mask = target_mask[:, 1:]
    return map_tree(lambda t: t.flatten(0, 1)[_positions(target_mask, t.device)], contexts)


def _positions(target_mask: Tensor, device: torch.device) -> Tensor:
    """(S,) the positions of the targets, found on the CPU so as not to wait for the device."""
    return send(target_mask.flatten().nonzero().squeeze(1), device)


def measure_terms(
    model: NoteModel,
    loss: CompositeLoss,
    batches: Batches,
    *,
    encoder: NoteEncoder | None = None,
) -> dict[str, float]:
    """Each term of the loss on the first batch, by field name.

    The weights can be balanced with them: :meth:`notelstm.losses.CompositeLoss.balanced`. The
    encoder is used as in :class:`TrainStep`.
    """
    step = TrainStep(model, loss, encoder)
    with in_use(model):
        device = leaf(model.initial_state(1)[0]).device
        batch = next(iter(batches.epoch(0))).only_written(model.fields)
        losses, _ = step(batch.move(device), None)
    return {name: float(value) for name, value in losses.terms.items()}


@final
class LossMeter:
    """Sums losses of K terms, weighted by their number of targets, without waiting for `device`."""

    def __init__(self, loss: CompositeLoss, device: torch.device) -> None:
        self._terms: Final = tuple(loss.terms)
        self._device: Final = device
        self._one: Final = torch.ones((), device=device)

    def names(self, prefix: str) -> tuple[str, ...]:
        """The name of the total and of each term."""
        return (prefix, *(f"{prefix}/{name}" for name in self._terms))

    def zeros(self) -> Tensor:
        """(K + 2,) zeros for the sums of the total, the terms and the number of targets."""
        precise = torch.float64 if has_float64(self._device) else torch.float32
        return torch.zeros(len(self._terms) + 2, dtype=precise, device=self._device)

    @torch.no_grad()
    def add(self, sums: Tensor, losses: Losses, num_targets: int) -> None:
        """Add the means over some targets to `sums`."""
        values = torch.stack([losses.total, *losses.terms.values(), self._one])
        sums.add_(values, alpha=num_targets)

    def means(self, prefix: str, sums: Tensor, group: DistributedGroup) -> dict[str, float]:
        """The means over all targets of all processes, by name; waits for the device."""
        *totals, targets = group.all_reduce_sum(sums.clone()).tolist()
        means = (total / targets if targets else math.nan for total in totals)
        return dict(zip(self.names(prefix), means, strict=True))


@final
class StepTimer:
    """Adds up the wall-clock seconds of each part of the steps.

    A device that computes asynchronously adds its time to the part that waits for a result.
    """

    def __init__(self) -> None:
        self.seconds: dict[StepPart, float] = dict.fromkeys(
            ("data", "forward", "backward", "optimizer"), 0.0
        )
        self._start = self._last = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the timer was made, above 0."""
        return max(time.perf_counter() - self._start, 1e-9)

    def resume(self) -> None:
        """Start a part; the time since the end of the last one counts for no part."""
        self._last = time.perf_counter()

    def record(self, part: StepPart) -> None:
        """End a part and start the next one."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now


@final
class DivergenceMonitor:
    """Checks every 16 steps that the sum of the losses is finite.

    On CUDA it reads the sum of 16 steps before, so as not to wait for the device.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._seen: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def diverged(self, sums: Tensor) -> bool:
        """Whether the first of the (K,) sums of all steps is infinite or not a number."""
        self._steps += 1
        if self._steps % _CHECK_EVERY:
            return False
        total = sums[0]
        if total.device.type != "cuda":
            return not math.isfinite(float(total))
        if self._copied is not None:
            self._copied.synchronize()
        diverged = self._seen is not None and not math.isfinite(float(self._seen))
        self._seen = total.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(total.device))
        return diverged


def autocast(
    precision: Precision, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products are computed in a precision on a device."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def faster_precision(step: TrainStep, config: TrainingConfig, batch: Batch) -> Precision:
    """The faster precision for training, measured on copies of the model.

    It is ``"bfloat16"`` if that works and is at least a tenth faster.
    """
    device = batch.rows.device
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            whole, half = _times(step, config, batch)
    except RuntimeError as error:
        _log.info("no bfloat16 on %s: %s", device, str(error).splitlines()[0])
        return "float32"
    chosen: Precision = "bfloat16" if half * _MIN_SPEEDUP < whole else "float32"
    _log.info("%s: a step takes %.2f ms, with bfloat16 %.2f", chosen, 1e3 * whole, 1e3 * half)
    return chosen


def _times(step: TrainStep, config: TrainingConfig, batch: Batch) -> tuple[float, float]:
    """Seconds of the fastest step in float32 and in bfloat16."""
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    copies = {precision: copy.deepcopy(step).train() for precision in seconds}
    optimizers = {p: config.build_optimizer(copies[p].parameters()) for p in seconds}
    for _ in range(_TRIALS):
        for precision, times in seconds.items():
            _wait(batch.rows.device)
            start = time.perf_counter()
            with autocast(precision, batch.rows.device):
                losses, _ = copies[precision](batch, None)
            optimizers[precision].zero_grad()
            losses.total.backward()
            optimizers[precision].step()
            _wait(batch.rows.device)
            times.append(time.perf_counter() - start)
    # Other programs only add time, and the first steps warm up: the minimum is without either.
    return min(seconds["float32"]), min(seconds["bfloat16"])


def _wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        backend: Any = getattr(torch, device.type)
        backend.synchronize()


@final
@dataclass(kw_only=True)
class TrainerState:
    """The position of a run; model, optimizer and random generators are not part of it.

    Attributes:
        epoch: Epochs finished.
        batch: Batches of the current epoch that are done.
        steps: Optimizer steps taken, in all epochs.
        rate_scale: Factor on the learning rate, below 1 after rollbacks.
        carried: The model's state after the last batch, of this process's sequences.
        sums: (K + 2,) sums of this process and epoch: the loss and its K terms over all targets,
            and the number of targets.
    """

    epoch: int = 0
    batch: int = 0
    steps: int = 0
    rate_scale: float = 1.0
    carried: State | None = None
    sums: Tensor | None = None

    def advance(self, num_batches: int) -> None:
        """Count an optimizer step of `num_batches` batches."""
        self.batch += num_batches
        self.steps += 1

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.carried = self.sums = None


@final
@dataclass(kw_only=True)
class TrainerControl:
    """Requests of callbacks and signals; in a distributed run, all processes agree on them.

    Attributes:
        stop_reason: Why the run ends after the current epoch, "" if it does not.
        stop_now: Whether the epoch ends too, after the current step.
        time_fraction: Fraction of the time budget that is used; None without a budget.
        save_now: Whether a checkpoint is written after the current step.
        snapshots: Whether the state is kept in memory after each good epoch.
        rollback_factor: Factor on the learning rate of a requested rollback; None without one.
        signal_received: Whether this process received an interrupt.
        interrupted: Whether any process received one.
    """

    stop_reason: str = ""
    stop_now: bool = False
    save_now: bool = False
    time_fraction: float | None = None
    snapshots: bool = False
    rollback_factor: float | None = None
    signal_received: bool = False
    interrupted: bool = False

    def synchronize(self, group: DistributedGroup) -> None:
        """Give every process the main process's requests; all processes call this."""
        names = ("stop_reason", "stop_now", "time_fraction", "snapshots", "rollback_factor")
        requests = group.broadcast_object({name: getattr(self, name) for name in names})
        vars(self).update(requests)
        self.interrupted = bool(group.all_reduce_sum(torch.tensor(int(self.signal_received))))

    def synchronize_step(self, diverged: bool, group: DistributedGroup) -> bool:
        """Exchange the requests that take effect after a step; all processes call this.

        Returns:
            Whether any process has `diverged`: it has seen a loss that is not finite.
        """
        if group.world_size == 1:
            self.interrupted = self.signal_received
            return diverged
        main = self if group.is_main_process else TrainerControl()
        fraction = main.time_fraction
        requests = (main.stop_now, main.save_now, fraction is not None, fraction or 0)
        mine = torch.tensor((diverged, self.signal_received, *requests), dtype=torch.float64)
        *flags, fraction = group.all_reduce_sum(mine).tolist()
        any_diverged, self.interrupted, self.stop_now, self.save_now, timed = map(bool, flags)
        self.time_fraction = fraction if timed else None
        return any_diverged


# Windows has no SIGHUP.
_TERMINATIONS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)


def _can_be_deferred(number: int) -> bool:
    """Whether a signal is neither ignored nor handled by the program."""
    before = signal.getsignal(number)
    if number in _TERMINATIONS:
        return before == signal.SIG_DFL
    return before not in (None, signal.SIG_IGN)


def _silence(streams: Iterable[int]) -> None:
    """Discard the output of file descriptors: writing to a closed terminal is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


@contextlib.contextmanager
def defer_interrupts(on_signal: Callable[[], None]) -> Iterator[None]:
    """Report the first Ctrl-C, SIGTERM or SIGHUP to the run; a second one has its usual effect.

    SIGTERM is sent when the machine shuts down, when a cluster preempts the job, and by a launcher
    that has lost another process; SIGHUP when the terminal is closed. Under ``nohup`` SIGHUP stays
    ignored.

    Args:
        on_signal: Called at the first signal.
    """
    in_main = threading.current_thread() is threading.main_thread()
    signals = filter(_can_be_deferred, (signal.SIGINT, *_TERMINATIONS) if in_main else ())
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def defer(number: int, _frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _silence(terminals)
        on_signal()
        restore()

    for number in before:
        signal.signal(number, defer)
    try:
        yield
    finally:
        restore()
