"""Dynamic evaluation: each step by hand, no row before its score, and nothing of the model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from notelstm.adaptation import EPSILON, SMOOTHING, Adaptation, AdaptedState, Adapter
from notelstm.batch import columns
from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, FieldError
from notelstm.evaluation import evaluate, nats_per_note, score_piece
from notelstm.evaluation.nats import contexts
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.models.inference import in_use
from notelstm.notes import Notes
from notelstm.predictions import PointToNormal
from notelstm.protocols import NoteEncoder, NoteModel
from notelstm.sampling import Ancestral
from notelstm.sampling.masking import Constraints, rows_before
from notelstm.testing.makers import long_piece
from notelstm.tree import detach

SIGMAS = {"step": 0.1, "duration": 0.4}
SETTINGS = Adaptation(segment=10, learning_rate=0.01, decay=0.05)

Parts = tuple[NoteModel, NoteEncoder]


def piece(count: int, seed: int = 0) -> Notes:
    return long_piece(np.random.default_rng(seed), count=count, seconds=count / 5)


def points() -> Parts:
    torch.manual_seed(0)
    encoder = StepDurationEncoder()
    return Windowed(ThreeHeadLSTM(fields=encoder.fields, hidden_size=8), 7), encoder


def chained(encoder: NoteEncoder | None = None, **options: Any) -> Parts:
    encoder = LogTimeEncoder(exact=True) if encoder is None else encoder
    torch.manual_seed(0)
    return NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, **options), encoder


MODELS: dict[str, Callable[[], Parts]] = {
    "windowed points": points,
    "constrained classes": lambda: chained(sounding_features=True),
    "mixtures": lambda: chained(StepDurationEncoder(), time_distribution="mixture"),
    "memory": lambda: chained(memory_window=16),
    "events": lambda: chained(PerformanceEventEncoder()),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def weights_of(model: NoteModel) -> list[Tensor]:
    return [p.detach().clone() for p in cast(nn.Module, model).parameters()]


def same(some: Any, others: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def costs(
    model: NoteModel, encoder: NoteEncoder, rows: Tensor, adapter: Adapter | None = None
) -> Tensor:
    """(N, F) the nats of each row, predicted before the model adapts to it."""
    spread = PointToNormal(sigmas=SIGMAS)
    limits = Constraints(encoder, model.field_order)
    previous = rows_before(rows, encoder.fields)
    parts: list[Tensor] = []
    with in_use(model):
        for here, context in contexts(model, rows, adapter):
            known = columns(rows[here], encoder.fields)
            made = []
            for name in model.field_order:
                prediction: Any = spread(name, model.predict(name, context, known))
                prediction = limits.apply(name, prediction, known, previous[here], keep_own=True)
                made.append(prediction.nll(known[name]))
            parts.append(torch.stack(made, dim=1))
    return torch.cat(parts)


def adapted_costs(make: Callable[[], Parts], rows: Tensor) -> Tensor:
    model, encoder = make()
    adapter = Adapter(model, encoder, SETTINGS, sigmas=SIGMAS)
    return costs(adapter.model, encoder, rows, adapter)


@every_model
def test_steps_are_those_of_adam_without_momentum(make: Callable[[], Parts]) -> None:
    model, encoder = make()
    rows = torch.from_numpy(encoder.encode(piece(40)))[:35]
    adapter = Adapter(model, encoder, SETTINGS, sigmas=SIGMAS)
    adapter.read(rows.numpy())
    reference = cast(nn.Module, copy.deepcopy(model)).eval()
    trained = [p.detach().clone() for p in reference.parameters()]
    optimizer = torch.optim.Adam(
        reference.parameters(), lr=SETTINGS.learning_rate, betas=(0.0, SMOOTHING), eps=EPSILON
    )
    plain = cast(NoteModel, reference)
    spread, limits = PointToNormal(sigmas=SIGMAS), Constraints(encoder, plain.field_order)
    previous = rows_before(rows, encoder.fields)
    context, state = detach(plain.initial_state(1)[0]), plain.initial_state(1)[1]
    for first in range(0, 30, 10):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for i in range(first, first + 10):
            known = columns(rows[None, i : i + 1], encoder.fields)
            for name in plain.field_order:
                prediction: Any = spread(name, plain.predict(name, context, known))
                before = previous[None, i : i + 1]
                prediction = limits.apply(name, prediction, known, before, keep_own=True)
                loss = loss + prediction.nll(known[name]).sum() / 10
            context, state = plain.forward(rows[None, i : i + 1], state)
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            for parameter, start in zip(reference.parameters(), trained, strict=True):
                parameter.lerp_(start, SETTINGS.decay)
        context, state = detach(context), detach(state)
    assert adapter.state.steps == 3
    assert not same(adapter.state.weights, trained)
    # Rounding changes the sign of the smallest gradients, so that single weights may differ.
    moved, wrong = (
        torch.cat([(p - q).flatten() for p, q in zip(reference.parameters(), others, strict=True)])
        for others in (trained, adapter.state.weights)
    )
    assert wrong.norm() < 0.01 * moved.norm()
    assert same(adapter.state.weights, weights_of(adapter.model))


@every_model
def test_no_row_changes_a_score_before_it(make: Callable[[], Parts]) -> None:
    model, encoder = make()
    rows = torch.from_numpy(encoder.encode(piece(40)))[:40]
    other = torch.from_numpy(encoder.encode(piece(40, seed=1)))[:40]
    known = adapted_costs(make, rows)
    for at in (1, 9, 10, 11, 25, 30, 39):
        changed = torch.cat([rows[:at], other[at:]])
        assert not torch.equal(changed, rows)
        torch.testing.assert_close(adapted_costs(make, changed)[:at], known[:at])
    # Rows of a segment do change the scores after it.
    changed = torch.cat([other[:1], rows[1:]])
    assert not torch.allclose(adapted_costs(make, changed)[-5:], known[-5:])
    # The first segment is scored with the trained weights.
    fixed = costs(model, encoder, rows)
    torch.testing.assert_close(known[:10], fixed[:10])
    assert not torch.allclose(known[10:20], fixed[10:20])


@every_model
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 35), max_size=5))
def test_reading_in_parts_is_reading_the_whole(make: Callable[[], Parts], cuts: list[int]) -> None:
    model, encoder = make()
    rows = encoder.encode(piece(40))[:35]
    whole, parts = (Adapter(model, encoder, SETTINGS, sigmas=SIGMAS) for _ in range(2))
    whole.read(rows)
    for part in np.split(rows, sorted(cuts)):
        parts.read(part)
    assert parts.room == whole.room == 5
    assert same(whole.state.weights, parts.state.weights)


@every_model
def test_scoring_leaves_the_model_as_it_is(make: Callable[[], Parts]) -> None:
    model, encoder = make()
    module = cast(nn.Module, model)
    before = weights_of(model)
    pieces = [piece(60), piece(60, seed=1)]
    fixed = nats_per_note(model, encoder, pieces, sigmas=SIGMAS)
    both = nats_per_note(model, encoder, pieces, sigmas=SIGMAS, adapt=SETTINGS)
    assert same(before, weights_of(model))
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    # Each piece starts from the trained weights, so that the order does not matter.
    alone = score_piece(model, encoder, pieces[1], sigmas=SIGMAS, name="1", adapt=SETTINGS)
    assert both.pieces[1] == alone
    assert both.notes == fixed.notes
    assert [p.nats for p in both.pieces] != [p.nats for p in fixed.pieces]
    assert nats_per_note(model, encoder, pieces, sigmas=SIGMAS).pieces == fixed.pieces


def test_a_model_adapts_to_a_piece() -> None:
    model, encoder = chained()
    start = np.arange(400) / 4
    long = Notes(start=start, end=start + 0.2, pitch=np.tile([60, 64, 67, 72], 100))
    fixed = score_piece(model, encoder, long).of("total")
    adapted = score_piece(model, encoder, long, adapt=SETTINGS).of("total")
    assert fixed is not None
    assert adapted is not None
    assert adapted < 0.8 * fixed


def test_rows_that_are_no_targets_are_read_only() -> None:
    model, encoder = chained()
    rows = encoder.encode(piece(60))[:40]
    adapter = Adapter(model, encoder, SETTINGS)
    adapter.read(rows[:20], targets=False)
    assert adapter.state.steps == 0
    assert same(adapter.state.weights, weights_of(model))
    # The state is that of a model with the trained weights that has read them.
    with in_use(model):
        _, state = model.forward(torch.from_numpy(rows[None, :20]), model.initial_state(1)[1])
    torch.testing.assert_close(adapter.state.state.h, state.h)
    # A segment with a few targets counts as much less than one of targets alone.
    some, every = (Adapter(model, encoder, SETTINGS) for _ in range(2))
    some.read(rows[:5])
    some.read(rows[5:10], targets=False)
    every.read(rows[:10])
    assert some.state.steps == every.state.steps == 1
    assert not same(some.state.squares, every.state.squares)


def test_a_gradient_that_is_not_finite_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model, encoder = chained(StepDurationEncoder())
    rows = encoder.encode(piece(40))[:20]
    rows[3, 1] = 3e38
    adapter = Adapter(model, encoder, SETTINGS)
    with caplog.at_level(logging.WARNING):
        adapter.read(rows[:10])
    assert caplog.messages == ["not adapted to 10 rows: the gradient is not finite"]
    assert same(adapter.state.weights, weights_of(model))
    assert adapter.state.steps == 0


def test_an_earlier_state_can_be_restored() -> None:
    model, encoder = chained()
    rows = encoder.encode(piece(60))[:40]
    adapter = Adapter(model, encoder, SETTINGS)
    adapter.read(rows[:15])
    earlier: AdaptedState = adapter.state
    kept = [w.clone() for w in earlier.weights]
    adapter.read(rows[15:])
    after = adapter.state.weights
    adapter.state = earlier
    assert same(kept, weights_of(adapter.model))
    adapter.read(rows[15:])
    assert same(after, adapter.state.weights)
    other = Adapter(model, encoder, replace(SETTINGS, decay=0.1))
    with pytest.raises(ConfigError, match="the state is one of"):
        other.state = earlier


def test_frozen_parameters_stay() -> None:
    model, encoder = chained()
    module = cast(nn.Module, model)
    module.get_submodule("lstm").requires_grad_(requires_grad=False)
    adapter = Adapter(model, encoder, SETTINGS)
    adapter.read(encoder.encode(piece(40)))
    copied = cast(nn.Module, adapter.model)
    for name, parameter in copied.named_parameters():
        moved = not torch.equal(parameter, module.get_parameter(name))
        assert moved == (not name.startswith("lstm") and name != "initial_context"), name
    module.requires_grad_(requires_grad=False)
    with pytest.raises(ConfigError, match="no parameters that require a gradient"):
        Adapter(model, encoder, SETTINGS)


def test_points_need_sigmas_at_once() -> None:
    model, encoder = points()
    with pytest.raises(FieldError, match="no sigma"):
        Adapter(model, encoder, SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"segment": 0}, "segment 0"),
        ({"segment": 2.5}, "segment 2.5"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"decay": 1.0}, "decay 1.0"),
        ({"decay": -0.1}, "decay -0.1"),
        ({"segment": True}, "segment True"),
        ({"learning_rate": True}, "learning_rate True"),
        ({"learning_rate": "0.1"}, "learning_rate '0.1'"),
        ({"decay": False}, "decay False"),
        ({"decay": None}, "decay None"),
        ({"own_samples": "no"}, "own_samples 'no'"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Adaptation(**wrong)


def test_a_report_has_the_adapted_figures_beside_the_fixed_ones() -> None:
    pieces = [piece(80, seed) for seed in range(3)]
    model, encoder = chained()
    bundle = Bundle(model=model, encoder=encoder, sampler=Ancestral())
    fixed = evaluate(bundle, pieces)
    assert "adapted" not in fixed.to_json()
    report = evaluate(bundle, pieces, adapt=SETTINGS)
    assert report.adapted is not None
    assert report.model.pieces == fixed.model.pieces
    made = report.to_json()["adapted"]
    assert made["settings"] == {
        "segment": 10,
        "learning_rate": 0.01,
        "decay": 0.05,
        "own_samples": False,
    }
    assert made["notes"] == fixed.model.notes
    difference = made["difference"]["differences"]["total"]["value"]
    assert fixed.model.total is not None
    assert difference == pytest.approx(made["total"] - fixed.model.total)
    assert difference != 0
    assert made["seconds_per_note"] > 0
    assert made["fixed_seconds_per_note"] > 0
