"""What a corpus can be made of."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from notelstm._version import __version__
from notelstm.data.corpus.build import FORMAT
from notelstm.data.corpus.shards import Job
from notelstm.data.folder import Folder
from notelstm.data.scan import SUFFIXES, FileList, list_files, scan_folder
from notelstm.errors import DataError, PluginError
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes
from notelstm.plugins import describe, find, settings_of

__all__ = ["CorpusFiles", "FolderSource", "PieceSource", "Resolved", "resolve"]

_READING: Final = ("pretty_midi", "symusic")
"""The packages that readers rest on: another version of them may read other notes."""


@runtime_checkable
class PieceSource(Protocol):
    """A :class:`~notelstm.protocols.CorpusSource`, said without torch."""

    @property
    def name(self) -> str:
        """What files and the command line call it."""
        ...

    @property
    def licence(self) -> str:
        """What one may do with the music."""
        ...

    @property
    def source(self) -> str:
        """Where the music comes from."""
        ...

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """Each piece's name and notes."""
        ...


@runtime_checkable
class FolderSource(PieceSource, Protocol):
    """A source whose pieces are the MIDI files of a folder.

    A :class:`~notelstm.data.corpus.corpus.Corpus` reads these files itself, several at a time, and
    again only when they change.
    """

    def folder(self) -> Folder:
        """Fetch the files if need be; the folder that they are in, and how to read it."""
        ...


CorpusFiles: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
"""A folder or a file, or a list of files."""


class Resolved(NamedTuple):
    """What a corpus is to be made of.

    Attributes:
        name: What it is called.
        licence: What one may do with the music.
        source: Where the music comes from.
        identity: As JSON values, what the cache is of and how it was read.
        job: How files are read.
        files: The files, or None if the source is not made of files.
        pieces: Reads all pieces, if it is not.
    """

    name: str
    licence: str
    source: str
    identity: dict[str, Any]
    job: Job
    files: FileList | None
    pieces: Callable[[], Iterator[tuple[str, Notes]]]


def resolve(source: CorpusFiles | PieceSource, policy: ReadPolicy | None, reader: str) -> Resolved:
    """Find out what a corpus is to be made of.

    Args:
        source: A folder, a list of files, or a part of the kind ``corpora``. One that is not made
            of files is read again when its settings change, or its ``edition`` if it has one.
        policy: How to read files; None for the source's own, or ``ReadPolicy()``.
        reader: The reader's name, or ``"auto"``.

    Raises:
        DataError: If there is nothing to read.
        PluginError: If there is no such reader.
    """
    if reader != "auto":
        find("readers", reader)  # said once, and not of every file
    if isinstance(source, PieceSource):
        folder = source.folder() if isinstance(source, FolderSource) else source
        if isinstance(folder, Folder):
            return _of_folder(source, folder, policy, reader)
        job = Job(policy=policy or ReadPolicy(), reader=reader)
        # A source whose music may change under the same settings tells by its edition.
        edition = str(getattr(source, "edition", ""))
        about = {"format": FORMAT, "library": __version__, "edition": edition}
        identity = {**about, "part": _part(source)}
        return Resolved(
            source.name, source.licence, source.source, identity, job, None, source.pieces
        )
    if isinstance(source, str | os.PathLike):
        plain = Folder(path=source)
        return _of_folder(plain, plain, policy, reader)
    if isinstance(source, Sequence) and source:
        files = list_files(source)
        job = Job(policy=policy or ReadPolicy(), reader=reader)
        where = f"{len(files.names)} files"
        return Resolved("files", "", where, _of_files(files.paths, job), job, files, _no_pieces)
    raise DataError(
        "a corpus is a folder, a list of files, or a part of the kind corpora",
        got="an empty list" if isinstance(source, Sequence) else type(source).__name__,
    )


def _of_folder(
    given: PieceSource, folder: Folder, policy: ReadPolicy | None, reader: str
) -> Resolved:
    files = scan_folder(folder.path)
    if not files.names:
        raise DataError(
            f"a corpus has files ending in {', '.join(SUFFIXES)}",
            got="none",
            where=str(folder.path),
            hint="name the folder that your MIDI files are in",
        )
    job = Job(policy=policy or folder.policy, reader=reader)
    identity = _of_files(os.path.realpath(folder.path), job)
    return Resolved(given.name, given.licence, given.source, identity, job, files, _no_pieces)


def _of_files(paths: str | tuple[str, ...], job: Job) -> dict[str, Any]:
    packages = {package: _version(package) for package in _READING}
    how = {"format": FORMAT, "library": __version__, "packages": packages, **job.to_json()}
    return {**how, "paths": paths}


def _no_pieces() -> Iterator[tuple[str, Notes]]:
    return iter(())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _part(source: PieceSource) -> Any:
    """What tells a source from others, and its settings from other settings."""
    try:
        return describe(source)
    except PluginError:
        pass
    kind = type(source)
    named = {"class": f"{kind.__module__}.{kind.__qualname__}", "source": source.source}
    if dataclasses.is_dataclass(source):
        named["settings"] = repr(settings_of(source))
    return named
