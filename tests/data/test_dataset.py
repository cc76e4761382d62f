"""Windows and their targets."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from notelstm.batch import Batch
from notelstm.data import SequenceDataset
from notelstm.data.dataset import Scored
from notelstm.errors import ConfigError, DataError
from notelstm.fields import Rows

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def numbered(lengths: list[int]) -> list[Rows]:
    """Pieces whose rows say where they are: (piece, row in the piece)."""
    return [
        np.stack([np.full(n, piece), np.arange(n)], axis=1).astype(np.float32)
        for piece, n in enumerate(lengths)
    ]


def everything(dataset: SequenceDataset) -> Batch:
    return dataset[range(len(dataset))]


def targets(batch: Batch) -> Counter[tuple[int, int]]:
    """How often each (piece, row) is a target."""
    return Counter((int(p), int(r)) for p, r in batch.rows[batch.scored].tolist())


@given(LENGTHS, st.integers(1, 12))
def test_last_scored_windows_are_all_there_and_never_cross_a_piece(
    lengths: list[int], window: int
) -> None:
    if max(lengths) <= window:
        with pytest.raises(DataError):
            SequenceDataset(numbered(lengths), window=window)
        return
    dataset = SequenceDataset(numbered(lengths), window=window)
    batch = everything(dataset)
    assert len(dataset) == sum(max(0, n - window) for n in lengths)
    assert dataset.short == sum(n <= window for n in lengths)
    pieces, rows = batch.rows.unbind(-1)
    assert torch.all(pieces == pieces[:, :1])
    assert torch.all(rows.diff(dim=1) == 1)
    assert targets(batch) == Counter(
        (piece, row) for piece, n in enumerate(lengths) for row in range(window, n)
    )
    assert torch.all(batch.fresh)


@given(LENGTHS, st.integers(1, 12))
def test_every_row_is_a_target_once_but_for_the_overlap_at_a_pieces_end(
    lengths: list[int], window: int
) -> None:
    lengths = [*lengths, window + 1]
    batch = everything(SequenceDataset(numbered(lengths), window=window, scored="every"))
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
def test_crossing_windows_run_through_everything(lengths: list[int], window: int) -> None:
    total = sum(lengths)
    if total <= window:
        return
    dataset = SequenceDataset(numbered(lengths), window=window, crossing=True)
    assert len(dataset) == total - window
    joined = np.concatenate(numbered(lengths))
    for i in (0, len(dataset) - 1):
        np.testing.assert_array_equal(dataset[i].rows, joined[i : i + window + 1])
    np.testing.assert_array_equal(dataset.last_window(), joined[-window:])


@pytest.mark.parametrize("scored", ["last", "every"])
def test_one_fetch_of_many_is_many_fetches_of_one(scored: Scored) -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), window=5, scored=scored)
    for order in (range(len(dataset)), torch.randperm(len(dataset)), [2, 2, -1]):
        many = dataset[order]
        ones = [dataset[int(i)] for i in order]
        for at, name in enumerate(Batch._fields):
            assert torch.equal(many[at], torch.stack([one[at] for one in ones])), name


def test_windows_outside_are_index_errors() -> None:
    dataset = SequenceDataset(numbered([10]), window=5)
    assert len(dataset) == 5
    for index in (5, -6):
        with pytest.raises(IndexError, match="of 5"):
            dataset[index]


def test_last_windows_are_the_last_rows_of_each_piece() -> None:
    dataset = SequenceDataset(numbered([8, 2, 5, 9]), window=5)
    for piece, n in ((0, 8), (2, 5), (3, 9), (-1, 9), (-2, 5)):
        window = dataset.last_window(piece)
        assert set(window[:, 0].tolist()) == {piece % 4}
        assert window[:, 1].tolist() == list(range(n - 5, n))
    with pytest.raises(DataError, match="5 rows; got 2"):
        dataset.last_window(1)
    for piece in (4, -5):
        with pytest.raises(DataError, match="0 to 3"):
            dataset.last_window(piece)


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("lengths", [[], [0], [5], [2, 2, 1]])
def test_no_window_at_all_is_an_error_that_says_why(lengths: list[int], crossing: bool) -> None:
    pieces = numbered(lengths)
    with pytest.raises(DataError, match=f"more than 5 rows.*{len(lengths)} piece"):
        SequenceDataset(pieces, window=5, crossing=crossing)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        SequenceDataset(numbered([9]), window=0)
    with pytest.raises(ConfigError, match="'first'"):
        SequenceDataset(numbered([9]), window=2, scored="first")  # type: ignore[arg-type]


def test_pieces_of_other_widths_are_an_error() -> None:
    with pytest.raises(DataError, match="columns"):
        SequenceDataset([np.zeros((9, 2), np.float32), np.zeros((9, 3), np.float32)], window=2)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # on a single core
@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_a_loader_gives_every_window_once_with_and_without_workers(context: str | None) -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), window=5)
    plain = dataset.loader(8)
    loader = DataLoader(
        dataset,
        batch_size=8,
        collate_fn=plain.collate_fn,
        num_workers=2 if context else 0,
        multiprocessing_context=context,
    )
    batches = list(loader)
    assert [len(batch.rows) for batch in batches] == [8, 8, 8, 8, 5]
    for at, column in enumerate(everything(dataset)):
        assert torch.equal(torch.cat([batch[at] for batch in batches]), column)


def test_a_shuffled_loader_has_its_own_generator() -> None:
    dataset = SequenceDataset(numbered([30, 3, 17]), window=5)

    def order(seed: int) -> list[list[float]]:
        loader = dataset.loader(8, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return [row for batch in loader for row in batch.rows[:, -1].tolist()]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == everything(dataset).rows[:, -1].tolist()


def test_a_pickle_holds_the_rows_once_and_no_windows() -> None:
    dataset = SequenceDataset(numbered([5000, 5000]), window=100)
    size = len(pickle.dumps(dataset))
    assert size < 3 * dataset.rows.numel() * 4
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[-1].rows, dataset[-1].rows)
