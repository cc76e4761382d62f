"""``encode_corpus``: a corpus as rows, encoded once and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from tqdm.auto import tqdm

from notelstm.data.cache import cache_folder
from notelstm.data.corpus import Corpus
from notelstm.data.corpus.columns import NpyWriter
from notelstm.data.lock import locked
from notelstm.data.packed import PackedRows
from notelstm.errors import DataError, EncodingError, OutputError, PluginError, counted
from notelstm.fields import Rows
from notelstm.files import BAD_HEADER
from notelstm.plugins import describe
from notelstm.protocols import NoteEncoder

__all__ = ["Encoded", "encode_corpus"]

FORMAT: Final = 1

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A corpus as rows.

    Attributes:
        rows: Of each piece of the corpus, in its order; none of a piece that was refused.
        refused: The pieces outside the encoder's domain, by name, and why.
        folder: Where the rows are kept, None if they are only in memory.
    """

    rows: PackedRows
    refused: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def encode_corpus(
    corpus: Corpus,
    encoder: NoteEncoder,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Encoded:
    """Encode a corpus, or open what was encoded of it before.

    A piece outside the encoder's domain is refused, logged, and has no rows.

    Args:
        corpus: The corpus.
        encoder: The encoder. The rows of one without an entry point are not kept: nothing would
            tell them from those of another encoder of its name.
        cache: The folder for caches; None for :func:`~notelstm.data.cache.cache_folder`.
        progress: Show a progress bar.

    Raises:
        DataError: If no piece can be encoded.
        OutputError: If the cache cannot be written.
    """
    try:
        described = describe(encoder)
    except PluginError:
        refused: dict[str, str] = {}
        rows = PackedRows.join(_encode(corpus, encoder, refused, progress))
        return _checked(Encoded(rows=rows, refused=refused), corpus)
    identity = {"format": FORMAT, "encoder": described, "corpus": corpus.fingerprint}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    base = cache_folder() if cache is None else Path(cache)
    home = base / "encoded" / f"{corpus.folder.parent.name.rpartition('-')[0]}-{key}"
    encoded = _open(home)
    if encoded is None:
        with locked(base / "locks" / f"{home.name}.lock"):
            encoded = _open(home)
            if encoded is None:
                about = {"name": corpus.name, "source": corpus.source, "encoder": described["name"]}
                _build(home, corpus, encoder, about, progress)
                encoded = _open(home)
    if encoded is None:
        raise DataError(
            "the rows that were just encoded cannot be opened",
            where=str(home),
            hint="encode the corpus again; another process may have cleared the cache",
        )
    return _checked(encoded, corpus)


def _checked(encoded: Encoded, corpus: Corpus) -> Encoded:
    if len(encoded.refused) == len(corpus):
        reason = next(iter(encoded.refused.values()), "there are no pieces")
        raise DataError(
            f"the encoder refuses all of {counted(len(corpus), 'piece')}; the first: {reason}",
            where=corpus.source,
            hint="use another encoder, or pieces that this one can represent",
        )
    return encoded


def _encode(
    corpus: Corpus, encoder: NoteEncoder, refused: dict[str, str], progress: bool
) -> Iterator[Rows]:
    """The rows of each piece; none, and the reason in `refused`, of one outside the domain."""
    width = len(encoder.fields)
    pieces = zip(corpus.names, corpus, strict=True)
    bar = tqdm(pieces, f"encoding {corpus.name}", len(corpus), unit="piece", disable=not progress)
    for name, notes in bar:
        try:
            yield encoder.encode(notes)
        except EncodingError as error:
            _log.warning("%s is left out: %s", name, error)
            refused[name] = str(error)
            yield np.zeros((0, width), dtype=np.float32)


def _open(home: Path) -> Encoded | None:
    """What was encoded before, if it is whole."""
    if not home.exists():
        return None
    try:
        about = json.loads((home / "about.json").read_text(encoding="utf-8"))
        lengths = np.load(home / "lengths.npy")
        begins = np.cumsum(lengths) - lengths
        rows = PackedRows(home / "rows.npy", begins, lengths)
        return Encoded(rows=rows, refused=about["refused"], folder=home)
    except (OSError, EOFError, ValueError, KeyError, TypeError, *BAD_HEADER) as error:
        _log.warning("%s is damaged (%s) and is made again", home, error)
        return None


def _build(
    home: Path, corpus: Corpus, encoder: NoteEncoder, about: dict[str, Any], progress: bool
) -> None:
    """Encode into a folder beside `home`, and rename it; the caller holds the lock."""
    beside = home.with_name(f".{home.name}.{secrets.token_hex(4)}.part")
    refused: dict[str, str] = {}
    try:
        for left in home.parent.glob(f".{home.name}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
        writer = NpyWriter(beside / "rows.npy", "<f4", (len(encoder.fields),))
        lengths = []
        try:
            for rows in _encode(corpus, encoder, refused, progress):
                writer.append(rows)
                lengths.append(len(rows))
        finally:
            writer.close()
        np.save(beside / "lengths.npy", np.array(lengths, dtype=np.int64))
        text = json.dumps({**about, "refused": refused})
        (beside / "about.json").write_text(text, encoding="utf-8")
        shutil.rmtree(home, ignore_errors=True)
        beside.rename(home)
    except OSError as error:
        raise OutputError(
            f"cannot write the cache: {error.strerror or error}",
            where=str(home),
            hint="free some space, or set NOTELSTM_CACHE to another disk",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
