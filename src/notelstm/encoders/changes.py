"""Counts of the notes that an encoder changes: nothing is changed in silence."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from notelstm.errors import EncodingError, counted
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder

__all__ = ["ReportingEncoder", "describe_changes", "watch_changes"]

_log = logging.getLogger(__name__)


@runtime_checkable
class ReportingEncoder(NoteEncoder, Protocol):
    """An encoder that counts the notes that it changes."""

    def changes(self, notes: Notes) -> Mapping[str, int]:
        """The number of notes that rows do not hold exactly, by reason.

        A reason is a phrase after the noun: "notes longer than 16 beats, shortened".

        Raises:
            EncodingError: If the piece is outside the encoder's domain.
        """
        ...


def describe_changes(changes: Mapping[str, int]) -> str:
    """The counts of :meth:`ReportingEncoder.changes` in one line.

    Example:
        >>> describe_changes({"in 11/8, encoded as 4/4": 3, "longer than 16 beats, shortened": 1})
        '3 notes in 11/8, encoded as 4/4; 1 note longer than 16 beats, shortened'
    """
    return "; ".join(f"{counted(count, 'note')} {why}" for why, count in changes.items())


def watch_changes(pieces: Iterable[Notes], encoder: NoteEncoder) -> Iterator[Notes]:
    """Yield the pieces, and warn once, after the last, of the notes that the encoder changes.

    Args:
        pieces: The pieces.
        encoder: The encoder that will encode them. Nothing is reported of one without a method
            ``changes()``, or of pieces that it rejects.
    """
    total, count, affected = Counter[str](), 0, 0
    for piece in pieces:
        count += 1
        if isinstance(encoder, ReportingEncoder):
            try:
                changes = encoder.changes(piece)
            except EncodingError:
                changes = {}
            total.update(changes)
            affected += bool(changes)
        yield piece
    if affected:
        _log.warning(
            "%s changes notes of %d of %s: %s",
            type(encoder).__name__,
            affected,
            counted(count, "piece"),
            describe_changes(total),
        )
