"""Listing MIDI files, and when each was last changed."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError, DataNotFoundError
from notelstm.files import out_of_resources

__all__ = ["SUFFIXES", "FileList", "list_files", "no_midi_files", "scan_folder"]

SUFFIXES: Final = (".mid", ".midi", ".kar", ".rmi")
"""Suffixes of MIDI files, in upper or lower case."""

_log = logging.getLogger(__name__)


class FileList(NamedTuple):
    """Files by name, with the state that tells a changed file from an unchanged one.

    Attributes:
        names: Their names in the corpus, ``/`` between folders, ascending by folder.
        paths: Where each is.
        states: (F, 3) bytes; when the content was last changed, and when anything about the file
            was, its rights for example, both in nanoseconds.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    states: NDArray[np.int64]


def scan_folder(root: str | os.PathLike[str]) -> FileList:
    """The MIDI files of a folder and the folders in it, links followed once.

    Args:
        root: A folder, or a single file, whatever its name.

    Raises:
        DataNotFoundError: If there is nothing of that name.
        DataError: If it is neither a folder nor a regular file, or the process runs out of
            descriptors.
    """
    base = os.fspath(root)
    state = _state_of(base)
    if stat.S_ISREG(state.st_mode):
        return _file_list([(os.path.basename(base), base, state)])
    if not stat.S_ISDIR(state.st_mode):
        raise DataError("neither a folder nor a regular file", where=base)
    return _file_list(sorted(_walk(base, "", set()), key=lambda file: file[0].split("/")))


def list_files(paths: Sequence[str | os.PathLike[str]]) -> FileList:
    """Named files, in the order given; each is called by its path below their common folder.

    Args:
        paths: The files, whatever their suffixes.

    Raises:
        DataNotFoundError: If one does not exist.
        DataError: If one is listed twice, or is no regular file.
    """
    # Names first: a null character would be an error of the functions that follow.
    states = [_state_of(os.fspath(path)) for path in paths]
    whole = [os.path.abspath(os.fspath(path)) for path in paths]
    seen = set[str]()
    for path, state in zip(whole, states, strict=True):
        if not stat.S_ISREG(state.st_mode):
            kind = "a folder" if stat.S_ISDIR(state.st_mode) else "not a regular file"
            raise DataError(f"cannot read a listed file: it is {kind}", where=path)
        if path in seen:
            raise DataError("a file is listed twice", where=path)
        seen.add(path)
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    except ValueError:  # files on several drives have no common folder
        common = ""
    names = [Path(path[len(common) :].lstrip(os.sep)).as_posix() for path in whole]
    return _file_list(zip(names, whole, states, strict=True))


def no_midi_files(folder: str | os.PathLike[str]) -> DataError:
    """The error for a folder without MIDI files."""
    return DataError(
        f"no MIDI files ({', '.join(SUFFIXES)})",
        where=str(folder),
        hint="name the folder that your MIDI files are in",
    )


def _state_of(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataNotFoundError(f"no such file or folder: {path}", hint="check the path") from error
    except ValueError as error:  # a null character
        raise DataNotFoundError(f"no such file or folder: {path!r}") from error
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror or error}", where=path) from error


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
            _leave_out(error)


def _entries(folder: str, visited: set[str]) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder that was not visited before, by name."""
    real = os.path.realpath(folder)
    if real in visited:
        return iter(())  # a link that leads back would be walked for ever
    visited.add(real)
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        _leave_out(error)
        return iter(())


def _leave_out(error: OSError) -> None:
    """Log what cannot be read; but without descriptors, everything would be left out."""
    if out_of_resources(error):
        raise DataError(
            f"cannot list the corpus: {error.strerror}",
            where=str(error.filename or ""),
            hint="close other files, or raise the limit with ulimit -n",
        ) from error
    _log.warning("left out: %s", error)


def _file_list(found: Iterable[tuple[str, str, os.stat_result]]) -> FileList:
    files = list(found)
    states = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for _, _, s in files]
    return FileList(
        tuple(name for name, _, _ in files),
        tuple(path for _, path, _ in files),
        np.array(states, dtype=np.int64).reshape(-1, 3),
    )
