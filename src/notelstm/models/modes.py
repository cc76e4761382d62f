"""Using a model without training it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import nn

from notelstm.protocols import NoteModel

__all__ = ["in_use"]


@contextlib.contextmanager
def in_use(model: NoteModel) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module is in the mode it was in.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    # A wrapper's mode need not be that of the model inside, so one flag for all is not enough.
    modes = [(module, module.training) for module in cast(nn.Module, model).modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training
