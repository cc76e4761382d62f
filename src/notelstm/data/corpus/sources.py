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
from notelstm.errors import DataError, PluginError
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes
from notelstm.plugins import describe, find, settings_of
from notelstm.protocols import CorpusSource

__all__ = ["CorpusFiles", "FolderSource", "Resolved", "resolve"]

FORMAT: Final = 2
"""The version of the cache files; one of another version is not used."""

_READING: Final = ("pretty_midi", "symusic")
"""The packages of the readers; their other versions may read other notes."""


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
        files: The files; or, if the source is not made of files, a function that reads its pieces.
    """

    name: str
    license: str
    source: str
    identity: dict[str, Any]
    job: Job
    files: FileList | Callable[[], Iterator[tuple[str, Notes]]]

    @property
    def labels(self) -> dict[str, str]:
        """The parts that may change without reading again."""
        return {"name": self.name, "license": self.license, "source": self.source}

    @property
    def state(self) -> str:
        """A digest of the state of the files, which differs after any change."""
        if not isinstance(self.files, FileList):
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
        return Resolved(source.name, source.license, source.source, identity, job, source.pieces)
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
    where = f"{len(files.names)} files"
    return Resolved("files", "", where, _of_files(files.paths, job), job, files)


def _of_folder(
    given: CorpusSource, folder: Folder, policy: ReadPolicy | None, reader: str
) -> Resolved:
    files = scan_folder(folder.path)
    if not files.names:
        raise no_midi_files(folder.path)
    job = Job(policy=policy or folder.policy, reader=reader)
    identity = _of_files(os.path.realpath(folder.path), job)
    return Resolved(given.name, given.license, given.source, identity, job, files)


def _of_files(paths: str | tuple[str, ...], job: Job) -> dict[str, Any]:
    packages = {package: _version(package) for package in _READING}
    how = {"format": FORMAT, "library": __version__, "packages": packages}
    return {**how, **dataclasses.asdict(job), "paths": paths}


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
