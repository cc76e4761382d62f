"""Rows of given notes are context: they are neither trained, nor adapted to, nor scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.adaptation import Adaptation, Adapter
from notelstm.batch import Batch
from notelstm.data import SequenceDataset, StatefulBatches, TimeStretch, WindowBatches
from notelstm.encoders import LogTimeEncoder
from notelstm.encoders.rows import as_rows
from notelstm.errors import FieldError
from notelstm.evaluation import nats_per_row
from notelstm.evaluation.loss_baselines import loss_baselines
from notelstm.fields import Field, Rows, by_name, written_rows
from notelstm.losses import CompositeLoss
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.protocols import Batches
from notelstm.training import Trainer, TrainingConfig, measure_terms

INNER = LogTimeEncoder(linear=0.1, growth=2.0, longest=4.0)
FIELDS = (*INNER.fields, Field.categorical("origin", "origin", values=(0, 1), given=True))


@dataclass(frozen=True)
class Marked:
    """Rows of the inner encoder, with an origin of 0."""

    fields: tuple[Field, ...] = FIELDS

    def encode(self, notes: Notes) -> Rows:
        rows = INNER.encode(notes)
        return np.column_stack([rows, np.zeros(len(rows), np.float32)])

    def decode(self, rows: Rows) -> Notes:
        return INNER.decode(as_rows(rows, self.fields)[:, :4])


def rows_of(origin: list[int]) -> Rows:
    rng = np.random.default_rng(0)
    sizes = [field.classes or 0 for field in INNER.fields]
    rows = rng.integers(0, sizes, (len(origin), len(sizes)))
    return np.column_stack([rows, origin]).astype(np.float32)


def model_of() -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(fields=FIELDS, hidden_size=8, embedding_dim=4)


def trained(batches: Batches, model: NoteLSTM) -> dict[str, float]:
    loss = CompositeLoss.for_fields(FIELDS)
    trainer = Trainer(
        model, loss, config=TrainingConfig(epochs=1, learning_rate=1e-9, device="cpu")
    )
    return trainer.fit(batches, batches).epochs[-1]


ORIGIN = [0, 1, 1, 0, 0, 1, 0, 1, 0]


def test_written_rows_are_those_of_origin_0() -> None:
    rows = rows_of(ORIGIN)
    expected = [origin == 0 for origin in ORIGIN]
    assert written_rows(rows, FIELDS).tolist() == expected
    assert written_rows(torch.from_numpy(rows)[None], FIELDS).tolist() == [expected]
    assert written_rows(rows, INNER.fields) is None


def test_batches_of_a_model_have_written_targets_alone() -> None:
    batch = Batch(
        torch.from_numpy(rows_of(ORIGIN))[None],
        torch.tensor([[False, *[True] * (len(ORIGIN) - 1)]]),
        torch.tensor([False]),
    )
    found = batch.only_written(FIELDS).target_mask
    assert found.tolist() == [[False, *(origin == 0 for origin in ORIGIN[1:])]]
    assert batch.only_written(INNER.fields) is batch


@pytest.mark.parametrize("targets", ["every", "last"])
def test_the_loss_is_that_of_written_rows(targets: Any) -> None:
    rows, model = rows_of(ORIGIN), model_of()
    nats = nats_per_row(model, Marked(), [rows]).nats["0"]
    length = len(rows) - 1 if targets == "every" else 3
    dataset = SequenceDataset([rows], sequence_length=length, targets=targets)
    batches = WindowBatches(dataset=dataset, shuffle=False)
    metrics = trained(batches, model)
    if targets == "every":
        assert metrics["loss"] == pytest.approx(nats.sum(axis=1).mean(), rel=1e-5)
    else:
        # Windows begin without a context, so that only their number is compared.
        used = sum(origin == 0 for origin in ORIGIN[3:])
        counted = sum(
            int(batch.only_written(FIELDS).target_mask.sum()) for batch in batches.epoch(0)
        )
        assert counted == used
    assert metrics["validation"] == pytest.approx(metrics["loss"], rel=1e-5)
    terms = measure_terms(model, CompositeLoss.for_fields(FIELDS), batches)
    assert sum(terms.values()) == pytest.approx(metrics["loss"], rel=1e-5)


def test_a_batch_of_given_rows_alone_has_no_loss_and_is_read() -> None:
    """The second of three batches has no target, and the third depends on it."""
    rows = rows_of([0, 0, 0, 1, 1, 0, 0])
    losses = []
    for pitch in (60, 61):
        rows[3, 0] = pitch
        dataset = SequenceDataset([rows], sequence_length=2, targets="every")
        batches = StatefulBatches(dataset=dataset, batch_size=1, shuffle=False)
        metrics = trained(batches, model_of())
        nats = nats_per_row(model_of(), Marked(), [rows]).nats["0"]
        assert metrics["loss"] == pytest.approx(nats.sum(axis=1).mean(), rel=1e-5)
        assert metrics["validation"] == pytest.approx(metrics["loss"], rel=1e-5)
        losses.append(metrics["loss"])
    assert abs(losses[0] - losses[1]) > 1e-5


def test_a_run_of_given_rows_alone_changes_nothing() -> None:
    model = model_of()
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    dataset = SequenceDataset([rows_of([1] * 7)], sequence_length=3, targets="every")
    loss = CompositeLoss.for_fields(FIELDS)
    config = TrainingConfig(epochs=1, learning_rate=1.0, optimizer="sgd", device="cpu")
    trainer = Trainer(model, loss, config=config)
    batches = StatefulBatches(dataset=dataset, batch_size=2)
    sums = trainer.evaluate(batches)
    assert sums.tolist() == [0.0] * len(sums)
    for batch in batches.epoch(0):
        losses, _ = trainer.module(batch.only_written(FIELDS), None)
        assert float(losses.total) == 0
    assert all(torch.equal(model.state_dict()[name], weights) for name, weights in before.items())


def test_nats_per_row_are_of_written_rows() -> None:
    rows, model = rows_of(ORIGIN), model_of()
    plain = rows.copy()
    plain[:, 4] = 0
    assert len(nats_per_row(model, Marked(), [plain]).nats["0"]) == len(ORIGIN)
    found = nats_per_row(model, Marked(), [rows]).nats["0"]
    assert len(found) == ORIGIN.count(0)
    with torch.no_grad():
        context, _ = model(torch.from_numpy(rows[None, :3]), model.initial_state(1)[1])
        known = {f.name: torch.tensor([rows[3, i]]).long() for i, f in enumerate(FIELDS)}
        last = type(context)(*(part[:, -1] for part in context))
        nats = [
            float(cast(Any, model.predict(name, last, known)).nll(known[name]))
            for name in model.field_order
        ]
    assert found[1] == pytest.approx(nats, rel=1e-5)


def test_dynamic_evaluation_adapts_to_written_rows() -> None:
    model = model_of()
    adapter = Adapter(model, Marked(), Adaptation(segment=3, learning_rate=0.1))
    adapter.read(rows_of([1, 1, 1, 1]))
    same = zip(
        cast(nn.Module, adapter.model).parameters(),
        cast(nn.Module, model).parameters(),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in same)
    adapter.read(rows_of([1, 0]))
    embed = by_name(FIELDS)["pitch"].name
    weights = [cast(NoteLSTM, m).embed[embed].weight for m in (adapter.model, model)]
    assert not torch.equal(*cast(list[torch.Tensor], weights))


def test_baselines_of_a_loss_leave_out_given_rows() -> None:
    rows = rows_of(ORIGIN)
    written = rows[rows[:, 4] == 0]
    loss = CompositeLoss.for_fields(FIELDS)
    found = loss_baselines(loss, FIELDS, [rows], [rows])
    assert found == loss_baselines(loss, FIELDS, [written], [written])
    # Of the first three rows, one is written.
    found = loss_baselines(loss, FIELDS, [rows], [rows], skip=3)
    assert found == loss_baselines(loss, FIELDS, [written], [written], skip=1)


def test_a_rest_is_a_class_of_a_step() -> None:
    step = Field(name="step", role="step", unit="s", classes=3, values=(0, 1, 1), rest=2)
    assert step.rest == 2
    with pytest.raises(FieldError, match="no class 3"):
        Field(name="step", role="step", unit="s", classes=3, values=(0, 1, 1), rest=3)
    with pytest.raises(FieldError, match="not a step has a rest"):
        Field(name="pitch", role="pitch", classes=3, rest=2)
    with pytest.raises(FieldError, match="or a rest"):
        Field(name="step", role="step", rest=2)


def test_stretching_keeps_rests() -> None:
    step = Field(name="step", role="step", unit="s", classes=4, values=(0, 1, 2, 1), rest=3)
    rows = torch.tensor([[[1.0], [3.0], [2.0]]])
    stretched = TimeStretch(factors=(2.0,)).apply((step,), rows, torch.tensor([0]))
    assert stretched[0, :, 0].tolist() == [2.0, 3.0, 2.0]
