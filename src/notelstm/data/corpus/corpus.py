"""``Corpus``: a sequence of pieces, read once and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Final, final, overload

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm
from typing_extensions import override

from notelstm.data.cache import SUFFIX, cache_folder, locked, open_pieces
from notelstm.data.corpus.reading import FileToRead, read_files
from notelstm.data.corpus.report import CorpusReport, FileReport
from notelstm.data.corpus.sources import CorpusFiles, Resolved, resolve
from notelstm.data.folder import FileList, nothing_readable
from notelstm.data.piece_file import DamagedError, Entry, PieceFile, entry_of, write_pieces
from notelstm.errors import DataError
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes
from notelstm.protocols import CorpusSource

__all__ = ["Corpus"]

_log = logging.getLogger(__name__)
_progress_log = _log.getChild("progress")

LOG_INTERVAL: Final = 10.0
"""Seconds between two messages of progress."""


@final
class Corpus:
    """Pieces that were read once, into a cache file that is mapped into memory.

    Open one with :meth:`open`. It takes no more memory than the pieces in use, and remains valid
    when another process rebuilds the cache.

    Attributes:
        name: The name of the corpus.
        license: The terms of use of the music, "" if they are not known.
        source: Where the music comes from.
        fingerprint: SHA-256 over the notes of all pieces, in order.
        path: The cache file.
    """

    def __init__(self, pieces: PieceFile, labels: Mapping[str, str]) -> None:
        self.path: Final = pieces.path
        self.name: Final = labels["name"]
        self.license: Final = labels["license"]
        self.source: Final = labels["source"]
        self.fingerprint: Final[str] = pieces.about["fingerprint"]
        self._pieces: Final = pieces
        self._entries: Final = np.flatnonzero(pieces.table["read"])

    @classmethod
    def open(
        cls,
        source: CorpusFiles | CorpusSource,
        *,
        policy: ReadPolicy | None = None,
        reader: str = "auto",
        cache: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> Corpus:
        """Open a corpus; it is read first if it is new or any of its files was changed.

        Reading may be interrupted or killed at any time without damage to the cache. Several
        processes may open the same corpus at the same time; one of them reads it. A file that
        cannot be read is left out and listed in the :attr:`report`.

        Args:
            source: A folder, or a list of files, or a part of the kind ``corpora``.
            policy: How to read the files; None for the source's own, or ``ReadPolicy()``.
            reader: The reader's name, or ``"auto"`` for the fastest one that can read each file.
            cache: The folder for caches; None for :func:`~notelstm.data.cache.cache_folder`.
            workers: Processes that read; 0 to read in this one; None for as many as are worth it.
            progress: Show a progress bar while files are read; otherwise the number of files is
                logged at the level INFO every ten seconds.

        Raises:
            DataNotFoundError: If there is no such folder or file.
            DataError: If there is nothing to read, or the process runs out of descriptors.
            OutputError: If the cache cannot be written.
            PluginError: If there is no such reader.
        """
        wanted = resolve(source, policy, reader)
        base = cache_folder() if cache is None else Path(cache)
        path = base / "corpora" / _home(wanted) / f"{wanted.state}{SUFFIX}"
        pieces = open_pieces(path)
        if pieces is None:
            with locked(base / "locks" / f"{path.parent.name}.lock"):
                pieces = open_pieces(path) or _build(path, wanted, workers, progress)
        # The name and the license may have changed since the files were read.
        corpus = cls(pieces, wanted.labels)
        report = corpus.report
        if rejected := report.rejected_total:
            _log.warning("%s: %d of %d files cannot be read", corpus.name, rejected, len(report))
        return corpus

    @property
    def report(self) -> CorpusReport:
        """The outcome of reading each file, rejected ones included."""
        return CorpusReport(self._pieces)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the pieces, in order."""
        return tuple(self._pieces.names[entry] for entry in self._entries.tolist())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(P,) the number of notes in each piece."""
        return self._pieces.table["notes"][self._entries]

    @property
    def content_keys(self) -> list[str]:
        """The pieces' :func:`~notelstm.data.splits.content_key`, equal for transpositions."""
        return [row.tobytes().hex() for row in self._pieces.table["content_key"][self._entries]]

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self._entries)

    @overload
    def __getitem__(self, piece: int) -> Notes: ...
    @overload
    def __getitem__(self, piece: slice) -> list[Notes]: ...
    def __getitem__(self, piece: int | slice) -> Notes | list[Notes]:
        """One piece, or some.

        Raises:
            IndexError: If there is no such piece.
            DataError: If its notes in the cache are damaged; the cache is then removed.
        """
        if isinstance(piece, slice):
            return [self[k] for k in range(len(self))[piece]]
        if not -len(self) <= piece < len(self):
            raise IndexError(f"piece {piece} of {len(self)}")
        try:
            return self._pieces.notes(int(self._entries[piece]))
        except DamagedError as error:
            self.path.unlink(missing_ok=True)
            raise DataError(
                f"the cache is damaged: {error}",
                where=str(self.path),
                hint="open the corpus again, which reads its files again",
            ) from error

    def __iter__(self) -> Iterator[Notes]:
        """The pieces, in order."""
        return (self[piece] for piece in range(len(self)))

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The pieces with their names, at most `limit`, as a part of the kind ``corpora``.

        Raises:
            DataError: If there are no pieces.
        """
        if not len(self):
            first = next((file.error for file in self.report.rejected()), "")
            raise nothing_readable(self.report.reasons(), first, self.source)
        yield from islice(zip(self.names, self, strict=True), limit)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the path of the cache file, not its content."""
        labels = {"name": self.name, "license": self.license, "source": self.source}
        return _reopen, (self.path, labels)

    @override
    def __repr__(self) -> str:
        """Name and size."""
        rejected = self.report.rejected_total
        notes = self._pieces.about["notes"]
        return (
            f"Corpus({self.name!r}, {len(self)} pieces, {notes} notes, {rejected} files rejected)"
        )


def _reopen(path: Path, labels: Mapping[str, str]) -> Corpus:
    pieces = open_pieces(path)
    if pieces is None:
        raise DataError("the cache of the corpus is gone", where=str(path), hint="open it again")
    return Corpus(pieces, labels)


def _home(wanted: Resolved) -> str:
    """The name of a cache's folder: readable, and different for other sources and settings."""
    digest = hashlib.sha256(json.dumps(wanted.identity, sort_keys=True).encode()).hexdigest()
    paths = wanted.identity.get("paths")
    # A folder has one cache, even if it is opened under several names.
    label = Path(paths).name if isinstance(paths, str) else wanted.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip(".-")[:40]
    return f"{plain or 'corpus'}-{digest[:16]}"


def _build(path: Path, wanted: Resolved, workers: int | None, progress: bool) -> PieceFile:
    """Read everything into a new cache file; the caller holds its lock."""
    files, total, unit = wanted.files, None, "piece"
    if isinstance(files, FileList):
        listed = zip(files.names, files.paths, files.states[:, 0].tolist(), strict=True)
        total, unit = len(files.names), "file"
        _log.info("%s: %d files to read", wanted.name, total)
        entries = read_files([FileToRead(*file) for file in listed], wanted.job, workers)
    else:
        entries = _entries_of_pieces(files())
    title = f"reading {wanted.name}"
    if not progress:
        entries = _logged(entries, title, unit, total)
    with tqdm(entries, title, total, unit=unit, disable=not progress) as counted:
        write_pieces(path, counted, wanted.labels)
    return PieceFile(path)


def _logged(entries: Iterator[Entry], title: str, unit: str, total: int | None) -> Iterator[Entry]:
    """The entries; their number is logged about every ten seconds."""
    then = time.monotonic()
    of = "" if total is None else f" of {total:,}"
    for done, entry in enumerate(entries, start=1):
        yield entry
        if time.monotonic() - then >= LOG_INTERVAL:
            then = time.monotonic()
            _progress_log.info("%s: %s%s %ss", title, f"{done:,}", of, unit)


def _entries_of_pieces(pieces: Iterator[tuple[str, Notes]]) -> Iterator[Entry]:
    seen = set[str]()
    for name, notes in pieces:
        if name in seen:
            raise DataError(f"two pieces are called {name!r}", hint="give each its own name")
        seen.add(name)
        report = FileReport(name=name, notes=len(notes), seconds=notes.end_time)
        yield entry_of(name, notes, json.dumps(report.to_json()))
