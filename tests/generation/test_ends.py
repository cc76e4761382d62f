"""Music that ends: the learnt end as a stopping criterion, and an end at about a time."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from notelstm import Notes, Session
from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder
from notelstm.encoders.rows import END, RowTracker
from notelstm.errors import ConfigError, FieldError
from notelstm.evaluation import score_piece
from notelstm.fields import Field
from notelstm.generation import generate, generate_batch, stream
from notelstm.generation.sequences import END_LIMIT, StoppingCriteria, Until
from notelstm.models import NoteLSTM
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, Processor, SamplingContext
from notelstm.recipes import Recipe, expressive
from notelstm.sampling import Ancestral, EndAt, Greedy, MinP, Temperature, TopK, TopP
from notelstm.training import TrainingConfig

ENCODER = LogTimeEncoder(exact=True, ends=True)


def model_with(hazard: float, encoder: LogTimeEncoder = ENCODER, **settings: Any) -> NoteLSTM:
    """An untrained model that ends a piece with this probability after each note."""
    torch.manual_seed(0)
    order = ("step", "pitch", "velocity", "duration")
    settings = {"hidden_size": 16, "embedding_dim": 8, "field_order": order, **settings}
    model = NoteLSTM(fields=encoder.fields, **settings)
    last = list(model.heads["end"].children())[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias[:2] = torch.tensor([0.0, float(np.log(hazard / (1 - hazard)))])
    return model.eval()


def bundle_with(hazard: float, encoder: LogTimeEncoder = ENCODER, **settings: Any) -> Bundle:
    model = model_with(hazard, encoder, **settings)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


BUNDLE = bundle_with(0.1)
PROMPT = Notes(start=[0.5, 1, 2], end=3, pitch=[60, 62, 64])


def same(one: Notes, other: Notes) -> bool:
    return one == other and one.truncated == other.truncated


def test_the_end_is_predicted_last() -> None:
    assert BUNDLE.model.field_order == ("step", "pitch", "velocity", "duration", "end")
    own = ("end", "step", "pitch", "velocity", "duration")
    assert NoteLSTM(fields=ENCODER.fields, field_order=own).field_order == own
    with pytest.raises(FieldError, match="does not name each field"):
        NoteLSTM(fields=ENCODER.fields, field_order=("step", "pitch"))


def test_without_being_asked_for_no_row_is_the_last() -> None:
    certain = bundle_with(0.999)
    for options in ({}, {"top_p": 0.9}, {"best_of": 2}):
        new = generate(certain, 40, **options)
        assert len(new) == 40
        assert new.truncated
    session = Session(certain.model, certain.encoder, Ancestral(), batch_size=3)
    assert not np.concatenate([session.next()[:, -1] for _ in range(20)]).any()
    assert all(map(bool, (notes.truncated for notes in session.run(num_notes=5))))


def test_the_other_fields_are_those_of_a_session_without_the_end() -> None:
    """The end is not predicted if it cannot be sampled, and its noise is left out."""
    asked: list[str] = []

    def watching(field: Field, prediction: Any, noise: Any, contexts: Any) -> Any:
        asked.append(field.name)
        return prediction.sample(noise)

    one, other = (Session(BUNDLE.model, ENCODER, s, seed=3) for s in (watching, Ancestral()))
    for _ in range(10):
        assert np.array_equal(one.next(), other.next())
    assert "end" not in asked
    one.ends = other.ends = True
    for _ in range(10):
        assert np.array_equal(one.next(), other.next())
    assert "end" in asked


def test_until_the_end() -> None:
    counts = []
    for seed in range(40):
        new = generate(BUNDLE, until="end", seed=seed)
        assert not new.truncated
        rows = ENCODER.encode(new)
        assert rows[-1, -1] == 1
        assert not rows[:-1, -1].any()
        counts.append(len(new))
        if seed < 4:
            assert [n.pitch for n in stream(BUNDLE, until="end", seed=seed)] == new.pitch.tolist()
            session = Session(BUNDLE.model, ENCODER, Ancestral(), seed=seed)
            assert same(session.run(until="end")[0], new)
            assert session.ends is False
            assert session.run(until="end")[0] == Notes.empty()  # the piece has ended
            assert len(session.run(num_notes=2)[0]) == 2
    # A geometric distribution with the mean 10 and a standard deviation of 9.5 / sqrt(40).
    assert 5.5 < np.mean(counts) < 14.5


def test_a_sequence_of_a_batch_ends_as_alone() -> None:
    batch = generate_batch(BUNDLE, batch_size=4, until="end", seed=5)
    assert len({len(notes) for notes in batch}) > 1
    assert same(batch[0], generate(BUNDLE, until="end", seed=5))
    whole = Session(BUNDLE.model, ENCODER, Ancestral(), batch_size=4, seed=5, ends=True)
    table = np.stack([whole.next() for _ in range(max(map(len, batch)))])
    for i, notes in enumerate(batch):
        assert int(table[:, i, -1].argmax()) + 1 == len(notes)


def test_pieces_of_a_batch_end_as_they_are_asked_to() -> None:
    untils: list[Until | None] = [None, "end", None, None]
    times = [None, None, 20.0, 15.0]
    prompts, limits = [None, PROMPT, PROMPT, None], [12, None, None, None]
    batch = generate_batch(
        BUNDLE, limits, until=untils, end_at=times, prompt=prompts, seed=[4, 5, 6, 7]
    )
    for i, notes in enumerate(batch):
        alone = generate(
            BUNDLE,
            limits[i],
            until=untils[i],
            end_at=times[i],
            prompt=prompts[i],
            seed=4 + i,
        )
        assert same(notes, alone)
    assert [notes.truncated for notes in batch] == [True, False, False, False]
    with pytest.raises(ConfigError, match="2 values of ends are given for 3"):
        Session(BUNDLE.model, ENCODER, Ancestral(), batch_size=3, ends=[True, False])
    with pytest.raises(ConfigError, match=r"end_at.*sequence 1"):
        generate_batch(BUNDLE, end_at=[1.0, -1.0])


def test_limits_hold_where_there_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    never = bundle_with(1e-9)
    new = generate(never, 30, until="end")
    assert len(new) == 30
    assert new.truncated
    assert generate(never, seconds=2.0, until="end").truncated
    assert StoppingCriteria().until("end").num_notes == END_LIMIT == 10_000
    assert StoppingCriteria(seconds=3.0).until("end")[:2] == (None, 3.0)
    with caplog.at_level(logging.WARNING):
        stopped = generate(
            BUNDLE, until="end", stopping_criterion=lambda tracker: tracker.num_notes >= 2, seed=1
        )
    assert len(stopped) == 2
    assert len(generate(BUNDLE, 500, until="end", best_of=3)) < 200


def test_a_prompt_does_not_end() -> None:
    for new in (
        generate(BUNDLE, 5, prompt=PROMPT),
        generate(bundle_with(1e-9), 5, prompt=PROMPT, until="end"),
    ):
        assert len(new) == 5
    seen: list[float] = []

    session = Session(BUNDLE.model, ENCODER, Ancestral())
    session.feed(PROMPT)
    seen.append(float(session.trackers[0].previous[-1]))
    session.feed(replace(PROMPT[-1:].shifted(2.0)))
    seen.append(float(session.trackers[0].previous[-1]))
    assert seen == [0.0, 0.0]
    session.feed(ENCODER.encode(PROMPT))  # rows are read as they are
    assert session.trackers[0].ended


def test_fixed_ends_need_no_permission() -> None:
    for batch_size in (1, 2):
        session = Session(BUNDLE.model, ENCODER, Ancestral(), batch_size=batch_size)
        assert session.next(end=1)[:, -1].tolist() == [1.0] * batch_size
        assert session.next()[:, -1].tolist() == [0.0] * batch_size


def test_errors() -> None:
    plain = LogTimeEncoder(exact=True)
    model = NoteLSTM(fields=plain.fields, hidden_size=8, embedding_dim=4)
    bundle = Bundle(model=model, encoder=plain, sampler=Ancestral())
    for call in (
        lambda: generate(bundle, 5, until="end"),
        lambda: generate(bundle, 5, end_at=3.0),
        lambda: list(stream(bundle, until="end")),
        lambda: Session(model, plain, Ancestral(), ends=True),
        lambda: Session(model, plain, Ancestral()).run(until="end"),
    ):
        with pytest.raises(ConfigError, match="does not predict the end"):
            call()
    with pytest.raises(ConfigError, match="until is 'then'"):
        generate(BUNDLE, until="then")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="end_at"):
        generate(BUNDLE, end_at=-1.0)
    for settings in ({"seconds": -1}, {"within": -1}, {"typical_notes": 0.5}):
        with pytest.raises(ConfigError):
            EndAt(**settings)


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_an_end_at_about_a_time(prompt: Notes | None) -> None:
    rare = bundle_with(1e-3)
    for seed in range(6):
        new = generate(rare, end_at=30.0, seed=seed, prompt=prompt)
        assert not new.truncated
        assert new.start[-1] >= 26.0
        # The first note after the window is the last of all.
        assert (new.start[:-1] < 34.0 + 1e-6).all()
    batch = generate_batch(rare, batch_size=3, end_at=20.0, prompt=prompt)
    assert all(not notes.truncated and notes.start[-1] >= 16.0 for notes in batch)
    notes = list(stream(rare, end_at=20.0, prompt=prompt))
    assert [note.start for note in notes] == batch[0].start.tolist()
    best = generate(rare, end_at=10.0, best_of=2, prompt=prompt)
    assert best.start[-1] >= 6.0


def context(time: float, known: dict[str, float]) -> SamplingContext:
    """Ten notes a second until a time."""
    tracker = RowTracker(ENCODER)
    start = np.arange(0, time + 0.05, 0.1)
    tracker.extend(ENCODER.encode(Notes(start=start, end=start + 0.1, pitch=60)))
    return SamplingContext(known, tracker)


def weights(processor: Processor, prediction: Prediction, *contexts: SamplingContext) -> Tensor:
    """(B, 2) the log-weights after a processor."""
    found = processor(END, prediction, contexts).log_weights()
    assert found is not None
    return found


def test_the_odds_of_an_end_in_the_window() -> None:
    hazard = 0.01
    prediction = Categorical(torch.tensor([[0.0, float(np.log(hazard / (1 - hazard)))]]))
    processor = EndAt(seconds=10.0, within=2.0, typical_notes=1000.0)
    # 3 s before the end of the window, 30 notes are expected.
    odds = weights(processor, prediction, context(9.0, {})).diff().exp()
    assert float(odds) == pytest.approx(hazard / (1 - hazard) * 1000 / 30, rel=1e-3)
    plain = EndAt(seconds=10.0, within=2.0, typical_notes=1.0)
    assert torch.equal(plain(END, prediction, [context(9.0, {})]).mode(), prediction.mode())
    assert torch.isneginf(weights(processor, prediction, context(7.9, {}))[0, 1])
    assert torch.isneginf(weights(processor, prediction, context(12.0, {}))[0, 0])
    # The step of the row is part of its onset.
    step = float(np.searchsorted(ENCODER.fields[1].values, 0.3))
    assert torch.isfinite(weights(processor, prediction, context(7.9, {"step": step}))).all()


def test_truncation_and_temperature_leave_the_end_to_the_model() -> None:
    prediction = Categorical(torch.tensor([[5.0, 0.0]]))
    for processor in (TopP(p=0.5), TopK(k=1), MinP(ratio=0.5), Temperature(temperature=2.0)):
        assert torch.equal(weights(processor, prediction), prediction.log_weights())
        named = replace(processor, roles=("end",))
        assert not torch.equal(weights(named, prediction), prediction.log_weights())
    new = generate(BUNDLE, 300, until="end", top_p=0.8, temperature=0.7, seed=2)
    assert not new.truncated


def piece(rng: np.random.Generator) -> Notes:
    """Notes of one octave; the low C is always the last."""
    count = int(rng.integers(8, 14))
    start = 0.25 * np.arange(count)
    pitch = np.append(rng.integers(60, 72, count - 1), 36)
    return Notes(start=start, end=start + 0.2, pitch=pitch)


@pytest.fixture(scope="module")
def trained() -> Bundle:
    recipe = Recipe(
        name="ends",
        encoder=ENCODER,
        model=functools.partial(NoteLSTM, hidden_size=16, embedding_dim=8),
        sampler=Ancestral(),
        sequence_length=8,
        stateful=True,
        batch_size=8,
        training=TrainingConfig(epochs=20, optimizer="adamw", learning_rate=0.02),
    )
    rng = np.random.default_rng(0)
    return recipe.train([piece(rng) for _ in range(60)])


def test_a_model_learns_where_pieces_end(trained: Bundle) -> None:
    new = generate_batch(trained, batch_size=16, until="end", seed=1)
    assert sum(not notes.truncated and notes.pitch[-1] == 36 for notes in new) >= 14
    assert all(len(notes) < 60 for notes in new)


def test_the_end_is_scored_beside_the_notes(trained: Bundle) -> None:
    rng = np.random.default_rng(1)
    long = Notes.concatenate([piece(rng)[:-1] for _ in range(4)], gap=0.05)
    whole, cut = (
        score_piece(trained.model, ENCODER, replace(long, truncated=truncated))
        for truncated in (False, True)
    )
    assert whole.of("total") == pytest.approx(cut.of("total"))
    end, none = whole.of("end"), cut.of("end")
    assert end is not None
    assert none is not None
    assert end > none + 1  # a piece does not end there
    assert whole.reliability["end"].count == whole.notes


def test_a_recipe_gets_ends_by_a_setting_of_its_encoder() -> None:
    recipe = expressive(hidden_size=8)
    model = replace(recipe, encoder=replace(recipe.encoder, ends=True)).build_model()  # type: ignore[type-var]
    assert model.field_order[-1] == "end"
    # An earlier passage did not end the piece, so that the memory has no votes for it.
    assert not model.memory.has_votes("end")  # type: ignore[attr-defined]


@pytest.mark.parametrize("memory", [0, 64])
def test_the_numpy_step_agrees(memory: int) -> None:
    bundle = bundle_with(0.05, memory_window=memory, sounding_features=True)
    fast = generate(bundle, 60, until="end", seed=7, sampler=Greedy())
    slow = generate(
        bundle, 60, until="end", seed=7, sampler=Greedy(processors=(EndAt(seconds=1e5),))
    )
    assert len(fast) == len(slow) == 60
    assert np.array_equal(fast.pitch, slow.pitch)
