"""Sounding notes of several instruments, compared with a list of notes."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from notelstm import tree
from notelstm.encoders import LogTimeEncoder
from notelstm.fields import Field
from notelstm.models import NoteLSTM
from notelstm.models.inference import ModelState, repeat
from notelstm.models.sounding import LONGEST, Sounding, SoundingClock
from notelstm.parts import Part, PartMap
from notelstm.testing.makers import repeating_rows
from notelstm.testing.prediction_checks import as_numbers

BAND = PartMap(
    by="track",
    parts=(Part(name="piano"), Part(name="kit", drum=True), Part(name="bass", program=33)),
)
FIELDS = LogTimeEncoder(exact=True, parts=BAND).fields
TIMES = (
    Field.categorical("pitch", "pitch", values=range(12)),
    Field.continuous("step", "step", unit="s", low=0.0),
    Field.continuous("duration", "duration", unit="s", low=0.0),
    BAND.field(),
)
ORDERS = tuple(
    (*order, "velocity", "duration") for order in permutations(("step", "instrument", "pitch"))
)
Music = list[tuple[int, int, int, int]]


def music() -> st.SearchStrategy[Music]:
    """Pitch, step and duration (ms), and instrument."""
    wait = st.sampled_from([0, 1, 250, LONGEST, LONGEST + 1]) | st.integers(0, 2000)
    note = st.tuples(st.sampled_from([0, 5, 11]), wait, wait, st.integers(0, 2))
    return st.lists(note, min_size=1, max_size=12)


def rows_of(notes: Music) -> Tensor:
    return torch.tensor([[(p, s / 1000, d / 1000, k) for p, s, d, k in notes]])


def naive(notes: Music, instruments: set[int], wait: int = 0) -> tuple[list[int], list[int]]:
    """Time left and time since of 12 pitches, of some instruments, after the last note."""
    onset, now = [], 0
    for _, step, _, _ in notes:
        now += step
        onset.append(now)
    now += wait
    left, since = [0] * 12, [LONGEST] * 12
    for (pitch, _, duration, instrument), start in zip(notes, onset, strict=True):
        if instrument in instruments:
            left[pitch] = max(left[pitch], start + min(duration, LONGEST) - now)
            since[pitch] = min(since[pitch], now - start)
    return left, since


def clock_of(fields: tuple[Field, ...]) -> SoundingClock:
    clock = SoundingClock.of(fields)
    assert clock is not None
    return clock


def as_lists(sounding: Sounding) -> tuple[list[int], list[int]]:
    return sounding.left.tolist(), sounding.since.tolist()


@given(music(), st.integers(0, 2), st.integers(0, 1500))
def test_groups_equal_a_list_of_notes(notes: Music, own: int, wait: int) -> None:
    clock = clock_of(TIMES)
    sounding = clock(rows_of(notes), clock.initial_state(1))
    now = Sounding(*(times[0, -1] for times in sounding))
    later = torch.tensor(wait)
    (every,) = (group.later(later) for group in clock.groups(now))
    assert as_lists(every) == naive(notes, {0, 1, 2}, wait)
    others, same = (g.later(later) for g in clock.groups(now, torch.tensor(own)))
    assert as_lists(others) == naive(notes, {0, 1, 2} - {own}, wait)
    assert as_lists(same) == naive(notes, {own}, wait)
    assert (clock.num_groups(known=False), clock.num_groups(known=True)) == (1, 2)


@given(music(), st.data())
def test_clock_is_the_same_for_rows_cut_anywhere(notes: Music, data: Any) -> None:
    clock, rows = clock_of(TIMES), rows_of(notes)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(notes)), max_size=4)) | {len(notes)})
    state, parts = clock.initial_state(1), []
    for a, b in pairwise([0, *cuts]):
        parts.append(clock(rows[:, a:b], state))
        state = Sounding(*(times[:, -1] for times in parts[-1]))
    whole = clock(rows, clock.initial_state(1))
    for got, want in zip(tree.join(parts, axis=1), whole, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("parts", [BAND.parts[:1], BAND.parts[1:2], BAND.parts])
def test_of_any_parts_there_are_the_same_groups(parts: tuple[Part, ...]) -> None:
    part_map = PartMap(by="track", parts=parts)
    clock = clock_of((*TIMES[:3], part_map.field()))
    silence = clock.initial_state(1)
    groups = clock.groups(silence), clock.groups(silence, torch.zeros(1))
    assert tuple(map(len, groups)) == (1, 2)
    for group in (*groups[0], *groups[1]):
        assert group.left.tolist() == [[0] * 12]
        assert group.since.tolist() == [[LONGEST] * 12]


def model_of(order: tuple[str, ...], fields: tuple[Field, ...] = FIELDS, **more: Any) -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(
        fields=fields,
        field_order=order,
        hidden_size=8,
        embedding_dim=4,
        sounding_features=True,
        **more,
    ).eval()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(ORDERS), st.integers(0, 99), st.sampled_from([0, 7]))
@torch.no_grad()
def test_numpy_step_batch_and_whole_sequence_agree(
    order: tuple[str, ...], seed: int, memory_window: int
) -> None:
    model = model_of(order, memory_window=memory_window)
    step = model.numpy_step()
    assert step is not None
    rows = torch.from_numpy(repeating_rows(FIELDS, (2, 14), np.random.default_rng(seed)))
    rows[..., 1] %= 30
    whole, _ = model(rows, model.initial_state(2)[1])
    columns = {f.name: rows[..., i].long() for i, f in enumerate(FIELDS)}
    context, state = model.initial_state(2)
    alone, alone_state = model.initial_state(1)
    here, carried = repeat(ModelState(*step.initial_state()), 2)
    for t in range(14):
        now = {name: column[:, t] for name, column in columns.items()}
        for name in order:
            want = model.predict(name, tree.index(context, (slice(None), -1)), now)
            field = next(f for f in FIELDS if f.name == name)
            got = as_numbers(step.predict(name, here, now), field)
            torch.testing.assert_close(got, as_numbers(want, field), rtol=0, atol=1e-6)
            one = model.predict(
                name, tree.index(alone, (slice(None), -1)), {n: c[:1] for n, c in now.items()}
            )
            torch.testing.assert_close(
                as_numbers(one, field)[0], as_numbers(want, field)[0], rtol=0, atol=1e-6
            )
            if t:
                parts = model.predict(name, tree.index(whole, (slice(None), t - 1)), now)
                torch.testing.assert_close(
                    as_numbers(parts, field), as_numbers(want, field), rtol=0, atol=1e-5
                )
        context, state = model(rows[:, t : t + 1], state)
        alone, alone_state = model(rows[:1, t : t + 1], alone_state)
        here, carried = step.step(rows[:, t].numpy(), carried)


@torch.no_grad()
def test_heads_distinguish_the_same_instrument_and_the_others() -> None:
    """A note that sounds in one or another instrument changes the logits of the pitch."""
    model = model_of(ORDERS[0])
    clock = model.clock
    assert clock is not None
    seen = []
    for instrument in (0, 1, 2):
        context, _ = model.initial_state(1)
        context.sounding.left[..., 128 * instrument + 60] = 5000
        context.sounding.since[..., 128 * instrument + 60] = 10
        known = {"step": torch.ones(1, 1), "instrument": torch.zeros(1, 1)}
        seen.append(as_numbers(model.predict("pitch", context, known), FIELDS[0]))
    assert not torch.allclose(seen[0], seen[2])
    assert torch.equal(seen[1], seen[2])


LAYERS = {"before": (8, 512), "there": (8, 512), "around": (8, 196)}


def test_layers_of_a_model_without_instruments() -> None:
    plain = LogTimeEncoder(exact=True).fields
    model = model_of(("step", "pitch", "velocity", "duration"), plain)
    state = model.state_dict()
    sizes = {name: tuple(state[f"sounding_layers.{name}.weight"].shape) for name in LAYERS}
    assert sizes == LAYERS
    assert list(model.sounding_layers) == list(LAYERS)
    assert model.initial_state(2)[1].sounding.left.shape == (2, 128)
