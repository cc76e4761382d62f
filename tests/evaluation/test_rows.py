"""Nats per row: exact, masked, of every field that is predicted; and averages of models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from notelstm.adaptation import Adaptation
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import DataError
from notelstm.evaluation import RowScores, averaged, nats_per_row
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.sampling.masking import Constraints, rows_before

ENCODER = LogTimeEncoder(exact=True, longest=2.0)
STEP = [field.name for field in ENCODER.fields].index("step")


def model(seed: int) -> NoteLSTM:
    torch.manual_seed(seed)
    return NoteLSTM(fields=ENCODER.fields, hidden_size=12, embedding_dim=6)


def rows(seed: int, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.choice([0.0, 0.1, 0.25], size=count))
    return ENCODER.encode(
        Notes(start=start, end=start + 0.2, pitch=rng.integers(50, 70, size=count))
    )


def test_it_is_the_likelihood_of_every_row() -> None:
    table, one = rows(0), model(0).eval()
    scores = nats_per_row(one, ENCODER, [table])
    (nats,) = scores.nats.values()
    assert nats.shape == (len(table), 4)
    # One row after another, by the definition.
    tensor = torch.from_numpy(table)
    before = rows_before(tensor, ENCODER.fields)
    constraints = Constraints(ENCODER, one.field_order)
    context, state = one.initial_state(1)
    with torch.no_grad():
        for i, row in enumerate(tensor):
            known = {f.name: row[k : k + 1].long()[None] for k, f in enumerate(ENCODER.fields)}
            for k, name in enumerate(one.field_order):
                prediction = constraints.apply(
                    name, one.predict(name, context, known), known, before[i][None, None]
                )
                weights = prediction.log_weights()
                assert weights is not None
                own = float(-weights.log_softmax(-1)[0, 0, known[name][0, 0]])
                assert nats[i, k] == pytest.approx(own, abs=1e-4)
            context, state = one.forward(row[None, None], state)


def test_pieces_and_rows_count_alike_or_not() -> None:
    pieces = [rows(1, 10), rows(2, 40)]
    scores = nats_per_row(model(0), ENCODER, pieces, names=["a", "b"])
    a, b = (nats.sum(axis=1) for nats in (scores.nats["a"], scores.nats["b"]))
    assert scores.per_row() == pytest.approx((a.sum() + b.sum()) / (len(a) + len(b)))
    assert scores.per_piece() == pytest.approx((a.mean() + b.mean()) / 2)
    assert scores.per_row(skip=1) == pytest.approx(np.concatenate([a[1:], b[1:]]).mean())
    assert scores.per_piece(skip=len(a)) == pytest.approx(b[len(a) :].mean())
    assert np.isnan(RowScores(fields=("x",), nats={"a": np.zeros((0, 1))}).per_row())
    assert np.isnan(RowScores(fields=("x",), nats={"a": np.zeros((0, 1))}).per_piece())
    none = nats_per_row(model(0), ENCODER, [])
    assert np.isnan(none.per_row())
    assert np.isnan(none.per_piece())


def test_dynamic_evaluation_does_not_see_the_rows_to_come() -> None:
    table = rows(3, 60)
    changed = table.copy()
    changed[30:] = table[: len(table) - 30]
    changed[30, STEP] = 40  # after a rest, any pitch is allowed
    adapt = Adaptation(segment=7, learning_rate=1e-2)
    one, two = (
        nats_per_row(model(0), ENCODER, [t], adapt=adapt).nats["0"] for t in (table, changed)
    )
    assert np.array_equal(one[:30], two[:30])
    assert not np.array_equal(one[31:], two[31:])
    fixed = nats_per_row(model(0), ENCODER, [table]).nats["0"]
    assert np.allclose(one[:7], fixed[:7], atol=1e-5)
    assert not np.allclose(one[7:14], fixed[7:14], atol=1e-5)


def test_averages_are_of_probabilities() -> None:
    tables = [rows(5), rows(6)]
    scores = [nats_per_row(model(seed), ENCODER, tables) for seed in range(3)]
    mean = averaged(scores)
    for name in mean.nats:
        probabilities = np.mean([np.exp(-score.nats[name]) for score in scores], axis=0)
        assert np.allclose(np.exp(-mean.nats[name]), probabilities)
    assert averaged(scores[:1]).per_row() == pytest.approx(scores[0].per_row())
    # The logarithm is concave: the mean of the probabilities is never worse than that of the nats.
    assert mean.per_row() < np.mean([score.per_row() for score in scores])


def test_whole_rows_have_one_figure_each() -> None:
    scores = nats_per_row(model(0), ENCODER, [rows(5), rows(6)])
    whole = scores.whole_rows()
    assert whole.fields == ("row",)
    for name, nats in scores.nats.items():
        assert np.array_equal(whole.nats[name], nats.sum(axis=1)[:, None])
    assert whole.per_row() == scores.per_row()
    assert whole.per_piece(skip=2) == scores.per_piece(skip=2)


def test_unlike_scores_are_not_averaged() -> None:
    one = nats_per_row(model(0), ENCODER, [rows(1)])
    torch.manual_seed(0)
    other = NoteLSTM(
        fields=ENCODER.fields,
        hidden_size=12,
        field_order=("step", "pitch", "velocity", "duration"),
    )
    with pytest.raises(DataError, match="another order"):
        averaged([one, nats_per_row(other, ENCODER, [rows(1)])])
    with pytest.raises(DataError, match="other pieces"):
        averaged([one, nats_per_row(model(0), ENCODER, [rows(1)], names=["b"])])
    with pytest.raises(DataError, match="no scores"):
        averaged([])


def test_a_row_that_the_encoder_excludes_is_an_error() -> None:
    table = rows(0)
    table[5] = table[4]  # the same pitch again
    table[5, STEP] = 0
    with pytest.raises(DataError, match=r"step 0 has inf nats \(piece x, row 5\)"):
        nats_per_row(model(0), ENCODER, [table], names=["x"])


def test_names_are_those_of_the_pieces() -> None:
    scores = nats_per_row(model(0), ENCODER, [rows(0), rows(1)], names=["x", "y"])
    assert list(scores.nats) == ["x", "y"]
    for names in (["x"], ["x", "x"]):
        with pytest.raises(DataError, match="names"):
            nats_per_row(model(0), ENCODER, [rows(0), rows(1)], names=names)
