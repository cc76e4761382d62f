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
    """Check that numbers (N, F) are rows of the F fields.

    Returns:
        (N, F) float32.

    Raises:
        EncodingError: If the shape differs, a number is not finite, a class does not exist, or a
            value is out of bounds; it names the row and the reason.
    """
    array = np.asarray(rows, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != len(fields):
        names = ", ".join(field.name for field in fields)
        raise EncodingError(
            f"rows of shape {array.shape} are not (N, {len(fields)}): {names}",
            hint="give one column for each field",
        )
    for column, field in zip(array.T.copy(), fields, strict=True):
        if _is_valid(column, field):
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


def _is_valid(column: NDArray[np.float32], field: Field) -> bool:
    """Whether all entries are valid, without the arrays that find the invalid ones."""
    if not len(column):
        return True
    low, high = field.interval if field.classes is None else (0, field.classes - 1)
    least, most = float(column.min()), float(column.max())
    # NaN fails every comparison.
    inside = low <= least and most <= high and -math.inf < least and most < math.inf
    return inside and (field.classes is None or bool((column == np.floor(column)).all()))


_log = logging.getLogger(__name__)


def watch_instruments(pieces: Iterable[Notes], encoder: NoteEncoder) -> Iterator[Notes]:
    """Yield the pieces, and warn after the last if the encoder loses their instruments.

    It does so if pieces have percussion or several programs, and the encoder decodes notes without
    programs. The warning has the number of such pieces.

    Args:
        pieces: The pieces.
        encoder: The encoder that will encode them.
    """
    count = affected = 0
    for piece in pieces:
        count += 1
        affected += _has_instruments(piece) and not _keeps_instruments(encoder, piece)
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


def _keeps_instruments(encoder: NoteEncoder, piece: Notes) -> bool:
    """Whether the first note is decoded with its program or as percussion."""
    try:
        decoded = encoder.decode(encoder.encode(piece[:1]))
    except EncodingError:
        # Encoding the piece raises as well.
        return True
    return decoded.program is not None or decoded.drum is not None
