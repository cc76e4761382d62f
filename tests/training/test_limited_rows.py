"""Training with an encoder that limits the rows: masked alike in every batch, cut anywhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from notelstm.batch import Batch
from notelstm.data import Augmented, SequenceDataset, StatefulBatches, Transpose, WindowBatches
from notelstm.data.transforms import TimeStretch
from notelstm.encoders import LogTimeEncoder
from notelstm.fields import Rows
from notelstm.losses import CompositeLoss
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.training import Trainer, TrainingConfig, TrainStep, measure_terms

EXACT = LogTimeEncoder(exact=True)
FIELDS = EXACT.fields
LOSS = CompositeLoss.for_fields(FIELDS)
ORDERS = (("step", "pitch", "velocity", "duration"), ("pitch", "duration", "step", "velocity"))


def chained(order: tuple[str, ...] = ORDERS[0]) -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(fields=FIELDS, field_order=order, hidden_size=8, embedding_dim=4).double()


def chords(count: int, seed: int = 0) -> Rows:
    """Rows of many notes that begin together, some of them with the highest pitch."""
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(0, 2, count)) * 0.25
    pitch = rng.choice([0, 60, 64, 67, 126, 127], count)
    return EXACT.encode(Notes(start=start, end=start + 0.1, pitch=pitch))


def by_hand(model: NoteLSTM, rows: Rows) -> Tensor:
    """The loss of a whole piece, a row at a time, with the mask written out."""
    total = torch.zeros((), dtype=torch.float64)
    context, state = model.initial_state(1)
    before: list[int] | None = None
    for row in rows:
        ids = dict(zip((f.name for f in FIELDS), map(int, row), strict=True))
        known = {name: torch.tensor([[x]]) for name, x in ids.items()}
        order = model.field_order
        for name in order:
            logits = model.predict(name, context, known).log_weights()
            assert logits is not None
            logits, last = logits[0, 0], -1 if before is None else before[0]
            earlier = order[: order.index(name)]
            if name == "pitch" and "step" in earlier and ids["step"] == 0:
                logits = logits[last + 1 :].log_softmax(-1)
                total = total - logits[ids["pitch"] - last - 1]
            elif name == "step" and (ids["pitch"] if "pitch" in earlier else 127) <= last:
                total = total - logits[1:].log_softmax(-1)[ids["step"] - 1]
            else:
                total = total - logits.log_softmax(-1)[ids[name]]
        context, state = model(torch.from_numpy(row).double()[None, None], state)
        before = [int(x) for x in row]
    return total


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("window", [1, 4, 100])
@torch.no_grad()
def test_pieces_cut_anywhere_have_the_loss_of_whole_pieces(
    order: tuple[str, ...], window: int
) -> None:
    model, data = chained(order), [chords(n, n) for n in (23, 17, 31)]
    wanted = sum(float(by_hand(model, rows)) for rows in data)
    step, state, got = TrainStep(model, LOSS, EXACT), None, 0.0
    longest = max(map(len, data)) - 1
    dataset = SequenceDataset(data, sequence_length=min(window, longest), targets="every")
    for batch in StatefulBatches(dataset=dataset, batch_size=1).epoch(0):
        losses, state = step(batch._replace(rows=batch.rows.double()), state)
        got += float(losses.total) * int(batch.target_mask.sum())
    assert got == pytest.approx(wanted, rel=1e-9)


@torch.no_grad()
def test_the_last_row_of_a_window_has_the_row_before_it() -> None:
    model, rows = chained(), chords(12)
    step = TrainStep(model, LOSS, EXACT)
    batches = WindowBatches(
        dataset=SequenceDataset([rows], sequence_length=5), batch_size=3, shuffle=False
    )
    for single in batches.epoch(0):
        batch = single._replace(rows=single.rows.double())
        whole, _ = step(batch, None)
        # The same targets through the other branch, which finds them by their positions.
        mask = batch.target_mask.clone()
        mask[:, -2] = True
        both, _ = step(batch._replace(target_mask=mask), None)
        mask[:, -1] = False
        other, _ = step(batch._replace(target_mask=mask), None)
        assert float(2 * both.total) == pytest.approx(float(whole.total + other.total), rel=1e-9)


def test_excluded_classes_have_no_gradient_and_no_probability() -> None:
    model = chained()
    step = TrainStep(model, LOSS, EXACT)
    rows = torch.tensor([[[60, 0, 3, 3], [64, 0, 3, 3]]], dtype=torch.float64)
    mask = torch.tensor([[False, True]])
    step(Batch(rows, mask, torch.tensor([True])), None)[0].terms["pitch"].backward()
    bias = model.heads["pitch"].get_submodule("2").bias.grad
    assert isinstance(bias, Tensor)
    assert (bias[:61] == 0).all()
    assert (bias[61:] != 0).all()
    assert torch.isfinite(bias).all()


@torch.no_grad()
def test_rows_that_augmentation_reorders_have_a_finite_loss() -> None:
    model = chained()
    step = TrainStep(model, LOSS, EXACT)
    for row in ([50, 0, 3, 3], [60, 0, 3, 3], [127, 0, 3, 3]):
        rows = torch.tensor([[[127, 0, 3, 3], row]], dtype=torch.float64)
        losses, _ = step(Batch(rows, torch.tensor([[False, True]]), torch.tensor([True])), None)
        assert math.isfinite(float(losses.total))
    dataset = SequenceDataset([chords(60)], sequence_length=8, targets="every")
    stretched = Augmented(
        batches=StatefulBatches(dataset=dataset, batch_size=2),
        fields=FIELDS,
        transforms=(Transpose(), TimeStretch(factors=(0.01,))),
    )
    for batch in stretched.epoch(0):
        losses, _ = step(batch._replace(rows=batch.rows.double()), None)
        assert math.isfinite(float(losses.total))


def test_trainer_and_measured_terms_use_the_encoder() -> None:
    def terms(**settings: Any) -> dict[str, float]:
        dataset = SequenceDataset([chords(60)], sequence_length=8, targets="every")
        batches = WindowBatches(dataset=dataset, batch_size=60, shuffle=False)
        model = chained().float()
        measured = measure_terms(model, LOSS, batches, **settings)
        config = TrainingConfig(epochs=1, learning_rate=1e-9)
        trained = Trainer(model, LOSS, config=config, **settings).fit(batches).epochs[0]
        assert trained["loss/pitch"] == pytest.approx(measured["pitch"], rel=1e-5)
        return measured

    limited, free = terms(encoder=EXACT), terms()
    assert limited["pitch"] < free["pitch"] - 0.1
    assert limited["velocity"] == pytest.approx(free["velocity"])
    assert terms(encoder=LogTimeEncoder()) == free
