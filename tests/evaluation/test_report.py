"""A model's report: the same as its parts, for every kind of encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import DataError, EncodingError
from notelstm.evaluation import (
    NGrams,
    baselines_of,
    compare,
    evaluate,
    fit_unigram,
    nats_per_note,
    quantize,
    score_baseline,
)
from notelstm.fields import Field, Rows
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, NoteModel
from notelstm.recipes import expressive, with_settings
from notelstm.sampling import Ancestral
from notelstm.testing.makers import long_piece

PIECES = [long_piece(np.random.default_rng(k), count=60 + k, seconds=12) for k in range(4)]
TRAINING = [long_piece(np.random.default_rng(9), count=300, seconds=60)]


def bundle(encoder: NoteEncoder) -> Bundle:
    fields = encoder.fields
    points = any(not field.is_categorical for field in fields)
    model: NoteModel = (
        ThreeHeadLSTM(fields=fields, hidden_size=4)
        if points
        else NoteLSTM(fields=fields, hidden_size=4, embedding_dim=2)
    )
    return Bundle(
        model=model,
        encoder=encoder,
        sampler=Ancestral(),
        context_length=10 if points else None,
        sigmas={"step": 0.3, "duration": 0.3} if points else {},
        unigram=fit_unigram(TRAINING).to_json(),
    )


@pytest.mark.parametrize(
    ("encoder", "figures", "judged"),
    [
        (
            LogTimeEncoder(),
            {"pitch_step_duration", "total"},
            {"pitch", "step", "duration", "velocity"},
        ),
        (PerformanceEventEncoder(), {"total"}, {"event"}),
        (StepDurationEncoder(), {"pitch_step_duration"}, {"pitch"}),
    ],
    ids=["classes", "events", "points"],
)
def test_a_report_consists_of_its_parts(
    encoder: NoteEncoder, figures: set[str], judged: set[str]
) -> None:
    model = bundle(encoder)
    names = ["a", "b", "c", "d"]
    report = evaluate(model, PIECES, names=names, training=TRAINING)
    scores = nats_per_note(
        model.generation_model, encoder, PIECES, sigmas=model.sigmas, names=names
    )
    assert report.model == scores
    made = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {f for f in ("pitch_step_duration", "total") if made[f] is not None} == figures
    assert set(made["calibration"]) == judged
    assert (made["pitch_top1"] is None) == ("pitch" not in judged)
    assert (made["bits_per_second"] is None) == ("total" not in figures)
    assert [piece["name"] for piece in made["pieces"]] == names
    assert [piece["total"] is None for piece in made["pieces"]] == ["total" not in figures] * 4
    assert list(made["baselines"]) == ["uniform", "unigram", "repeat-last", "bigram", "4-gram"]
    last = quantize(PIECES[0]).start
    assert scores.pieces[0].seconds == pytest.approx(last[-1] - last[24])
    for name, baseline in baselines_of(model, TRAINING).items():
        alone = score_baseline(baseline, PIECES, names=names)
        wanted = {**alone.to_json(), "bits_per_second": alone.bits_per_second}
        said = dict(made["baselines"][name])
        assert said.pop("difference") == compare(scores, alone).to_json()
        assert said == wanted


def test_n_grams_have_the_order_of_their_name() -> None:
    made = baselines_of(bundle(LogTimeEncoder()), TRAINING)
    orders = {name: b.order for name, b in made.items() if isinstance(b, NGrams)}
    assert orders == {"bigram": 2, "4-gram": 4}


def test_reliability_is_of_the_notes_that_are_scored() -> None:
    report = evaluate(bundle(LogTimeEncoder()), PIECES)
    for role, made in report.model.reliability.items():
        assert made.count == report.model.notes, role
    assert list(report.baselines) == ["uniform", "unigram", "repeat-last"]


def test_without_counts_only_the_uniform_baseline_is_reported() -> None:
    old = replace(bundle(LogTimeEncoder()), unigram={})
    assert list(evaluate(old, PIECES[:1]).baselines) == ["uniform"]
    damaged = replace(old, unigram={"counts": 3})
    with pytest.raises(DataError, match="stored unigram is damaged"):
        evaluate(damaged, PIECES)


def test_training_counts_its_pieces() -> None:
    recipe = with_settings(expressive(), {"model": {"hidden_size": 4}, "training": {"epochs": 1}})
    trained = recipe.train(TRAINING)
    assert trained.unigram == fit_unigram(TRAINING).to_json()
    assert sum(trained.unigram["counts"]["pitch"]) == sum(map(len, TRAINING))


def test_a_piece_that_events_merge_is_left_out_of_comparisons() -> None:
    start = np.concatenate([np.arange(20) * 0.1, np.full(10, 2.0)])
    merged = Notes(start=start, end=start + 0.05, pitch=60)
    report = evaluate(bundle(PerformanceEventEncoder()), [merged, *PIECES])
    assert len(report.model.pieces) == 4
    assert report.to_json()["baselines"]["uniform"]["difference"]["pieces"] == 4


@dataclass(frozen=True, kw_only=True)
class Choosy:
    """An encoder that refuses pieces of an odd number of notes."""

    plain: LogTimeEncoder = field(default_factory=LogTimeEncoder)

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.plain.fields

    def encode(self, notes: Notes) -> Rows:
        if len(notes) % 2:
            raise EncodingError(f"{len(notes)} notes are an odd number")
        return self.plain.encode(notes)

    def decode(self, rows: Rows) -> Notes:
        return self.plain.decode(rows)


def test_rejected_pieces_are_left_out_of_model_and_baselines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = bundle(Choosy())
    short = PIECES[0][:25]
    report = evaluate(model, [*PIECES, short], training=TRAINING)
    odd = {"1": "61 notes are an odd number", "3": "63 notes are an odd number"}
    assert dict(report.model.rejected) == odd
    assert report.model.too_short == 1
    assert [score.name for score in report.model.pieces] == ["0", "2"]
    plain = evaluate(bundle(LogTimeEncoder()), PIECES[::2], names=["0", "2"], training=TRAINING)
    for name, scores in report.baselines.items():
        assert scores.pieces == plain.baselines[name].pieces
    made = report.to_json()
    assert (made["too_short"], made["rejected"]) == (1, odd)
    assert "left out: 2 pieces that the encoder rejects: 1: 61 notes are an odd" in caplog.text
    with pytest.raises(DataError, match=r"encoder rejects 2 pieces.*61 notes are an odd.*\(0\)"):
        evaluate(model, PIECES[1::2])
