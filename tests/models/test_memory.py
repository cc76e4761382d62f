"""The memory: its alignment and its votes by definition, its contract, and broken ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm import tree
from notelstm.encoders import (
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field
from notelstm.models import NoteLSTM
from notelstm.models.memory import CAP, Memory, NumpyMemory, Votes, WithMemory
from notelstm.notes import Notes
from notelstm.predictions import Categorical
from notelstm.recipes import expressive, with_settings
from notelstm.testing import check_model
from notelstm.testing.makers import repeating_rows
from notelstm.training import Callback, Trainer

ORDER = ("step", "pitch", "velocity", "duration")
CLASSES = LogTimeEncoder().fields
COLUMN = {field.name: i for i, field in enumerate(CLASSES)}


def model_with_memory(window: int = 50, fields: Any = CLASSES, **options: Any) -> NoteLSTM:
    """A model whose votes count: gates and features with other than their initial weights."""
    torch.manual_seed(0)
    order = ORDER if fields is CLASSES else None
    small = {"hidden_size": 8, "embedding_dim": 4, "head_size": 0, **options}
    model = NoteLSTM(fields=fields, field_order=order, memory_window=window, **small)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


def rows_of(*notes: tuple[int, int, int, int], times: int = 1) -> Tensor:
    """(1, N, 4) rows of pitch, step, duration and velocity."""
    return torch.tensor([notes * times], dtype=torch.float32)


def few(seed: int, shape: tuple[int, int], fields: Any = CLASSES) -> Tensor:
    """Rows of few pitches and short steps, among which many passages are alike."""
    rows = repeating_rows(fields, shape, np.random.default_rng(seed))
    for i, field in enumerate(fields):
        if field.is_categorical:
            rows[..., i] %= {"pitch": 4, "step": 8}.get(field.role, 5)
    return torch.from_numpy(rows)


def slow_scores(rows: NDArray[Any], window: int) -> NDArray[Any]:
    """(W,) the scores after (N, 4) rows, from the definition, in tenths."""
    pitch, chord = rows[:, 0], rows[:, 1] <= 4  # of 10 ms each
    scores: dict[int, int] = {}
    for i in range(len(rows)):
        new = {}
        for j in range(max(0, i - window + 1), i):
            pair = 10 + 3 * (chord[i] == chord[j]) if pitch[i] == pitch[j] else -8
            # A place that has left the window counts 0 as the note before a passage.
            before = max(scores.get(j - 1, 0), scores.get(j - 2, 0) - 7)
            new[j] = min(CAP, max(0, before + pair, scores.get(j, 0) - 7))
        # The oldest place is still in the window when the next note is compared.
        scores = new
    places = range(len(rows) - window, len(rows))
    return np.array([scores.get(j, 0) for j in places])


@settings(max_examples=60, deadline=None)
@given(
    notes=st.lists(st.tuples(st.integers(0, 2), st.integers(3, 6)), min_size=1, max_size=40),
    window=st.sampled_from([2, 5, 13, 64]),
)
def test_scores_equal_a_plain_implementation(notes: list[tuple[int, int]], window: int) -> None:
    memory = Memory(CLASSES, ORDER, window)
    rows = np.array([(pitch, step, 0, 0) for pitch, step in notes], dtype=np.float32)
    _, state = memory(torch.from_numpy(rows[None]), memory.initial_state(1)[1])
    np.testing.assert_array_equal(state.scores[0].numpy(), slow_scores(rows, window))


def test_score_of_a_long_repetition_is_capped() -> None:
    memory = Memory(CLASSES, ORDER, 64)
    theme = tuple((50 + k, 10, 3, 4) for k in range(20))
    _, state = memory(rows_of(*theme, times=2), memory.initial_state(1)[1])
    assert int(state.scores.max()) == CAP


A, B, C, D = (60, 10, 3, 4), (62, 12, 5, 6), (64, 14, 7, 8), (65, 20, 30, 25)


def votes_for_d(rows: Tensor, **known: int) -> dict[str, Votes]:
    memory = Memory(CLASSES, ORDER, 16)
    context, _ = memory(rows, memory.initial_state(1)[1])
    last = tree.index(context, (slice(None), -1))
    given = {"pitch": D[0], "step": D[1], "duration": D[2], "velocity": D[3], **known}
    tensors = {name: torch.tensor([value]) for name, value in given.items()}
    return {name: memory.votes(name, last, tensors) for name in ORDER}


def test_a_repeated_passage_votes_for_its_continuation() -> None:
    votes = votes_for_d(rows_of(A, B, C, D, A, B, C))
    for name in ORDER:
        shares = votes[name].log_shares[0].exp() - 0.01
        assert int(shares.argmax()) == D[COLUMN[name]], name
        # Places that fit less well vote too, and half of a vote is for the neighbouring classes.
        assert float(shares.max()) > (0.8 if name == "pitch" else 0.4), name
        assert float(shares.sum()) == pytest.approx(1, abs=1e-5), name
    best, count, share = votes["velocity"].features[0].tolist()
    assert best == pytest.approx(39 / CAP)  # A, B and C match, each with the bonus for no chord
    assert math.expm1(3 * count) == pytest.approx(round(math.expm1(3 * count)), abs=1e-4)
    assert 0.8 < share < 1
    assert len(votes["pitch"].features[0]) == 2


def test_votes_given_the_pitch() -> None:
    """The note of the known pitch is searched among three; without one, there are no votes."""
    later = votes_for_d(rows_of(A, B, C, (70, 9, 9, 9), (71, 9, 9, 9), D, A, B, C))
    assert float(later["velocity"].log_shares[0].argmax()) == D[3]
    absent = votes_for_d(rows_of(A, B, C, D, A, B, C), pitch=99)
    assert float(absent["velocity"].features[0, 2]) == 0
    assert torch.allclose(absent["velocity"].log_shares, torch.tensor(math.log(0.01)))


def test_votes_are_reduced_if_only_one_note_joins_a_chord() -> None:
    rows = rows_of(A, B, C, D, A, B, C, (67, 1, 3, 4), A, B, C)
    odds = []
    for step in (20, 1):
        shares = votes_for_d(rows, step=step)["pitch"].log_shares[0].exp() - 0.01
        odds.append(float(shares[65] / shares[67]))
    assert odds[0] == pytest.approx(25 * odds[1], rel=1e-3)


def test_transposed_pieces_have_the_same_votes() -> None:
    memory = Memory(CLASSES, ORDER, 20)
    rows = few(1, (2, 40))
    higher = rows.clone()
    higher[..., 0] += 5
    (one, _), (two, _) = (memory(r, memory.initial_state(2)[1]) for r in (rows, higher))
    for name in ("weights", "chord", "features"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert torch.equal(one.entries[..., 1:], two.entries[..., 1:])


@pytest.mark.parametrize("window", [2, 9, 60, 300])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_numpy_memory_agrees_with_the_module_to_1e_6(window: int, batch_size: int) -> None:
    memory = Memory(CLASSES, ORDER, window)
    numpy_memory = NumpyMemory(memory)
    rows = few(2, (batch_size, 80))
    contexts, state = memory(rows[:, :-1], memory.initial_state(batch_size)[1])
    arrays: Any = memory.initial_state(batch_size)[1]
    arrays = type(arrays)(*(part.numpy() for part in arrays))
    for t in range(79):
        here, arrays = numpy_memory.step(rows[:, t].numpy(), arrays)
        known = {name: rows[:, t + 1, i] for name, i in COLUMN.items()}
        for name in ORDER:
            want = memory.votes(name, tree.index(contexts, (slice(None), t)), known)
            got = numpy_memory.votes(name, here, {k: v.numpy() for k, v in known.items()})
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a, b.numpy(), atol=1e-6, rtol=0)
    for a, b in zip(arrays, state, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.parametrize("window", [2, 7, 50])
@pytest.mark.parametrize("sounding", [False, True])
def test_model_with_a_memory_passes_check_model(window: int, sounding: bool) -> None:
    model = model_with_memory(window, sounding_features=sounding)
    check_model(model)
    check_model(model, rows=few(3, (3, 30)))


def test_continuous_fields_have_features_and_no_votes() -> None:
    fields = StepDurationEncoder().fields
    model = model_with_memory(20, fields)
    check_model(model, rows=few(4, (3, 24), fields))
    memory = cast(Memory, model.memory)
    assert [memory.has_votes(f.name) for f in fields] == [True, False, False]


def with_instruments() -> tuple[Field, ...]:
    instrument = Field.categorical("instrument", "other", values=range(3))
    object.__setattr__(instrument, "role", "instrument")
    return (*CLASSES, instrument)


def test_notes_of_different_instruments_do_not_match() -> None:
    fields = with_instruments()
    order = ("step", "instrument", "pitch", "velocity", "duration")
    memory = Memory(fields, order, 16)
    theme = [(*note, 1) for note in (A, B, C, D)]
    again = [(*note, 2) for note in (A, B, C)]
    _, other = memory(torch.tensor([theme + again]).float(), memory.initial_state(1)[1])
    assert not other.scores.any()
    context, same = memory(torch.tensor([theme + theme[:3]]).float(), memory.initial_state(1)[1])
    assert int(same.scores.max()) == 39
    last = tree.index(context, (slice(None), -1))
    known = {"step": torch.tensor([20]), "instrument": torch.tensor([1])}
    assert int(memory.votes("instrument", last, known).log_shares.argmax()) == 1
    assert int(memory.votes("pitch", last, known).log_shares.argmax()) == D[0]
    known["instrument"] = torch.tensor([2])
    assert len(memory.votes("pitch", last, known).log_shares.unique()) == 1


def test_invalid_fields_and_windows_are_rejected() -> None:
    with pytest.raises(FieldError, match="exactly one pitch in classes"):
        NoteLSTM(fields=PerformanceEventEncoder().fields, memory_window=10)
    for window in (1, -3):
        with pytest.raises(ConfigError, match=f"memory_window {window} is less than 2"):
            NoteLSTM(fields=CLASSES, memory_window=window)


def test_model_without_a_memory_has_no_gate_and_plain_state() -> None:
    model = NoteLSTM(fields=CLASSES, hidden_size=8)
    assert model.memory is None
    assert cast(nn.Linear, model.heads["pitch"].get_submodule("2")).out_features == 128
    assert not any(isinstance(part, WithMemory) for part in model.initial_state(1))


def same_predictions(a: NoteLSTM, b: NoteLSTM, rows: Tensor) -> bool:
    results = []
    for model in (a.eval(), b.eval()):
        context, _ = model(rows, model.initial_state(len(rows))[1])
        known = {name: rows[..., i].long() for name, i in COLUMN.items()}
        heads = [model.predict(name, context, known) for name in ORDER]
        results.append(torch.cat([cast(Categorical, head).logits for head in heads], -1))
    return bool(torch.allclose(results[0], results[1], atol=1e-5))


@pytest.mark.parametrize("head_size", [0, 6])
def test_grow_from_a_model_without_a_memory(head_size: int) -> None:
    small = model_with_memory(0, head_size=head_size, sounding_features=True)
    settings_of = {**small.config, "memory_window": 30}
    grown = NoteLSTM(**settings_of)
    before = torch.get_rng_state()
    grown.grow_from(small)
    assert torch.equal(before, torch.get_rng_state())
    rows = few(5, (2, 30))
    assert not same_predictions(small, grown, rows)
    with torch.no_grad():
        for head in grown.heads.values():
            last = head if isinstance(head, nn.Linear) else head.get_submodule("2")
            bias = cast(Tensor, last.bias)
            assert float(bias[-1]) == pytest.approx(0.1)
            bias[-1] = 0
    assert same_predictions(small, grown, rows)
    again = NoteLSTM(**settings_of)
    again.grow_from(grown)
    assert same_predictions(again, grown, rows)


def test_grow_from_a_model_of_another_size_is_rejected() -> None:
    small = model_with_memory(0)
    for change in ({"hidden_size": 9}, {"head_size": 5}, {"sounding_features": True}):
        with pytest.raises(RuntimeError, match="NoteLSTM"):
            NoteLSTM(**{**small.config, "memory_window": 9, **change}).grow_from(small)
    with pytest.raises(RuntimeError, match="size mismatch"):
        small.grow_from(model_with_memory(9))


class StopAtStep(Callback):
    """Ends a run in the middle of an epoch, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.steps == self.step:
            raise KeyboardInterrupt


def test_fine_tuning_adds_a_memory_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    start = np.cumsum(np.tile([0.25, 0.0, 0.5, 0.25], 40))
    pitch = np.tile([60, 64, 67, 62], 40) + np.repeat(range(4), 40)
    piece = Notes(start=start, end=start + 0.2, pitch=pitch, velocity=64)
    small = {"hidden_size": 8, "embedding_dim": 4, "head_size": 8}
    cut = {"batch_size": 2, "sequence_length": 10}
    recipe = with_settings(expressive(epochs=1, memory_window=0), {"model": small, **cut})
    old = recipe.train([piece, piece])
    change = {"model": {"memory_window": 40, "dropout": 0.2}}
    tuned = with_settings(old.recipe(epochs=2), change)
    whole = tuned.train([piece, piece], init_from=old, folder=tmp_path / "whole")
    assert cast(NoteLSTM, whole.model).memory is not None
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        tuned.train([piece, piece], init_from=old, folder=stopped, callbacks=[StopAtStep(21)])
    rest = tuned.train([piece, piece], init_from=old, folder=stopped, resume=True)
    for (name, a), (_, b) in zip(
        cast(nn.Module, whole.model).state_dict().items(),
        cast(nn.Module, rest.model).state_dict().items(),
        strict=True,
    ):
        assert torch.equal(a, b), name


class Broken(nn.Module):
    """A memory that passes everything on, to be broken in one place."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.inner = memory
        self.layout = memory.layout

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        return self.inner.initial_state(batch_size)

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, state = self.inner(rows, state)
        return context, state

    def votes(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Votes:
        return self.inner.votes(field, context, known)


class LeaksThePitch(Broken):
    """The share of the votes that found the pitch, before the pitch is known."""

    def votes(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Votes:
        votes = super().votes(field, context, known)
        if field != "pitch" or "pitch" not in known:
            return votes
        share = self.inner.votes("velocity", context, known).features[..., 2:]
        return votes._replace(features=votes.features + share)


class ForgetsTheAlignment(Broken):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        return super().forward(rows, state._replace(scores=torch.zeros_like(state.scores)))


class MixesTheBatch(Broken):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, state = super().forward(rows, state)
        mixed = context.features.mean(0, keepdim=True).expand_as(context.features)
        return context._replace(features=mixed), state


class SeesTheNoteToCome(Broken):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, state = super().forward(rows, state)
        later = torch.cat([context.features[:, 1:], context.features[:, -1:]], dim=1)
        return context._replace(features=later), state


@pytest.mark.parametrize(
    ("clause", "broken"),
    [
        ("later_fields_are_unused", LeaksThePitch),
        ("chunks_equal_the_whole", ForgetsTheAlignment),
        ("sequences_are_independent", MixesTheBatch),
        ("predictions_are_causal", SeesTheNoteToCome),
    ],
)
def test_a_broken_memory_is_caught(clause: str, broken: type[Broken]) -> None:
    model = model_with_memory()
    good = copy.deepcopy(model)
    model.memory = broken(cast(Memory, model.memory))  # type: ignore[assignment]
    with pytest.raises(AssertionError, match=f"check_model, {clause}:"):
        check_model(model, entry_point=False)
    good.memory = Broken(cast(Memory, good.memory))  # type: ignore[assignment]
    good.numpy_step = lambda: None  # type: ignore[method-assign]
    check_model(good, entry_point=False)


def test_a_numpy_memory_that_writes_to_its_state_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = NumpyMemory.step

    def writes(self: NumpyMemory, rows: Any, state: Any) -> tuple[Any, Any]:
        context, after = step(self, rows, state)
        state.scores[:] = after.scores
        return context, after

    monkeypatch.setattr(NumpyMemory, "step", writes)
    with pytest.raises(AssertionError, match="numpy_step_has_no_side_effects"):
        check_model(model_with_memory(), entry_point=False)


def test_a_numpy_memory_with_other_votes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = NumpyMemory.votes

    def shifted(self: NumpyMemory, field: str, context: Any, known: Any) -> Votes:
        given = votes(self, field, context, known)
        return given._replace(log_shares=np.roll(given.log_shares, 1, axis=-1))

    monkeypatch.setattr(NumpyMemory, "votes", shifted)
    with pytest.raises(AssertionError, match="numpy_step_predicts_the_same"):
        check_model(model_with_memory(), entry_point=False)
