"""Reading a piece with a model, in chunks that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torch import Tensor

from notelstm.protocols import Context, NoteModel
from notelstm.tree import index, join, leaf

__all__ = ["contexts"]

_CHUNK: Final = 1024


def contexts(model: NoteModel, rows: Tensor) -> Iterator[tuple[slice, Context]]:
    """The contexts that predict each row of a piece, the first row included.

    Args:
        model: The model.
        rows: (N, F).

    Yields:
        Which rows, and the contexts (M, ...) that predict them.
    """
    before, state = model.initial_state(1)
    rows = rows.to(leaf(before).device)
    for first in range(0, len(rows), _CHUNK):
        chunk = rows[None, first : first + _CHUNK]  # (1, M, F)
        after, state = model.forward(chunk, state)
        shifted = join([before, index(after, (slice(None), slice(None, -1)))], axis=1)
        yield slice(first, first + chunk.shape[1]), index(shifted, 0)
        before = index(after, (slice(None), slice(-1, None)))
