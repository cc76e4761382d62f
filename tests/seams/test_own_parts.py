"""One's own parts, as a user would write them: plain classes and functions without entry points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from notelstm.bundle import Bundle, load
from notelstm.data import SequenceDataset, WindowBatches
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, DataError, EncodingError, FieldError, ShapeError
from notelstm.evaluation import nats_per_note
from notelstm.fields import Field, Rows
from notelstm.generation import Session, generate
from notelstm.losses import CompositeLoss, Likelihood
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, SamplingContext
from notelstm.recipes import Recipe, expressive, reference
from notelstm.sampling import Ancestral
from notelstm.testing.makers import long_piece
from notelstm.training import Trainer, TrainingConfig, measure_terms

PIECE = long_piece(np.random.default_rng(0), count=60, seconds=12)
CLASSES = LogTimeEncoder()


class PlainEncoder:
    """An encoder as a plain class."""

    def __init__(self) -> None:
        self.fields = StepDurationEncoder().fields

    def encode(self, notes: Notes) -> Rows:
        return StepDurationEncoder().encode(notes)

    def decode(self, rows: Rows) -> Notes:
        return StepDurationEncoder().decode(rows)


def plain_sampler(
    field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
) -> Tensor:
    return prediction.sample(noise)


def plain_term(prediction: Prediction, target: Tensor) -> Tensor:
    assert isinstance(prediction, Categorical)
    return nn.functional.cross_entropy(prediction.logits, target)


class Nothing(NamedTuple):
    """A state that remembers nothing, and a context that knows nothing."""

    nothing: Tensor


class Uniform(nn.Module):
    """A model without parameters."""

    def __init__(self, *, fields: Sequence[Field]) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.field_order = tuple(field.name for field in fields)
        self.config: Mapping[str, Any] = {"fields": self.fields}

    def initial_state(self, batch_size: int) -> tuple[Nothing, Nothing]:
        return Nothing(torch.zeros(batch_size, 1)), Nothing(torch.zeros(batch_size))

    def forward(self, rows: Tensor, state: Nothing) -> tuple[Nothing, Nothing]:
        return Nothing(rows[..., 0]), state

    def predict(self, field: str, context: Nothing, known: Mapping[str, Tensor]) -> Prediction:
        # What is known of a class is its id, wherever a model is asked.
        assert all(known[f.name].dtype == torch.int64 for f in self.fields if f.name in known)
        (classes,) = (f.classes for f in self.fields if f.name == field)
        return Categorical(torch.zeros(*context.nothing.shape, classes or 0))


def own_recipe() -> Recipe:
    training = TrainingConfig(epochs=1, checkpoint_every=1)
    return replace(
        reference(), encoder=PlainEncoder(), sampler=plain_sampler, training=training, batch_size=8
    )


def test_a_run_with_ones_own_parts_is_saved_loaded_and_resumed(tmp_path: Path) -> None:
    own_recipe().train([PIECE], folder=tmp_path / "rün ♫")
    # Another process would have other objects of the same classes.
    again = replace(own_recipe(), training=TrainingConfig(epochs=2, checkpoint_every=1))
    bundle = again.train([PIECE], folder=tmp_path / "rün ♫", resume=True)
    assert "0x" not in repr(bundle.settings)
    bundle.save(tmp_path / "mödel")
    loaded = load(tmp_path / "mödel", encoder=PlainEncoder(), sampler=plain_sampler)
    prompt = PIECE[:30]
    assert generate(loaded, 9, prompt=prompt) == generate(bundle, 9, prompt=prompt)


def test_settings_of_own_parts_are_distinct() -> None:
    loss = CompositeLoss(terms={"pitch": (plain_term, 1.0)})
    record = replace(own_recipe(), loss=loss).to_dict()
    assert record["encoder"]["missing"].endswith(".PlainEncoder")
    assert record["sampler"]["missing"].endswith(".plain_sampler")
    assert record["loss"]["config"]["terms"]["pitch"][0]["$part"]["missing"].endswith(".plain_term")


def test_targets_of_classes_are_class_ids() -> None:
    terms = {field.name: (plain_term, 1.0) for field in CLASSES.fields}
    recipe = expressive(hidden_size=8)
    rows = recipe.encode([PIECE])
    batches = WindowBatches(
        dataset=SequenceDataset(rows, sequence_length=8, targets="every"), batch_size=4
    )
    own, built_in = (
        measure_terms(NoteLSTM(fields=CLASSES.fields, hidden_size=8), loss, batches)
        for loss in (CompositeLoss(terms=terms), CompositeLoss.for_fields(CLASSES.fields))
        if torch.manual_seed(0)
    )
    assert own == pytest.approx(built_in)


def test_a_model_without_parameters_plays_and_is_scored() -> None:
    model = Uniform(fields=CLASSES.fields)
    bundle = Bundle(model=model, encoder=CLASSES, sampler=Ancestral())
    assert len(generate(bundle, 10)) == 10
    scores = nats_per_note(model, CLASSES, [PIECE])
    assert scores.of("pitch") == pytest.approx(np.log(128))


def test_measuring_leaves_dropout_and_the_global_generator_alone() -> None:
    batches = WindowBatches(
        dataset=SequenceDataset([CLASSES.encode(PIECE)], sequence_length=8, targets="every"),
        batch_size=4,
    )
    model = NoteLSTM(fields=CLASSES.fields, hidden_size=8, dropout=0.5)
    before = torch.get_rng_state()
    first = measure_terms(model, CompositeLoss.for_fields(CLASSES.fields), batches)
    assert first == measure_terms(model, CompositeLoss.for_fields(CLASSES.fields), batches)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def session(**options: Any) -> Session:
    torch.manual_seed(0)
    sampler = options.pop("sampler", Ancestral())
    return Session(NoteLSTM(fields=CLASSES.fields, hidden_size=8), CLASSES, sampler, **options)


@pytest.mark.parametrize(
    "drawn",
    [lambda p: p.mode().unsqueeze(1), lambda p: p.mode().numpy(), lambda p: 3, lambda p: None],
)
def test_a_sampler_without_a_tensor_per_sequence_is_an_error(drawn: Any) -> None:
    def odd(
        field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
    ) -> Tensor:
        return cast(Tensor, drawn(prediction))

    with pytest.raises(ShapeError, match=r"tensor of shape \(2,\).*field 'pitch'"):
        session(sampler=odd, batch_size=2).next()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros(4), r"not \(N, 4\)"),
        (np.full((2, 4), 500), "pitch 500 is not a whole number"),
        (np.full((2, 4), np.nan), "row 0"),
    ],
)
def test_rows_that_are_none_are_not_read(rows: Any, words: str) -> None:
    with pytest.raises(EncodingError, match=words):
        session().feed(rows)


def test_a_long_prompt_is_read_in_parts_with_the_same_result() -> None:
    rows = CLASSES.encode(long_piece(np.random.default_rng(1), count=3000, seconds=600))
    whole, parts = session(batch_size=8), session(batch_size=8)
    whole.feed(rows.astype(np.float64))
    for row in np.array_split(rows, 70):
        parts.feed(row)
    assert np.array_equal(whole.next(), parts.next())


def test_a_prompt_is_read_once_for_all_sequences() -> None:
    rows = CLASSES.encode(PIECE)
    torch.manual_seed(0)
    model = NoteLSTM(fields=CLASSES.fields, hidden_size=8)
    model.numpy_step = lambda: None  # type: ignore[method-assign]
    together, alone = Session(model, CLASSES, Ancestral(), batch_size=3), session()
    read: list[int] = []
    before = model.forward

    def counted(rows: Tensor, state: Any) -> Any:
        read.append(rows.shape[0])
        return before(rows, state)

    model.forward = counted  # type: ignore[method-assign]
    for one in (together, alone):
        one.feed(rows[:20])
    first = together.next(), alone.next()
    for one in (together, alone):
        one.feed(rows[20:25])
    second = together.next(), alone.next()
    assert np.array_equal(first[0][0], first[1][0])
    assert np.array_equal(second[0][0], second[1][0])
    assert read == [1, 3, 3, 3]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_music_without_an_end_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"seconds .* is not a finite number"):
        session().run(num_notes=None, seconds=seconds)


def test_a_model_that_has_diverged_makes_no_music() -> None:
    model = NoteLSTM(fields=CLASSES.fields, hidden_size=8)
    with torch.no_grad():
        model.initial_context[0] = float("nan")
    with pytest.raises(DataError, match=r"NaN or infinite.*initial_context"):
        Session(model, CLASSES, Ancestral())


def test_a_callback_without_hooks_and_a_term_of_no_field_are_rejected() -> None:
    model = NoteLSTM(fields=CLASSES.fields, hidden_size=8)
    loss = CompositeLoss.for_fields(CLASSES.fields)
    with pytest.raises(ConfigError, match="is not a callback"):
        Trainer(model, loss, config=TrainingConfig(), callbacks=[cast(Any, print)])
    wrong = CompositeLoss(terms={"pich": (Likelihood(), 1.0)})
    with pytest.raises(FieldError, match=r"the model lacks: pich\. Use pitch, step"):
        Trainer(model, wrong, config=TrainingConfig())


@pytest.mark.parametrize("device", ["hpu", "cuda:99", "no-such", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    loss = CompositeLoss.for_fields(CLASSES.fields)
    with pytest.raises(ConfigError, match="there is no device"):
        Trainer(
            NoteLSTM(fields=CLASSES.fields, hidden_size=8),
            loss,
            config=TrainingConfig(device=device),
        )
