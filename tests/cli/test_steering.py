"""Options that steer: in the model's own unit, and refused where they would do nothing."""

from __future__ import annotations

import numpy as np
import pytest

from notelstm.bundle import Bundle
from notelstm.cli.generation_options import Steering
from notelstm.encoders import BeatEncoder, LogTimeEncoder
from notelstm.errors import ConfigError
from notelstm.fields import Field, Rows
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder
from notelstm.sampling import Ancestral, GridSnap


def bundle(encoder: NoteEncoder) -> Bundle:
    model = NoteLSTM(fields=encoder.fields, hidden_size=4)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


@pytest.mark.parametrize(("encoder", "unit"), [(BeatEncoder(), "beat"), (LogTimeEncoder(), "s")])
def test_a_grid_is_in_the_models_unit(encoder: NoteEncoder, unit: str) -> None:
    sampler = Steering(grid=0.5).sampler_for(bundle(encoder))
    assert sampler == Ancestral(processors=(GridSnap(grid=0.5, unit=unit),))


class Loudness:
    """Says nothing but how loud it is."""

    fields = (Field.categorical("velocity", "velocity", values=range(1, 128)),)

    def encode(self, notes: Notes) -> Rows:
        return notes.velocity[:, None].astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        return Notes(start=range(len(rows)), end=range(1, len(rows) + 1), pitch=60)


@pytest.mark.parametrize(
    ("steering", "option"),
    [
        (Steering(scale="C major"), "--scale would do nothing: the model has no field of pitch"),
        (Steering(pitch_range=("C3", "C5")), "--pitch-range"),
        (Steering(no_repeat_ngram=3), "--no-repeat-ngram"),
        (
            Steering(max_polyphony=2),
            "--max-polyphony would do nothing: the model has no field of step",
        ),
        (Steering(grid=0.5), "--grid"),
    ],
)
def test_what_would_do_nothing_is_refused(steering: Steering, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        steering.sampler_for(bundle(Loudness()))
