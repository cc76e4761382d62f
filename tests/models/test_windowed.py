"""``Windowed``: predictions from the last few rows alone."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.errors import ConfigError
from notelstm.models import NoteLSTM, Windowed
from notelstm.models.inference import ModelRunner
from notelstm.models.lstm import Hidden
from notelstm.protocols import NoteModel
from notelstm.testing import check_model
from notelstm.testing.makers import random_rows

FIELDS = LogTimeEncoder().fields


def inner() -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(fields=FIELDS, hidden_size=5, embedding_dim=3).eval()


@torch.no_grad()
def by_hand(model: NoteLSTM, rows: Tensor, window: int) -> Tensor:
    """(B, T, H) the context of the window of each row, computed alone."""
    last = []
    for t in range(rows.shape[1]):
        some = rows[:, max(0, t + 1 - window) : t + 1]
        context, _ = model(some, model.initial_state(len(rows))[1])
        last.append(context.hidden[:, -1])
    return torch.stack(last, dim=1)


@given(
    st.integers(1, 6),
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.integers(1, 3),
)
@torch.no_grad()
def test_contexts_depend_on_the_window_alone(
    window: int, sizes: list[int], batch_size: int
) -> None:
    model, total = inner(), sum(sizes)
    rows = torch.from_numpy(random_rows(FIELDS, (batch_size, total), np.random.default_rng(0)))
    player = Windowed(model, window)
    context, state = player.initial_state(batch_size)
    torch.testing.assert_close(context, model.initial_state(batch_size)[0])
    parts, at = [], 0
    for size in sizes:
        context, state = player(rows[:, at : at + size], state)
        parts.append(context.hidden)
        at += size
    got = Hidden(torch.cat(parts, dim=1))
    torch.testing.assert_close(got.hidden, by_hand(model, rows, window))
    assert state.filled.tolist() == [min(window, total)] * batch_size


@torch.no_grad()
def test_sequences_may_have_read_different_numbers_of_rows() -> None:
    model = inner()
    player = Windowed(model, 4)
    rows = torch.from_numpy(random_rows(FIELDS, (2, 5), np.random.default_rng(0)))
    _, one = player(rows[:1, :2], player.initial_state(1)[1])
    _, other = player(rows[1:, :5], player.initial_state(1)[1])
    both = type(one)(*(torch.cat(pair) for pair in zip(one, other, strict=True)))
    after = torch.from_numpy(random_rows(FIELDS, (2, 3), np.random.default_rng(1)))
    context, _ = player(after, both)
    for sequence, past in ((0, rows[:1, :2]), (1, rows[1:])):
        whole = torch.cat([past, after[sequence : sequence + 1]], dim=1)
        wanted = by_hand(model, whole, 4)[:, -3:]
        torch.testing.assert_close(context.hidden[sequence : sequence + 1], wanted)


@torch.no_grad()
def test_the_numpy_step_reads_sequences_of_different_lengths() -> None:
    """Each sequence has windows of its own, also right after prompts of different lengths."""
    model = inner()
    prompts = [random_rows(FIELDS, (n,), np.random.default_rng(n)) for n in (2, 7)]
    after = random_rows(FIELDS, (4, 2), np.random.default_rng(0))
    runner = ModelRunner(cast(NoteModel, Windowed(model, 3)), 2)
    runner.read_each(prompts, identical=True)
    for t in range(len(after)):
        runner.advance(after[t])
        for sequence, prompt in enumerate(prompts):
            whole = torch.from_numpy(np.concatenate([prompt, after[: t + 1, sequence]]))[None]
            wanted = by_hand(model, whole, 3)[0, -1]
            got = torch.from_numpy(runner.state.context.hidden[sequence])
            torch.testing.assert_close(got, wanted)


def test_windowed_model_passes_check_model() -> None:
    check_model(cast(NoteModel, Windowed(inner(), 3)), entry_point=False)


def test_windowed_model_of_given_notes_passes_check_model() -> None:
    """Its numpy step can return arrays of the state before, which are not changed in place."""
    fields = AnticipatingEncoder(inner=LogTimeEncoder(exact=True), seconds=2.0).fields
    torch.manual_seed(0)
    model = NoteLSTM(fields=fields, hidden_size=5, embedding_dim=3, sounding_features=True)
    check_model(cast(NoteModel, Windowed(model, 3)), entry_point=False)


def test_inner_model_and_window_are_checked() -> None:
    with pytest.raises(ConfigError, match="window 0 is less than 1"):
        Windowed(inner(), 0)
    for window in (True, 2.5):
        with pytest.raises(ConfigError, match=f"window {window} is not a whole number"):
            Windowed(inner(), cast(int, window))
    with pytest.raises(ConfigError, match=r"a object is not a torch\.nn\.Module"):
        Windowed(cast(NoteModel, object()), 3)
    player = Windowed(inner(), 3)
    assert player.fields == FIELDS
    assert player.field_order == tuple(field.name for field in FIELDS)
