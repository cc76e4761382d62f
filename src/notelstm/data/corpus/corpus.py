"""``Corpus``: any number of pieces, read once and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, final, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.data.cache import cache_folder
from notelstm.data.corpus.build import (
    Generation,
    build_from_files,
    build_from_pieces,
    current,
    is_fresh,
    is_tidy,
    tidy,
)
from notelstm.data.corpus.columns import READ, Columns, open_columns, text_of, unpack
from notelstm.data.corpus.report import CorpusReport
from notelstm.data.corpus.sources import CorpusFiles, PieceSource, Resolved, resolve
from notelstm.data.lock import locked, locked_now
from notelstm.errors import DataError
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes

__all__ = ["Corpus"]

_log = logging.getLogger(__name__)


@final
class Corpus:
    """Pieces that were read once, and lie as columns in a cache that is mapped into memory.

    Open one with :meth:`open`. It takes no more memory than the pieces that are looked at.

    Attributes:
        name: What it is called.
        licence: What one may do with the music, "" if that is not known.
        source: Where the music comes from.
        fingerprint: SHA-256 over the notes of all pieces, in order.
        folder: Where its columns are.
        columns: All notes as columns, see :mod:`notelstm.data.corpus.columns`; files that could
            not be read have an entry in them too.
    """

    def __init__(self, generation: Generation) -> None:
        self.folder: Final = generation.folder
        self.columns: Final[Columns] = generation.columns
        self._about: Final = dict(generation.about)
        self.name: Final[str] = self._about["name"]
        self.licence: Final[str] = self._about["licence"]
        self.source: Final[str] = self._about["source"]
        self.fingerprint: Final[str] = self._about["fingerprint"]
        self._entries: Final = np.flatnonzero(self.columns["status"] == READ)

    @classmethod
    def open(
        cls,
        source: CorpusFiles | PieceSource,
        *,
        policy: ReadPolicy | None = None,
        reader: str = "auto",
        cache: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> Corpus:
        """Open a corpus, after reading what is new or changed of it.

        It may be interrupted at any time and goes on from there the next time; several processes
        may open the same corpus at once, and one of them reads it. A file that cannot be read is
        left out and is in the :attr:`report`.

        Args:
            source: A folder, or a list of files, or a part of the kind ``corpora``.
            policy: How to read the files; None for the source's own, or ``ReadPolicy()``.
            reader: The reader's name, or ``"auto"`` for the fastest one that can.
            cache: The folder for caches; None for :func:`~notelstm.data.cache.cache_folder`.
            workers: Processes that read; 0 to read in this one; None for as many as are worth it.
            progress: Show a progress bar while files are read.

        Raises:
            DataError: If there is nothing to read.
            OutputError: If the cache cannot be written.
            PluginError: If there is no such reader.
        """
        wanted = resolve(source, policy, reader)
        base = cache_folder() if cache is None else Path(cache)
        home = base / "corpora" / _home(wanted)
        generation = _whole(home, wanted)
        lock = base / "locks" / f"{home.name}.lock"
        if generation is None:
            with locked(lock):
                if _whole(home, wanted) is None:
                    _build(home, wanted, workers, progress)
                generation = current(home)
        if generation is None:
            raise DataError(
                "a cache that was just built can be opened",
                got="nothing",
                where=str(home),
                hint="open it again; another process may have cleared it",
            )
        if not is_tidy(home):
            with locked_now(lock) as free:
                if free:
                    tidy(home)
        # Names and licences may be given anew without anything being read anew.
        about = {**generation.about, **_labels(wanted)}
        corpus = cls(Generation(generation.folder, generation.columns, about))
        corpus._tell()
        return corpus

    def _tell(self) -> None:
        refused = self.report.refused_total
        if refused:
            _log.warning("%s: %d of %d files cannot be read", self.name, refused, len(self.report))

    @property
    def report(self) -> CorpusReport:
        """What became of each file, also of those that could not be read."""
        return CorpusReport(self.columns)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the pieces are called, in order."""
        return tuple(text_of(self.columns, "name", int(entry)) for entry in self._entries)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(P,) how many notes each piece has."""
        return np.diff(self.columns["note_offsets"])[self._entries]

    @property
    def content_keys(self) -> list[str]:
        """The pieces' :func:`~notelstm.data.splits.content_key`, equal for transpositions."""
        return [row.tobytes().hex() for row in self.columns["content_key"][self._entries]]

    def __len__(self) -> int:
        """How many pieces could be read."""
        return len(self._entries)

    @overload
    def __getitem__(self, piece: int) -> Notes: ...
    @overload
    def __getitem__(self, piece: slice) -> list[Notes]: ...
    def __getitem__(self, piece: int | slice) -> Notes | list[Notes]:
        """One piece, or some.

        Raises:
            IndexError: If there is no such piece.
        """
        if isinstance(piece, slice):
            return [unpack(self.columns, int(entry)) for entry in self._entries[piece]]
        if not -len(self) <= piece < len(self):
            raise IndexError(f"piece {piece} of {len(self)}")
        return unpack(self.columns, int(self._entries[piece]))

    def __iter__(self) -> Iterator[Notes]:
        """The pieces, in order."""
        return (self[piece] for piece in range(len(self)))

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The pieces with their names, as a part of the kind ``corpora`` gives them.

        Args:
            limit: How many at most; None for all.

        Raises:
            DataError: If no piece is there.
        """
        if not len(self):
            reasons = self.report.reasons().most_common(1)
            found = "".join(f"; {often} times: {rule}" for rule, often in reasons)
            raise DataError(
                "a corpus has a MIDI file that can be read",
                got=f"none of {len(self.report)}{found}",
                where=self.source,
                hint="try `notelstm inspect` on one of them, or another policy",
            )
        yield from islice(zip(self.names, self, strict=True), limit)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the place of the columns, not what is in them."""
        return _reopen, (str(self.folder), self._about)

    @override
    def __repr__(self) -> str:
        """Name and size."""
        refused = self.report.refused_total
        notes = f"{len(self)} pieces, {len(self.columns['pitch'])} notes, {refused} files refused"
        return f"Corpus({self.name!r}, {notes})"


def _reopen(folder: str, about: Mapping[str, Any]) -> Corpus:
    try:
        return Corpus(Generation(Path(folder), open_columns(Path(folder)), about))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            "a corpus stays where it was until it is needed no more",
            got=str(error),
            where=folder,
            hint="open it again",
        ) from error


def _home(wanted: Resolved) -> str:
    """The name of a cache's folder: readable, and another one for whatever is read otherwise."""
    digest = hashlib.sha256(json.dumps(wanted.identity, sort_keys=True).encode()).hexdigest()
    paths = wanted.identity.get("paths")
    # One folder has one cache, whatever it is called where it is opened.
    label = Path(paths).name if isinstance(paths, str) else wanted.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip(".-")[:40]
    return f"{plain or 'corpus'}-{digest[:16]}"


def _labels(wanted: Resolved) -> dict[str, str]:
    return {"name": wanted.name, "licence": wanted.licence, "source": wanted.source}


def _whole(home: Path, wanted: Resolved) -> Generation | None:
    """The generation in use, if it is of what is wanted as it is now."""
    generation = current(home)
    if generation is None or wanted.files is None or is_fresh(generation, wanted.files):
        return generation
    return None


def _build(home: Path, wanted: Resolved, workers: int | None, progress: bool) -> None:
    about = {**_labels(wanted), "identity": wanted.identity}
    if wanted.files is None:
        build_from_pieces(home, wanted.pieces(), about, progress=progress)
    else:
        build_from_files(home, wanted.files, wanted.job, about, workers=workers, progress=progress)
