"""Given fields: context that is neither trained, nor scored, nor sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from typing_extensions import override

from notelstm import Notes, Session
from notelstm.adaptation import Adaptation, Adapter
from notelstm.batch import Batch
from notelstm.encoders import StepDurationEncoder
from notelstm.encoders.rows import RowTracker
from notelstm.errors import ConfigError, FieldError
from notelstm.evaluation import nats_per_row, score_piece
from notelstm.fields import Field, Row, Rows
from notelstm.generation import generate, generate_batch, stream
from notelstm.losses import CompositeLoss
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.protocols import SamplingContext
from notelstm.recipes import Recipe
from notelstm.sampling import Ancestral, Greedy
from notelstm.testing import check_model
from notelstm.tracker import Tone, Tracker
from notelstm.training import TrainingConfig
from notelstm.training.step import TrainStep

HIGH = Field.categorical("high", "other", values=(0, 1), given=True)
BEFORE = Field.categorical("before", "other", values=range(128), none=True, given=True)
INNER = StepDurationEncoder()


@dataclass(frozen=True, kw_only=True)
class HighOrLow:
    """Rows of notes, and whether the piece is high, which follows from its first note."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return (HIGH, *INNER.fields)

    def encode(self, notes: Notes) -> Rows:
        rows = INNER.encode(notes)
        high = bool(len(notes)) and bool(notes.pitch[0] >= 60)
        return np.column_stack([np.full(len(rows), high), rows]).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        return INNER.decode(rows[:, 1:])


@dataclass(frozen=True, kw_only=True)
class NoteBefore:
    """Rows of notes, and the pitch of the note before, which the tracker derives."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return (*INNER.fields, BEFORE)

    def encode(self, notes: Notes) -> Rows:
        rows = INNER.encode(notes)
        return np.column_stack([rows, np.append(128, rows[:, 0])[: len(rows)]]).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        return INNER.decode(rows[:, :-1])

    def tracker(self) -> Tracker:
        return _BeforeTracker()


class _BeforeTracker(Tracker):
    def __init__(self) -> None:
        super().__init__(NoteBefore().fields)
        self.inner: Any = RowTracker(INNER)

    @override
    def given(self) -> Mapping[str, float]:
        before = self.inner.previous[0]
        return {"before": 128.0 if before < 0 else float(before)}

    @property
    def num_notes(self) -> int:
        return int(self.inner.num_notes)

    @property
    def time(self) -> float:
        return float(self.inner.time)

    def push(self, row: Row) -> None:
        self.inner.push(row[:-1])

    def sounding(self, at: float) -> Set[Tone]:
        found: Set[Tone] = self.inner.sounding(at)
        return found

    def notes(self) -> Notes:
        found: Notes = self.inner.notes()
        return found

    def pop_finished(self, *, include_sounding: bool = False) -> Any:
        return self.inner.pop_finished(include_sounding=include_sounding)


def model_of(encoder: Any, **settings: Any) -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(fields=encoder.fields, hidden_size=16, embedding_dim=8, **settings)


def piece(pitch: int, count: int = 60) -> Notes:
    start = 0.25 * np.arange(count)
    return Notes(start=start, end=start + 0.2, pitch=pitch + np.arange(count) % 3)


@pytest.fixture(scope="module")
def bundle() -> Any:
    recipe = Recipe(
        name="given",
        encoder=HighOrLow(),
        model=NoteLSTM,
        sampler=Ancestral(),
        sequence_length=20,
        batch_size=4,
        training=TrainingConfig(epochs=30, optimizer="adamw", learning_rate=0.01),
    )
    return recipe.train([piece(40), piece(80)] * 4)


def test_a_model_with_given_fields_keeps_its_contract() -> None:
    for settings in ({}, {"sounding_features": True}):
        check_model(model_of(HighOrLow(), **settings))
    check_model(model_of(NoteBefore(), field_order=("step", "duration", "pitch")))


def test_a_given_field_is_not_predicted() -> None:
    model = model_of(HighOrLow())
    assert model.field_order == ("pitch", "step", "duration")
    assert "high" not in model.heads
    with pytest.raises(FieldError, match="does not name each field"):
        model_of(HighOrLow(), field_order=("high", "pitch", "step", "duration"))
    with pytest.raises(FieldError, match="do not read given fields"):
        ThreeHeadLSTM(fields=(replace(INNER.fields[0], given=True), *INNER.fields[1:]))


def test_a_given_entry_changes_the_predictions_of_its_own_row() -> None:
    model = model_of(HighOrLow()).eval()
    context, _ = model.initial_state(1)
    low, high = (
        model.predict("pitch", context, {"high": torch.tensor([[k]])}).log_weights() for k in (0, 1)
    )
    assert low is not None
    assert high is not None
    assert not torch.equal(low, high)


def test_a_given_field_is_not_trained() -> None:
    encoder = HighOrLow()
    loss = CompositeLoss.for_fields(encoder.fields)
    assert list(loss.weights) == ["pitch", "step", "duration"]
    with pytest.raises(FieldError, match="terms of given fields: high"):
        TrainStep(
            model_of(encoder), CompositeLoss(terms={**loss.terms, "high": loss.terms["pitch"]})
        )
    step = TrainStep(model_of(encoder), loss, encoder)
    rows = torch.from_numpy(encoder.encode(piece(40)))[None]
    mask = torch.ones(1, rows.shape[1], dtype=torch.bool)
    losses, _ = step(Batch(rows, mask, torch.tensor([True])), None)
    assert set(losses.terms) == {"pitch", "step", "duration"}
    losses.total.backward()
    gradient = dict(step.model.named_parameters())["embed.high.weight"].grad
    assert gradient is not None
    assert bool(gradient.abs().sum() > 0)  # it is still an input


def test_a_given_field_is_not_scored() -> None:
    encoder = HighOrLow()
    model = model_of(encoder)
    sigmas = {"step": 0.1, "duration": 0.1}
    score = score_piece(model, encoder, piece(40), sigmas=sigmas)
    assert set(score.nats) == {"pitch", "step", "duration"}
    rows = nats_per_row(model, encoder, [encoder.encode(piece(40))])
    assert rows.fields == ("pitch", "step", "duration")


def test_dynamic_evaluation_reads_given_fields() -> None:
    encoder = HighOrLow()
    model, rows = model_of(encoder), encoder.encode(piece(40))
    adapter = Adapter(model, encoder, Adaptation(segment=10, learning_rate=1e-2))
    adapter.read(rows)
    assert adapter.state.steps == 6
    fixed = nats_per_row(model, encoder, [rows]).per_row()
    adapted = nats_per_row(model, encoder, [rows], adapt=adapter.settings).per_row()
    assert adapted < fixed


def test_given_entries_change_the_music(bundle: Any) -> None:
    low, high = (generate(bundle, 40, given={"high": k}, seed=3) for k in (0, 1))
    assert float(np.median(low.pitch)) < 50
    assert float(np.median(high.pitch)) > 70
    batch = generate_batch(bundle, 40, batch_size=2, given={"high": 1}, seed=3)
    assert np.array_equal(batch[0].pitch, high.pitch)
    best = generate(bundle, 10, given={"high": 1}, seed=3, best_of=2)
    assert float(np.median(best.pitch)) > 70
    assert [n.pitch for n in stream(bundle, num_notes=40, given={"high": 1}, seed=3)] == [
        *high.pitch
    ]


def test_a_prompt_has_the_given_entries_too(bundle: Any) -> None:
    seen: list[float] = []

    def watching(field: Any, prediction: Any, noise: Any, contexts: Any) -> Any:
        seen.append(contexts[0].known["high"])
        return prediction.mode()

    prompt = piece(40, 4)
    one = generate(bundle, 6, prompt=prompt, given={"high": 1}, sampler=watching)
    assert set(seen) == {1.0}
    session = Session(bundle.generation_model, bundle.encoder, Greedy(), given={"high": 1})
    rows = bundle.encoder.encode(prompt)
    rows[:, 0] = 1
    session.feed(rows)
    assert np.array_equal(one.pitch, session.run(num_notes=6)[0].pitch)


def test_a_missing_entry_is_an_error_and_does_not_change_the_session(bundle: Any) -> None:
    session = Session(bundle.generation_model, bundle.encoder, Ancestral(), seed=5)
    with pytest.raises(FieldError, match="given field 'high' has no entry"):
        session.next()
    first = session.next(high=1)
    session.given = {"high": 0}
    second = session.next()
    assert first[0, 0] == 1
    assert second[0, 0] == 0
    again = Session(bundle.generation_model, bundle.encoder, Ancestral(), seed=5, given={"high": 0})
    assert np.array_equal(again.next(high=1), first)
    assert np.array_equal(again.next(), second)
    batch = Session(bundle.generation_model, bundle.encoder, Ancestral(), batch_size=2)
    with pytest.raises(FieldError, match=r"given field 'high' has no entry.*sequence 0"):
        batch.next()


def test_only_given_fields_are_given(bundle: Any) -> None:
    for given, words in (
        ({"pitch": 60}, "'pitch' is sampled, not given"),
        ({"pitch": "C4"}, "'pitch' is sampled, not given"),
        ({"hight": 1}, "no field 'hight': did you mean 'high'. Use high$"),
        ({"high": 2}, "high 2 is not a class id"),
    ):
        with pytest.raises(FieldError, match=words):
            Session(bundle.generation_model, bundle.encoder, Ancestral(), given=given)
    session = Session(bundle.generation_model, bundle.encoder, Ancestral(), given={"high": 1})
    with pytest.raises(FieldError, match="no field"):
        session.given = {"low": 1}
    assert session.given == {"high": 1}


def test_fixed_and_given_entries_go_together(bundle: Any) -> None:
    session = Session(bundle.generation_model, bundle.encoder, Ancestral(), given={"high": 1})
    row = session.next(pitch=60)
    assert row[0, :2].tolist() == [1, 60]
    row = session.next(high=0, duration=0.5)
    assert row[0, 0] == 0
    assert row[0, 3] == 0.5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_tracker_derives_given_entries(batch_size: int) -> None:
    encoder = NoteBefore()
    session = Session(model_of(encoder), encoder, Ancestral(), batch_size=batch_size)
    session.feed(encoder.encode(piece(40, 3)))
    before = np.full(batch_size, 42.0)
    for _ in range(20):
        rows = session.next()
        assert np.array_equal(rows[:, -1], before)
        before = rows[:, 0]
    assert session.next(before=7)[0, -1] == 7  # what is given goes before


def test_a_field_without_a_value() -> None:
    assert BEFORE.none == 128
    assert math.isnan(BEFORE.value_of(128))
    assert BEFORE.value_of(127) == 127
    context = SamplingContext({}, _BeforeTracker())
    assert context.tracker.given() == {"before": 128.0}
    with pytest.raises(FieldError, match="no class 3 of 2"):
        Field(name="x", role="pitch", classes=2, values=(1, 2), none=3)
    with pytest.raises(FieldError, match="has edges"):
        Field(name="x", role="pitch", classes=2, values=(1, 2), edges=(0, 1, 2), none=1)
    with pytest.raises(FieldError, match="continuous field has a class"):
        Field(name="x", role="pitch", none=1)


def test_settings_of_sessions_stay_checked() -> None:
    encoder = HighOrLow()
    with pytest.raises(ConfigError, match="batch_size"):
        Session(model_of(encoder), encoder, Ancestral(), batch_size=0, given={"high": 1})
