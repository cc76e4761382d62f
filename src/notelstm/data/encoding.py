"""``encode_corpus``: the rows of a corpus, encoded once and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, final

import numpy as np
from tqdm.auto import tqdm

from notelstm.data.cache import cache_folder, locked
from notelstm.data.corpus import Corpus
from notelstm.data.dataset import PackedRows
from notelstm.data.piece_file import CACHE_HINT
from notelstm.encoders.rows import label_map_of, watch_changes
from notelstm.errors import DataError, EncodingError, PluginError
from notelstm.fields import Rows
from notelstm.files import is_sealed, out_of_resources, output_errors, seal
from notelstm.plugins import describe
from notelstm.protocols import NoteEncoder

__all__ = ["Encoded", "encode_corpus"]

FORMAT: Final = 3
"""The version of the files; those of another version are not used."""

REASONS_LOGGED: Final = 5
"""The reasons that are logged when an encoder rejects pieces."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A corpus as rows.

    Attributes:
        rows: The rows of each piece of the corpus, in its order; none for a rejected piece.
        rejected: The pieces outside the encoder's domain, by name, and why.
        folder: The folder of the cached rows, None if they are only in memory.
    """

    rows: PackedRows
    rejected: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def encode_corpus(
    corpus: Corpus,
    encoder: NoteEncoder,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Encoded:
    """Encode a corpus, or open the rows that were cached before.

    A piece outside the encoder's domain is rejected and has no rows; their number and the first
    reasons are logged.

    Args:
        corpus: The corpus.
        encoder: The encoder. Without an entry point its rows are not cached, since they could not
            be told from those of another encoder of its name.
        cache: The folder for caches; None for :func:`~notelstm.data.cache.cache_folder`.
        progress: Show a progress bar.

    Raises:
        DataError: If no piece can be encoded.
        OutputError: If the cache cannot be written.
    """
    try:
        described = describe(encoder)
    except PluginError:
        rejected: dict[str, str] = {}
        rows = PackedRows.join(_encode(corpus, encoder, rejected, progress))
        _check_rejected(rejected, corpus)
        return Encoded(rows=rows, rejected=rejected)
    identity = {"format": FORMAT, "encoder": described, "corpus": corpus.fingerprint}
    if label_map_of(encoder) is not None:
        identity["labels"] = corpus.labels_digest
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    base = cache_folder() if cache is None else Path(cache)
    home = base / "encoded" / f"{corpus.path.parent.name.rpartition('-')[0]}-{key}"
    encoded = _open(home, corpus.names)
    if encoded is None:
        with locked(base / "locks" / f"{home.name}.lock"):
            encoded = _open(home, corpus.names)
            if encoded is None:
                about = {"name": corpus.name, "source": corpus.source, "encoder": described["name"]}
                with output_errors("cannot write the cache", home, CACHE_HINT):
                    _build(home, corpus, encoder, about, progress)
                encoded = _open(home, corpus.names)
    if encoded is None:
        raise DataError(
            "the encoded rows were removed by another process",
            where=str(home),
            hint="encode the corpus again",
        )
    _check_rejected(encoded.rejected, corpus)
    return encoded


def _encode(
    corpus: Corpus, encoder: NoteEncoder, rejected: dict[str, str], progress: bool
) -> Iterator[Rows]:
    """The rows of each piece, (N, F); (0, F) for one that is added to `rejected`, with why."""
    watched = watch_changes(corpus, encoder)
    pieces = zip(corpus.names, watched, strict=True)
    title = f"encoding {corpus.name}"
    for name, notes in tqdm(pieces, title, len(corpus), unit="piece", disable=not progress):
        try:
            yield encoder.encode(notes)
        except EncodingError as error:
            rejected[name] = str(error)
            yield np.zeros((0, len(encoder.fields)), dtype=np.float32)


def _check_rejected(rejected: Mapping[str, str], corpus: Corpus) -> None:
    """Log how many pieces an encoder rejected, and the first reasons.

    Raises:
        DataError: If no piece is left.
    """
    if len(rejected) == len(corpus):
        reason = next(iter(rejected.values()), "there are no pieces")
        raise DataError(f"no piece of the corpus can be encoded: {reason}", where=corpus.source)
    if rejected:
        message = "%d of %d pieces cannot be encoded and are left out"
        _log.warning(message, len(rejected), len(corpus))
        for name, reason in islice(rejected.items(), REASONS_LOGGED):
            _log.warning("%s is left out: %s", name, reason)


def _open(home: Path, names: Sequence[str]) -> Encoded | None:
    """The cached rows of pieces with these names, if they exist and are intact."""
    path = home / "rows.npy"
    try:
        stored = json.loads((home / "about.json").read_text(encoding="utf-8"))
        about, checksum = stored["about"], stored["checksum"]
        if checksum != _checksum_of(about):
            raise ValueError("about.json has another checksum")
        if not is_sealed(path, about["rows"]):
            if _checksum_of_file(path) != about["rows"]:
                raise ValueError("rows.npy has another checksum")
            seal(path, about["rows"])
        lengths = np.array(about["lengths"], dtype=np.int64)
        # Pieces are stored by number: files with the same notes may have other names now.
        rejected = {names[number]: reason for number, reason in about["rejected"]}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, OSError) and out_of_resources(error):
            raise DataError(f"cannot open the cache: {error.strerror}", where=str(home)) from error
        _log.warning("%s is damaged (%s) and is rebuilt", home, error)
        return None
    rows = PackedRows(path, np.cumsum(lengths) - lengths, lengths)
    return Encoded(rows=rows, rejected=rejected, folder=home)


def _checksum_of(about: Any) -> int:
    return zlib.crc32(json.dumps(about).encode())


def _checksum_of_file(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _build(
    home: Path, corpus: Corpus, encoder: NoteEncoder, about: dict[str, Any], progress: bool
) -> None:
    """Encode into a folder beside `home`, and rename it; the caller holds the lock."""
    beside = home.with_name(f".{home.name}.{secrets.token_hex(4)}.part")
    rejected: dict[str, str] = {}
    try:
        for left in home.parent.glob(f".{home.name}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
        path = beside / "rows.npy"
        with path.open("wb") as file:
            rows = _encode(corpus, encoder, rejected, progress)
            lengths = _write_rows(file, rows, len(encoder.fields))
        checksum = _checksum_of_file(path)
        seal(path, checksum)
        numbers = {name: number for number, name in enumerate(corpus.names)}
        reasons = [(numbers[name], reason) for name, reason in rejected.items()]
        about = {**about, "rejected": reasons, "lengths": lengths, "rows": checksum}
        text = json.dumps({"checksum": _checksum_of(about), "about": about})
        (beside / "about.json").write_text(text, encoding="utf-8")
        shutil.rmtree(home, ignore_errors=True)
        beside.rename(home)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_rows(file: BinaryIO, pieces: Iterator[Rows], width: int) -> list[int]:
    """Write a ``.npy`` file of float32 rows; the number of rows of each piece."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (0, width)}
    np.lib.format.write_array_header_1_0(file, header)
    lengths = []
    for rows in pieces:
        file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        lengths.append(len(rows))
    # numpy leaves room in the header for a larger number of rows.
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (sum(lengths), width)})
    file.flush()
    os.fsync(file.fileno())
    return lengths
