"""The configuration of the trainer, and the choice of the device."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final, Literal, final

import numpy as np
import torch
from torch import nn

from notelstm.errors import ConfigError

__all__ = ["TrainingConfig", "check_least", "pick_device"]

_MIN_LR_FACTOR: Final = 0.01
"""The lowest learning rate of a cosine schedule, as a fraction of the highest."""

_MAX_WARMUP_STEPS: Final = 0.1
"""The longest warm-up of a run with a time budget, as a fraction of the time."""


_MAX_SEED: Final = 2**63 - 1
"""The largest whole number that a model file holds."""


def check_least(part: object, **least: int) -> None:
    """Raise ConfigError for a setting that is no whole number or below its least value.

    None is neither.
    """
    for name, low in least.items():
        value = getattr(part, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ConfigError(f"{name} is {value!r}, not a whole number")
        if value < low:
            raise ConfigError(f"{name} is {value}, below {low}")


@final
@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The configuration of a :class:`~notelstm.training.Trainer`.

    Attributes:
        epochs: Passes over the training set; None for as many as a time budget allows.
        optimizer: ``"sgd"``, the original's, or ``"adamw"``.
        learning_rate: Above 0; the highest, where there is a schedule.
        schedule: ``"constant"``, or ``"cosine"``: the learning rate falls along half a cosine to a
            hundredth of its highest at the run's end.
        warmup_steps: Steps in which the learning rate rises from 0; at most a tenth of the run.
        accumulate_grad_batches: Batches to a step. Their gradients are weighted by the number of
            targets: k batches equal one that is k times as large.
        weight_decay: At least 0.
        max_grad_norm: Norm to which the gradient is clipped, None for no clipping.
        checkpoint_every: Epochs between checkpoints. There is always one at the end, and after ten
            minutes without one, also within an epoch.
        seed: Seed of initialisation and dropout, below 2^63.
        precision: ``"float32"``; ``"bfloat16"`` for matrix products in half precision, faster on
            hardware that supports it; or ``"auto"`` for the faster of the two, measured before
            the first step. Weights and losses stay in float32.
        device: ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.

    Raises:
        ConfigError: If a value is out of range.
    """

    epochs: int | None = 200
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.005
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    accumulate_grad_batches: int = 1
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    checkpoint_every: int = 10
    seed: int = 0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        for each in fields(self):
            if isinstance(value := getattr(self, each.name), np.generic):
                object.__setattr__(self, each.name, value.item())  # the record is JSON
        check_least(self, epochs=0, checkpoint_every=1, warmup_steps=0, seed=0)
        check_least(self, accumulate_grad_batches=1)
        if self.seed > _MAX_SEED:
            raise ConfigError(f"seed is {self.seed}, above {_MAX_SEED}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning_rate is {self.learning_rate}, not a number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(f"weight_decay is {self.weight_decay}, not a number of at least 0")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm is {self.max_grad_norm}, not above 0 or None")
        for name, choice, choices in (
            ("optimizer", self.optimizer, ("sgd", "adamw")),
            ("schedule", self.schedule, ("constant", "cosine")),
            ("precision", self.precision, ("float32", "bfloat16", "auto")),
        ):
            if choice not in choices:
                raise ConfigError(f"{name} is {choice!r}, not {' or '.join(map(repr, choices))}")

    def rate(self, step: int, num_steps: int | None, time_fraction: float = 0.0) -> float:
        """The learning rate of one step of a run.

        Args:
            step: The number of the step, from 0.
            num_steps: Steps in the whole run; None for a run by the clock.
            time_fraction: Fraction of the time budget that is used, 0 without one. The schedule
                follows whichever is nearer to the end, steps or time.

        Source:
            I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
            ICLR 2017 (the cosine).
        """
        warmup_steps = self.warmup_steps
        if num_steps is not None:
            warmup_steps = min(warmup_steps, num_steps // 10)
        risen = 1.0
        if step < warmup_steps:
            risen = max((step + 1) / warmup_steps, time_fraction / _MAX_WARMUP_STEPS)
        if risen < 1:
            return self.learning_rate * risen
        if self.schedule == "constant":
            return self.learning_rate
        done = (
            0.0 if num_steps is None else (step - warmup_steps) / max(1, num_steps - warmup_steps)
        )
        fallen = (1 + math.cos(math.pi * min(1.0, max(done, time_fraction)))) / 2
        return self.learning_rate * (_MIN_LR_FACTOR + (1 - _MIN_LR_FACTOR) * fallen)

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer for these parameters."""
        kind = torch.optim.SGD if self.optimizer == "sgd" else torch.optim.AdamW
        return kind(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


def pick_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is the fastest one available.

    Each of several processes on a machine uses its own CUDA device for ``"auto"`` and ``"cuda"``.
    They cannot share an MPS device and use the CPU instead.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == "auto":
        alone = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1
        mps = alone and torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        if device.type == "meta":
            raise RuntimeError("it has no memory")
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            f"there is no device {name!r}: {str(error).splitlines()[0]}",
            hint="use device='auto' or 'cpu', and no more processes than devices",
        ) from error
    return device
