"""A recipe of this package's encoder and model."""

from __future__ import annotations

import functools

from notelstm.data import Transpose
from notelstm.recipes import Recipe
from notelstm.sampling import Ancestral
from notelstm.training import TrainingConfig
from notelstm_frames.encoder import FrameEncoder
from notelstm_frames.model import FrameLSTM

__all__ = ["frames"]


def frames(
    *, voices: int = 4, hidden_size: int = 256, copied: bool = True, descending: bool = False
) -> Recipe:
    """Frames of a piano roll, each pitch predicted given those below it and the frames before.

    Args:
        voices: The number of pitches in a frame.
        hidden_size: The number of LSTM units.
        copied: Whether the frame after the passage most like the latest frames is given.
        descending: Whether each pitch is predicted given those above it instead.

    Returns:
        A recipe of AdamW that carries the state through whole pieces, half of which are transposed
        by up to three semitones.
    """
    return Recipe(
        name="frames",
        encoder=FrameEncoder(voices=voices, copied=copied, descending=descending),
        model=functools.partial(FrameLSTM, hidden_size=hidden_size),
        sampler=Ancestral(),
        sequence_length=32,
        stateful=True,
        batch_size=16,
        transforms=(Transpose(low=-3, high=3, lowest=21, highest=108, probability=0.5),),
        training=TrainingConfig(
            epochs=40,
            optimizer="adamw",
            learning_rate=0.002,
            schedule="cosine",
            warmup_steps=50,
            weight_decay=0.01,
            max_grad_norm=1.0,
        ),
    )
