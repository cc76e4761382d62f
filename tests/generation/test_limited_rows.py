"""Generation with an encoder that limits the rows: every path excludes the same classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder
from notelstm.encoders.rows import RowTracker
from notelstm.errors import FieldError
from notelstm.fields import Rows
from notelstm.generation import Session, generate, generate_batch
from notelstm.models import NoteLSTM, Windowed
from notelstm.notes import Note, Notes
from notelstm.protocols import Sampler
from notelstm.sampling import Ancestral, MaxPolyphony, TopP
from notelstm.testing.makers import long_piece

EXACT = LogTimeEncoder(exact=True)
ORDERS = (("step", "pitch", "velocity", "duration"), ("pitch", "velocity", "step", "duration"))


def chordal(order: tuple[str, ...] = ORDERS[0], encoder: LogTimeEncoder = EXACT) -> NoteLSTM:
    """An untrained model that prefers notes that begin together, and high ones."""
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, field_order=order, hidden_size=8, embedding_dim=4)
    with torch.no_grad():
        cast(nn.Linear, model.heads["step"].get_submodule("2")).bias[0] += 6
        cast(nn.Linear, model.heads["pitch"].get_submodule("2")).bias[120:] += 3
    return model


def session(
    order: tuple[str, ...] = ORDERS[0], sampler: Sampler | None = None, **o: Any
) -> Session:
    sampler = Ancestral() if sampler is None else sampler
    return Session(chordal(order), EXACT, sampler, **o)


def assert_allowed(rows: Rows) -> None:
    """Each row of a sequence follows the one before it."""
    together = rows[1:, 1] == 0
    assert together.sum() > len(rows) // 4
    assert (np.diff(rows[:, 0])[together] > 0).all()


def sampled(session: Session, count: int) -> Rows:
    """(T, B, F)."""
    return np.stack([session.next() for _ in range(count)])


SAMPLERS: dict[str, Sampler] = {
    "numpy": Ancestral(),
    "processor": Ancestral(processors=(TopP(p=0.99),)),
    "tracker": Ancestral(processors=(MaxPolyphony(notes=20),)),
}


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_sampled_rows_are_allowed(order: tuple[str, ...], sampler: str, batch_size: int) -> None:
    rows = sampled(session(order, SAMPLERS[sampler], batch_size=batch_size), 200)
    for i in range(batch_size):
        assert_allowed(rows[:, i])


def test_without_exact_cells_rows_may_descend() -> None:
    encoder = LogTimeEncoder()
    rows = sampled(Session(chordal(encoder=encoder), encoder, Ancestral()), 200)[:, 0]
    together = rows[1:, 1] == 0
    assert (np.diff(rows[:, 0])[together] <= 0).any()


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_one_sequence_in_numpy_is_the_first_of_a_batch_of_tensors(order: tuple[str, ...]) -> None:
    alone, batch = session(order, seed=4), session(order, seed=4, batch_size=2)
    assert np.array_equal(sampled(alone, 120)[:, 0], sampled(batch, 120)[:, 0])


def test_the_module_excludes_the_same_classes_as_the_numpy_step() -> None:
    model = chordal()
    module = Session(model.double(), EXACT, Ancestral(), seed=2)
    rows = sampled(module, 100)[:, 0]
    assert_allowed(rows)
    windowed = Session(Windowed(chordal(), 5), EXACT, Ancestral(), seed=2)
    assert_allowed(sampled(windowed, 100)[:, 0])


def test_snapshots_undo_and_access_to_trackers_change_nothing() -> None:
    plain, watched = session(seed=1), session(seed=1, max_undo=8)
    wanted = sampled(plain, 60)[:, 0]
    rows = []
    for i in range(60):
        if i % 3 == 0:
            assert isinstance(watched.trackers[0], RowTracker)
        if i % 7 == 0:
            snapshot = watched.snapshot()
            sampled(watched, 3)
            watched.restore(snapshot)
        if i % 10 == 5:
            watched.pop_finished()
        rows.append(watched.next()[0])
    assert np.array_equal(np.stack(rows), wanted)
    for _ in range(30):
        watched.undo(2)
        last = watched.trackers[0].previous if watched.trackers[0].num_notes else None
        (row,) = watched.next()
        assert last is None or row[1] > 0 or row[0] > last[0]
        (row,) = watched.next()


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_fixed_fields_are_checked_against_the_row_before(order: tuple[str, ...]) -> None:
    made = session(order, seed=3)
    made.feed(np.array([[60, 0, 3, 3]], dtype=np.float32))
    for pitch, step in ((60, 0), (10, 0)):
        with pytest.raises(FieldError, match="is not allowed here"):
            made.next(pitch=pitch, step=step)
    before = made.snapshot()
    for pitch in (0, 30, 60):
        for _ in range(20):
            made.restore(before)
            made._noise.at = [n + 100 for n in made._noise.at]
            (row,) = made.next(pitch=pitch)
            assert row[0] == pitch
            assert row[1] > 0
    steps = []
    for k in range(40):
        made.restore(before)
        made._noise.at = [k]
        (row,) = made.next(pitch=61)
        steps.append(row[1])
    assert 0 in steps
    made.restore(before)
    made.feed(np.array([[127, 0, 3, 3]], dtype=np.float32))
    with pytest.raises(FieldError, match="is not allowed here"):
        made.next(step=0)


def test_generated_notes_are_whole_cells_without_repetitions() -> None:
    bundle = Bundle(model=chordal(), encoder=EXACT, sampler=Ancestral())
    prompt = long_piece(np.random.default_rng(0), count=30, seconds=4)
    for notes in (generate(bundle, 80, seed=1), generate(bundle, 80, seed=1, prompt=prompt)):
        onset = notes.start / 0.01
        assert np.allclose(onset, np.rint(onset), rtol=0, atol=1e-6)
        at = list(zip(np.rint(onset).tolist(), notes.pitch.tolist(), strict=True))
        assert len(set(at)) == len(at)
    for notes in generate_batch(bundle, 40, batch_size=3, seed=1):
        assert len(notes) == 40


@pytest.mark.parametrize("low", [0, 60])
def test_notes_that_are_fed_one_by_one_are_kept(low: int) -> None:
    """A chord played downwards within a cell is fed as it is, not refused or dropped."""
    made = session()
    for k, pitch in enumerate((low + 7, low + 4, low)):
        made.feed(Note(0.001 * k, 0.5, pitch, 64))
    assert made.trackers[0].notes().pitch.tolist() == [low + 7, low + 4, low]
    (row,) = made.next()
    assert row[1] > 0 or row[0] > low


def test_chords_fed_together_are_sorted_and_merged() -> None:
    made = session()
    chord = Notes(start=[0.0, 0.001, 0.002, 0.003], end=[1, 1, 1, 1], pitch=[64, 60, 64, 67])
    made.feed(chord)
    assert made.trackers[0].notes().pitch.tolist() == [60, 64, 67]


def test_a_sampler_sees_excluded_classes_as_impossible() -> None:
    seen: list[float] = []

    def watching(field, prediction, noise, contexts):  # type: ignore[no-untyped-def]
        if field.name == "pitch" and float(contexts[0].known["step"]) == 0:
            seen.append(float(prediction.log_weights()[0, :60].exp().sum()))
        return prediction.sample(noise)

    made = session(sampler=watching)
    made.feed(np.array([[60, 0, 3, 3]], dtype=np.float32))
    snapshot = made.snapshot()
    for k in range(20):
        made.restore(snapshot)
        made._noise.at = [k]
        made.next()
    assert len(seen) > 5
    assert set(seen) == {0.0}


def test_a_bundle_with_the_old_setting_and_the_same_weights_loads_into_the_new_one() -> None:
    old = chordal(encoder=LogTimeEncoder())
    model = chordal()
    model.load_state_dict(old.state_dict())
    bundle = Bundle(model=old, encoder=LogTimeEncoder(), sampler=Ancestral())
    assert generate(replace(bundle, model=model, encoder=EXACT), 20, seed=1).pitch.size == 20
