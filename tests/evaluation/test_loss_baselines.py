"""The losses of simple predictions, against ones that are computed by hand or by a model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from notelstm.encoders import StepDurationEncoder
from notelstm.evaluation.baselines import NOVELTY
from notelstm.evaluation.loss_baselines import loss_baselines
from notelstm.fields import Field
from notelstm.losses import CompositeLoss, Likelihood, PositivePressure
from notelstm.recipes import expressive, with_settings
from notelstm.testing.makers import long_piece
from notelstm.training import JSONLogger

A = Field.categorical("a", "pitch", values=range(4))
B = Field.categorical("b", "velocity", values=range(2))


def rows(*columns: list[int]) -> np.ndarray:
    return np.array(columns, dtype=np.float32).T


def test_by_hand() -> None:
    training = [rows([0, 0, 1, 1], [0, 0, 0, 0]), rows([1], [1])]
    scored = [rows([0, 1, 1], [1, 0, 0])]
    loss = CompositeLoss(terms={"a": (Likelihood(), 1.0), "b": (Likelihood(), 0.5)})
    found = loss_baselines(loss, [A, B], training, scored)
    # Two of four classes were seen: new ones have the weight of two novelties.
    new = 2 * NOVELTY

    def p(count: int, notes: int, classes: int) -> float:
        return (count + new / classes) / (notes + new)

    a = [p(2, 5, 4), p(3, 5, 4), p(3, 5, 4)]
    b = [p(1, 5, 2), p(4, 5, 2), p(4, 5, 2)]

    def nats(values: list[float]) -> float:
        return -sum(map(math.log, values)) / len(values)

    assert found["unigram"] == pytest.approx(
        {"loss": nats(a) + 0.5 * nats(b), "loss/a": nats(a), "loss/b": nats(b)}, rel=1e-6
    )
    # Two of three pairs repeat `a`, all of them `b`.
    repeating = [a[0], a[1] / 3, a[2] / 3 + 2 / 3]
    assert found["repeat-last"]["loss/a"] == pytest.approx(nats(repeating), rel=1e-6)
    assert math.isfinite(found["repeat-last"]["loss/b"]), "a change that training never had"


def test_rows_that_are_no_targets() -> None:
    loss = CompositeLoss(terms={"a": (Likelihood(), 1.0)})
    pieces = [rows([0, 0, 0, 1])]
    whole, end = (loss_baselines(loss, [A], pieces, pieces, skip=n) for n in (0, 3))
    assert end["unigram"]["loss"] > whole["unigram"]["loss"]
    assert loss_baselines(loss, [A], pieces, pieces, skip=4) == {}


def test_terms_without_a_baseline() -> None:
    fields = StepDurationEncoder().fields
    loss = CompositeLoss.for_fields(fields, continuous=PositivePressure())
    pieces = [rows([60, 62], [0, 1], [1, 1])]
    found = loss_baselines(loss, fields, pieces, pieces)
    assert found.keys() == {"unigram", "repeat-last"}
    assert found["unigram"].keys() == {"loss/pitch"}, "no total without the others"


def test_a_run_stores_those_of_its_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = [long_piece(rng, count=60, seconds=20) for _ in range(3)]
    settings = {"sequence_length": 16, "batch_size": 2}
    recipe = with_settings(expressive(hidden_size=8, epochs=1), settings)
    recipe.train(pieces[:2], validation=pieces[2:], folder=tmp_path, callbacks=[JSONLogger()])
    stored = json.loads((tmp_path / "baselines.json").read_text(encoding="utf-8"))
    made = recipe.encode(pieces)
    wanted = loss_baselines(recipe.build_loss(), recipe.encoder.fields, made[:2], made[2:])
    assert {name: pytest.approx(losses) for name, losses in wanted.items()} == stored
    (line,) = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    # An untrained model is about as good as no model.
    assert json.loads(line)["validation"] < 2 * stored["unigram"]["loss"]
    assert json.loads(line).keys() >= {"learning_rate", "targets_per_second"}
