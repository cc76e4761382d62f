"""Which MIDI files there are, and when each was last changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError

__all__ = ["SUFFIXES", "FileList", "list_files", "scan_folder"]

SUFFIXES: Final = (".mid", ".midi", ".kar")
"""What the names of MIDI files end with, in upper or lower case."""

_log = logging.getLogger(__name__)


class FileList(NamedTuple):
    """Files by name, with what tells a changed file from an unchanged one.

    Attributes:
        names: What each is called in the corpus, ``/`` between folders, ascending by folder.
        paths: Where each is.
        sizes: (F,) bytes.
        changed: (F,) when its content was last changed, nanoseconds.
        touched: (F,) when anything about it was last changed, its rights say; nanoseconds.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    sizes: NDArray[np.int64]
    changed: NDArray[np.int64]
    touched: NDArray[np.int64]


def scan_folder(root: str | os.PathLike[str]) -> FileList:
    """The MIDI files of a folder and the folders in it, links followed once.

    Args:
        root: A folder, or a single file, whatever its name.

    Raises:
        DataError: If there is nothing of that name.
    """
    base = os.fspath(root)
    if os.path.isfile(base):
        return _file_list([(os.path.basename(base), base, os.stat(base))])
    if not os.path.isdir(base):
        raise DataError("a corpus is a folder of MIDI files", got="nothing there", where=base)
    return _file_list(sorted(_walk(base, "", set()), key=lambda file: file[0].split("/")))


def list_files(paths: Sequence[str | os.PathLike[str]]) -> FileList:
    """Named files, in the order given; each is called by its path below their common folder.

    Args:
        paths: The files, whatever their names end with.

    Raises:
        DataError: If one is not there, or is there twice.
    """
    whole = [os.path.abspath(os.fspath(path)) for path in paths]
    if len(set(whole)) < len(whole):
        twice = next(path for path in whole if whole.count(path) > 1)
        raise DataError("a file is in a corpus once", got="twice the same", where=twice)
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    except ValueError:  # files on several drives have no common folder
        common = ""
    found = []
    for path in whole:
        name = Path(path[len(common) :].lstrip(os.sep)).as_posix()
        try:
            found.append((name, path, os.stat(path)))
        except OSError as error:
            raise DataError(
                "the files of a corpus are there", got=error.strerror or "no such file", where=path
            ) from error
    return _file_list(found)


def _walk(folder: str, prefix: str, visited: set[str]) -> Iterator[tuple[str, str, os.stat_result]]:
    """Name, path and state of each MIDI file in a folder and the folders in it, however deep."""
    below = [(prefix, _entries(folder, visited))]
    while below:
        prefix, entries = below[-1]
        entry = next(entries, None)
        if entry is None:
            below.pop()
            continue
        try:
            if entry.is_dir():
                below.append((f"{prefix}{entry.name}/", _entries(entry.path, visited)))
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                # On Windows the state that a directory lists lacks some of it.
                state = entry.stat() if os.name != "nt" else os.stat(entry.path)
                yield prefix + entry.name, entry.path, state
        except OSError as error:
            _log.warning("left out: %s", error)


def _entries(folder: str, visited: set[str]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder that was not visited before, by name."""
    real = os.path.realpath(folder)
    if real in visited:
        return iter(())  # a link that leads back would be walked for ever
    visited.add(real)
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        _log.warning("left out: %s", error)
        return iter(())


def _file_list(found: Iterable[tuple[str, str, os.stat_result]]) -> FileList:
    files = list(found)
    states = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for _, _, s in files]
    sizes, changed, touched = np.array(states, dtype=np.int64).reshape(-1, 3).T
    return FileList(
        tuple(name for name, _, _ in files),
        tuple(path for _, path, _ in files),
        sizes,
        changed,
        touched,
    )
