"""Inference: evaluation mode, and the numpy step.

The numpy step runs a model on the CPU without autograd and modules, in a fifth of the time per row.
A session runs it instead of the module if the model has one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, cast, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.fields import Rows
from notelstm.predictions import NumpyPrediction
from notelstm.protocols import NoteModel, Prediction

__all__ = [
    "Array",
    "HasNumpyStep",
    "NumpyStep",
    "in_use",
    "initial_arrays",
    "is_float32_on_cpu",
    "map_arrays",
]

_LOCK: Final = threading.Lock()


_USERS: Final[WeakKeyDictionary[nn.Module, int]] = WeakKeyDictionary()
"""How many uses of each module are under way, in all threads."""


_MODES: Final[WeakKeyDictionary[nn.Module, bool]] = WeakKeyDictionary()
"""The mode that each module in use had before its first use, and gets back after the last."""


@contextlib.contextmanager
def in_use(model: NoteModel) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module is in the mode it was in.

    Several threads may use one model, or models that share modules, at the same time.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    # A wrapper's mode need not be that of the model inside, so one flag for all is not enough.
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
    """A model for B sequences in numpy; its predictions agree with the module's to 1e-5.

    It has contexts and states of its own: named tuples of arrays with the batch on axis 0, which
    it never changes after it has returned them.
    """

    def initial_state(self) -> tuple[Any, Any]:
        """The context and the state before the first row, of one sequence."""
        ...

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence, (B, F).

        Returns:
            The context that predicts the next row, and the state after this one.
        """
        ...

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field, (B,), given at least the earlier fields in the order, (B,) each."""
        ...

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        """The same for one sequence, B = 1, as a numpy prediction."""
        ...


@runtime_checkable
class HasNumpyStep(Protocol):
    """A model that offers a numpy step."""

    def numpy_step(self) -> NumpyStep | None:
        """A step with a copy of the current weights; None if there is none, on a GPU for one."""
        ...


Array = NDArray[np.float32]
"""float32 numbers."""


def is_float32_on_cpu(module: nn.Module) -> bool:
    """Whether all parameters are float32 numbers on the CPU."""
    return all(p.dtype == torch.float32 and p.device.type == "cpu" for p in module.parameters())


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
