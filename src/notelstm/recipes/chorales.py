"""The recipe of chorales: four voices, any of which are given, and the others are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from notelstm.data import GivenMixture, Transpose
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.midi.policy import ReadPolicy
from notelstm.parts import Part, PartMap
from notelstm.recipes.expressive import expressive
from notelstm.recipes.recipe import ModelSpec, Recipe

__all__ = ["CELL", "VOICES", "chorales"]

CELL: Final = 5 / 64
"""The seconds of an eighth of a beat at 96 beats a minute. Nearly all chorales of the corpus
``bach`` have this tempo, and no shorter notes."""

VOICES: Final = PartMap(
    by="name",
    parts=tuple(Part(name=name, program=52) for name in ("Soprano", "Alto", "Tenor", "Bass")),
)
"""The voices of the corpus, Choir Aahs; another part is the nearest one, usually the soprano."""


def chorales(
    *, hidden_size: int = 256, epochs: int = 4, seconds: float = 5.0, memory_window: int = 0
) -> Recipe:
    """The recipe for four-part chorales, which writes the voices that are missing.

    A note is predicted as step, voice, pitch, velocity and duration, in this order. In most of the
    training pieces some voices are given, in others spans of time, and in some nothing. With the
    setting `parts`, the parts are those of the training pieces and not the four voices.

    Args:
        hidden_size: Units of the LSTM.
        epochs: Passes over the training set, each with twelve copies of every piece, in which other
            notes are given.
        seconds: The time by which given notes precede their onset; two bars by default.
        memory_window: Latest notes that the memory of the model compares; 0 for no memory.

    Returns:
        A recipe for music at 96 beats a minute, whose steps are then exact up to `seconds`.

    Example:
        >>> recipe = chorales()
        >>> [part.name for part in recipe.encoder.parts.parts]
        ['Soprano', 'Alto', 'Tenor', 'Bass']
    """
    piano = expressive(hidden_size=hidden_size, epochs=epochs, memory_window=memory_window)
    model = ModelSpec.of(piano.model)
    order = ("step", "instrument", "pitch", "velocity", "duration")
    settings = {"field_order": order, "embedding_dim": 32, "head_size": 128, "dropout": 0.25}
    settings["voice_leading"] = True
    inner = LogTimeEncoder(cell=CELL, linear=seconds, longest=4 * seconds, exact=True, parts=VOICES)
    return replace(
        piano,
        name="chorales",
        encoder=AnticipatingEncoder(inner=inner, seconds=seconds),
        model=ModelSpec(model.factory, {**model.settings, **settings}),
        read_policy=ReadPolicy(tracks="all"),
        parts="name",
        given=GivenMixture(
            nothing=0.1,
            spans=0.3,
            parts=0.55,
            notes=0.05,
            gap=(1.0, 12.0),
            span=(2.0, 8.0),
            # The pieces are few. With few copies, it is learnt by heart which notes are given.
            variants=12,
        ),
        transforms=(Transpose(low=-5, high=6),),
        batch_size=32,
    )
