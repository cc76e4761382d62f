"""A recipe of this package's parts and a built-in model."""

from __future__ import annotations

import functools

from notelstm.models import NoteLSTM
from notelstm.recipes import Recipe
from notelstm.sampling import MinDuration
from notelstm.training import TrainingConfig
from notelstm_intervals.encoder import IntervalEncoder
from notelstm_intervals.sampling import BestOfTwo, SmallLeaps

__all__ = ["intervals"]


def intervals(*, hidden_size: int = 128, semitones: int = 12) -> Recipe:
    """Intervals, steps, durations and loudness, each predicted from those before it.

    Args:
        hidden_size: Units of the LSTM.
        semitones: The widest leap that is sampled.

    Returns:
        A recipe of 20 epochs of AdamW in stateful batches.
    """
    return Recipe(
        name="intervals",
        encoder=IntervalEncoder(),
        model=functools.partial(
            NoteLSTM,
            field_order=("step", "interval", "duration", "loudness"),
            hidden_size=hidden_size,
        ),
        sampler=BestOfTwo(processors=(SmallLeaps(semitones=semitones), MinDuration())),
        sequence_length=64,
        stateful=True,
        batch_size=16,
        training=TrainingConfig(
            epochs=20, optimizer="adamw", learning_rate=0.003, max_grad_norm=1.0
        ),
    )
