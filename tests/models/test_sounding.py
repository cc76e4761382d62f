"""Sounding notes, compared with a list of notes, and a model with their features."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm import tree
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.fields import Field
from notelstm.models import NoteLSTM
from notelstm.models.lstm import Hidden, LSTMState
from notelstm.models.sounding import (
    AROUND,
    LONGEST,
    NoteContext,
    NoteState,
    Sounding,
    SoundingClock,
    sounding_features,
)
from notelstm.predictions import Categorical, Normal
from notelstm.testing.makers import random_rows

TIMES = StepDurationEncoder().fields
CLASSES = LogTimeEncoder().fields
ORDER = ("step", "pitch", "velocity", "duration")

KEYS = (60, 61, 64, 0, 127)
WAITS = (0, 1, 10, 250, 1000, LONGEST - 1, LONGEST, LONGEST + 1, 200_000)
Music = list[tuple[int, int, int]]


def music(most: int = 12) -> st.SearchStrategy[Music]:
    """Pitch, step and duration (ms): ties, repeated pitches, overlaps, rests of minutes."""
    wait = st.sampled_from(WAITS) | st.integers(0, 2000)
    return st.lists(st.tuples(st.sampled_from(KEYS), wait, wait), min_size=1, max_size=most)


def naive(notes: Music, pitches: int = 128) -> tuple[list[list[int]], list[list[int]]]:
    """Time left and time since, (T, P) each, from a list of all notes so far."""
    now, played = 0, []
    left, since = [], []
    for key, step, duration in notes:
        now += step
        played.append((key, now, now + min(duration, LONGEST)))
        left.append([0] * pitches)
        since.append([LONGEST] * pitches)
        for pitch, onset, end in played:
            left[-1][pitch] = max(left[-1][pitch], end - now)
            since[-1][pitch] = min(since[-1][pitch], now - onset)
    return left, since


def in_seconds(notes: Music) -> Tensor:
    """(1, T, 3) rows of the step-duration encoder."""
    return torch.tensor([[(p, s / 1000, d / 1000) for p, s, d in notes]], dtype=torch.float32)


def in_classes(rows: Tensor) -> Music:
    """The values of rows of the log-time encoder."""
    return [
        (int(p), round(1000 * CLASSES[1].value_of(s)), round(1000 * CLASSES[2].value_of(d)))
        for p, s, d, _ in rows.tolist()
    ]


def clock_of(fields: tuple[Field, ...]) -> SoundingClock:
    clock = SoundingClock.of(fields)
    assert clock is not None
    return clock


@given(music())
def test_clock_equals_a_list_of_notes(notes: Music) -> None:
    clock = clock_of(TIMES)
    left, since = clock(in_seconds(notes), clock.initial_state(1))
    assert left.dtype == since.dtype == torch.int32
    assert (left[0].tolist(), since[0].tolist()) == naive(notes)


@given(st.integers(0, 2**32 - 1))
def test_clock_uses_the_values_of_classes(seed: int) -> None:
    clock = clock_of(CLASSES)
    rows = torch.from_numpy(random_rows(CLASSES, (3, 20), np.random.default_rng(seed)))
    rows[..., 0] = 60 + rows[..., 0] % 3
    left, since = clock(rows, clock.initial_state(3))
    for sequence in range(3):
        assert (left[sequence].tolist(), since[sequence].tolist()) == naive(
            in_classes(rows[sequence])
        )


@given(
    st.sampled_from([0.01, 60 / 96 / 8, 1 / 12, 1 / 24, 0.003]),
    st.lists(st.integers(1, 20), min_size=1, max_size=40),
)
def test_a_note_ends_where_steps_of_its_duration_lead(cell: float, steps: list[int]) -> None:
    """Whether or not a cell of the grid is a whole number of thousandths."""
    fields = LogTimeEncoder(cell=cell, linear=60 * cell, longest=120 * cell, exact=True).fields
    clock = clock_of(fields)
    durations = np.array(fields[2].values)
    held = min(sum(steps), 50)
    lasting = float(np.abs(durations - held * cell).argmin())
    rows = [[60.0, 0.0, lasting, 0.0]]
    rows += [[72.0, float(step), 0.0, 0.0] for step in steps]
    sounding, _ = clock.read(torch.tensor([rows]), clock.initial_state(1))
    passed = np.cumsum([0, *steps])
    assert (sounding.left[0, :, 60] > 0).tolist() == (passed < held).tolist()
    onset = sounding.left[0, 0, 60] - sounding.left[0, :, 60].clamp_min(0)
    whole = (clock.steps[1] * torch.from_numpy(passed)).clamp_max(int(clock.steps[1]) * held)
    assert onset.tolist() == whole.tolist()


@given(music(), st.data())
def test_clock_is_the_same_for_rows_cut_anywhere(notes: Music, data: Any) -> None:
    clock = clock_of(TIMES)
    rows = in_seconds(notes)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(notes)), max_size=4)) | {len(notes)})
    state, parts = clock.initial_state(1), []
    for a, b in pairwise([0, *cuts]):
        parts.append(clock(rows[:, a:b], state))
        state = Sounding(*(times[:, -1] for times in parts[-1]))
    whole = clock(rows, clock.initial_state(1))
    for got, want in zip(tree.join(parts, axis=1), whole, strict=True):
        assert torch.equal(got, want)


@given(music(), st.sampled_from(WAITS), st.integers(0, 127))
def test_later_and_around_equal_a_list_of_notes(notes: Music, wait: int, pitch: int) -> None:
    clock = clock_of(TIMES)
    now = Sounding(*(times[0, -1] for times in clock(in_seconds(notes), clock.initial_state(1))))
    later = now.later(clock.wait(torch.tensor(wait / 1000)))
    # A note of no length at another place changes nothing else.
    left, since = naive([*notes, (1, wait, 0)])
    since[-1][1] = LONGEST
    assert (later.left.tolist(), later.since.tolist()) == (left[-1], since[-1])
    around = later.around(torch.tensor(pitch))
    first = pitch - AROUND // 2
    for i in range(AROUND):
        there = 0 <= first + i < 128
        assert int(around.left[i]) == (left[-1][first + i] if there else 0)
        assert int(around.since[i]) == (since[-1][first + i] if there else LONGEST)


def test_features_distinguish_times_and_are_zero_in_silence() -> None:
    silence = clock_of(TIMES).initial_state(1)
    assert bool((sounding_features(silence) == 0).all())
    times = torch.tensor([0, 1, 30, 500, 5000, LONGEST], dtype=torch.int32)
    seen = sounding_features(Sounding(times, times)).view(4, len(times))
    assert seen[0].tolist() == [0, 1, 1, 1, 1, 1]
    assert bool((seen[1].diff() > 0).all())
    assert bool((seen[2:, :-1].diff() < 0).all())
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1


def with_sounding(fields: tuple[Field, ...], **settings: Any) -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(
        fields=fields, hidden_size=8, embedding_dim=4, sounding_features=True, **settings
    ).eval()


@given(st.sets(st.integers(1, 23), max_size=5))
@torch.no_grad()
def test_model_output_is_the_same_for_rows_cut_anywhere(cuts: set[int]) -> None:
    model = with_sounding(CLASSES, field_order=ORDER, num_layers=2)
    rows = torch.from_numpy(random_rows(CLASSES, (2, 24), np.random.default_rng(0)))
    whole, last = model(rows, model.initial_state(2)[1])
    _, state = model.initial_state(2)
    parts = []
    for a, b in pairwise([0, *sorted(cuts), 24]):
        context, state = model(rows[:, a:b], state)
        parts.append(context)
    assert isinstance(state, NoteState)
    assert isinstance(last, NoteState)
    for name, got in tree.flatten(tree.join(parts, axis=1)).items():
        torch.testing.assert_close(got, tree.flatten(whole)[name], atol=1e-5, rtol=0)
    for got, want in zip(state.sounding, last.sounding, strict=True):
        assert torch.equal(got, want)


def outputs_of(model: NoteLSTM, field: str, context: NoteContext, **known: float) -> Tensor:
    given = {name: torch.tensor([entry]) for name, entry in known.items()}
    prediction = model.predict(field, context, given)
    if isinstance(prediction, Normal):
        return torch.stack([prediction.mean, prediction.sigma])
    assert isinstance(prediction, Categorical)
    return prediction.logits


def context_of(model: NoteLSTM, left: int) -> NoteContext:
    """A context in which key 2 began a second ago and sounds for so many milliseconds more."""
    silence = clock_of(model.fields).initial_state(1)
    sounding = Sounding(silence.left.clone(), silence.since.clone())
    sounding.left[0, 2] = left
    sounding.since[0, 2] = 1000
    return NoteContext(torch.ones(1, 8), torch.ones(1, 8), sounding)


OTHER_NAMES = (
    Field.continuous("length", "duration", unit="beat", low=0.0),
    Field.continuous("wait", "step", unit="beat", low=0.0),
    Field.categorical("key", "pitch", values=range(60, 72)),
)


@torch.no_grad()
def test_heads_after_the_step_read_features_at_the_next_onset() -> None:
    model = with_sounding(OTHER_NAMES, field_order=("wait", "key", "length"))
    silent, sounds = context_of(model, 0), context_of(model, 300)
    for field, known in (("key", {}), ("length", {"key": 4})):
        for wait, differs in ((0.0, True), (0.299, True), (0.3, False), (2.0, False)):
            pair = [outputs_of(model, field, c, wait=wait, **known) for c in (silent, sounds)]
            assert torch.equal(*pair) != differs, (field, wait)
    # The head before the step reads the features of the LSTM, and nothing else.
    assert torch.equal(outputs_of(model, "wait", silent), outputs_of(model, "wait", sounds))
    other = sounds._replace(features=torch.zeros(1, 8))
    assert not torch.allclose(outputs_of(model, "wait", other), outputs_of(model, "wait", sounds))


@torch.no_grad()
def test_heads_before_the_step_read_features_at_the_previous_onset() -> None:
    model = with_sounding(OTHER_NAMES, field_order=("key", "wait", "length"))
    silent, sounds = context_of(model, 0), context_of(model, 300)
    for field, known in (("key", {}), ("wait", {"key": 4})):
        assert torch.equal(
            outputs_of(model, field, silent, **known), outputs_of(model, field, sounds, **known)
        )
    assert not torch.allclose(
        outputs_of(model, "length", silent, key=4, wait=0.1),
        outputs_of(model, "length", sounds, key=4, wait=0.1),
    )


@torch.no_grad()
def test_the_lstm_reads_the_features() -> None:
    model = with_sounding(TIMES)
    rows = in_seconds([(60, 0, 500), (64, 100, 500)])
    _, state = model.initial_state(1)
    assert isinstance(state, NoteState)
    other = state._replace(sounding=state.sounding._replace(left=state.sounding.left + 700))
    assert not torch.allclose(model(rows, state)[0].hidden, model(rows, other)[0].hidden)


@pytest.mark.parametrize(
    "fields",
    [
        PerformanceEventEncoder().fields,
        TIMES[:2],
        (*CLASSES, Field.categorical("second", "pitch", values=range(128))),
        (*TIMES[:2], Field.continuous("duration", "duration", unit="beat", low=0.0)),
        (Field.continuous("pitch", "pitch", unit="MIDI note", low=0.0), *TIMES[1:]),
        (*TIMES[:2], Field(name="duration", role="duration", unit="s", classes=3)),
    ],
    ids=["events", "no duration", "two pitches", "two units", "pitch a number", "no values"],
)
def test_fields_without_sounding_notes_give_a_model_without_features(
    fields: tuple[Field, ...],
) -> None:
    assert SoundingClock.of(fields) is None
    model = with_sounding(fields)
    context, state = model.initial_state(2)
    assert isinstance(context, Hidden)
    assert isinstance(state, LSTMState)
    assert model.config["sounding_features"] is True
    plain = NoteLSTM(fields=fields, hidden_size=8, embedding_dim=4)
    assert plain.state_dict().keys() == model.state_dict().keys()


def test_clocks_and_losses_under_autocast() -> None:
    model = with_sounding(CLASSES, field_order=ORDER)
    rows = torch.from_numpy(random_rows(CLASSES, (2, 9), np.random.default_rng(0)))
    _, before = model.initial_state(2)
    plain, after = model(rows, before)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context, state = model(rows, before)
        pitch = model.predict("pitch", context, {"step": rows[..., 1].long()})
        assert isinstance(pitch, Categorical)
        loss = pitch.nll(rows[..., 0]).mean()
    assert context.hidden.dtype == torch.bfloat16
    assert pitch.logits.dtype == loss.dtype == torch.float32
    for name, tensor in tree.flatten(state).items():
        want = tree.flatten(after)[name]
        assert tensor.dtype == want.dtype, name
        if not tensor.is_floating_point():
            assert torch.equal(tensor, want), name
    torch.testing.assert_close(context.hidden.float(), plain.hidden, atol=0.02, rtol=0)
    torch.autograd.backward(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
