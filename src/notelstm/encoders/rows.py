"""Helpers of encoders: checks of rows, shared fields, and a warning of lost instruments."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.errors import EncodingError
from notelstm.fields import Field, Rows
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder

__all__ = ["PITCH", "VELOCITY", "as_rows", "watch_instruments"]

PITCH: Final = Field.categorical(
    "pitch",
    "pitch",
    values=range(128),
    edges=[k - 0.5 for k in range(129)],
    unit="MIDI note",
)
"""128 classes, one for each MIDI note number."""

VELOCITY: Final = Field.categorical(
    "velocity",
    "velocity",
    values=[4 * k + 2 for k in range(32)],
    edges=[4 * k for k in range(33)],
    unit="MIDI velocity",
)
"""32 classes of four MIDI velocities each."""


def as_rows(rows: ArrayLike, fields: Sequence[Field]) -> Rows:
    """Check that numbers can be rows of these fields.

    Args:
        rows: (N, F) numbers.
        fields: The F fields.

    Returns:
        (N, F) float32.

    Raises:
        EncodingError: If the shape differs, a number is not finite, a class does not exist, or a
            value is out of bounds: which row and why.
    """
    array = np.asarray(rows, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != len(fields):
        names = ", ".join(field.name for field in fields)
        raise EncodingError(
            f"rows of shape {array.shape} are not (N, {len(fields)}): {names}",
            hint="give one column for each field",
        )
    for column, field in zip(array.T.copy(), fields, strict=True):
        if _well(column, field):
            continue
        if field.classes is not None:
            bad = ~((column >= 0) & (column < field.classes) & (column == np.floor(column)))
            kind = f"a whole number from 0 to {field.classes - 1}"
        else:
            low, high = field.interval
            bad = ~(np.isfinite(column) & (column >= low) & (column <= high))
            kind = f"a finite number from {low:g} to {high:g} {field.unit}"
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise EncodingError(
                f"{field.name} {column[row]:g} is not {kind}",
                where=f"row {row}",
                hint="sample only allowed entries, or repair the row",
            )
    return array


def _well(column: NDArray[np.float32], field: Field) -> bool:
    """Whether all entries can be, looked at with as little ado as possible."""
    if not len(column):
        return True
    low, high = field.interval if field.classes is None else (0, field.classes - 1)
    least, most = float(column.min()), float(column.max())
    # NaN fails every comparison.
    inside = low <= least and most <= high and -math.inf < least and most < math.inf
    return inside and (field.classes is None or bool((column == np.floor(column)).all()))


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
