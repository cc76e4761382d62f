"""``Windowed``: predictions from the last few rows alone."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError
from notelstm.models import NoteLSTM, Windowed
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


def test_windowed_model_passes_check_model() -> None:
    check_model(cast(NoteModel, Windowed(inner(), 3)), entry_point=False)


def test_inner_model_and_window_are_checked() -> None:
    with pytest.raises(ConfigError, match="window 0 is less than 1"):
        Windowed(inner(), 0)
    with pytest.raises(ConfigError, match=r"a object is not a torch\.nn\.Module"):
        Windowed(cast(NoteModel, object()), 3)
    player = Windowed(inner(), 3)
    assert player.fields == FIELDS
    assert player.field_order == tuple(field.name for field in FIELDS)
