"""``Corpus``: a sequence of pieces, read once and mapped into memory."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import (
    Any,
    Final,
    NamedTuple,
    Protocol,
    TypeAlias,
    final,
    overload,
    runtime_checkable,
)

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm
from typing_extensions import override

from notelstm._version import __version__
from notelstm.data.cache import SUFFIX, cache_folder, locked, open_pieces
from notelstm.data.corpus.reading import FileToRead, Job, read_files
from notelstm.data.corpus.report import CorpusReport, FileReport
from notelstm.data.folder import (
    FileList,
    Folder,
    list_files,
    no_midi_files,
    nothing_readable,
    scan_folder,
)
from notelstm.data.piece_file import DamagedError, Entry, PieceFile, entry_of, write_pieces
from notelstm.data.tables import labels_of_files
from notelstm.errors import ConfigError, DataError, PluginError, counted
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes
from notelstm.plugins import describe, find, settings_of

__all__ = ["Corpus", "CorpusFiles", "CorpusSource", "FolderSource"]

_log = logging.getLogger(__name__)
_progress_log = _log.getChild("progress")

LOG_INTERVAL: Final = 10.0
"""Seconds between two messages of progress."""


FORMAT: Final = 4
"""The version of the cache files; one of another version is not used."""

_READING: Final = ("pretty_midi", "symusic")
"""The packages of the readers; their other versions may read other notes."""


@runtime_checkable
class CorpusSource(Protocol):
    """A source of pieces; a plugin of the kind ``corpora``.

    Two attributes are optional: ``size``, a line on the amount of music for ``notelstm corpora``,
    and ``edition``, a text that changes with the music under the same settings, by which a corpus
    is read again.
    """

    @property
    def name(self) -> str:
        """The name in files and on the command line."""
        ...

    @property
    def license(self) -> str:
        """The license of the music; it is shown, and stored in bundles trained on it."""
        ...

    @property
    def source(self) -> str:
        """The origin of the music: a package, a URL, a folder."""
        ...

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """Read the pieces, after downloading them if necessary.

        Args:
            limit: Maximum number of pieces, None for all.

        Returns:
            The name of each piece, the same at each call, and its notes.

        Raises:
            DataError: If there are no pieces.
        """
        ...


@runtime_checkable
class FolderSource(CorpusSource, Protocol):
    """A source whose pieces are the MIDI files of a folder.

    A :class:`~notelstm.data.corpus.corpus.Corpus` reads these files itself, several at a time, and
    again only when they change.
    """

    def folder(self) -> Folder:
        """The folder, after a download if need be, and how to read it."""
        ...


CorpusFiles: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
"""A folder or a file, or a list of files."""


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

    def __init__(
        self,
        pieces: PieceFile,
        labels: Mapping[str, str],
        of_pieces: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.path: Final = pieces.path
        self.name: Final = labels["name"]
        self.license: Final = labels["license"]
        self.source: Final = labels["source"]
        self.fingerprint: Final[str] = pieces.about["fingerprint"]
        self._pieces: Final = pieces
        self._of_pieces: Final = {k: dict(own) for k, own in (of_pieces or {}).items()}
        self._entries: Final = np.flatnonzero(pieces.table["read"])

    @classmethod
    def open(
        cls,
        source: CorpusFiles | CorpusSource,
        *,
        policy: ReadPolicy | None = None,
        reader: str = "auto",
        table: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> Corpus:
        """Open a corpus; it is read first if it is new or any of its files was changed.

        Reading may be interrupted or killed at any time without damage to the cache. Several
        processes may open the same corpus at the same time; one of them reads it. A file that
        cannot be read is left out and listed in the :attr:`report`.

        Args:
            source: A folder, or a list of files, or a part of the kind ``corpora``. A corpus is
                opened already, and is the result.
            policy: How to read the files; None for the source's own, or ``ReadPolicy()``. Of a part
                that does not read files, it is the setting `policy`.
            reader: The reader's name, or ``"auto"`` for the fastest one that can read each file.
            table: A CSV file with a column of file names, whose other columns are labels of the
                pieces; None for one in the folder, if there is one. See
                :mod:`notelstm.data.tables`.
            cache: The folder for caches; None for :func:`~notelstm.data.cache.cache_folder`.
            workers: Processes that read; 0 to read in this one; None for as many as are worth it.
            progress: Show a progress bar while files are read; otherwise the number of files is
                logged at the level INFO every ten seconds.

        Raises:
            DataNotFoundError: If there is no such folder or file.
            DataError: If there is nothing to read, a part has no policy to set, or the process runs
                out of descriptors.
            ConfigError: If `workers` is negative.
            OutputError: If the cache cannot be written.
            PluginError: If there is no such reader.
        """
        if workers is not None and workers < 0:
            raise ConfigError(f"workers {workers} is negative")
        if isinstance(source, Corpus) and policy is None:
            return source
        wanted = _resolve(source, policy, reader)
        base = cache_folder() if cache is None else Path(cache)
        path = base / "corpora" / _home(wanted) / f"{wanted.state}{SUFFIX}"
        pieces = open_pieces(path)
        if pieces is None:
            with locked(base / "locks" / f"{path.parent.name}.lock"):
                pieces = open_pieces(path) or _build(path, wanted, workers, progress)
        # The name, the license and a table may have changed since the files were read.
        corpus = cls(pieces, wanted.labels, wanted.of_pieces(table))
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
    def labels_digest(self) -> str:
        """A digest of the labels of all pieces that a table or a folder gives; "" without any."""
        text = json.dumps(self._of_pieces, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest() if self._of_pieces else ""

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
            notes = self._pieces.notes(int(self._entries[piece]))
        except DamagedError as error:
            self.path.unlink(missing_ok=True)
            raise DataError(
                f"the cache is damaged: {error}",
                where=str(self.path),
                hint="open the corpus again, which reads its files again",
            ) from error
        labels = self._of_pieces.get(self.names[piece])
        return dataclasses.replace(notes, labels={**notes.labels, **labels}) if labels else notes

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
        return _reopen, (self.path, _labels(self), self._of_pieces)

    @override
    def __repr__(self) -> str:
        """Name and size."""
        rejected = self.report.rejected_total
        notes = self._pieces.about["notes"]
        return (
            f"Corpus({self.name!r}, {len(self)} pieces, {notes} notes, {rejected} files rejected)"
        )


def _reopen(
    path: Path, labels: Mapping[str, str], of_pieces: Mapping[str, Mapping[str, str]]
) -> Corpus:
    pieces = open_pieces(path)
    if pieces is None:
        raise DataError("the cache of the corpus is gone", where=str(path), hint="open it again")
    return Corpus(pieces, labels, of_pieces)


def _home(wanted: _Resolved) -> str:
    """The name of a cache's folder: readable, and different for other sources and settings."""
    digest = hashlib.sha256(json.dumps(wanted.identity, sort_keys=True).encode()).hexdigest()
    paths = wanted.identity.get("paths")
    # A folder has one cache, even if it is opened under several names.
    label = Path(paths).name if isinstance(paths, str) else wanted.labels["name"]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip(".-")[:40]
    return f"{plain or 'corpus'}-{digest[:16]}"


def _build(path: Path, wanted: _Resolved, workers: int | None, progress: bool) -> PieceFile:
    """Read everything into a new cache file; the caller holds its lock."""
    name, files, total, unit = wanted.labels["name"], wanted.files, None, "piece"
    if isinstance(files, FileList):
        listed = zip(files.names, files.paths, files.states[:, 0].tolist(), strict=True)
        total, unit = len(files.names), "file"
        _log.info("%s: %d files to read", name, total)
        entries = read_files([FileToRead(*file) for file in listed], wanted.job, workers)
    else:
        entries = _entries_of_pieces(files())
    title = f"reading {wanted.labels['name']}"
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
            plural = "" if (total or done) == 1 else "s"
            _progress_log.info("%s: %s%s %s%s", title, f"{done:,}", of, unit, plural)


def _entries_of_pieces(pieces: Iterator[tuple[str, Notes]]) -> Iterator[Entry]:
    seen = set[str]()
    for name, notes in pieces:
        if name in seen:
            raise DataError(f"two pieces are called {name!r}", hint="give each its own name")
        seen.add(name)
        report = FileReport(name=name, notes=len(notes), seconds=notes.end_time)
        yield entry_of(name, notes, json.dumps(report.to_json()))


class _Resolved(NamedTuple):
    """A resolved source of a corpus.

    Attributes:
        labels: Its name, license and source, which may change without reading again.
        identity: As JSON values, the source and how it is read.
        job: How files are read.
        files: The files; or, if the source is not made of files, a function that reads its pieces.
        folder: The folder of the files, None if there is none.
    """

    labels: dict[str, str]
    identity: dict[str, Any]
    job: Job
    files: FileList | Callable[[], Iterator[tuple[str, Notes]]]
    folder: Folder | None = None

    def of_pieces(self, table: str | os.PathLike[str] | None) -> Mapping[str, Mapping[str, str]]:
        """The labels of the pieces that a table or their folders give, by name."""
        if not isinstance(self.files, FileList):
            return {}
        if self.folder is None or table is not None:
            return labels_of_files(self.files.names, None, table)
        return self.folder.labels(self.files.names)

    @property
    def state(self) -> str:
        """A digest of the state of the files, which differs after any change."""
        if not isinstance(self.files, FileList):
            return "pieces"
        digest = hashlib.sha256(self.files.states.tobytes())
        digest.update("\0".join(self.files.names).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]


def _resolve(
    source: CorpusFiles | CorpusSource, policy: ReadPolicy | None, reader: str
) -> _Resolved:
    """Look up a source and list its files.

    A source that is not made of files is read again when its settings change, or its ``edition`` if
    it has one.

    Raises:
        DataNotFoundError: If there is no such folder or file.
        DataError: If there is nothing to read.
        PluginError: If there is no such reader.
    """
    if reader != "auto":
        find("readers", reader)  # one error, and not one for each file
    if isinstance(source, str | os.PathLike):
        source = Folder(path=source)
    if isinstance(source, CorpusSource):
        folder = source.folder() if isinstance(source, FolderSource) else source
        if isinstance(folder, Folder):
            files = scan_folder(folder.path)
            if not files.names:
                raise no_midi_files(folder.path)
            job = Job(policy=policy or folder.policy, reader=reader)
            identity = _of_files(os.path.realpath(folder.path), job)
            return _Resolved(_labels(source), identity, job, files, folder)
        if policy is not None:
            source = _with_policy(source, policy)
        job = Job(policy=policy or ReadPolicy(), reader=reader)
        # The edition changes with the music under the same settings.
        edition = str(getattr(source, "edition", ""))
        about = {"format": FORMAT, "library": __version__, "edition": edition}
        return _Resolved(_labels(source), {**about, "part": _part(source)}, job, source.pieces)
    if not isinstance(source, Sequence):
        raise DataError(
            f"cannot make a corpus of {type(source).__name__}",
            hint="give a folder, a list of files, or a part of the kind corpora",
        )
    if not source:
        raise DataError("an empty list of files", hint="list at least one MIDI file")
    files = list_files(source)
    job = Job(policy=policy or ReadPolicy(), reader=reader)
    where = counted(len(files.names), "file")
    labels = {"name": _folder_of(files.paths), "license": "", "source": where}
    return _Resolved(labels, _of_files(files.paths, job), job, files)


def _with_policy(source: CorpusSource, policy: ReadPolicy) -> CorpusSource:
    """A source that is not made of files, with another policy."""
    if dataclasses.is_dataclass(source) and "policy" in settings_of(source):
        return dataclasses.replace(source, policy=policy)
    raise DataError(
        f"the corpus {source.name!r} has no policy to set",
        where=source.source,
        hint="open it without a policy",
    )


def _folder_of(paths: Sequence[str]) -> str:
    """The name of the innermost folder that holds all files, ``files`` if there is none."""
    try:
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
        return os.path.basename(os.path.commonpath(folders)) or "files"
    except ValueError:  # several drives
        return "files"


def _labels(source: CorpusSource) -> dict[str, str]:
    return {"name": source.name, "license": source.license, "source": source.source}


def _of_files(paths: str | tuple[str, ...], job: Job) -> dict[str, Any]:
    packages = {}
    for package in _READING:
        with contextlib.suppress(PackageNotFoundError):
            packages[package] = version(package)
    how = {"format": FORMAT, "library": __version__, "packages": packages}
    return {**how, **dataclasses.asdict(job), "paths": paths}


def _part(source: CorpusSource) -> Any:
    """The identity of a source and of its settings."""
    with contextlib.suppress(PluginError):
        return describe(source)
    kind = type(source)
    named = {"class": f"{kind.__module__}.{kind.__qualname__}", "source": source.source}
    if dataclasses.is_dataclass(source):
        named["settings"] = repr(settings_of(source))
    return named
