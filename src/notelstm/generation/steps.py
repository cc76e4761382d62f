"""Where a model stands, and how it goes on from there by one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast, final

import torch
from torch import Tensor

from notelstm.fields import Rows
from notelstm.models.lean import map_arrays
from notelstm.protocols import Context, LeanModel, LeanStep, NoteModel, Prediction, State
from notelstm.tree import index, leaf

__all__ = ["ModuleStep", "Place", "Step", "lanes_of", "spread", "step_of"]

T = TypeVar("T")


class Place(NamedTuple):
    """Where a model stands, as its step has it; nothing in it is ever changed.

    Attributes:
        context: What predicts the next row, (B, ...).
        state: What the next row meets, (B, ...).
    """

    context: Any
    state: Any


@final
class ModuleStep:
    """The model itself, where it has no lean copy: on a GPU, or one of somebody else's.

    Args:
        model: The model.

    Attributes:
        device: Where it is.
    """

    def __init__(self, model: NoteModel) -> None:
        self._model: Final = model
        self.device: torch.device = leaf(model.start(1)[0]).device

    def start(self) -> tuple[Context, State]:
        """Before the first row, in one lane."""
        context, state = self._model.start(1)
        return index(context, (slice(None), -1)), state

    def step(self, rows: Rows, state: State) -> tuple[Context, State]:
        """Read one row in each lane, (B, F)."""
        return self.read(torch.from_numpy(rows).unsqueeze(1), state)

    def read(self, rows: Tensor, state: State) -> tuple[Context, State]:
        """Read (B, T, F) rows: the context and the state after the last."""
        context, state = self._model.forward(rows.to(self.device), state)
        return index(context, (slice(None), -1)), state

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field."""
        return self._model.predict(field, context, known)


Step: TypeAlias = LeanStep | ModuleStep
"""How a model goes on."""


def step_of(model: NoteModel) -> Step:
    """The model's lean copy, or the model."""
    lean = model.lean() if isinstance(model, LeanModel) else None
    return ModuleStep(model) if lean is None else lean


def lanes_of(tree: T, some: slice) -> T:
    """Some of the lanes."""
    return cast(T, map_arrays(lambda leaf: leaf[some], tree))


def spread(tree: T, lanes: int) -> T:
    """As many lanes like the only one."""

    def wide(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.expand(lanes, *leaf.shape[1:])
        return leaf.repeat(lanes, axis=0)

    return cast(T, map_arrays(wide, tree))
