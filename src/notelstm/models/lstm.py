"""Parts that the LSTM models share: state and context, with the batch on axis 0, and time heads."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.predictions import LogisticMixture, Normal

__all__ = [
    "Hidden",
    "LSTMState",
    "check_sizes",
    "initial_lstm_state",
    "mixture_head",
    "normal_head",
    "run_lstm",
]

_SHORTEST: Final = 0.02
_LONGEST: Final = 5.0


class Hidden(NamedTuple):
    """The context of an LSTM before a row.

    Attributes:
        hidden: (B, T, H) the last layer's output.
    """

    hidden: Tensor


class LSTMState(NamedTuple):
    """The state of an LSTM with L layers.

    Attributes:
        h: (B, L, H) outputs.
        c: (B, L, H) cells.
    """

    h: Tensor
    c: Tensor


def check_sizes(**sizes: int) -> None:
    """Check settings that count something.

    Raises:
        ConfigError: If one is less than 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} {size} is less than 1")


def initial_lstm_state(
    initial_context: Tensor, layers: int, batch_size: int
) -> tuple[Hidden, LSTMState]:
    """The context (H,) repeated for each sequence, and a state of zeros."""
    hidden = initial_context.expand(batch_size, 1, -1)  # (B, 1, H)
    zeros = initial_context.new_zeros(batch_size, layers, initial_context.shape[0])
    return Hidden(hidden), LSTMState(zeros, zeros)


def run_lstm(lstm: nn.LSTM, inputs: Tensor, state: LSTMState) -> tuple[Hidden, LSTMState]:
    """Run a batch-first LSTM over (B, T, I) inputs; torch wants the layers of a state first."""
    h, c = (part.transpose(0, 1).contiguous() for part in state)  # (L, B, H)
    output, last = lstm(inputs, (h, c))  # (B, T, H)
    # Under autocast the state comes out in half precision; what is carried has one type throughout.
    return Hidden(output), LSTMState(*(part.transpose(0, 1).to(state.h) for part in last))


def mixture_head(output: Tensor, field: Field) -> LogisticMixture:
    """A mixture of times from (..., 3 K + 1) outputs, for a continuous field with a least value."""
    components = output.shape[-1] // 3
    logits, mean, scale = torch.split(output, [components + 1, components, components], dim=-1)
    # Before anything is learned the components cover what is usual, so that they stay apart.
    usual = torch.linspace(
        math.log(_SHORTEST), math.log(_LONGEST), components, dtype=mean.dtype, device=mean.device
    )
    return LogisticMixture(
        logits,
        mean + usual,
        functional.softplus(scale) + 1e-3,
        origin=field.interval.low,
        high=None if field.high is None else torch.full_like(mean[..., 0], field.high),
    )


def normal_head(output: Tensor, field: Field) -> Normal:
    """A normal distribution from (..., 2) outputs, censored at the bounds of a continuous field."""
    mean, scale = output.unbind(-1)
    # A floor under sigma keeps the likelihood of a repeated value from running away.
    sigma = functional.softplus(scale) + 1e-3
    return Normal(
        mean,
        sigma,
        low=None if field.low is None else mean.new_tensor(field.low),
        high=None if field.high is None else mean.new_tensor(field.high),
    )
