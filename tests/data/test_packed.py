"""Rows of many pieces in one file or array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from notelstm.data import SequenceDataset
from notelstm.data.dataset import PackedRows
from notelstm.errors import DataError, OutputError
from notelstm.notes import Notes
from notelstm.recipes import pieces as training_pieces
from notelstm.recipes import reference


def some(count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((k, 3), dtype=np.float32) for k in range(count)]


def test_rows_on_disk_equal_the_given_rows(tmp_path: Path) -> None:
    packed = PackedRows.on_disk(iter(some()), tmp_path)
    assert [len(piece) for piece in packed] == [0, 1, 2, 3, 4]
    for got, want in zip(packed, some(), strict=True):
        np.testing.assert_array_equal(got, want)
    assert list(tmp_path.iterdir()) == [], "the file has no name, so that nothing is left of it"


def test_invalid_rows_on_disk_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different columns"):
        PackedRows.on_disk([np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)], tmp_path)
    with pytest.raises(DataError, match="there are no rows"):
        PackedRows.on_disk([], tmp_path)
    with pytest.raises(OutputError, match="Free some space"):
        PackedRows.on_disk(some(), tmp_path / "none")


def test_as_one_copies_only_if_needed() -> None:
    packed = PackedRows.join(some())
    one = packed.as_one()
    assert len(one) == 1
    assert one.rows is packed.rows
    np.testing.assert_array_equal(one[0], np.concatenate(some()))
    turned = packed.select([4, 1, 3])
    np.testing.assert_array_equal(
        turned.as_one()[0], np.concatenate([packed[k] for k in (4, 1, 3)])
    )
    assert len(PackedRows.join([]).as_one()) == 0


def test_a_recipe_trains_alike_from_memory_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [Notes(start=range(40), end=range(1, 41), pitch=50 + k) for k in range(3)]
    chosen = reference()
    in_memory = training_pieces.rows_of(pieces, chosen.encoder, tmp_path)
    monkeypatch.setattr(training_pieces, "_IN_MEMORY", 100)
    on_disk = training_pieces.rows_of(pieces, chosen.encoder, tmp_path)
    assert isinstance(on_disk, PackedRows)
    assert not isinstance(in_memory, PackedRows)
    assert isinstance(on_disk.rows.base, np.memmap)
    for crossing in (False, True):
        one, two = (
            SequenceDataset(rows, cross_piece_boundaries=crossing) for rows in (in_memory, on_disk)
        )
        assert len(one) == len(two)
        np.testing.assert_array_equal(one.packed.rows, two.packed.rows)
