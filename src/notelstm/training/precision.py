"""Which precision trains faster here: a few steps of each on copies."""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from typing import Any, Final, Literal, TypeAlias

import torch

from notelstm.batch import Batch
from notelstm.training.config import TrainingConfig
from notelstm.training.step import TrainStep

__all__ = ["Precision", "autocast", "faster_precision"]

_log = logging.getLogger(__name__)

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""In what matrix products are computed."""

_TURNS: Final = 8
_WORTH: Final = 1.1
"""How much faster half precision must be to be worth its rounding."""


def autocast(
    precision: Precision, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """Where matrix products are computed in that precision.

    Args:
        precision: Which.
        device: The model's.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def faster_precision(step: TrainStep, config: TrainingConfig, batch: Batch) -> Precision:
    """Time steps of each precision in turn; the model and torch's generators stay as they are.

    Args:
        step: The model and its loss, on its device.
        config: How it is trained.
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
    chosen: Precision = "bfloat16" if half * _WORTH < whole else "float32"
    _log.info("%s: a step takes %.2f ms, with bfloat16 %.2f", chosen, 1e3 * whole, 1e3 * half)
    return chosen


def _times(step: TrainStep, config: TrainingConfig, batch: Batch) -> tuple[float, float]:
    """Seconds of the quickest step in float32 and in bfloat16."""
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    copies = {precision: copy.deepcopy(step).train() for precision in seconds}
    optimizers = {p: config.build_optimizer(copies[p].parameters()) for p in seconds}
    for _ in range(_TURNS):
        for precision, times in seconds.items():
            _finish(batch.rows.device)
            began = time.perf_counter()
            _step(copies[precision], optimizers[precision], batch, precision)
            _finish(batch.rows.device)
            times.append(time.perf_counter() - began)
    # Whatever else the machine does only adds time; the first turns warm up.
    return min(seconds["float32"]), min(seconds["bfloat16"])


def _step(
    step: TrainStep, optimizer: torch.optim.Optimizer, batch: Batch, precision: Precision
) -> None:
    with autocast(precision, batch.rows.device):
        losses, _ = step(batch, None)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()


def _finish(device: torch.device) -> None:
    """Wait until the device has done what it was told to."""
    if device.type != "cpu":
        backend: Any = getattr(torch, device.type)
        backend.synchronize()
