"""A warning where notes lose their instruments because an encoder has no field for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from notelstm.errors import EncodingError
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder

__all__ = ["watch_instruments"]

_log = logging.getLogger(__name__)


def watch_instruments(pieces: Iterable[Notes], encoder: NoteEncoder) -> Iterator[Notes]:
    """Pieces on their way to an encoder, unchanged; a warning after the last if they lose parts.

    Where pieces have several programs or percussion, and the encoder decodes notes without
    programs, its rows do not tell these instruments apart. The warning says of how many pieces.

    Args:
        pieces: The pieces.
        encoder: The encoder that they are about to be encoded with.

    Returns:
        The same pieces, one at a time.
    """
    count = affected = 0
    for piece in pieces:
        count += 1
        affected += _has_instruments(piece) and not _kept(piece, encoder)
        yield piece
    if affected:
        _log.warning(
            "%s does not encode instruments: in %d of %d pieces, notes of several programs or "
            "percussion are encoded as notes of one instrument",
            type(encoder).__name__,
            affected,
            count,
        )


def _has_instruments(piece: Notes) -> bool:
    """Whether a piece has percussion, or several programs."""
    drum, program = piece.drum, piece.program
    several = program is not None and len(program) and bool((program != program[0]).any())
    return bool(several) or bool(np.any(drum if drum is not None else False))


def _kept(piece: Notes, encoder: NoteEncoder) -> bool:
    """Whether a note comes back with its program or as percussion."""
    try:
        back = encoder.decode(encoder.encode(piece[:1]))
    except EncodingError:
        # The piece as a whole is refused aloud.
        return True
    return back.program is not None or back.drum is not None
