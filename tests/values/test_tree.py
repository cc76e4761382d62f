"""Trees of tensors: indexed, joined, chosen, saved."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from notelstm import tree
from notelstm.batch import Batch
from notelstm.errors import ShapeError


class Leaf(NamedTuple):
    h: Tensor
    clock: Tensor


class Node(NamedTuple):
    inner: Leaf
    rows: Tensor


def make(offset: int = 0, batch: int = 3) -> Node:
    h = torch.arange(batch * 2, dtype=torch.float32).reshape(batch, 2) + offset
    clock = torch.arange(batch) + offset
    return Node(Leaf(h, clock), torch.zeros(batch, 4, 5) + offset)


def test_map_keeps_the_types() -> None:
    doubled: Node = tree.map_tree(lambda a, b: a + b, make(), make())
    assert type(doubled) is Node
    assert type(doubled.inner) is Leaf
    assert torch.equal(doubled.inner.h, 2 * make().inner.h)
    assert torch.equal(tree.map_tree(torch.neg, torch.ones(2)), -torch.ones(2))


def test_index_and_join_are_inverse() -> None:
    whole = make()
    parts: list[Node] = [tree.index(whole, slice(i, i + 1)) for i in range(3)]
    assert parts[1].inner.clock.tolist() == [1]
    for name, tensor in tree.flatten(tree.join(parts)).items():
        assert torch.equal(tensor, tree.flatten(whole)[name])
    assert tree.join([whole.rows, whole.rows], axis=1).shape == (3, 8, 5)


def test_choose_picks_per_sequence() -> None:
    first = torch.tensor([True, False, True])
    picked: Node = tree.choose(first, make(0), make(100))
    assert picked.inner.clock.tolist() == [0, 101, 2]
    assert picked.inner.clock.dtype == torch.int64
    assert picked.rows[:, 0, 0].tolist() == [0, 100, 0]
    with pytest.raises(ShapeError, match="trees of different shapes"):
        tree.choose(first, make(), make(batch=1))


def test_detach_and_move() -> None:
    state = Leaf(torch.ones(2, requires_grad=True) * 2, torch.zeros(2))
    assert state.h.requires_grad
    assert not tree.detach(state).h.requires_grad
    assert tree.move(state, "meta").h.device.type == "meta"


def test_flatten_and_unflatten_are_inverse() -> None:
    flat = tree.flatten(make(5), "state")
    assert list(flat) == ["state.inner.h", "state.inner.clock", "state.rows"]
    back = tree.unflatten(make(), flat, "state")
    assert type(back) is Node
    assert torch.equal(back.inner.h, make(5).inner.h)
    assert list(tree.flatten(make())) == ["inner.h", "inner.clock", "rows"]
    assert torch.equal(tree.unflatten(torch.zeros(1), {"x": torch.ones(1)}, "x"), torch.ones(1))
    del flat["state.rows"]
    with pytest.raises(ShapeError, match=r"no tensor 'state\.rows'"):
        tree.unflatten(make(), flat, "state")


def test_invalid_trees_are_rejected() -> None:
    for other in ({"h": torch.ones(1)}, [torch.ones(1)], (torch.ones(1),), None):
        with pytest.raises(ShapeError, match="neither a tensor nor a named tuple"):
            tree.map_tree(torch.neg, other)
    with pytest.raises(ShapeError, match="trees of different types"):
        tree.map_tree(torch.add, make().inner, make())


def test_a_batch_moves_its_rows_and_keeps_its_flags() -> None:
    batch = Batch(torch.zeros(2, 3, 1), torch.ones(2, 3).bool(), torch.ones(2).bool())
    moved = batch.move("meta")
    assert moved.rows.device.type == "meta"
    assert moved.target_mask is batch.target_mask
    assert moved.reset_state is batch.reset_state
