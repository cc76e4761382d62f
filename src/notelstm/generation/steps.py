"""Running a model row by row, by its numpy step or as a torch module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast, final

import torch
from torch import Tensor

from notelstm.fields import Rows
from notelstm.models.inference import HasNumpyStep, NumpyStep, in_use, map_arrays
from notelstm.protocols import Context, NoteModel, Prediction, State
from notelstm.tree import index, leaf

__all__ = ["ModelRunner", "ModelState", "ModuleStep", "repeat", "select"]

T = TypeVar("T")

_SMALL_BATCH: Final = 16
"""Batch size up to which products are too small for several threads."""
_ROWS_AT_ONCE: Final = 1024
"""Maximum number of rows of all sequences in one forward pass, to limit the memory."""


class ModelState(NamedTuple):
    """The state of a model between two rows; its arrays and tensors are not changed in place.

    Attributes:
        context: The context that predicts the next row, (B, ...).
        state: The state with which the next row is read, (B, ...).
    """

    context: Any
    state: Any


@final
class ModuleStep:
    """The torch module, for models without a numpy step, and on a GPU.

    Args:
        model: The model.

    Attributes:
        device: Its device.
    """

    def __init__(self, model: NoteModel) -> None:
        self._model: Final = model
        self.device: torch.device = leaf(model.initial_state(1)[0]).device

    def initial_state(self) -> tuple[Context, State]:
        """The context and the state before the first row, of one sequence."""
        context, state = self._model.initial_state(1)
        return index(context, (slice(None), -1)), state

    def step(self, rows: Rows, state: State) -> tuple[Context, State]:
        """Read one row of each sequence, (B, F)."""
        return self.read(torch.from_numpy(rows).unsqueeze(1), state)

    def read(self, rows: Tensor, state: State) -> tuple[Context, State]:
        """Read (B, T, F) rows, and return the context and the state after the last."""
        context, state = self._model.forward(rows.to(self.device), state)
        return index(context, (slice(None), -1)), state

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field."""
        return self._model.predict(field, context, known)


Step: TypeAlias = NumpyStep | ModuleStep


@final
class ModelRunner:
    """A model and its state for B sequences.

    Args:
        model: The model.
        batch_size: B.

    Attributes:
        step: The numpy step of the model, or the module.
        state: The current state; it can be set.
    """

    def __init__(self, model: NoteModel, batch_size: int) -> None:
        self._model: Final = model
        self._batch_size: Final = batch_size
        with in_use(model):
            numpy_step = model.numpy_step() if isinstance(model, HasNumpyStep) else None
            self.step: Final[Step] = ModuleStep(model) if numpy_step is None else numpy_step
            self.state: ModelState = repeat(ModelState(*self.step.initial_state()), batch_size)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inference mode, with one thread for a small batch."""
        threads = torch.get_num_threads()
        single = threads > 1 and self._batch_size <= _SMALL_BATCH
        if single:
            torch.set_num_threads(1)
        try:
            if isinstance(self.step, ModuleStep):
                with in_use(self._model):
                    yield
            else:
                with torch.inference_mode():
                    yield
        finally:
            if single:
                torch.set_num_threads(threads)

    def advance(self, rows: Rows) -> None:
        """Read the next row of each sequence, (B, F)."""
        self.state = ModelState(*self.step.step(rows, self.state.state))

    def read(self, rows: Rows, *, identical: bool) -> None:
        """Read the same rows (T, F) in every sequence; once, if all are `identical` so far."""
        if identical:
            state = self._after(rows, select(self.state, slice(1)), 1)
            self.state = repeat(state, self._batch_size)
        else:
            self.state = self._after(rows, self.state, self._batch_size)

    def _after(self, rows: Rows, state: ModelState, batch_size: int) -> ModelState:
        """The state after (T, F) rows."""
        step = self.step
        if not isinstance(step, ModuleStep):
            for row in rows:
                state = ModelState(*step.step(row[None].repeat(batch_size, axis=0), state.state))
            return state
        count = max(1, _ROWS_AT_ONCE // batch_size)
        for first in range(0, len(rows), count):
            batch = torch.from_numpy(rows[first : first + count]).expand(batch_size, -1, -1)
            state = ModelState(*step.read(batch, state.state))  # from (B, T, F)
        return state


def select(tree: T, sequences: slice) -> T:
    """Select sequences of a tree of arrays or tensors."""
    return cast(T, map_arrays(lambda leaf: leaf[sequences], tree))


def repeat(tree: T, batch_size: int) -> T:
    """Repeat the only sequence of a tree."""

    def repeated(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.expand(batch_size, *leaf.shape[1:])
        return leaf.repeat(batch_size, axis=0)

    return cast(T, map_arrays(repeated, tree))
