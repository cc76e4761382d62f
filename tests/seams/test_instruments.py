"""An instrument is as much a part of a note as its pitch: nothing drops it in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.bundle import Bundle
from notelstm.data import Corpus, Folder, encode_corpus, find_duplicates
from notelstm.data.splits import content_key
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder
from notelstm.encoders.rows import watch_instruments
from notelstm.evaluation.grid import quantize
from notelstm.fields import Field, Rows
from notelstm.generation import Session, generate
from notelstm.midi import ReadPolicy, write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.recipes import expressive
from notelstm.sampling import Ancestral
from notelstm.testing import strategies

NAMES = ("program", "drum", "track")
FIELDS = tuple(
    Field.categorical(name, "other", values=range(size))
    for name, size in zip(NAMES, (128, 2, 16), strict=True)
)


class Orchestral:
    """The fields of ``LogTimeEncoder``, and one each for program, percussion and track."""

    fields = (*LogTimeEncoder().fields, *FIELDS)

    def encode(self, notes: Notes) -> Rows:
        zeros = np.zeros(len(notes))
        columns = [getattr(notes, name) for name in NAMES]
        rows = [LogTimeEncoder().encode(notes), *(zeros if c is None else c for c in columns)]
        return np.column_stack(rows).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        program, drum, track = rows[:, 4:].astype(np.int64).T
        notes = LogTimeEncoder().decode(rows[:, :4])
        return replace(notes, program=program, drum=drum > 0, track=track)


def orchestra(n: int = 40, seed: int = 0) -> Notes:
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(1, 5, n) / 10)
    return Notes(
        start=start,
        end=start + 0.3,
        pitch=rng.integers(40, 90, n),
        program=rng.integers(0, 128, n),
        drum=rng.random(n) < 0.3,
        track=rng.integers(0, 16, n),
    )


def same_instruments(a: Notes, b: Notes) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)


def bundle(encoder: LogTimeEncoder | Orchestral) -> Bundle:
    model = NoteLSTM(fields=encoder.fields, hidden_size=4).eval()
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


def test_fed_notes_keep_their_instruments(caplog: pytest.LogCaptureFixture) -> None:
    made, piece = bundle(Orchestral()), orchestra()
    session = Session(made.generation_model, made.encoder, made.sampler, batch_size=2)
    for part in (piece[:10], piece[10:], piece[:0]):
        session.feed(part)
    for tracker in session.trackers:
        assert same_instruments(tracker.notes(), piece)
    new = generate(made, 20, prompt=piece, seed=1)
    assert same_instruments(piece.continued(new)[: len(piece)], piece)
    assert same_instruments(piece.continued(new)[len(piece) :], new)
    assert new.program is not None
    assert len(set(new.program.tolist())) > 3, "the model drew programs of its own"
    assert caplog.text == ""


@given(strategies.notes(instruments=True))
def test_the_grid_of_the_evaluation_keeps_instruments(piece: Notes) -> None:
    marked = replace(piece, track=np.arange(len(piece)))
    snapped = quantize(marked)
    assert snapped.track is not None
    for name in ("pitch", "velocity", "program", "drum"):
        column = getattr(piece, name)
        if column is not None:
            np.testing.assert_array_equal(getattr(snapped, name), column[snapped.track])


@pytest.mark.parametrize("name", NAMES)
def test_a_fingerprint_tells_instruments(name: str) -> None:
    recipe, piece = expressive(hidden_size=4), orchestra(100)
    recipe = replace(recipe, training=replace(recipe.training, epochs=0))
    recipe = replace(recipe, transforms=(), batch_size=4)
    plain = replace(piece, program=None, drum=None, track=None)
    zeros = np.zeros(100, np.int64)
    silent = replace(plain, program=zeros, drum=zeros > 0, track=zeros)
    prints = [
        recipe.train([p]).data.fingerprint
        for p in (plain, silent, replace(plain, **{name: getattr(piece, name)}))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_one_warning_for_each_run_of_an_encoder_without_instruments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    piano = orchestra(60)
    piano = replace(piano, program=np.full(60, 7), drum=np.zeros(60, np.bool_))
    message = "LogTimeEncoder does not encode instruments: in {} of {} pieces"
    generate(bundle(LogTimeEncoder()), 3, prompt=piano)
    recipe = replace(expressive(hidden_size=4), transforms=())
    recipe.encode([piano, piano])
    assert caplog.text == ""
    generate(bundle(LogTimeEncoder()), 3, prompt=orchestra())
    assert caplog.messages == [
        f"{message.format(1, 1)}, notes of several programs or percussion are "
        "encoded as notes of one instrument"
    ]
    caplog.clear()
    drums = replace(piano, drum=np.arange(60) == 3)
    recipe.encode([piano, drums, orchestra(60), piano])
    assert len(caplog.messages) == 1
    assert message.format(2, 4) in caplog.text


@given(st.lists(strategies.notes(max_notes=5, instruments=True), max_size=4))
def test_watched_pieces_pass_unchanged(pieces: Sequence[Notes]) -> None:
    for encoder in (PerformanceEventEncoder(), Orchestral()):
        passed: Iterator[Notes] = watch_instruments(pieces, encoder)
        assert all(a is b for a, b in zip(passed, pieces, strict=True))


def test_a_corpus_keeps_instruments_and_warns_when_encoded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_midi(orchestra(), tmp_path / "music" / "a.mid")
    policy = ReadPolicy(tracks="all", drums=True)
    corpus = Corpus.open(
        Folder(path=tmp_path / "music"), policy=policy, cache=tmp_path / "cache", progress=False
    )
    found, piece = corpus[0], orchestra()
    assert found.program is not None
    assert piece.program is not None
    np.testing.assert_array_equal(found.by_pitch().program, piece.by_pitch().program)
    np.testing.assert_array_equal(found.by_pitch().drum, piece.by_pitch().drum)
    encode_corpus(corpus, LogTimeEncoder(), cache=tmp_path / "cache", progress=False)
    assert "in 1 of 1 pieces" in caplog.text


def test_a_key_of_the_content_keeps_percussion() -> None:
    piece = orchestra(80)
    assert piece.drum is not None
    higher = replace(piece, pitch=piece.pitch + np.where(piece.drum, 0, 5))
    all_higher = replace(piece, pitch=piece.pitch + 5)
    assert content_key(piece) == content_key(higher)
    assert content_key(piece) != content_key(all_higher)
    plain = replace(piece, drum=None)
    assert content_key(plain) == content_key(replace(piece, drum=np.zeros(80, np.bool_)))
    assert content_key(plain) != content_key(piece)
    (leak,) = find_duplicates([("a", piece), ("b", higher), ("c", orchestra(80, seed=5))])
    assert (leak.kind, leak.semitones) == ("transposition", 5)


def test_a_recipe_transposes_all_but_percussion() -> None:
    recipe = expressive(hidden_size=4)
    recipe = replace(recipe, encoder=LogTimeEncoder(), stateful=True, shuffle=False, batch_size=1)
    piece = orchestra(100)
    rows = [recipe.encoder.encode(piece)]
    assert piece.drum is not None
    moved = set()
    for number in range(12):
        batches = recipe.batches(rows, pieces=[piece])
        got = np.concatenate(
            [b.rows[0].numpy()[k > 0 :] for k, b in enumerate(batches.epoch(number))]
        )
        pitch = got[:100, 0].astype(np.int64)
        np.testing.assert_array_equal(pitch[piece.drum], piece.pitch[piece.drum])
        moved |= set((pitch - piece.pitch)[~piece.drum].tolist())
    assert len(moved) > 3
