"""How a model is trained, and on which device."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import nn

from notelstm.errors import ConfigError

__all__ = ["TrainingConfig", "pick_device"]

_LEAST: Final = 0.01
"""The share of its highest to which a cosine lets the learning rate fall."""

_WARM: Final = 0.1
"""The share of a run in which it may rise."""


@final
@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: How often every target is seen; None for as often as a time budget allows.
        optimizer: ``"sgd"``, the original's, or ``"adamw"``.
        learning_rate: Above 0; the highest, where there is a schedule.
        schedule: ``"constant"``, or ``"cosine"``: the learning rate falls along half a cosine to a
            hundredth of its highest at the run's end.
        warmup: Steps in which the learning rate rises from 0; at most a tenth of the run.
        accumulate: Batches to a step. Their gradients are added up so that every target counts
            alike: with a loss that is a mean over targets, k batches are one that is k times as
            large.
        weight_decay: At least 0.
        clip: Largest norm of the gradient, None for any.
        checkpoint_every: Epochs between checkpoints; there is always one at the end.
        seed: Of initialisation and dropout.
        precision: ``"float32"``, ``"bfloat16"`` for matrix products in half precision, faster on
            machines that have them in hardware, or ``"auto"`` for the faster one, found out before
            the first step. Weights and losses stay in float32.
        device: ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.

    Raises:
        ConfigError: If a value is out of range.
    """

    epochs: int | None = 200
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.005
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    accumulate: int = 1
    weight_decay: float = 0.0
    clip: float | None = None
    checkpoint_every: int = 10
    seed: int = 0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value, least in (
            ("epochs", 0 if self.epochs is None else self.epochs, 0),
            ("checkpoint_every", self.checkpoint_every, 1),
            ("warmup", self.warmup, 0),
            ("accumulate", self.accumulate, 1),
            ("weight_decay", self.weight_decay, 0),
            ("seed", self.seed, 0),
        ):
            if not value >= least:
                raise ConfigError(f"{name} is at least {least}", got=f"{value}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError("learning_rate is above 0", got=f"{self.learning_rate}")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError("clip is above 0, or None", got=f"{self.clip}")
        for name, choice, choices in (
            ("optimizer", self.optimizer, ("sgd", "adamw")),
            ("schedule", self.schedule, ("constant", "cosine")),
            ("precision", self.precision, ("float32", "bfloat16", "auto")),
        ):
            if choice not in choices:
                raise ConfigError(f"{name} is {' or '.join(map(repr, choices))}", got=repr(choice))

    def rate(self, step: int, steps: int | None, spent: float = 0.0) -> float:
        """The learning rate of one step of a run.

        Args:
            step: Which, from 0 on.
            steps: Steps in the whole run; None if only the time says how many.
            spent: Share of the run's time that is spent, where there is a time budget. Whichever
                is nearer to the end, steps or time, decides.

        Source:
            I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
            ICLR 2017 (the cosine).
        """
        warmup = self.warmup if steps is None else min(self.warmup, steps // 10)
        risen = 1.0 if step >= warmup else max((step + 1) / warmup, spent / _WARM)
        if risen < 1:
            return self.learning_rate * risen
        if self.schedule == "constant":
            return self.learning_rate
        done = 0.0 if steps is None else (step - warmup) / max(1, steps - warmup)
        fallen = (1 + math.cos(math.pi * min(1.0, max(done, spent)))) / 2
        return self.learning_rate * (_LEAST + (1 - _LEAST) * fallen)

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer for these parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.learning_rate, weight_decay=self.weight_decay
            )
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


def pick_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is the fastest there is.

    Of several processes on a machine, each takes a CUDA device of its own for ``"auto"`` and
    ``"cuda"``. They cannot share Apple's, and take the CPU instead.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == "auto":
        alone = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1
        apple = alone and torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            "the device is there",
            got=f"{name!r}: {str(error).splitlines()[0]}",
            hint="use device='auto' or 'cpu', and no more processes than devices",
        ) from error
    return device
