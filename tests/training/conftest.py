"""Small things to train: windows for the reference model, streams for a chained one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from notelstm.data import SequenceDataset, StatefulBatches, WindowBatches
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.losses import CompositeLoss, PositivePressure
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.protocols import Batches, NoteModel
from notelstm.testing.makers import long_piece
from notelstm.training import Trainer, TrainingConfig


class Study(NamedTuple):
    """Something to train."""

    model: NoteModel
    loss: CompositeLoss
    batches: Batches
    validation: Batches

    def trainer(self, callbacks: Any = (), folder: Any = None, **options: Any) -> Trainer:
        settings = {"epochs": 4, "device": "cpu", "checkpoint_every": 1, **options}
        return Trainer(
            self.model,
            self.loss,
            config=TrainingConfig(**settings),
            callbacks=callbacks,
            folder=folder,
        )


def windows() -> Study:
    """The reference's: windows, last row scored, no state carried."""
    encoder = StepDurationEncoder()
    rng = np.random.default_rng(0)
    pieces = [encoder.encode(long_piece(rng, count=n, seconds=n / 8)) for n in (60, 40, 50)]
    torch.manual_seed(1)
    return Study(
        ThreeHeadLSTM(fields=encoder.fields, hidden_size=8),
        CompositeLoss.for_fields(encoder.fields, continuous=PositivePressure()),
        WindowBatches(dataset=SequenceDataset(pieces[:2], sequence_length=10), batch_size=16),
        WindowBatches(dataset=SequenceDataset(pieces[2:], sequence_length=10), batch_size=16),
    )


def stateful() -> Study:
    """Every row scored, state carried from batch to batch, dropout."""
    encoder = LogTimeEncoder()
    rng = np.random.default_rng(0)
    pieces = [encoder.encode(long_piece(rng, count=n, seconds=n / 8)) for n in (60, 40, 50)]
    torch.manual_seed(1)

    def batches(some: Any) -> StatefulBatches:
        data = SequenceDataset(some, sequence_length=7, targets="every")
        return StatefulBatches(dataset=data, batch_size=3)

    return Study(
        NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, dropout=0.3),
        CompositeLoss.for_fields(encoder.fields),
        batches(pieces[:2]),
        batches(pieces[2:]),
    )


@pytest.fixture(autouse=True)
def ctrl_c_is_received() -> Iterator[None]:
    """Tests that run in the background inherit an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=[windows, stateful])
def make(request: pytest.FixtureRequest) -> Callable[[], Study]:
    """Makes the same study each time."""
    made: Callable[[], Study] = request.param
    return made


@pytest.fixture
def study(make: Callable[[], Study]) -> Study:
    """One of each kind."""
    return make()
