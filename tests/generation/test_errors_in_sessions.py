"""A session is unchanged after an error; notes can be fed as they are played."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from notelstm.bundle import Bundle
from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.errors import ConfigError, EncodingError, FieldError
from notelstm.generation import Session, generate, generate_batch
from notelstm.models import NoteLSTM
from notelstm.notes import Note
from notelstm.protocols import NoteEncoder, Sampler
from notelstm.sampling import Ancestral, Greedy, Scale


def bundle(encoder: NoteEncoder) -> Bundle:
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4).eval()
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


def session(encoder: NoteEncoder, **settings: Any) -> Session:
    made = bundle(encoder)
    return Session(made.generation_model, encoder, made.sampler, **settings)


OFF, SHIFT = 128, 300
"""Events: the first note-off, and some shift."""


def silent_in(one: Session) -> int:
    """A pitch that sounds in no sequence."""
    sounding = {tone.pitch for t in one.trackers for tone in t.sounding(t.time)}
    return next(pitch for pitch in range(128) if pitch not in sounding)


def goes_on(one: Session, other: Session) -> None:
    """Both are at the same position and sample the same rows."""
    for _ in range(8):
        np.testing.assert_array_equal(one.next(), other.next())
    for ours, theirs in zip(one.trackers, other.trackers, strict=True):
        assert ours.notes() == theirs.notes()
    if len(one.trackers) == 1:
        for either in (one, other):
            either.undo(1)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_fixed_entry_that_is_not_allowed_is_rejected(batch_size: int) -> None:
    tried, plain = (session(PerformanceEventEncoder(), batch_size=batch_size) for _ in range(2))
    for one in (tried, plain):
        one.run(num_notes=3)
    with pytest.raises(FieldError, match=r"event .* is not allowed here.* Fix another"):
        tried.next(event=OFF + silent_in(tried))
    goes_on(tried, plain)


def test_a_fixed_entry_out_of_range_is_rejected() -> None:
    tried, plain = (session(StepDurationEncoder()) for _ in range(2))
    for entries in ({"step": np.inf}, {"duration": 1e39}, {"step": np.nan}, {"pitch": "C4"}):
        with pytest.raises(FieldError, match=r"is not a class id|is not a finite number"):
            tried.next(**entries)
    goes_on(tried, plain)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_fed_rows_that_do_not_fit_are_rejected(batch_size: int) -> None:
    tried, plain = (session(PerformanceEventEncoder(), batch_size=batch_size) for _ in range(2))
    for one in (tried, plain):
        one.run(num_notes=3)
    pitch = silent_in(tried)
    rows = np.array([[pitch], [SHIFT], [OFF + pitch], [OFF + pitch]], dtype=np.float32)
    with pytest.raises(EncodingError):
        tried.feed(rows)
    goes_on(tried, plain)
    for one in (tried, plain):
        one.feed(rows[:3])
    goes_on(tried, plain)


@pytest.mark.parametrize("encoder", [StepDurationEncoder(), LogTimeEncoder()])
def test_fed_notes_keep_their_times(encoder: NoteEncoder) -> None:
    """Chords, note by note, with rests of any length between them."""
    for rest in np.linspace(0.01, 15.9, 40):
        playing = session(encoder)
        for start in (0.1, 0.1, 0.1 + rest, 0.1 + rest, 0.12 + rest):
            playing.feed(Note(start, start + 0.5, 60))
        onsets = playing.trackers[0].notes().start
        np.testing.assert_allclose(np.diff(onsets)[[0, 2]], 0, atol=1e-6)
        np.testing.assert_allclose(np.diff(onsets)[3], 0.02, atol=0.006)
    with pytest.raises(EncodingError, match="in the order of their onsets"):
        playing.feed(Note(0.0, 1.0, 60))


def test_snapshots_have_their_seed_and_need_the_same_fields() -> None:
    first, other = session(LogTimeEncoder(), seed=1), session(LogTimeEncoder(), seed=2)
    first.run(num_notes=5)
    kept = first.snapshot()
    want = [first.next() for _ in range(20)]
    other.restore(kept)
    np.testing.assert_array_equal([other.next() for _ in range(20)], want)
    for wrong in (session(BeatEncoder()).snapshot(), None):
        with pytest.raises(ConfigError, match="the same model and encoder"):
            first.restore(wrong)  # type: ignore[arg-type]


class Wild:
    """A sampler that returns classes that do not exist."""

    def __call__(self, field: Any, prediction: Any, noise: Any, contexts: Any) -> Any:
        return torch.full((len(contexts),), 999)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_notes": 2.5}, "num_notes 2.5 is not a whole"),
        ({"num_notes": "ten"}, "num_notes 'ten' is not a finite"),
        ({"seed": 1.5}, "seed 1.5 is not a whole number"),
        ({"seed": True}, "seed True is not a whole number"),
        ({"best_of": 1.5}, "best_of 1.5 is not a whole number"),
        ({"stopping_criterion": 5}, "is not a function"),
        ({"prompt": "a.mid"}, r"the prompt 'a.mid' is not Notes. Call read_midi\(prompt\)"),
        ({"sampler": "greedy"}, r"Give an object: Greedy\(\)"),
        ({"sampler": Greedy}, r"Give an object: Greedy\(\)"),
    ],
)
def test_common_mistakes_have_hints(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(bundle(LogTimeEncoder()), **{"num_notes": 5, **settings})


def test_other_common_mistakes_have_hints() -> None:
    with pytest.raises(ConfigError, match=r"batch_size 1.5 is not a whole number"):
        generate_batch(bundle(LogTimeEncoder()), 5, batch_size=1.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Give a tuple"):
        Ancestral(processors=Scale())  # type: ignore[arg-type]
    wild: Sampler = Wild()
    with pytest.raises(FieldError, match=r"returned class id 999"):
        generate(bundle(LogTimeEncoder()), 5, sampler=wild)
