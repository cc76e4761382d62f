"""Named tuples of tensors, treated as one: contexts and states of models.

A tree is a tensor, or a named tuple of trees, with the batch on axis 0 of every tensor. Code that
carries a model's state uses these functions and does not depend on its content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from notelstm.errors import ShapeError

__all__ = [
    "Tree",
    "choose",
    "detach",
    "flatten",
    "index",
    "join",
    "leaf",
    "map_tree",
    "move",
    "unflatten",
]

Tree: TypeAlias = Any
"""A tensor or a named tuple of trees (Python's types cannot say "named tuple of the same")."""

T = TypeVar("T")


def map_tree(function: Callable[..., Tensor], first: T, *others: T) -> T:
    """Apply `function` to each tensor of `first`, with the same tensors of `others` beside it.

    Raises:
        ShapeError: If the trees are built differently.
    """
    if isinstance(first, Tensor):
        return cast(T, function(first, *others))
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        if any(type(other) is not type(first) for other in others):
            raise ShapeError(
                f"trees of different types: {', '.join(type(t).__name__ for t in (first, *others))}"
            )
        parts = [map_tree(function, *parts) for parts in zip(first, *others, strict=True)]
        return cast(T, type(first)(*parts))
    raise ShapeError(
        f"a {type(first).__name__} is neither a tensor nor a named tuple of trees",
        hint="make Context and State typing.NamedTuple classes of tensors",
    )


def leaf(tree: Tree) -> Tensor:
    """One of its tensors, for the device, the type or the leading shape of all."""
    while not isinstance(tree, Tensor):
        tree = tree[0]
    return tree


def index(tree: T, at: Any) -> T:
    """``tensor[at]`` for each tensor: some of the batch (and, with a tuple, of the time axis)."""
    return map_tree(lambda tensor: tensor[at], tree)


def join(trees: Sequence[T], axis: int = 0) -> T:
    """Concatenate trees along `axis`; 0 is the batch."""
    return map_tree(lambda *tensors: torch.cat(tensors, dim=axis), *trees)


def choose(first: Tensor, a: T, b: T) -> T:
    """`a` where `first` (B,) is True, else `b`, per sequence of the batch; shapes are equal."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape:
            raise ShapeError(
                f"trees of different shapes to choose from: {tuple(x.shape)}, {tuple(y.shape)}"
            )
        return torch.where(first.reshape(-1, *[1] * (x.ndim - 1)), x, y)  # (B, 1, ...)

    return map_tree(pick, a, b)


def detach(tree: T) -> T:
    """The same values, detached from the autograd graph."""
    return map_tree(Tensor.detach, tree)


def move(tree: T, device: torch.device | str) -> T:
    """The same values on another device."""
    return map_tree(lambda tensor: tensor.to(device), tree)


def flatten(tree: Tree, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor under its dotted name, to be saved; :func:`unflatten` reads it back."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    flat: dict[str, Tensor] = {}
    for name, part in zip(tree._fields, tree, strict=True):
        flat |= flatten(part, f"{prefix}.{name}" if prefix else name)
    return flat


def unflatten(template: T, flat: Mapping[str, Tensor], prefix: str = "") -> T:
    """The inverse of :func:`flatten`, built like `template`.

    Raises:
        ShapeError: If a tensor is missing.
    """
    if isinstance(template, Tensor):
        if prefix not in flat:
            raise ShapeError(f"the tree has no tensor {prefix!r}")
        return cast(T, flat[prefix])
    named = cast(Any, template)
    parts = [
        unflatten(part, flat, f"{prefix}.{name}" if prefix else name)
        for name, part in zip(named._fields, named, strict=True)
    ]
    return cast(T, type(named)(*parts))
