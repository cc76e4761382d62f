"""How a model is trained, and on which device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

from notelstm.errors import ConfigError

__all__ = ["TrainingConfig", "pick_device"]


@final
@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: How often every target is seen.
        optimizer: ``"sgd"``, the original's, or ``"adamw"``.
        learning_rate: Above 0.
        weight_decay: At least 0.
        clip: Largest norm of the gradient, None for any.
        checkpoint_every: Epochs between checkpoints; there is always one at the end.
        seed: Of initialisation and dropout.
        device: ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.

    Raises:
        ConfigError: If a value is out of range.
    """

    epochs: int = 200
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.005
    weight_decay: float = 0.0
    clip: float | None = None
    checkpoint_every: int = 10
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value, least in (
            ("epochs", self.epochs, 0),
            ("checkpoint_every", self.checkpoint_every, 1),
            ("weight_decay", self.weight_decay, 0),
            ("seed", self.seed, 0),
        ):
            if not value >= least:
                raise ConfigError(f"{name} is at least {least}", got=f"{value}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError("learning_rate is above 0", got=f"{self.learning_rate}")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError("clip is above 0, or None", got=f"{self.clip}")
        if self.optimizer not in ("sgd", "adamw"):
            raise ConfigError("optimizer is 'sgd' or 'adamw'", got=repr(self.optimizer))

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer for these parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.learning_rate, weight_decay=self.weight_decay
            )
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


def pick_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is the fastest there is.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            "the device is there",
            got=f"{name!r}: {str(error).splitlines()[0]}",
            fix="use device='auto' or 'cpu'",
        ) from error
    return device
