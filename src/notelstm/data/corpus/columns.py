"""Many pieces as a few long columns: how a corpus lies in memory and on disk.

An **entry** is one file, or one piece of a source that is not made of files. What an entry has one
of is an *entry column*; what it has many of, its notes say, is in a *group*: the columns of a group
hold the entries one after the other, and its offsets say where each begins. Each column is one
``.npy`` file, so that it can be mapped into memory and read by anything that knows numpy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from notelstm.data.splits import content_key
from notelstm.notes import BeatMap, Notes

__all__ = [
    "ENTRY",
    "GROUPS",
    "READ",
    "REFUSED",
    "Columns",
    "NpyWriter",
    "merge",
    "open_columns",
    "pack",
    "text_of",
    "unpack",
]

READ: Final = 0
"""The `status` of an entry that could be read."""

REFUSED: Final = 1
"""The `status` of an entry that could not: it has a report, and no notes."""

GROUPS: Final[dict[str, dict[str, str]]] = {
    "note": {
        "start": "<f8",
        "end": "<f8",
        "pitch": "|u1",
        "velocity": "|u1",
        "program": "|u1",
        "drum": "|b1",
        "track": "<i4",
    },
    "tempo": {"seconds": "<f8", "tempi": "<f8"},
    "meter": {"meter_beats": "<f8", "numerators": "<i8", "denominators": "<i8"},
    "name": {"name_text": "|u1"},
    "report": {"report_text": "|u1"},
}
"""The columns of each group, and their types. Texts are UTF-8."""

ENTRY: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "status": ("|u1", ()),
    "optional": ("|u1", ()),
    "size": ("<i8", ()),
    "changed": ("<i8", ()),
    "touched": ("<i8", ()),
    "file_hash": ("|u1", (32,)),
    "notes_hash": ("|u1", (32,)),
    "content_key": ("|u1", (32,)),
}
"""The entry columns: type, and shape of one entry. `optional` has a bit for each optional column of
``Notes`` that the piece has; `content_key` is that of :func:`notelstm.data.splits.content_key`."""

Columns: TypeAlias = Mapping[str, NDArray[Any]]
"""All columns by name, and the offsets of each group as ``<group>_offsets``."""

_OPTIONAL: Final = ("program", "drum", "track", "beats")
_BLOCK: Final = 1 << 22


def text_of(columns: Columns, group: str, entry: int) -> str:
    """The name (``"name"``) or the report (``"report"``) of an entry."""
    low, high = columns[f"{group}_offsets"][entry : entry + 2]
    return bytes(columns[f"{group}_text"][low:high]).decode("utf-8", "surrogatepass")


def pack(entries: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Lay entries out as columns.

    Args:
        entries: For each: ``notes`` (None if it was refused), ``name``, ``report`` (texts),
            ``file_hash`` (32 bytes) and the numbers ``size``, ``changed`` and ``touched``.
    """
    rows = [_row(entry) for entry in entries]
    packed: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in ENTRY.items():
        values = np.array([row[name] for row in rows], dtype=dtype)
        packed[name] = values.reshape(len(rows), *shape)
    for group, types in GROUPS.items():
        for name, dtype in types.items():
            blocks = [np.asarray(row[name]).astype(dtype) for row in rows]
            packed[name] = np.concatenate(blocks) if blocks else np.zeros(0, dtype)
        sizes = [len(row[next(iter(types))]) for row in rows]
        packed[f"{group}_offsets"] = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return packed


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry's part of each column."""
    given: Notes | None = entry["notes"]
    notes = Notes.empty() if given is None else given
    beats = notes.beats
    row: dict[str, Any] = {
        "status": REFUSED if given is None else READ,
        "optional": sum((getattr(notes, n) is not None) << k for k, n in enumerate(_OPTIONAL)),
        "content_key": np.frombuffer(bytes.fromhex(content_key(notes)), np.uint8),
        "file_hash": np.frombuffer(entry["file_hash"], np.uint8),
        **{name: entry[name] for name in ("size", "changed", "touched")},
        **{f"{n}_text": np.frombuffer(_utf8(entry[n]), np.uint8) for n in ("name", "report")},
    }
    for name in GROUPS["note"]:
        column = getattr(notes, name)
        row[name] = np.zeros(len(notes)) if column is None else column
    for name in (*GROUPS["tempo"], *GROUPS["meter"]):
        row[name] = () if beats is None else getattr(beats, name)
    digest = hashlib.sha256(bytes([row["optional"]]))
    for name in (*GROUPS["note"], *GROUPS["tempo"], *GROUPS["meter"]):
        digest.update(np.asarray(row[name], dtype=np.float64).tobytes())
    row["notes_hash"] = np.frombuffer(digest.digest(), np.uint8)
    return row


def _utf8(text: str) -> bytes:
    # File names that are not UTF-8 hold lone surrogates, which a strict encoder refuses.
    return text.encode("utf-8", "surrogatepass")


def unpack(columns: Columns, entry: int) -> Notes:
    """The notes of an entry, copied out of the columns."""
    has = {n: bool(int(columns["optional"][entry]) >> k & 1) for k, n in enumerate(_OPTIONAL)}

    def part(group: str) -> dict[str, Any]:
        low, high = columns[f"{group}_offsets"][entry : entry + 2]
        return {n: columns[n][low:high] for n in GROUPS[group] if has.get(n, True)}

    beats = BeatMap(**part("tempo"), **part("meter")) if has["beats"] else None
    return Notes(**part("note"), beats=beats)


class NpyWriter:
    """Writes a ``.npy`` file whose length is not known beforehand.

    Args:
        path: The file; it must not exist.
        dtype: The type of its numbers.
        shape: The shape of one item; the file's axis 0 counts items.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...] = ()) -> None:
        self._file = path.open("xb")
        self._dtype, self._shape, self._items = np.dtype(dtype), shape, 0
        self._file.write(self._header())

    def _header(self) -> bytes:
        """128 bytes, whatever the length, so that it can be written again at the end."""
        shape = (self._items, *self._shape)
        text = f"{{'descr': {self._dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
        body = text.ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode("latin1")

    def append(self, items: NDArray[Any]) -> None:
        """Write items after those that are there."""
        flat = np.ascontiguousarray(items, dtype=self._dtype)
        self._file.write(flat.data.cast("B") if flat.size else b"")
        self._items += len(flat)

    def close(self) -> None:
        """Write the length, and see to it that the file is on the disk."""
        with self._file as file:
            file.seek(0)
            file.write(self._header())
            file.flush()
            os.fsync(file.fileno())


def merge(
    folder: Path, runs: Iterable[tuple[Columns, int, int]], given: Columns | None = None
) -> int:
    """Write runs of entries, each from its own columns, into a folder as columns of their own.

    Args:
        folder: An empty folder.
        runs: Columns, first entry, and the entry after the last; one after the other.
        given: Entry columns to be written instead of those of the runs.

    Returns:
        The number of bytes written.
    """
    given = given or {}
    with contextlib.ExitStack() as stack:

        def writer(name: str, dtype: str, shape: tuple[int, ...] = ()) -> NpyWriter:
            made = NpyWriter(folder / f"{name}.npy", dtype, shape)
            stack.callback(made.close)
            return made

        single = {name: writer(name, *kind) for name, kind in ENTRY.items()}
        grouped = {
            group: {name: writer(name, dtype) for name, dtype in types.items()}
            for group, types in GROUPS.items()
        }
        offsets = {group: writer(f"{group}_offsets", "<i8") for group in GROUPS}
        ends = dict.fromkeys(GROUPS, 0)
        for at in offsets.values():
            at.append(np.zeros(1, np.int64))
        for columns, first, last in runs:
            for name, made in single.items():
                if name not in given:
                    made.append(columns[name][first:last])
            for group, writers in grouped.items():
                places = np.asarray(columns[f"{group}_offsets"][first : last + 1])
                offsets[group].append(places[1:] - places[0] + ends[group])
                ends[group] += int(places[-1] - places[0])
                for name, made in writers.items():
                    for low, high in _blocks(int(places[0]), int(places[-1])):
                        made.append(columns[name][low:high])
        for name, column in given.items():
            single[name].append(column)
    return sum(file.stat().st_size for file in folder.iterdir())


def _blocks(low: int, high: int) -> Iterator[tuple[int, int]]:
    for start in range(low, high, _BLOCK):
        yield start, min(high, start + _BLOCK)


def open_columns(folder: Path) -> dict[str, NDArray[Any]]:
    """Map the columns that :func:`merge` wrote into memory.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is damaged.
    """
    names = [*ENTRY, *(name for types in GROUPS.values() for name in types)]
    return {name: _open(folder / f"{name}.npy") for name in (*names, *_offset_names())}


def _offset_names() -> Iterator[str]:
    return (f"{group}_offsets" for group in GROUPS)


def _open(path: Path) -> NDArray[Any]:
    try:
        mapped = np.load(path, mmap_mode="r")
    except ValueError:  # what is empty cannot be mapped
        mapped = np.load(path)
        if mapped.size:
            raise
    return np.asarray(mapped)
