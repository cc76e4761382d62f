"""Labels of pieces: from a table of a corpus, and from the folders of its files.

A table is a CSV file with a header and a column of file names, as MAESTRO and the Groove MIDI
Dataset have one. Its other columns are labels. The folder of a file, below that of the corpus, is
the label ``folder``.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from notelstm.errors import DataError, DataNotFoundError
from notelstm.files import displayable

__all__ = ["FOLDER_LABEL", "find_table", "labels_of_files"]

FOLDER_LABEL: Final = "folder"
"""The name of the label of the outermost folder of a file in a corpus."""

_PREFIX: Final = "canonical_"
"""A prefix of MAESTRO's columns that is left out."""
_LARGEST: Final = 2**25
"""The largest table that is read without being named, 32 MiB."""

_log = logging.getLogger(__name__)


def labels_of_files(
    names: Sequence[str],
    folder: str | os.PathLike[str] | None,
    table: str | os.PathLike[str] | None = None,
) -> dict[str, Mapping[str, str]]:
    """The labels of the files of a corpus.

    Args:
        names: Their names in the corpus, ``/`` between folders.
        folder: The folder of the corpus, in which a table is looked for: the CSV file with a column
            that names the most of the files. None to look for none.
        table: The table; None to look for one.

    Returns:
        By the name of a file, its labels by name, without those that are empty. A column is named
        in lower case, and without the prefix ``canonical_`` of MAESTRO's.

    Raises:
        DataNotFoundError: If a named table does not exist.
        DataError: If it cannot be read, or has no column of file names.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for name, labels in found.items():
        outermost, slash, _ = name.partition("/")
        if slash:
            labels[FOLDER_LABEL] = displayable(outermost)
    if table is not None:
        rows = _read(Path(table), names)
        if names and not rows:
            raise DataError(
                "the table has no column with names of the files",
                where=str(table),
                hint=f"give a CSV file with a header and names such as {names[0]!r}",
            )
    else:
        rows = {} if folder is None else _found(folder, names)[1]
    for name, row in rows.items():
        found[name].update(row)
    return {name: MappingProxyType(labels) for name, labels in found.items() if labels}


def find_table(folder: str | os.PathLike[str], names: Sequence[str]) -> Path | None:
    """The CSV file directly in a folder that names the most of some files; None if none does."""
    return _found(folder, names)[0]


def _found(
    folder: str | os.PathLike[str], names: Sequence[str]
) -> tuple[Path | None, dict[str, dict[str, str]]]:
    """The table of :func:`find_table`, and the row of each file that it names."""
    found: Path | None = None
    most: dict[str, dict[str, str]] = {}
    for path in sorted(Path(folder).glob("*.csv")) if os.path.isdir(folder) else ():
        try:
            rows = _read(path, names) if path.stat().st_size <= _LARGEST else {}
        except (DataError, OSError) as error:
            _log.warning("no labels are read: %s", error)
            continue
        if len(rows) > len(most):
            most, found = rows, path
    return found, most


def _read(path: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The row of each file that a table names; empty if it names none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError as error:
        raise DataNotFoundError(f"no such table: {path}", hint="check the path") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the table: {error}", where=str(path)) from error
    if not lines:
        raise DataError("the table is empty", where=str(path))
    header, *rows = lines
    files = _Files(names)
    columns = [
        [files.find(row[k]) if k < len(row) else None for row in rows] for k in range(len(header))
    ]
    of_files = max(columns, key=lambda column: len(column) - column.count(None), default=[])
    titles = _titles(header)
    found: dict[str, dict[str, str]] = {}
    for name, row in zip(of_files, rows, strict=True):
        if name is not None:
            pairs = zip(titles, row, columns, strict=False)
            values = {t: v.strip() for t, v, of in pairs if of is not of_files}
            found.setdefault(name, {t: value for t, value in values.items() if t and value})
    return found


def _titles(header: Sequence[str]) -> list[str]:
    """The names of the labels of the columns."""
    plain = [title.strip().lower() for title in header]
    short = [title.removeprefix(_PREFIX) for title in plain]
    return [s if short.count(s) == 1 else p for s, p in zip(short, plain, strict=True)]


@final
class _Files:
    """Files by their names, which a table may give without a suffix, or from another folder.

    Args:
        names: The names, ``/`` between folders.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._exact: Final = {_parts(name): name for name in names}
        whole: dict[tuple[str, ...], list[str]] = {}
        ends: dict[tuple[str, ...], list[str]] = {}
        for parts, name in self._exact.items():
            stem = _without_suffix(parts)
            whole.setdefault(stem, []).append(name)
            for k in range(len(stem)):
                ends.setdefault(stem[k:], []).append(name)
        self._whole: Final = _alone(whole)
        self._alone: Final = _alone(ends)

    def find(self, name: str) -> str | None:
        """The file that has the name, or is the only one that ends with it."""
        parts = _parts(name)
        stem = _without_suffix(parts)
        for k in range(len(parts)):
            # The whole name first: files of one folder may differ by their suffixes only.
            found = self._exact.get(parts[k:])
            found = found or self._whole.get(stem[k:], self._alone.get(stem[k:]))
            if found is not None:
                return found
        return None


def _alone(files: Mapping[tuple[str, ...], Sequence[str]]) -> dict[tuple[str, ...], str]:
    """The file of each key that has only one."""
    return {key: found[0] for key, found in files.items() if len(found) == 1}


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the name of a file."""
    # Paths of pathlib would take most of the time in which a corpus is opened.
    return tuple(part for part in name.strip().replace("\\", "/").split("/") if part.strip("."))


def _without_suffix(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The same folders and name, the name without its suffix."""
    if not parts:
        return parts
    stem, dot, suffix = parts[-1].rpartition(".")
    return (*parts[:-1], stem if stem and dot and suffix else parts[-1])
