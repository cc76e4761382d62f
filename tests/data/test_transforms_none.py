"""Transforms and classes that stand for no value; pieces that keep their key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data import Augmented, SequenceDataset, StatefulBatches, Transpose, VelocityShift
from notelstm.errors import ConfigError
from notelstm.fields import Field, Rows
from notelstm.sampling.masking import class_values

FIRST = Field.categorical("first", "pitch", values=range(60, 72))
SECOND = Field.categorical("second", "pitch", values=range(60, 72), none=True)
COPIED = Field.categorical("copied", "pitch", values=range(60, 72), none=True, given=True)
FIELDS = (FIRST, SECOND, COPIED)
NONE = 12


def augmented(pieces: list[Rows], transpose: Transpose) -> Augmented:
    dataset = SequenceDataset(pieces, sequence_length=4, targets="every")
    batches = StatefulBatches(dataset=dataset, batch_size=len(pieces), shuffle=False)
    return Augmented(batches=batches, fields=FIELDS, transforms=(transpose,))


def rows(*entries: tuple[int, int, int]) -> Rows:
    return np.array(entries * 5, dtype=np.float32)[:5]


@given(st.integers(-3, 3), st.data())
def test_none_stays_none(by: int, data: st.DataObject) -> None:
    low, high = (data.draw(st.integers(3, 8)) for _ in range(2))
    transpose = Transpose(low=min(by, 0), high=max(by, 0))
    table = torch.tensor([[[low, high, NONE], [low, NONE, high]]], dtype=torch.float32)
    moved = transpose.apply(FIELDS, table, torch.tensor([by - transpose.low]))
    want = [[low + by, high + by, NONE], [low + by, NONE, high + by]]
    assert moved[0].tolist() == want


def test_none_does_not_limit_the_range() -> None:
    # Its class is the highest one, and its placeholder is not a pitch.
    pieces = [rows((2, NONE, NONE)), rows((2, 9, NONE)), rows((2, NONE, 9))]
    seen: list[set[tuple[float, ...]]] = [set(), set(), set()]
    batches = augmented(pieces, Transpose(low=-3, high=3))
    for epoch in range(60):
        for batch in batches.epoch(epoch):
            for i in range(3):
                seen[i].add(tuple(batch.rows[i, 1].tolist()))
    assert seen[0] == {(2 + k, NONE, NONE) for k in range(-2, 4)}
    assert seen[1] == {(2 + k, 9 + k, NONE) for k in range(-2, 3)}
    assert seen[2] == {(2 + k, NONE, 9 + k) for k in range(-2, 3)}


def test_a_share_of_the_pieces_keeps_its_key() -> None:
    fields, low = (FIRST,), np.full((4000, 1), 5, dtype=np.float32)
    for probability in (0.0, 0.5, 1.0):
        transpose = Transpose(low=-3, high=3, probability=probability)
        chosen = transpose.sample_params(fields, low, low, np.random.default_rng(0)) - 3
        kept = float(np.mean(chosen == 0))
        assert kept == pytest.approx(1 - probability * 6 / 7, abs=0.03)
        assert len(set(chosen.tolist())) == (7 if probability else 1)
    with pytest.raises(ConfigError, match="probability"):
        Transpose(probability=1.5)


def test_other_roles_keep_none_as_well() -> None:
    loud = Field.categorical("loud", "velocity", values=range(0, 128, 8), none=True)
    table = torch.tensor([[[3.0], [16.0]]])
    moved = VelocityShift(amounts=(16,)).apply((loud,), table, torch.tensor([0]))
    assert moved[0, :, 0].tolist() == [5, 16]


def test_processors_see_no_value() -> None:
    values = class_values(SECOND, "pitch")
    assert values is not None
    assert np.isnan(values[NONE])
    assert values[:NONE].tolist() == [*range(60, 72)]
