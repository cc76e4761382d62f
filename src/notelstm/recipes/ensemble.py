"""The ensemble recipe: the expressive recipe with the instrument of each note as a class."""

from __future__ import annotations

from dataclasses import replace

from notelstm.midi.policy import ReadPolicy
from notelstm.parts import PartsBy, Unknown
from notelstm.recipes.expressive import expressive
from notelstm.recipes.recipe import ModelSpec, Recipe

__all__ = ["ensemble"]


def ensemble(
    *,
    hidden_size: int = 512,
    num_layers: int = 1,
    epochs: int = 20,
    parts: PartsBy = "auto",
    unknown: Unknown = "nearest",
    memory_window: int = 4096,
) -> Recipe:
    """The recipe for music of several instruments and drums, all of which are read.

    A note is predicted as step, instrument, pitch, velocity and duration, in this order. The
    instruments are those of the training pieces.

    Args:
        hidden_size: Units of the LSTM.
        num_layers: Layers of the LSTM.
        epochs: Passes over the training set.
        parts: The property that tells instruments apart: see
            :meth:`PartMap.from_pieces <notelstm.parts.PartMap.from_pieces>`.
        unknown: The class of notes of instruments that the training pieces do not have: see
            :class:`~notelstm.parts.PartMap`.
        memory_window: Latest notes that the memory of the model compares; 0 for no memory.

    Returns:
        A recipe that trains as :func:`~notelstm.recipes.expressive.expressive` does. Drums are not
        transposed.

    Example:
        >>> recipe = ensemble(parts="name")
        >>> recipe.read_policy.tracks, recipe.read_policy.drums
        ('all', True)
    """
    piano = expressive(
        hidden_size=hidden_size,
        num_layers=num_layers,
        epochs=epochs,
        memory_window=memory_window,
    )
    model = ModelSpec.of(piano.model)
    order = ("step", "instrument", "pitch", "velocity", "duration")
    return replace(
        piano,
        name="ensemble",
        model=ModelSpec(model.factory, {**model.settings, "field_order": order}),
        read_policy=ReadPolicy(tracks="all", drums=True),
        parts=parts,
        unknown_parts=unknown,
    )
