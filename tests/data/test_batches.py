"""Epochs of windows and of streams."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.batch import Batch, shard_slice
from notelstm.data import SequenceDataset, StatefulBatches, WindowBatches
from notelstm.data.dataset import Windows
from notelstm.errors import ConfigError
from notelstm.fields import Rows
from notelstm.protocols import Batches
from notelstm.training.distributed import ShardableBatches

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=6)
WINDOWS = st.integers(1, 9)
SIZES = st.integers(1, 5)


def numbered(lengths: list[int]) -> list[Rows]:
    """Pieces whose rows hold their positions: (piece, row in the piece); no row is all zeros."""
    return [
        np.stack([np.full(n, piece + 1), np.arange(n)], axis=1).astype(np.float32)
        for piece, n in enumerate(lengths)
    ]


def windows(lengths: list[int], window: int, batch: int, **options: Any) -> WindowBatches:
    data = SequenceDataset(numbered(lengths), sequence_length=window, targets="every")
    return WindowBatches(dataset=data, batch_size=batch, **options)


def streams(lengths: list[int], window: int, batch: int, **options: Any) -> StatefulBatches:
    data = SequenceDataset(numbered(lengths), sequence_length=window, targets="every")
    return StatefulBatches(dataset=data, batch_size=batch, **options)


Make = Callable[..., Batches]
KINDS = pytest.mark.parametrize("make", [windows, streams])


def targets(batches: list[Batch]) -> Counter[tuple[int, int]]:
    rows = [row for batch in batches for row in batch.rows[batch.target_mask].tolist()]
    return Counter((int(piece), int(row)) for piece, row in rows)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


@given(LENGTHS, WINDOWS, SIZES)
def test_an_epoch_of_windows_is_every_window_once(
    lengths: list[int], window: int, batch: int
) -> None:
    lengths = [*lengths, window + 1]
    data = SequenceDataset(numbered(lengths), sequence_length=window)
    for shuffle in (False, True):
        made = WindowBatches(dataset=data, batch_size=batch, shuffle=shuffle)
        epoch = list(made.epoch(3))
        assert len(epoch) == made.num_batches
        assert all(len(b.rows) == batch for b in epoch[:-1])
        assert targets(epoch) == Counter(
            (piece + 1, row) for piece, n in enumerate(lengths) for row in range(window, n)
        )
        assert all(bool(b.reset_state.all()) for b in epoch)
        if not shuffle:
            rows = torch.cat([b.rows for b in epoch])
            assert torch.equal(rows, data[range(len(data))].rows)


@given(LENGTHS, WINDOWS, SIZES)
def test_an_epoch_of_streams_is_every_row_once(lengths: list[int], window: int, batch: int) -> None:
    lengths = [*lengths, window + 1]
    made = streams(lengths, window, batch)
    epoch = list(made.epoch(2))
    assert len(epoch) == made.num_batches
    assert targets(epoch) == Counter(
        (piece + 1, row) for piece, n in enumerate(lengths) for row in range(n)
    )
    for step, b in enumerate(epoch):
        assert b.rows.shape == (batch, window + 1, 2)
        # Padding: rows of zeros, which are no piece's, are never scored, and nothing follows them.
        there = b.rows[:, :, 0] > 0
        assert not torch.any(b.target_mask & ~there)
        assert torch.all(there[:, 1:] <= there[:, :-1])
        # The first row of a stream is a target where, and only where, a piece begins.
        begins = there[:, 0] & (b.rows[:, 0, 1] == 0)
        assert torch.equal(b.target_mask[:, 0], begins)
        assert torch.equal(b.target_mask[:, 1:], there[:, 1:])
        if step == 0:
            assert bool(b.reset_state.all())
        else:
            assert torch.equal(b.reset_state, begins)


@given(LENGTHS, WINDOWS, SIZES)
def test_a_continued_stream_begins_with_its_last_row(
    lengths: list[int], window: int, batch: int
) -> None:
    epoch = list(streams([*lengths, window + 1], window, batch).epoch(0))
    for before, after in itertools.pairwise(epoch):
        on = ~after.reset_state & (after.rows[:, 0, 0] > 0)
        assert torch.equal(after.rows[on, 0], before.rows[on, -1])
        pieces, rows = after.rows[..., 0], after.rows[..., 1]
        there = pieces > 0
        assert torch.all((pieces == pieces[:, :1]) | ~there)
        assert torch.all((rows.diff(dim=1) == 1) | ~there[:, 1:])


@KINDS
@given(lengths=LENGTHS, window=WINDOWS, batch=SIZES, first=st.integers(0, 60))
def test_an_epoch_can_be_resumed_in_the_middle(
    make: Make, lengths: list[int], window: int, batch: int, first: int
) -> None:
    made = make([*lengths, window + 1], window, batch)
    assert same(list(made.epoch(1, first)), list(made.epoch(1))[first:])


@KINDS
def test_epochs_are_the_same_each_time_and_differ_by_number_and_seed(
    make: Make,
) -> None:
    lengths = list(range(20, 50))

    def epoch(number: int, **options: Any) -> list[Batch]:
        made = make(lengths, 4, 3, **options)
        return list(made.epoch(number))

    assert same(epoch(0), epoch(0))
    assert not same(epoch(0), epoch(1))
    assert not same(epoch(0), epoch(0, seed=1))
    assert same(epoch(0, shuffle=False), epoch(1, shuffle=False, seed=1))
    state = torch.get_rng_state()
    epoch(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_more_streams_than_segments() -> None:
    made = streams([6, 3], 4, 64)
    assert made.num_batches == 1
    (only,) = made.epoch(0)
    assert only.rows.shape == (64, 5, 2)
    assert int(only.target_mask.sum()) == 9


def test_short_pieces_are_read_in_streams_too() -> None:
    (only,) = streams([1, 2, 6], 5, 3).epoch(0)
    assert targets([only]) == Counter(
        (piece, row) for piece, n in ((1, 1), (2, 2), (3, 6)) for row in range(n)
    )


@KINDS
def test_only_streams_are_stateful(make: Make) -> None:
    made = make([20], 4, 2)
    assert made.stateful == (make is streams)


def test_settings_are_checked() -> None:
    every = SequenceDataset(numbered([9]), sequence_length=2, targets="every")
    for kind in (WindowBatches, StatefulBatches):
        with pytest.raises(ConfigError, match="batch_size 0 is below 1"):
            kind(dataset=every, batch_size=0)
        with pytest.raises(ConfigError, match="seed"):
            kind(dataset=every, seed=-1)
    last = SequenceDataset(numbered([9]), sequence_length=2)
    with pytest.raises(ConfigError, match="targets='every'"):
        StatefulBatches(dataset=last)


@KINDS
@given(LENGTHS, WINDOWS, SIZES, st.integers(1, 7), st.booleans())
def test_shards_join_to_the_batches_of_one_process(
    make: Make, lengths: list[int], window: int, batch: int, count: int, shuffle: bool
) -> None:
    whole = make([*lengths, window + 1], window, batch, shuffle=shuffle)
    assert isinstance(whole, ShardableBatches)
    shares = [whole.shard(number, count) for number in range(count)]
    assert {share.num_batches for share in shares} == {whole.num_batches}
    for first in (0, whole.num_batches // 2):
        epochs = zip(*(share.epoch(2, first) for share in shares), strict=True)
        joined = [Batch(*map(torch.cat, zip(*parts, strict=True))) for parts in epochs]
        assert same(joined, list(whole.epoch(2, first)))


@pytest.mark.parametrize("shared", [(0, 1), (1, 3)])
def test_windows_that_are_read_at_once_are_those_of_each_batch(
    monkeypatch: pytest.MonkeyPatch, shared: tuple[int, int]
) -> None:
    batches = windows([9] * 40, 4, 7, shared=shared)
    read: list[int] = []
    of_windows = SequenceDataset.read

    def counted(dataset: SequenceDataset, found: Windows) -> Batch:
        read.append(len(found.start))
        return of_windows(dataset, found)

    monkeypatch.setattr(SequenceDataset, "read", counted)
    together = list(batches.epoch(3))
    assert len(read) == 1
    # Of each window 5 rows of two columns.
    monkeypatch.setattr("notelstm.data.batches._NUMBERS_AT_ONCE", 3 * 7 * 5 * 2)
    apart = list(batches.epoch(3))
    assert same(apart, together)
    share = len(range(7)[shard_slice(7, *shared)])
    assert max(read[1:]) == 3 * share
    assert len(read) == 1 + -(-batches.num_batches // 3)
    # A batch that is larger than the limit is read alone.
    monkeypatch.setattr("notelstm.data.batches._NUMBERS_AT_ONCE", 1)
    assert same(list(batches.epoch(3)), together)
    assert max(read[-batches.num_batches :]) == share


def test_a_shard_of_streams_is_consecutive_pieces() -> None:
    """Processes that train on parts of the streams share few pieces."""
    whole = streams([9] * 40, 4, 8)
    read = [
        {int(piece) for batch, pieces in whole.shard(n, 4).numbered_epoch(1) for piece in pieces}
        for n in range(4)
    ]
    assert set.union(*read) == set(range(40))
    assert sum(map(len, read)) <= 40 + 3


@pytest.mark.parametrize("shared", [(-1, 2), (2, 2), (0, 0)])
def test_invalid_shards_are_rejected(shared: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="no share"):
        windows([9], 4, 2, shared=shared)
