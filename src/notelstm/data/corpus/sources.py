"""Sources of a corpus."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from notelstm._version import __version__
from notelstm.data.corpus.reading import Job
from notelstm.data.folder import FileList, Folder, list_files, no_midi_files, scan_folder
from notelstm.errors import DataError, PluginError, counted
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes
from notelstm.plugins import describe, find, settings_of

__all__ = ["CorpusFiles", "CorpusSource", "FolderSource", "Resolved", "resolve"]

FORMAT: Final = 2
"""The version of the cache files; one of another version is not used."""

_READING: Final = ("pretty_midi", "symusic")
"""The packages of the readers; their other versions may read other notes."""


@runtime_checkable
class CorpusSource(Protocol):
    """A source of pieces; a plugin of the kind ``corpora``.

    The attribute ``size`` is optional: a line on the amount of music for ``notelstm corpora``.
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


class Resolved(NamedTuple):
    """A resolved source of a corpus.

    Attributes:
        name: The corpus' name.
        license: The terms of use of the music.
        source: Where the music comes from.
        identity: As JSON values, the source and how it is read.
        job: How files are read.
        files: The files, or None if the source is not made of files.
        pieces: Reads all pieces, if it is not.
    """

    name: str
    license: str
    source: str
    identity: dict[str, Any]
    job: Job
    files: FileList | None
    pieces: Callable[[], Iterator[tuple[str, Notes]]]

    @property
    def labels(self) -> dict[str, str]:
        """The parts that may change without reading again."""
        return {"name": self.name, "license": self.license, "source": self.source}

    @property
    def state(self) -> str:
        """A digest of the state of the files, which differs after any change."""
        if self.files is None:
            return "pieces"
        digest = hashlib.sha256(self.files.states.tobytes())
        digest.update("\0".join(self.files.names).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]


def resolve(source: CorpusFiles | CorpusSource, policy: ReadPolicy | None, reader: str) -> Resolved:
    """Look up a source and list its files.

    Args:
        source: A folder, a list of files, or a part of the kind ``corpora``. One that is not made
            of files is read again when its settings change, or its ``edition`` if it has one.
        policy: How to read files; None for the source's own, or ``ReadPolicy()``.
        reader: The reader's name, or ``"auto"``.

    Raises:
        DataNotFoundError: If there is no such folder or file.
        DataError: If there is nothing to read.
        PluginError: If there is no such reader.
    """
    if reader != "auto":
        find("readers", reader)  # one error, and not one for each file
    if isinstance(source, CorpusSource):
        folder = source.folder() if isinstance(source, FolderSource) else source
        if isinstance(folder, Folder):
            return _of_folder(source, folder, policy, reader)
        job = Job(policy=policy or ReadPolicy(), reader=reader)
        # The edition changes with the music under the same settings.
        edition = str(getattr(source, "edition", ""))
        about = {"format": FORMAT, "library": __version__, "edition": edition}
        identity = {**about, "part": _part(source)}
        return Resolved(
            source.name, source.license, source.source, identity, job, None, source.pieces
        )
    if isinstance(source, str | os.PathLike):
        plain = Folder(path=source)
        return _of_folder(plain, plain, policy, reader)
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
    identity = _of_files(files.paths, job)
    return Resolved(_folder_of(files.paths), "", where, identity, job, files, _no_pieces)


def _folder_of(paths: Sequence[str]) -> str:
    """The name of the innermost folder that holds all files, ``files`` if there is none."""
    try:
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
        return os.path.basename(os.path.commonpath(folders)) or "files"
    except ValueError:  # several drives
        return "files"


def _of_folder(
    given: CorpusSource, folder: Folder, policy: ReadPolicy | None, reader: str
) -> Resolved:
    files = scan_folder(folder.path)
    if not files.names:
        raise no_midi_files(folder.path)
    job = Job(policy=policy or folder.policy, reader=reader)
    identity = _of_files(os.path.realpath(folder.path), job)
    return Resolved(given.name, given.license, given.source, identity, job, files, _no_pieces)


def _of_files(paths: str | tuple[str, ...], job: Job) -> dict[str, Any]:
    packages = {package: _version(package) for package in _READING}
    how = {"format": FORMAT, "library": __version__, "packages": packages}
    return {**how, **dataclasses.asdict(job), "paths": paths}


def _no_pieces() -> Iterator[tuple[str, Notes]]:
    return iter(())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _part(source: CorpusSource) -> Any:
    """The identity of a source and of its settings."""
    try:
        return describe(source)
    except PluginError:
        pass
    kind = type(source)
    named = {"class": f"{kind.__module__}.{kind.__qualname__}", "source": source.source}
    if dataclasses.is_dataclass(source):
        named["settings"] = repr(settings_of(source))
    return named
