"""The state of a run: its position in the data, the requests and signals that change its course."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Final, final

import torch
from torch import Tensor

from notelstm.protocols import State
from notelstm.training.distributed import DistributedGroup

__all__ = ["TrainerControl", "TrainerState", "defer_interrupts"]


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
        snapshots: Whether the state is kept in memory after each good epoch.
        rollback_factor: Factor on the learning rate of a requested rollback; None without one.
        signal_received: Whether this process received an interrupt.
        interrupted: Whether any process received one.
    """

    stop_reason: str = ""
    stop_now: bool = False
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

        Args:
            diverged: Whether this process has seen a loss that is not finite.
            group: The processes of the run.

        Returns:
            Whether any process has seen one.
        """
        if group.world_size == 1:
            self.interrupted = self.signal_received
            return diverged
        main = self if group.is_main_process else TrainerControl()
        fraction = main.time_fraction
        mine = (diverged, self.signal_received, main.stop_now, fraction is not None, fraction or 0)
        *flags, fraction = group.all_reduce_sum(torch.tensor(mine, dtype=torch.float64)).tolist()
        any_diverged, self.interrupted, self.stop_now, timed = map(bool, flags)
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

    Yields:
        Nothing.
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
