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
        """Read one row of each sequence, (B, F).

        Returns:
            The context that predicts the next row, and the state after this one.
        """
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


Array = NDArray[np.float32]
"""An array of float32 numbers."""


def is_float32_on_cpu(module: nn.Module) -> bool:
    """Whether all parameters are float32 tensors on the CPU."""
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
