"""The reference design, number by number, through the public API.

``study.npz`` holds the original's arithmetic on ``study.mid``, a small file beside it.
``original.npz`` holds the same on a MAESTRO file; it is met where the folder that holds it
(NOTELSTM_GOLDEN) and MAESTRO (NOTELSTM_MAESTRO) are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from notelstm.batch import Batch
from notelstm.data import SequenceDataset, WindowBatches
from notelstm.encoders import StepDurationEncoder
from notelstm.losses import AllPairs, CompositeLoss, Likelihood, PositivePressure
from notelstm.midi import ReadPolicy, read_midi
from notelstm.models import ThreeHeadLSTM
from notelstm.models.lstm import Hidden
from notelstm.notes import Notes
from notelstm.predictions import Categorical, PointEstimate
from notelstm.protocols import LossTerm
from notelstm.training import Trainer, TrainingConfig, TrainStep

HERE = Path(__file__).parent
NAMES = ("pitch", "step", "duration")
TERMS: dict[str, LossTerm] = {"paired": PositivePressure(), "as_printed": AllPairs()}


@dataclass(frozen=True)
class Golden:
    """The numbers of one file, and the file."""

    numbers: dict[str, NDArray[Any]]
    midi: Path


def golden(name: str) -> Golden:
    folder, music = HERE, HERE
    if name == "original":
        wanted = {"NOTELSTM_GOLDEN": "original.npz", "NOTELSTM_MAESTRO": "MAESTRO v2.0.0"}
        for variable, what in wanted.items():
            if variable not in os.environ:
                pytest.skip(f"{variable} does not name the folder of {what}")
        folder = Path(os.environ["NOTELSTM_GOLDEN"])
        music = Path(os.environ["NOTELSTM_MAESTRO"])
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        numbers = {key: file[key] for key in file.files}
    return Golden(numbers, music / str(numbers["midi_file"]))


@pytest.fixture(
    scope="module", params=["study", pytest.param("original", marks=pytest.mark.maestro)]
)
def gold(request: pytest.FixtureRequest) -> Golden:
    return golden(request.param)


@pytest.fixture(scope="module")
def notes(gold: Golden) -> Notes:
    return read_midi(gold.midi, ReadPolicy(tracks="first-instrument", simultaneous_order="file"))


@pytest.fixture(scope="module")
def dataset(notes: Notes) -> SequenceDataset:
    return SequenceDataset([StepDurationEncoder().encode(notes)], sequence_length=25)


@pytest.fixture
def model(gold: Golden) -> ThreeHeadLSTM:
    model = ThreeHeadLSTM(fields=StepDurationEncoder().fields)
    weights = {
        key.removeprefix("weights."): torch.from_numpy(value)
        for key, value in gold.numbers.items()
        if key.startswith("weights.")
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["initial_context"]
    assert unexpected == []
    return model


def loss_of(kind: str) -> CompositeLoss:
    """The original's weights; `kind` is how its squared errors pair values."""
    return CompositeLoss(
        terms={
            "pitch": (Likelihood(), 0.1),
            "step": (TERMS[kind], 20.0),
            "duration": (TERMS[kind], 1.0),
        }
    )


def scaled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the original's arrays hold them: pitch / 128."""
    return (rows / np.array([128, 1, 1], dtype=np.float32)).astype(np.float32)


def first_batch(dataset: SequenceDataset) -> Batch:
    return next(WindowBatches(dataset=dataset, batch_size=64, shuffle=False).epoch(0))


def close(got: object, wanted: object) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=1e-5, atol=1e-5)


def test_notes_are_the_originals_to_the_last_bit(gold: Golden, notes: Notes) -> None:
    wanted = gold.numbers["notes"]
    np.testing.assert_array_equal(notes.pitch.astype(np.float64), wanted[:, 0])
    np.testing.assert_array_equal(notes.step, wanted[:, 1])
    np.testing.assert_array_equal(notes.duration, wanted[:, 2])
    rows = StepDurationEncoder().encode(notes)
    np.testing.assert_array_equal(rows, wanted.astype(np.float32))


def test_windows_and_labels_are_the_originals(gold: Golden, dataset: SequenceDataset) -> None:
    assert len(dataset) == gold.numbers["n_windows"]
    batch = first_batch(dataset)
    rows = batch.rows.numpy()
    np.testing.assert_array_equal(scaled(rows[:, :-1]), gold.numbers["x"])
    for column, name in enumerate(NAMES):
        wanted = gold.numbers[f"y.{name}"]
        np.testing.assert_array_equal(rows[:, -1, column].astype(wanted.dtype), wanted)
    np.testing.assert_array_equal(scaled(dataset.last_window().numpy()), gold.numbers["end_window"])


def test_a_loader_gives_the_same_batch(dataset: SequenceDataset) -> None:
    for mine, loaded in zip(first_batch(dataset), next(iter(dataset.loader(64))), strict=True):
        assert torch.equal(mine, loaded)


@torch.no_grad()
def contexts(model: ThreeHeadLSTM, dataset: SequenceDataset) -> Hidden:
    rows = first_batch(dataset).rows[:, :-1]
    context, _ = model(rows, model.initial_state(len(rows))[1])
    return Hidden(context.hidden[:, -1])


def test_outputs_are_the_originals(
    gold: Golden, model: ThreeHeadLSTM, dataset: SequenceDataset
) -> None:
    context = contexts(model, dataset)
    pitch = model.predict("pitch", context, {})
    assert isinstance(pitch, Categorical)
    close(pitch.logits.detach(), gold.numbers["out.pitch"])
    for name in ("step", "duration"):
        point = model.predict(name, context, {})
        assert isinstance(point, PointEstimate)
        close(point.value.detach(), gold.numbers[f"out.{name}"][:, 0])


def test_the_sample_is_in_proportion_to_the_originals_weights(
    gold: Golden, model: ThreeHeadLSTM, dataset: SequenceDataset
) -> None:
    pitch = model.predict("pitch", contexts(model, dataset), {})
    assert isinstance(pitch, Categorical)
    assert pitch.weights is not None
    weights = pitch.weights[0].detach().double()
    wanted = gold.numbers["sampling_probabilities_row0"]
    close(weights / weights.sum(), wanted)
    # Sampling itself: uniforms just beside each border of the distribution, both sides of it.
    borders = np.cumsum(wanted)[:-1]
    for shift, shifted in ((-1e-5, 0), (1e-5, 1)):
        noise = torch.from_numpy(np.stack([borders + shift] * 2, axis=1))  # (127, 2)
        batch_size = Categorical(
            pitch.logits[:1].expand(127, -1), pitch.weights[:1].expand(127, -1)
        )
        assert batch_size.sample_weighted(noise).tolist() == [k + shifted for k in range(127)]


@pytest.mark.parametrize("kind", TERMS)
def test_loss_terms_and_total_are_the_originals(
    gold: Golden, model: ThreeHeadLSTM, dataset: SequenceDataset, kind: str
) -> None:
    with torch.no_grad():
        losses, _ = TrainStep(model, loss_of(kind))(first_batch(dataset), None)
    close([losses.terms[name] for name in NAMES], gold.numbers[f"loss_terms.{kind}"])
    close(losses.total, gold.numbers[f"loss_total.{kind}"])


class OneBatch:
    """The same batch in each epoch."""

    num_batches = 1
    stateful = False

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        yield from [self.batch][first:]


@pytest.mark.parametrize("kind", TERMS)
def test_twenty_steps_of_training_are_the_originals(
    gold: Golden, model: ThreeHeadLSTM, dataset: SequenceDataset, kind: str
) -> None:
    config = TrainingConfig(epochs=20, optimizer="sgd", learning_rate=0.005, device="cpu")
    history = Trainer(model, loss_of(kind), config=config).fit(OneBatch(first_batch(dataset)))
    losses = [values["loss"] for values in history.epochs]
    close(losses, gold.numbers[f"sgd20_losses.{kind}"])
