"""Where the entries of a new generation come from: the one before it, and shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np

from notelstm.data.corpus.columns import Columns, text_of
from notelstm.data.corpus.shards import FileToRead, file_hash, load_shard

__all__ = ["Origins"]


@final
class Origins:
    """Where the entries are that a generation is merged from.

    Args:
        wanted: The files, as they are now, whose entries are taken in; None for all.
    """

    def __init__(self, wanted: Mapping[str, FileToRead] | None) -> None:
        self._wanted = wanted
        self._known: dict[str, tuple[int, int]] = {}
        self._columns: list[Columns | Path] = []

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry of that name."""
        return name in self._known

    def add(self, columns: Columns | Path, labels: Columns) -> None:
        """Take in the entries of columns, or of the shard at a path, that are wanted and new."""
        for place in range(len(labels["status"])):
            name = text_of(labels, "name", place)
            if name not in self._known and self._fits(name, labels, place):
                self._known[name] = len(self._columns), place
        self._columns.append(columns)

    def _fits(self, name: str, labels: Columns, place: int) -> bool:
        """Whether an entry is of a wanted file as it is now."""
        if self._wanted is None:
            return True
        file = self._wanted.get(name)
        if file is None or labels["size"][place] != file.size:
            return False
        stamps = int(labels["changed"][place]), int(labels["touched"][place])
        if stamps == (file.changed, file.touched):
            return True
        try:
            with open(file.path, "rb") as opened:
                return file_hash(opened.read()) == bytes(labels["file_hash"][place])
        except OSError:
            return False

    def runs(self, names: Sequence[str]) -> Iterator[tuple[Columns, int, int]]:
        """The entries of these names, in order, in runs that lie together."""
        places = np.array([self._known[name] for name in names], dtype=np.int64).reshape(-1, 2)
        breaks = np.flatnonzero(np.any(np.diff(places, axis=0) != (0, 1), axis=1)) + 1
        opened: tuple[int, Columns] | None = None
        for run in np.split(places, breaks):
            if not len(run):
                continue
            number, low = run[0].tolist()
            if opened is None or opened[0] != number:
                columns = self._columns[number]
                opened = number, load_shard(columns) if isinstance(columns, Path) else columns
            yield opened[1], low, low + len(run)
