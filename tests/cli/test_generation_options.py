"""Options of generation: in the unit of the model, and rejected where they have no effect."""

from __future__ import annotations

import numpy as np
import pytest

from notelstm.bundle import Bundle
from notelstm.cli.generation_options import Steering
from notelstm.encoders import BeatEncoder, LogTimeEncoder, PerformanceEventEncoder
from notelstm.errors import ConfigError, PluginError
from notelstm.fields import Field, Rows
from notelstm.generation import generate
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.protocols import NoteEncoder
from notelstm.sampling import (
    Ancestral,
    GridSnap,
    Instruments,
    MaxInstruments,
    MaxPolyphony,
    PitchRange,
)


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
        (
            Steering(instruments="Bass"),
            "--instruments would do nothing: the model has no field of instrument",
        ),
        (Steering(max_instruments=2), "--max-instruments would do nothing"),
    ],
)
def test_options_without_effect_are_rejected(steering: Steering, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        steering.sampler_for(bundle(Loudness()))


BAND = LogTimeEncoder(
    exact=True,
    parts=PartMap(by="family", parts=(Part(name="Piano"), Part(name="Bass", program=33))),
)


def test_options_of_instruments() -> None:
    steering = Steering(
        instruments="piano, bass",
        max_instruments=1,
        processor=(
            "pitch-range:low=C1,high=G2,instruments=Bass",
            'max-polyphony:notes=1,instruments=["Piano","Bass"],drums=true',
        ),
    )
    assert steering.sampler_for(bundle(BAND)) == Ancestral(
        processors=(
            Instruments(allowed=("piano", "bass")),
            MaxInstruments(count=1),
            PitchRange(low="C1", high="G2", instruments=("Bass",)),
            MaxPolyphony(notes=1, instruments=("Piano", "Bass"), drums=True),
        )
    )


def test_options_of_instruments_need_a_field_of_instruments() -> None:
    with pytest.raises(ConfigError, match="--instruments would do nothing"):
        Steering(instruments="Bass").sampler_for(bundle(PerformanceEventEncoder()))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("pitch-rnge", PluginError, "did you mean 'pitch-range'"),
        ("pitch-range:lo=C1", ConfigError, "unknown setting 'processors.pitch-range.lo'"),
        ("pitch-range:low", ConfigError, "'low' is not a setting"),
        ("max-polyphony:notes=[1,2]", ConfigError, "not a whole number"),
    ],
)
def test_an_unsuitable_processor_is_one_error(
    text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        Steering(processor=(text,)).sampler_for(bundle(BAND))
    assert "\n" not in str(caught.value)


def test_an_unknown_instrument_is_one_error() -> None:
    made = bundle(BAND)
    with pytest.raises(ConfigError, match=r"is named 'tuba'.*Piano, Bass") as caught:
        generate(made, 1, sampler=Steering(instruments="piano,tuba").sampler_for(made))
    assert "\n" not in str(caught.value)
