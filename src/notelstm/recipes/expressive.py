"""The expressive recipe: a note is four classes, each predicted from those before it."""

from __future__ import annotations

from notelstm.data import Transpose
from notelstm.encoders import LogTimeEncoder
from notelstm.models import NoteLSTM
from notelstm.recipes.recipe import ModelSpec, Recipe
from notelstm.sampling import Ancestral
from notelstm.training import TrainingConfig

__all__ = ["expressive"]


def expressive(
    *, hidden_size: int = 512, num_layers: int = 1, epochs: int = 20, memory_window: int = 4096
) -> Recipe:
    """The recipe of step, pitch, velocity and duration as classes, trained by likelihood.

    Args:
        hidden_size: Units of the LSTM.
        num_layers: Layers of the LSTM.
        epochs: Passes over the training set.
        memory_window: Latest notes that the memory of the model compares; 0 for no memory.

    Returns:
        A recipe that trains with AdamW on stateful batches of whole pieces, randomly transposed.

    Example:
        >>> expressive().build_loss().weights
        {'pitch': 1.0, 'step': 1.0, 'duration': 1.0, 'velocity': 1.0}
    """
    return Recipe(
        name="expressive",
        encoder=LogTimeEncoder(exact=True),
        model=ModelSpec(
            NoteLSTM,
            {
                "field_order": ("step", "pitch", "velocity", "duration"),
                "hidden_size": hidden_size,
                "num_layers": num_layers,
                "embedding_dim": 48,
                "head_size": 256,
                "sounding_features": True,
                "dropout": 0.1,
                "memory_window": memory_window,
            },
        ),
        sequence_length=64,
        targets="every",
        stateful=True,
        batch_size=64,
        min_steps_per_epoch=50,
        transforms=(Transpose(low=-3, high=3),),
        training=TrainingConfig(
            epochs=epochs,
            optimizer="adamw",
            learning_rate=0.002,
            schedule="cosine",
            warmup_steps=200,
            weight_decay=0.01,
            max_grad_norm=1.0,
            checkpoint_every=1,
        ),
        sampler=Ancestral(),
    )
