"""Evaluation mode for a model that is used, not trained."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from notelstm.protocols import NoteModel

__all__ = ["in_use"]

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
