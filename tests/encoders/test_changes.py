"""Encoders that count the notes that they change: one warning, wherever notes are encoded."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from notelstm import Ancestral, generate
from notelstm.bundle import Bundle
from notelstm.data import Corpus, Folder, encode_corpus
from notelstm.data.summary import summarise
from notelstm.encoders import BeatEncoder, StepDurationEncoder
from notelstm.encoders.rows import ReportingEncoder, describe_changes, watch_changes
from notelstm.midi import write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.protocols import NoteEncoder
from notelstm.recipes import Recipe

FOURS = BeatEncoder(time_signatures=("4/4",))


def piece(upper: int, lower: int, count: int = 8, length: float = 0.25) -> Notes:
    """Notes on the half beats, 120 a minute."""
    beats = TempoMap(time_signature_beats=[0], numerators=[upper], denominators=[lower])
    start = np.arange(count) * 0.25
    return Notes(start=start, end=start + length, pitch=60 + np.arange(count), tempo_map=beats)


PIECES = [piece(4, 4), piece(11, 8), piece(4, 4, length=0.3), piece(11, 8, 1)]
WARNING = (
    "BeatEncoder changes notes of 3 of 4 pieces: "
    "9 notes in 11/8, encoded as 4/4; 8 notes with times rounded to 1/12 beat"
)


def test_one_warning_counts_the_changes_of_all_pieces(caplog: pytest.LogCaptureFixture) -> None:
    watched: Iterator[Notes] = watch_changes(PIECES, FOURS)
    for given, passed in zip(PIECES, watched, strict=False):
        assert passed is given
        assert caplog.text == ""
    assert next(watched, None) is None
    assert caplog.messages == [WARNING]
    caplog.clear()
    # A piece that is rejected is reported as such, by others.
    bare = replace(PIECES[0], tempo_map=None)
    assert len([*watch_changes([bare, *PIECES[:1]], FOURS)]) == 2
    assert not isinstance(StepDurationEncoder(), ReportingEncoder)
    assert len([*watch_changes(PIECES, StepDurationEncoder())]) == 4
    assert caplog.text == ""


def recipe(encoder: NoteEncoder) -> Recipe:
    model = functools.partial(NoteLSTM, hidden_size=4, embedding_dim=2)
    return Recipe(name="beats", encoder=encoder, model=model, sampler=Ancestral())


def test_recipes_corpora_and_prompts_warn_of_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe(FOURS).encode(PIECES)
    assert caplog.messages == [WARNING]
    caplog.clear()
    bundle = Bundle(
        model=NoteLSTM(fields=FOURS.fields, hidden_size=4, embedding_dim=2),
        encoder=FOURS,
        sampler=Ancestral(),
    )
    generate(bundle, 2, prompt=PIECES[1])
    (message,) = caplog.messages
    assert message == ("BeatEncoder changes notes of 1 of 1 piece: 8 notes in 11/8, encoded as 4/4")
    for number, notes in enumerate(PIECES):
        write_midi(notes, tmp_path / "music" / f"{number}.mid")
    corpus = Corpus.open(Folder(path=tmp_path / "music"), cache=tmp_path, progress=False)
    caplog.clear()
    encode_corpus(corpus, FOURS, cache=tmp_path, progress=False)
    assert "9 notes in 11/8, encoded as 4/4" in caplog.text
    assert "3 of 4 pieces" in caplog.text
    summary = summarise(corpus)
    assert summary.time_signatures == {"4/4": 2, "11/8": 2}
    # By default 11/8 is a class.
    assert summary.changes_in_beats == {"with times rounded to 1/12 beat": 8}


def test_describe_changes() -> None:
    assert describe_changes({}) == ""
    assert describe_changes({"a": 1, "b": 2000}) == "1 note a; 2,000 notes b"
