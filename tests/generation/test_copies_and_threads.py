"""A deep copy of a session continues like the original; threads can share a model."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import notelstm
from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.generation import Session
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.models.inference import in_use
from notelstm.protocols import NoteEncoder, NoteModel, Prediction
from notelstm.sampling import Ancestral, NoRepeatNGram, RawPitch, Temperature, Weighted


class Noisy(nn.Module):
    """A model without a numpy step, whose results depend on its mode by dropout."""

    def __init__(self, inner: NoteLSTM) -> None:
        super().__init__()
        self.inner = inner

    fields = property(lambda self: self.inner.fields)
    field_order = property(lambda self: self.inner.field_order)

    def initial_state(self, batch: int) -> Any:
        return self.inner.initial_state(batch)

    def forward(self, rows: Tensor, state: Any) -> Any:
        return self.inner(rows, state)

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        return self.inner.predict(field, context, known)


def noisy() -> Noisy:
    torch.manual_seed(0)
    model = NoteLSTM(
        fields=LogTimeEncoder().fields,
        hidden_size=8,
        embedding_dim=4,
        num_layers=2,
        dropout=0.8,
        sounding_features=True,
    )
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4)  # so that dropout changes the notes
    return Noisy(model)


def three_heads(**options: Any) -> ThreeHeadLSTM:
    torch.manual_seed(0)
    return ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=8, **options)


def note_lstm(encoder: NoteEncoder, **options: Any) -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, **options)


SESSIONS: dict[str, Callable[[int, int], Session]] = {
    "pretrained": lambda seed, batch_size: Session(
        notelstm.load().generation_model,
        notelstm.load().encoder,
        notelstm.load().sampler,
        seed=seed,
        batch_size=batch_size,
    ),
    "three heads": lambda seed, batch_size: Session(
        three_heads(),
        StepDurationEncoder(),
        Weighted(),
        seed=seed,
        batch_size=batch_size,
        input_transform=RawPitch(),
    ),
    "window": lambda seed, batch_size: Session(
        Windowed(three_heads(num_layers=2, point_estimates=False), 4),
        StepDurationEncoder(),
        Ancestral(),
        seed=seed,
        batch_size=batch_size,
    ),
    "sounding, processors": lambda seed, batch_size: Session(
        note_lstm(LogTimeEncoder(), sounding_features=True, time_distribution="mixture"),
        LogTimeEncoder(),
        Ancestral(processors=(Temperature(temperature=0.9), NoRepeatNGram(ngram_size=2))),
        seed=seed,
        batch_size=batch_size,
    ),
    "events": lambda seed, batch_size: Session(
        note_lstm(PerformanceEventEncoder()),
        PerformanceEventEncoder(),
        Ancestral(),
        seed=seed,
        batch_size=batch_size,
    ),
    "beats": lambda seed, batch_size: Session(
        note_lstm(BeatEncoder(), head_size=0),
        BeatEncoder(),
        Ancestral(),
        seed=seed,
        batch_size=batch_size,
    ),
    "module": lambda seed, batch_size: Session(
        noisy(), LogTimeEncoder(), Ancestral(), seed=seed, batch_size=batch_size
    ),
}


def sampled(session: Session, rows: int) -> list[list[list[float]]]:
    return [session.next().tolist() for _ in range(rows)]


@pytest.mark.parametrize("kind", SESSIONS)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    batch_size=st.sampled_from([1, 2, 3]),
    before=st.integers(0, 40),
    turns=st.lists(st.booleans(), min_size=4, max_size=12),
)
def test_a_deep_copy_continues_like_the_original(
    kind: str, seed: int, batch_size: int, before: int, turns: list[bool]
) -> None:
    session = SESSIONS[kind](seed, batch_size)
    sampled(session, before)
    copied = copy.deepcopy(session)
    # In any order of turns, so that one would show in the other.
    rows: dict[bool, list[Any]] = {False: [], True: []}
    for turn in (*turns, *(not turn for turn in turns)):
        rows[turn] += sampled(copied if turn else session, 3)
    assert rows[True] == rows[False]
    assert copied.pop_finished() == session.pop_finished()
    assert [t.num_notes for t in copied.trackers] == [t.num_notes for t in session.trackers]


def test_a_deep_copy_can_undo_feed_and_restore() -> None:
    session = SESSIONS["pretrained"](3, 1)
    snapshot = session.snapshot()
    session.run(num_notes=20)
    copied = copy.deepcopy(session)
    music = notelstm.generate(notelstm.load(), 10, seed=1)
    for each in (session, copied):
        each.undo(7)
        each.run(num_notes=5)
    assert sampled(copied, 5) == sampled(session, 5)
    shifted = notelstm.Notes(
        start=music.start + 3600, end=music.end + 3600, pitch=music.pitch, velocity=music.velocity
    )
    for each in (session, copied):
        each.feed(shifted)
    assert sampled(copied, 5) == sampled(session, 5)
    for each in (session, copied):
        each.restore(snapshot)
    assert sampled(copied, 5) == sampled(session, 5)


def test_a_deep_copy_keeps_the_initial_weights() -> None:
    model = three_heads()
    session = Session(model, StepDurationEncoder(), Weighted())
    sampled(session, 3)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(1)
    copied = copy.deepcopy(session)
    assert sampled(copied, 20) == sampled(session, 20)


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("shared", ["model", "module inside"])
def test_threads_share_a_model_in_training_mode(shared: str) -> None:
    model = noisy()
    wanted = {
        seed: sampled(Session(model, LogTimeEncoder(), Ancestral(), seed=seed), 30)
        for seed in range(4)
    }
    modes = {}
    for i, module in enumerate(model.modules()):
        module.training = modes[module] = i % 3 != 1
    modes[model] = model.training = True
    found: dict[int, Any] = {}

    def play(seed: int) -> None:
        mine: NoteModel = model if shared == "model" else Noisy(model.inner)
        found[seed] = sampled(Session(mine, LogTimeEncoder(), Ancestral(), seed=seed), 30)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted
    assert {module: module.training for module in modes} == modes


def test_the_mode_of_the_model_is_restored_after_an_error() -> None:
    model = three_heads().train()

    def fail() -> None:
        with in_use(model):
            with in_use(model):
                pass
            assert not any(module.training for module in model.modules())
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert all(module.training for module in model.modules())
