"""Inference: evaluation mode, the numpy step, and running a model row by row.

The numpy step runs a model on the CPU without autograd and modules, in a fifth of the time per row.
A session runs it instead of the module if the model has one.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import (
    Any,
    Final,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    final,
    runtime_checkable,
)
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.errors import ConfigError
from notelstm.fields import Rows
from notelstm.predictions import NumpyPrediction
from notelstm.protocols import Context, NoteModel, Prediction, State
from notelstm.tree import index, leaf, map_tree

__all__ = [
    "Array",
    "HasNumpyStep",
    "ModelRunner",
    "ModelState",
    "ModuleStep",
    "NumpyStep",
    "check_has_float64",
    "has_float64",
    "in_use",
    "initial_arrays",
    "is_float32_on_cpu",
    "join",
    "map_arrays",
    "repeat",
    "select",
]

_LOCK: Final = threading.Lock()
_USERS: Final[WeakKeyDictionary[nn.Module, int]] = WeakKeyDictionary()
"""Number of current users of each module, in all threads."""
_MODES: Final[WeakKeyDictionary[nn.Module, bool]] = WeakKeyDictionary()
"""The mode of each module in use before its first user, restored after the last."""


@contextlib.contextmanager
def in_use(model: NoteModel) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards, the mode of each module is restored.

    Several threads may use one model, or models that share modules, at the same time.
    """
    # The mode of a wrapper may differ from that of the model inside, so each module has its own.
    modules = list(cast(nn.Module, model).modules())
    with _LOCK:
        for module in modules:
            users = _USERS.get(module, 0)
            if not users:
                _MODES[module] = module.training
                module.training = False
            _USERS[module] = users + 1
    try:
        with torch.inference_mode():
            yield
    finally:
        with _LOCK:
            for module in modules:
                _USERS[module] -= 1
                if not _USERS[module]:
                    module.training = _MODES.pop(module)


class NumpyStep(Protocol):
    """A model for B sequences in numpy; its predictions agree with those of the module to 1e-5.

    Contexts and states are named tuples of arrays with the batch on axis 0, which are not changed
    in place.
    """

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        ...

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence, (B, F), and return the next context and state."""
        ...

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field, given at least those that come earlier in the order, (B,) each."""
        ...

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """Predict one field of a single sequence."""
        ...


@runtime_checkable
class HasNumpyStep(Protocol):
    """A model with a numpy step."""

    def numpy_step(self) -> NumpyStep | None:
        """A step with a copy of the current weights; None if there is none, as on a GPU."""
        ...


Array: TypeAlias = NDArray[np.float32]
"""An array of float32 numbers."""


def is_float32_on_cpu(module: nn.Module) -> bool:
    """Whether all parameters are float32 tensors on the CPU."""
    return all(p.dtype == torch.float32 and p.device.type == "cpu" for p in module.parameters())


def has_float64(device: torch.device) -> bool:
    """Whether a device has float64; those of Apple do not."""
    return device.type != "mps"


def check_has_float64(device: torch.device) -> None:
    """Raise ConfigError for a device on which models are trained, but do not generate or score."""
    if not has_float64(device):
        raise ConfigError(
            f"generation and evaluation need float64, which {device.type} devices do not have",
            hint='move the model to the CPU: bundle.model.to("cpu")',
        )


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to each leaf of a named tuple of arrays or tensors."""
    if isinstance(tree, tuple):
        return type(tree)(*[map_arrays(function, part) for part in tree])
    return function(tree)


def initial_arrays(model: NoteModel) -> tuple[Any, Any]:
    """The initial context and state of a model for one sequence, as arrays (1, ...)."""
    context, state = model.initial_state(1)
    return (
        map_arrays(lambda tensor: tensor[:, -1].detach().numpy().copy(), context),
        map_arrays(lambda tensor: tensor.detach().numpy().copy(), state),
    )


T = TypeVar("T")

_SMALL_BATCH: Final = 16
"""Batch size up to which products are too small for several threads."""
_ROWS_AT_ONCE: Final = 1024
"""Maximum number of rows of all sequences in one forward pass, to limit the memory."""


class ModelState(NamedTuple):
    """The context that predicts the next row, and the state with which it is read, (B, ...) each.

    Their arrays and tensors are not changed in place.
    """

    context: Any
    state: Any


@final
class ModuleStep:
    """The torch module, for models without a numpy step, and on a GPU.

    Raises:
        ConfigError: If the model is on a device without float64.
    """

    def __init__(self, model: NoteModel) -> None:
        self._model: Final = model
        self.predict: Final = model.predict
        self.device: torch.device = leaf(model.initial_state(1)[0]).device
        check_has_float64(self.device)

    def initial_state(self) -> tuple[Context, State]:
        """The context and the state before the first row, of one sequence."""
        # Copies, since they can be views of parameters, which may change.
        context, state = map(functools.partial(map_tree, torch.clone), self._model.initial_state(1))
        return index(context, (slice(None), -1)), state

    def step(self, rows: Rows, state: State) -> tuple[Context, State]:
        """Read one row of each sequence, (B, F)."""
        return self.read(torch.from_numpy(rows).unsqueeze(1), state)

    def read(self, rows: Tensor, state: State) -> tuple[Context, State]:
        """Read (B, T, F) rows, and return the context and the state after the last."""
        context, state = self._model.forward(rows.to(self.device), state)
        return index(context, (slice(None), -1)), state


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
        self.step: Step
        self.update()
        with in_use(model):
            self.state: ModelState = repeat(ModelState(*self.step.initial_state()), batch_size)

    def update(self) -> None:
        """Build the step from the current weights of the model; the state stays as it is."""
        with in_use(self._model):
            numpy_step = self._model.numpy_step() if isinstance(self._model, HasNumpyStep) else None
            self.step = ModuleStep(self._model) if numpy_step is None else numpy_step

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inference mode, with one thread for a small batch."""
        threads = torch.get_num_threads()
        single = threads > 1 and self._batch_size <= _SMALL_BATCH
        if single:
            torch.set_num_threads(1)
        try:
            is_module = isinstance(self.step, ModuleStep)
            with in_use(self._model) if is_module else torch.inference_mode():
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

    def read_each(self, rows: Sequence[Rows], *, identical: bool) -> None:
        """Read rows (T, F) of its own in each sequence.

        If all sequences are `identical` so far, those with the same array are read once.
        """
        read: dict[int, ModelState] = {}
        keys = [id(own) if identical else i for i, own in enumerate(rows)]
        for i, (key, own) in enumerate(zip(keys, rows, strict=True)):
            if key not in read:
                read[key] = self._after(own, select(self.state, slice(i, i + 1)), 1)
        self.state = join([read[key] for key in keys])

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


def select(tree: T, sequences: slice | list[int]) -> T:
    """Select sequences of a tree of arrays or tensors."""
    return cast(T, map_arrays(lambda leaf: leaf[sequences], tree))


def join(trees: Sequence[T]) -> T:
    """Join the sequences of trees of the same kind."""
    first = trees[0]
    if isinstance(first, tuple):
        return cast(T, type(first)(*map(join, zip(*trees, strict=True))))
    if isinstance(first, Tensor):
        return cast(T, torch.cat(cast(list[Tensor], list(trees))))
    return cast(T, np.concatenate(cast(Sequence[Any], trees)))


def repeat(tree: T, batch_size: int) -> T:
    """Repeat the only sequence of a tree."""

    def repeated(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.expand(batch_size, *leaf.shape[1:])
        return leaf.repeat(batch_size, axis=0)

    return cast(T, map_arrays(repeated, tree))
