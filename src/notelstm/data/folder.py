"""``Folder``: the MIDI files of a folder as a corpus, and lists of MIDI files."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.data.tables import labels_of_files
from notelstm.errors import DataError, DataNotFoundError, MidiError
from notelstm.files import out_of_resources
from notelstm.midi import ReadPolicy, ReadReport, read_midi_with_report
from notelstm.notes import Notes

__all__ = [
    "SUFFIXES",
    "FileList",
    "Folder",
    "list_files",
    "midi_files",
    "no_midi_files",
    "nothing_readable",
    "reason_of",
    "scan_folder",
]

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Folder:
    """The MIDI files of a folder and the folders in it.

    A file that cannot be read is logged as a warning and left out; repairs of others are logged.
    Pieces have the labels of a table, and their folder as the label ``folder``: see
    :mod:`notelstm.data.tables`.

    Args:
        path: The folder, or a single MIDI file.
        policy: How to read the files.
        license: The terms of use of the music, if known.
        table: A CSV file with a column of file names, whose other columns are labels; None for one
            in the folder, if there is one.
    """

    path: str | os.PathLike[str]
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    license: str = ""
    table: str | os.PathLike[str] | None = None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.path)

    def labels(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """The labels of files, by their names in the folder.

        Raises:
            DataError: If a named table cannot be read, or has no column of file names.
        """
        return labels_of_files(names, self.path, self.table)

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """At most `limit` pieces, rejected files not counted, in the order of their names.

        Yields:
            The file's path within the folder, with ``/`` between folders, and its notes.

        Raises:
            DataNotFoundError: If there is no such folder.
            DataError: If no file in it can be read.
        """
        for name, notes, _ in self.pieces_with_reports(limit):
            yield name, notes

    def pieces_with_reports(
        self, limit: int | None = None
    ) -> Iterator[tuple[str, Notes, ReadReport]]:
        """Like :meth:`pieces`, with the report on each file."""
        root = Path(self.path)
        read, first, reasons = 0, "", Counter[str]()
        found = scan_folder(root)
        labels = self.labels(found.names)
        for name, path in zip(found.names, found.paths, strict=True):
            if limit is not None and read >= limit:
                return
            try:
                notes, report = read_midi_with_report(path, self.policy)
            except MidiError as error:
                _log.warning("left out: %s", error)
                reasons[reason_of(error)] += 1
                first = first or str(error)
                continue
            if not report.healthy:
                _log.info("%s: %d repairs", name, report.repairs_total)
            read += 1
            yield name, replace(notes, labels=labels.get(name, {})), report
        if not read and limit != 0:
            if not reasons:
                raise no_midi_files(self.path)
            raise nothing_readable(reasons, first, self.source)


def reason_of(error: MidiError) -> str:
    """The problem of a file without its details, which follow a colon or semicolon.

    Example:
        >>> reason_of(MidiError("no notes that the policy reads; it has track 0: 9 notes"))
        'no notes that the policy reads'
    """
    return re.split("[:;] ", error.problem, maxsplit=1)[0]


def nothing_readable(reasons: Counter[str], first: str, source: str) -> DataError:
    """The error for a corpus without readable files; `first` is the message on the first file."""
    if not reasons:
        return DataError("there are no pieces", where=source)
    total = reasons.total()
    (problem, count), *_ = reasons.most_common(1)
    often = "" if total == 1 else f" in {count}"
    return DataError(
        f"cannot read {'the only file' if total == 1 else f'any of {total} files'}"
        f"; the most frequent reason{often}: {problem}",
        where=source,
        hint=f"the first one: {first}",
    )


def midi_files(root: Path) -> list[Path]:
    """The paths of :func:`scan_folder`."""
    return [Path(path) for path in scan_folder(root).paths]


SUFFIXES: Final = (".mid", ".midi", ".kar", ".rmi")
"""The suffixes of MIDI files, in upper or lower case."""


class FileList(NamedTuple):
    """Files by name, with the state by which a changed file is recognised.

    Attributes:
        names: Their names in the corpus, ``/`` between folders, ascending by folder.
        paths: Their paths.
        states: (F, 3) size in bytes, and the times of the last change of content and of metadata
            in nanoseconds.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    states: NDArray[np.int64]


def scan_folder(root: str | os.PathLike[str]) -> FileList:
    """The MIDI files of a folder and the folders in it, links followed once.

    Args:
        root: A folder, or a single file with any suffix.

    Raises:
        DataNotFoundError: If it does not exist.
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
    """Files of any suffixes in the given order, named by their paths below their common folder.

    Raises:
        DataNotFoundError: If one does not exist.
        DataError: If one is listed twice, or is no regular file.
    """
    # States first: a null character would be an error of the functions below.
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
            elif entry.name.lower().endswith(SUFFIXES):
                # On Windows the entry's own state is incomplete. A broken link has none.
                state = entry.stat() if os.name != "nt" else os.stat(entry.path)
                if stat.S_ISREG(state.st_mode):
                    yield prefix + entry.name, entry.path, state
        except OSError as error:
            _leave_out(error)


def _entries(folder: str, visited: set[str]) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder that was not visited before, by name."""
    real = os.path.realpath(folder)
    if real in visited:
        return iter(())  # a link to a folder above would never end
    visited.add(real)
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        _leave_out(error)
        return iter(())


def _leave_out(error: OSError) -> None:
    """Log a file that cannot be read; without descriptors, all would be left out."""
    if out_of_resources(error):
        raise DataError(
            f"cannot list the corpus: {error.strerror}",
            where=str(error.filename or ""),
            hint="close other files, or raise the limit with ulimit -n",
        ) from error
    _log.warning("left out: %s", error)


def _file_list(found: Iterable[tuple[str, str, os.stat_result]]) -> FileList:
    names, paths, states = list(zip(*found, strict=True)) or [(), (), ()]
    numbers = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states]
    return FileList(names, paths, np.array(numbers, dtype=np.int64).reshape(-1, 3))
