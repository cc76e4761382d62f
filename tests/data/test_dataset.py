"""Windows and their targets."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    WeightedRandomSampler,
    random_split,
)

from notelstm.batch import Batch
from notelstm.data import SequenceDataset
from notelstm.data.dataset import Targets
from notelstm.errors import ConfigError, DataError
from notelstm.fields import Rows

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def numbered(lengths: list[int]) -> list[Rows]:
    """Pieces whose rows hold their positions: (piece, row in the piece)."""
    return [
        np.stack([np.full(n, piece), np.arange(n)], axis=1).astype(np.float32)
        for piece, n in enumerate(lengths)
    ]


def everything(dataset: SequenceDataset) -> Batch:
    return dataset[range(len(dataset))]


def targets(batch: Batch) -> Counter[tuple[int, int]]:
    """How often each (piece, row) is a target."""
    return Counter((int(p), int(r)) for p, r in batch.rows[batch.target_mask].tolist())


@given(LENGTHS, st.integers(1, 12))
def test_windows_with_last_targets_are_complete_and_never_cross_pieces(
    lengths: list[int], window: int
) -> None:
    if max(lengths) <= window:
        with pytest.raises(DataError):
            SequenceDataset(numbered(lengths), sequence_length=window)
        return
    dataset = SequenceDataset(numbered(lengths), sequence_length=window)
    batch = everything(dataset)
    assert len(dataset) == sum(max(0, n - window) for n in lengths)
    assert dataset.short == sum(n <= window for n in lengths)
    pieces, rows = batch.rows.unbind(-1)
    assert torch.all(pieces == pieces[:, :1])
    assert torch.all(rows.diff(dim=1) == 1)
    assert targets(batch) == Counter(
        (piece, row) for piece, n in enumerate(lengths) for row in range(window, n)
    )
    assert torch.all(batch.reset_state)


@given(LENGTHS, st.integers(1, 12))
def test_every_row_is_a_target_once_except_overlaps_at_the_ends(
    lengths: list[int], window: int
) -> None:
    lengths = [*lengths, window + 1]
    batch = everything(SequenceDataset(numbered(lengths), sequence_length=window, targets="every"))
    pieces, rows = batch.rows.unbind(-1)
    assert torch.all(pieces == pieces[:, :1])
    assert torch.all(rows.diff(dim=1) == 1)
    count = targets(batch)
    long = {(p, r) for p, n in enumerate(lengths) if n > window for r in range(n)}
    assert set(count) == long
    for piece, n in enumerate(lengths):
        twice = {row for row in range(n) if count[piece, row] > 1}
        # Windows side by side leave (n - 1) % window rows, which a window flush with the end takes.
        left = (n - 1) % window
        overlap = set(range(n - window, n - left)) if n > window and left else set()
        assert twice == overlap
        assert all(count[piece, row] == 2 for row in twice)


@given(LENGTHS, st.integers(1, 12))
def test_windows_that_cross_boundaries_cover_all_rows(lengths: list[int], window: int) -> None:
    total = sum(lengths)
    if total <= window:
        return
    dataset = SequenceDataset(
        numbered(lengths), sequence_length=window, cross_piece_boundaries=True
    )
    assert len(dataset) == total - window
    joined = np.concatenate(numbered(lengths))
    for i in (0, len(dataset) - 1):
        np.testing.assert_array_equal(dataset[i].rows, joined[i : i + window + 1])
    np.testing.assert_array_equal(dataset.last_window(), joined[-window:])


@pytest.mark.parametrize("scored", ["last", "every"])
def test_a_batch_equals_its_single_windows(scored: Targets) -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), sequence_length=5, targets=scored)
    for order in (range(len(dataset)), torch.randperm(len(dataset)), [2, 2, -1]):
        many = dataset[order]
        ones = [dataset[int(i)] for i in order]
        for at, name in enumerate(Batch._fields):
            assert torch.equal(many[at], torch.stack([one[at] for one in ones])), name


def test_windows_out_of_range_are_index_errors() -> None:
    dataset = SequenceDataset(numbered([10]), sequence_length=5)
    assert len(dataset) == 5
    for index in (5, -6):
        with pytest.raises(IndexError, match="of 5"):
            dataset[index]


def test_last_windows_are_the_last_rows_of_each_piece() -> None:
    dataset = SequenceDataset(numbered([8, 2, 5, 9]), sequence_length=5)
    for piece, n in ((0, 8), (2, 5), (3, 9), (-1, 9), (-2, 5)):
        window = dataset.last_window(piece)
        assert set(window[:, 0].tolist()) == {piece % 4}
        assert window[:, 1].tolist() == list(range(n - 5, n))
    with pytest.raises(DataError, match="2 rows are shorter than a window of 5"):
        dataset.last_window(1)
    for piece in (4, -5):
        with pytest.raises(DataError, match="no piece"):
            dataset.last_window(piece)


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("lengths", [[], [0], [5], [2, 2, 1]])
def test_without_windows_the_error_has_the_reason(lengths: list[int], crossing: bool) -> None:
    pieces = numbered(lengths)
    with pytest.raises(DataError, match=rf"no piece has more than 5 rows.*of {len(lengths)} has"):
        SequenceDataset(pieces, sequence_length=5, cross_piece_boundaries=crossing)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="sequence_length 0 is below 1"):
        SequenceDataset(numbered([9]), sequence_length=0)
    with pytest.raises(ConfigError, match="'first'"):
        SequenceDataset(numbered([9]), sequence_length=2, targets="first")  # type: ignore[arg-type]


def test_pieces_of_different_widths_are_an_error() -> None:
    with pytest.raises(DataError, match="columns"):
        SequenceDataset(
            [np.zeros((9, 2), np.float32), np.zeros((9, 3), np.float32)], sequence_length=2
        )


CHEAP = pytest.mark.parametrize("context", [None, "fork"])
"""The others start processes that import torch, which takes seconds; they are tried twice."""

ON_ONE_CORE = pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")


def same(batch: Batch, wanted: Batch) -> None:
    """The same columns, of the same types."""
    for got, want in zip(batch, wanted, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@ON_ONE_CORE
@pytest.mark.parametrize("context", [None, "fork", "spawn", "forkserver"])
@pytest.mark.parametrize("scored", ["last", "every"])
def test_a_plain_loader_gives_batches(context: str | None, scored: Targets) -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), sequence_length=5, targets=scored)
    workers = 2 if context == "fork" else 1 if context else 0
    data: Dataset[Batch] = dataset
    if scored == "every" and workers == 1:
        data = ConcatDataset([Subset(dataset, range(3)), Subset(dataset, range(3, len(dataset)))])
    loader = DataLoader(data, batch_size=4, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert len(batches) == -(-len(dataset) // 4)
    for k, batch in enumerate(batches):
        assert isinstance(batch, Batch)
        same(batch, dataset[range(4 * k, min(4 * k + 4, len(dataset)))])


@ON_ONE_CORE
@CHEAP
def test_subsets_and_concatenations_of_data_sets(context: str | None) -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), sequence_length=5)
    other = SequenceDataset(numbered([12]), sequence_length=5)
    workers = 2 if context else 0

    def batches(data: Any, **keywords: Any) -> list[Batch]:
        context_of: Any = context
        return list(
            DataLoader(data, num_workers=workers, multiprocessing_context=context_of, **keywords)
        )

    chosen = [3, 30, 7, 7, 0]
    (batch,) = batches(Subset(dataset, chosen), batch_size=8)
    same(batch, dataset[chosen])
    generator = torch.Generator().manual_seed(1)
    for part in random_split(dataset, [0.5, 0.5], generator=generator):
        (batch,) = batches(part, batch_size=len(dataset))
        same(batch, dataset[list(part.indices)])
    both = batches(ConcatDataset([dataset, other]), batch_size=len(dataset))
    same(both[0], everything(dataset))
    same(both[1], everything(other))
    sampler = WeightedRandomSampler([1.0] + [0.0] * (len(dataset) - 1), 6)
    (batch,) = batches(dataset, batch_size=6, sampler=sampler)
    same(batch, dataset[[0] * 6])
    in_twos = batches(dataset, batch_sampler=[[5, 1], [2, 4]])
    same(in_twos[1], dataset[[2, 4]])
    (one, *_) = batches(dataset, batch_size=None)
    same(one, dataset[0])
    (pinned, *_) = batches(dataset, batch_size=3, drop_last=True)
    same(pinned, dataset[[0, 1, 2]])


def test_a_list_of_numbers_is_a_batch_and_is_checked() -> None:
    dataset = SequenceDataset(numbered([10]), sequence_length=5)
    assert dataset[[1, -1]].rows.shape == (2, 6, 2)
    assert dataset[torch.tensor(2)].rows.shape == (6, 2)
    assert dataset[np.int64(2)].rows.shape == (6, 2)
    for wrong in ([0, 5], [-6, 1]):
        with pytest.raises(IndexError, match="of 5"):
            dataset[wrong]


@ON_ONE_CORE
@CHEAP
def test_the_quick_loader_gives_every_window_once(context: str | None) -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), sequence_length=5)
    loader = dataset.loader(8)
    if context:
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=loader.sampler,
            num_workers=2,
            multiprocessing_context=context,
        )
    batches = list(loader)
    assert [len(batch.rows) for batch in batches] == [8, 8, 8, 8, 5]
    same(Batch(*map(torch.cat, zip(*batches, strict=True))), everything(dataset))
    assert len(loader) == 5


def test_a_shuffled_loader_has_its_own_generator() -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), sequence_length=5)

    def order(seed: int) -> list[list[float]]:
        loader = dataset.loader(8, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return [row for batch in loader for row in batch.rows[:, -1].tolist()]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == everything(dataset).rows[:, -1].tolist()


def test_a_pickle_holds_the_rows_once_and_no_windows() -> None:
    dataset = SequenceDataset(numbered([5000, 5000]), sequence_length=100)
    size = len(pickle.dumps(dataset))
    assert size < 3 * dataset.rows.numel() * 4
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[-1].rows, dataset[-1].rows)
