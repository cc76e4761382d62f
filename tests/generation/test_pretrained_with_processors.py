"""The pretrained model with processors: all of its notes satisfy the constraints."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import notelstm
from notelstm.bundle import Bundle
from notelstm.generation import generate_batch, stream
from notelstm.notes import Notes
from notelstm.protocols import Processor
from notelstm.sampling import Ancestral, MaxPolyphony, PitchRange, Scale, Temperature

BATCH_SIZE, NOTES = 16, 200
D_DORIAN = [2, 4, 5, 7, 9, 11, 0]
LOWEST, HIGHEST, VOICES = 48, 84, 3


@functools.cache
def bundle() -> Bundle:
    return notelstm.load()


def played(*processors: Processor) -> list[Notes]:
    """3,200 notes."""
    made = generate_batch(
        bundle(), NOTES, batch_size=BATCH_SIZE, seed=5, sampler=Ancestral(processors=processors)
    )
    assert [len(notes) for notes in made] == [NOTES] * BATCH_SIZE
    return made


def most_voices(notes: Notes) -> int:
    """The maximum polyphony; a note that ends at an onset does not count."""
    most = 0
    for onset in notes.start:
        sounds = (notes.start <= onset) & (notes.end > onset + 1e-6)
        most = max(most, len(set(notes.pitch[sounds].tolist())))
    return most


def shares(made: list[Notes]) -> tuple[float, float, float]:
    """The share of notes in scale and in range, and of pieces within the polyphony limit."""
    pitch = np.concatenate([notes.pitch for notes in made])
    return (
        float(np.isin(pitch % 12, D_DORIAN).mean()),
        float(((pitch >= LOWEST) & (pitch <= HIGHEST)).mean()),
        float(np.mean([most_voices(notes) <= VOICES for notes in made])),
    )


@pytest.mark.parametrize("warm", [1.0, 1.4])
def test_processors_hold_for_every_model(warm: float) -> None:
    made = played(
        Scale(name="D dorian"),
        PitchRange(low=LOWEST, high=HIGHEST),
        MaxPolyphony(notes=VOICES),
        Temperature(temperature=warm),
    )
    assert shares(made) == (1.0, 1.0, 1.0)


def test_without_processors_the_limits_do_not_hold() -> None:
    assert max(shares(played())) < 1


def test_processors_hold_in_streams() -> None:
    sampler = Ancestral(
        processors=(Scale(name="D dorian"), PitchRange(low="C3", high="C6"), MaxPolyphony(notes=3))
    )
    notes = list(stream(bundle(), sampler=sampler, num_notes=200, seed=1))
    start, end, pitch, velocity, *_ = zip(*notes, strict=True)
    made = Notes(start=start, end=end, pitch=pitch, velocity=velocity)
    assert shares([made]) == (1.0, 1.0, 1.0)
