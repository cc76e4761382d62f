"""Pieces for training: the forms in which they can be given, and their rows."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from notelstm.data.dataset import PackedRows
from notelstm.data.given import GivenMixture
from notelstm.encoders.rows import watch_changes
from notelstm.errors import DataError, EncodingError
from notelstm.evaluation.nats import rejections
from notelstm.fields import Rows
from notelstm.notes import Notes
from notelstm.protocols import AnticipatesNotes, NoteEncoder
from notelstm.training.progress import ProgressLog

__all__ = ["as_pieces", "digest", "encode_pieces", "fingerprint", "rows_of"]

_IN_MEMORY: Final = 1_000_000
"""The number of notes up to which rows are kept in memory; the rows of more are on disk."""

_log = logging.getLogger(__name__)


def as_pieces(given: Iterable[Notes] | Iterable[tuple[str, Notes]]) -> Sequence[Notes]:
    """The pieces as a sequence that can be read several times.

    Args:
        given: Pieces, or pairs of a name and a piece. A corpus, or another sequence that reads its
            pieces on access, is used as it is; the rest is read into memory.

    Raises:
        DataError: If it is not an iterable, or has other items.
    """
    if isinstance(given, Notes):
        raise DataError("the training set is one piece, not several", hint="give a list: [notes]")
    if isinstance(given, str | os.PathLike):
        raise DataError(f"{given!r} is a path, not pieces", hint="give Corpus.open(...)")
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


def encode_pieces(
    encoder: NoteEncoder,
    pieces: Iterable[Notes],
    *,
    total: int | None = None,
    rejected: list[EncodingError] | None = None,
    given: GivenMixture | None = None,
    seed: Sequence[int] = (),
) -> Iterator[Rows]:
    """The rows (N, F) of each piece; `total` pieces in progress messages.

    With a mixture of given notes, they are those of one copy of each piece, which depends on
    `seed`.

    Raises:
        EncodingError: If a piece is outside the encoder's domain and there is no list `rejected`
            for such errors; with it, the piece has no rows.
    """
    names: Sequence[str] = getattr(pieces, "names", ())
    log = ProgressLog()
    watched = watch_changes(pieces, encoder)
    for i, piece in enumerate(watched):
        log.counted("encoded", i, total)
        try:
            if given is not None and isinstance(encoder, AnticipatesNotes):
                yield given.encode(encoder, piece, (*seed, i))
            else:
                yield encoder.encode(piece)
        except EncodingError as error:
            name = names[i] if i < len(names) else f"piece {i}"
            where = f"{name}, {error.where}" if error.where else name
            located = EncodingError(error.problem, where=where, hint=error.hint)
            if rejected is None:
                raise located from error
            rejected.append(located)
            yield np.zeros((0, len(encoder.fields)), dtype=np.float32)


def rows_of(
    pieces: Sequence[Notes],
    encoder: NoteEncoder,
    folder: str | os.PathLike[str] | None,
    *,
    given: GivenMixture | None = None,
    seed: int = 0,
) -> Sequence[Rows]:
    """The rows of each piece: of few notes in memory, of many in a file in the run folder.

    With a mixture of given notes, the first copy of all pieces comes before the second, and so on.
    A piece outside the encoder's domain has no rows, and a warning names the first ones.

    Raises:
        EncodingError: If all pieces are outside the encoder's domain.
    """
    rejected: list[EncodingError] = []
    copies = 1 if given is None else given.variants
    # Those of the first copy are the same pieces as those of the others.
    lists = [rejected, *([] for _ in range(copies - 1))]
    encoded = itertools.chain.from_iterable(
        encode_pieces(
            encoder,
            pieces,
            total=len(pieces),
            rejected=found,
            given=given,
            seed=(seed, number),
        )
        for number, found in enumerate(lists)
    )
    rows: Sequence[Rows]
    if copies * sum(map(len, pieces)) <= _IN_MEMORY:
        rows = list(encoded)
    else:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        rows = PackedRows.on_disk(encoded, folder)
    if len(rejected) == len(pieces):
        raise rejected[0]
    if rejected:
        _log.warning("%s", rejections(list(map(str, rejected))))
    return rows


def fingerprint(pieces: Sequence[Notes]) -> str:
    """SHA-256 over the notes of the pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        for column in (piece.start, piece.end, piece.pitch, piece.velocity):
            digest.update(column.tobytes())
        for name in ("program", "drum", "track"):
            column = getattr(piece, name)
            # A column of zeros and no column are the same music.
            if column is not None and column.any():
                digest.update(name.encode() + column.tobytes())
    return digest.hexdigest()


def digest(rows: Iterable[Rows]) -> str:
    """SHA-256 over all rows, with the notes, the labels and the time signatures in them."""
    found = hashlib.sha256()
    for row in rows:
        found.update(f"{row.shape}{row.dtype}".encode() + row.tobytes())
    return found.hexdigest()
