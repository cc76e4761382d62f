"""One training step: the forward pass, its meters, and the precision of its matrix products."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import time
from typing import Any, Final, Literal, TypeAlias, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.batch import Batch, columns, send
from notelstm.errors import FieldError
from notelstm.fields import by_name
from notelstm.losses import CompositeLoss, Losses
from notelstm.models.inference import in_use
from notelstm.protocols import Batches, Context, NoteModel, State
from notelstm.training.config import TrainingConfig
from notelstm.training.distributed import DistributedGroup
from notelstm.tree import choose, index, join, leaf, map_tree

__all__ = [
    "DivergenceMonitor",
    "LossMeter",
    "Precision",
    "StepTimer",
    "TrainStep",
    "autocast",
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

    Raises:
        FieldError: If the loss has a term of a field that the model lacks.
    """

    def __init__(self, model: NoteModel, loss: CompositeLoss) -> None:
        super().__init__()
        self.model: nn.Module = cast(nn.Module, model)
        self.loss: Final = loss
        self._fields: Final = model.fields
        names = by_name(model.fields)
        unknown = [name for name in loss.terms if name not in names]
        if unknown:
            raise FieldError(
                f"the loss has terms of fields that the model lacks: {', '.join(unknown)}",
                hint=f"use {', '.join(names)}",
            )

    @override
    def forward(self, batch: Batch, state: State | None) -> tuple[Losses, State]:
        """The loss of a batch.

        Args:
            batch: B sequences of T + 1 rows.
            state: The state after the previous batch; None to reset all sequences.

        Returns:
            The total and the terms, scalars; and the state after the batch.
        """
        model = cast(NoteModel, self.model)
        context, initial = model.initial_state(batch.rows.shape[0])
        if state is None:
            state = initial
        elif bool(batch.reset_state.any()):
            state = choose(send(batch.reset_state, batch.rows.device), initial, state)
        contexts, state = model.forward(batch.rows[:, :-1], state)
        if _last_only(batch.target_mask):
            context = index(contexts, (slice(None), -1))
            targets = batch.rows[:, -1]  # (S, F)
        else:
            context = _target_contexts(context, contexts, batch.target_mask)
            targets = batch.rows.flatten(0, 1)[_positions(batch.target_mask, batch.rows.device)]
        known = columns(targets, self._fields)
        predictions = {name: model.predict(name, context, known) for name in self.loss.terms}
        return self.loss(predictions, known), state


def _last_only(target_mask: Tensor) -> bool:
    """Whether the last row of each sequence is its only target: a slice can replace an index."""
    flags = target_mask.numpy()
    return bool(flags[:, -1].all()) and int(np.count_nonzero(flags)) == len(flags)


def _target_contexts(initial: Context, contexts: Context, target_mask: Tensor) -> Context:
    """The contexts (S, ...) that predict the targets, from (B, 1, ...) and (B, T, ...)."""
    if not bool(target_mask[:, 0].any()):
        target_mask = target_mask[:, 1:]
    else:
        contexts = join([initial, contexts], axis=1)  # (B, T + 1, ...)
    return map_tree(lambda t: t.flatten(0, 1)[_positions(target_mask, t.device)], contexts)


def _positions(target_mask: Tensor, device: torch.device) -> Tensor:
    """(S,) the positions of the targets, found on the CPU so as not to wait for the device."""
    return send(target_mask.flatten().nonzero().squeeze(1), device)


def measure_terms(model: NoteModel, loss: CompositeLoss, batches: Batches) -> dict[str, float]:
    """Each term of an untrained model's loss on the first batch, for balancing the weights.

    Args:
        model: The model.
        loss: The loss.
        batches: The training set.

    Returns:
        The terms by field name, for :meth:`notelstm.losses.CompositeLoss.balanced`.
    """
    step = TrainStep(model, loss)
    with in_use(model):
        device = leaf(model.initial_state(1)[0]).device
        losses, _ = step(next(iter(batches.epoch(0))).move(device), None)
    return {name: float(value) for name, value in losses.terms.items()}


@final
class LossMeter:
    """Sums losses, weighted by their number of targets, without waiting for the device.

    Args:
        loss: A loss of K terms.
        device: The device that computes them.
    """

    def __init__(self, loss: CompositeLoss, device: torch.device) -> None:
        self._terms: Final = tuple(loss.terms)
        self._device: Final = device

    def names(self, prefix: str) -> tuple[str, ...]:
        """The name of the total and of each term."""
        return (prefix, *(f"{prefix}/{name}" for name in self._terms))

    def zeros(self) -> Tensor:
        """(K + 2,) zeros for the sums of the total, the terms and the number of targets."""
        # Apple's devices have no float64.
        precise = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(len(self._terms) + 2, dtype=precise, device=self._device)

    @torch.no_grad()
    def add(self, sums: Tensor, losses: Losses, num_targets: int) -> None:
        """Add the means over some targets to `sums`."""
        values = torch.stack([losses.total, *losses.terms.values(), losses.total.new_ones(())])
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

    Args:
        step: The model and its loss, on its device.
        config: The optimizer's settings.
        batch: A batch of the training set, on that device.

    Returns:
        ``"bfloat16"`` if it works and is at least a tenth faster.
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
            _step(copies[precision], optimizers[precision], batch, precision)
            _wait(batch.rows.device)
            times.append(time.perf_counter() - start)
    # Other programs only add time, and the first steps warm up: the minimum is without either.
    return min(seconds["float32"]), min(seconds["bfloat16"])


def _step(
    step: TrainStep, optimizer: torch.optim.Optimizer, batch: Batch, precision: Precision
) -> None:
    with autocast(precision, batch.rows.device):
        losses, _ = step(batch, None)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()


def _wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        backend: Any = getattr(torch, device.type)
        backend.synchronize()
