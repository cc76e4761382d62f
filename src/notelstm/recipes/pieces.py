"""The forms in which pieces can be given to ``Recipe.train``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import Any, cast

from notelstm.errors import DataError
from notelstm.notes import Notes
from notelstm.training.progress import ProgressLog

__all__ = ["as_pieces"]


def as_pieces(given: Iterable[Notes] | Iterable[tuple[str, Notes]]) -> Sequence[Notes]:
    """Pieces as a sequence that can be read several times.

    Args:
        given: Pieces, or pairs of a name and a piece. A corpus, or any other sequence that reads
            a piece when it is asked for, is used as it is; the rest is read into memory.

    Raises:
        DataError: If it is not an iterable, or has anything else in it.
    """
    if isinstance(given, Notes):
        raise DataError("the training set is one piece, not several", hint="give a list: [notes]")
    if not isinstance(given, Iterable):
        raise DataError(
            f"{type(given).__name__} is not a collection of pieces",
            hint="give a list of Notes, a Corpus, or Folder(...).pieces()",
        )
    reads = isinstance(given, Sized) and hasattr(given, "__getitem__")
    if reads and not isinstance(given, list | tuple | dict):
        sequence = cast(Sequence[Any], given)
        if not len(sequence) or isinstance(sequence[0], Notes):
            return sequence
    log = ProgressLog()
    pieces: list[Notes] = []
    for number, item in enumerate(given):
        log.counted("read", number)
        piece = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        if not isinstance(piece, Notes):
            raise DataError(
                f"piece {number} is {type(piece).__name__}, not Notes",
                hint="give Notes, or pairs of a name and Notes",
            )
        pieces.append(piece)
    return pieces
