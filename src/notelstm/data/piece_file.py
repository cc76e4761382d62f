"""A file of many pieces, written once and mapped into memory.

Layout, little-endian:

.. code-block:: text

   magic     8 bytes
   records   one for each piece that was read: its columns one after another, and the names of
             its tracks and its labels, JSON
   table     one row of fixed size for each entry: where its record is, and its CRC-32
   names     UTF-8, one after another
   reports   JSON, one after another
   about     JSON
   footer    the sizes of the five parts, and the CRC-32 of everything from the table on

An **entry** is a source file, or a piece of a source without files. A rejected file has an entry
with a report and an empty record.

A piece is one contiguous record, so only the pages of the pieces in use are read, and the whole
corpus needs only one mapping and descriptor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.data.splits import content_key
from notelstm.files import atomic_write, is_sealed, seal
from notelstm.notes import Notes, TempoMap

__all__ = ["DamagedError", "Entry", "PieceFile", "entry_of", "write_pieces"]

MAGIC: Final = b"notes\x00\x00\x03"

_COLUMNS: Final = (
    ("start", "<f8", "notes"),
    ("end", "<f8", "notes"),
    ("seconds", "<f8", "tempos"),
    ("tempos", "<f8", "tempos"),
    ("time_signature_beats", "<f8", "time_signatures"),
    ("numerators", "<i8", "time_signatures"),
    ("denominators", "<i8", "time_signatures"),
    ("track", "<i8", "notes"),
    ("pitch", "|u1", "notes"),
    ("velocity", "|u1", "notes"),
    ("program", "|u1", "notes"),
    ("drum", "|b1", "notes"),
)
"""The columns of a record in order: name, type, and the count that gives its length."""

_OPTIONAL: Final = ("program", "drum", "track", "tempo_map", "track_names", "length")
_TRUNCATED: Final = len(_OPTIONAL)
"""The bit of a truncated piece, after those of the optional columns."""
_LABELS: Final = len(_OPTIONAL) + 1
"""The bit of a piece with labels."""
_MAP_COLUMNS: Final = ("seconds", "tempos", "time_signature_beats", "numerators", "denominators")

_TABLE: Final = np.dtype(
    [
        ("offset", "<i8"),
        ("size", "<i8"),
        ("notes", "<i8"),
        ("tempos", "<i4"),
        ("time_signatures", "<i4"),
        ("crc", "<u4"),
        ("name_size", "<u4"),
        ("report_size", "<u4"),
        ("read", "|u1"),
        ("optional", "|u1"),
        ("content_key", "|u1", (32,)),
    ]
)
_FOOTER: Final = struct.Struct("<5QI")
_LENGTH: Final = struct.Struct("<d")

CACHE_HINT: Final = "free some space, or set NOTELSTM_CACHE to another disk"
"""The hint where a file in the cache folder cannot be written."""


class DamagedError(Exception):
    """A file of pieces whose content does not match its checksums."""


class Entry(NamedTuple):
    """One entry, serialised for the file.

    Attributes:
        name: The name of the piece.
        report: Its report, JSON.
        read: Whether it could be read.
        record: Its columns.
        counts: The numbers of notes, tempos and time signatures.
        optional: A bit for each optional column that the piece has, one if it is truncated, and
            one if it has labels.
        content_key: See :func:`notelstm.data.splits.content_key`.
    """

    name: str
    report: str
    read: bool = False
    record: bytes = b""
    counts: tuple[int, int, int] = (0, 0, 0)
    optional: int = 0
    content_key: bytes = bytes(32)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the notes, without the name."""
        shape = struct.pack("<4Q", *self.counts, self.optional)
        return hashlib.sha256(shape + self.record).digest()


def entry_of(name: str, notes: Notes, report: str) -> Entry:
    """Serialise a piece, its name and its report (JSON)."""
    tempo_map = notes.tempo_map
    blocks = []
    for column, dtype, _ in _COLUMNS:
        values = getattr(tempo_map if column in _MAP_COLUMNS else notes, column, None)
        if values is not None:
            blocks.append(values.astype(dtype).tobytes())
    if notes.length is not None:
        blocks.append(_LENGTH.pack(notes.length))
    if notes.labels:
        blocks.append(json.dumps([notes.track_names, dict(notes.labels)]).encode())
    elif notes.track_names is not None:
        blocks.append(json.dumps(notes.track_names).encode())
    return Entry(
        name=name,
        report=report,
        read=True,
        record=b"".join(blocks),
        counts=(
            len(notes),
            0 if tempo_map is None else len(tempo_map.seconds),
            0 if tempo_map is None else len(tempo_map.time_signature_beats),
        ),
        optional=sum((getattr(notes, n) is not None) << k for k, n in enumerate(_OPTIONAL))
        | notes.truncated << _TRUNCATED
        | bool(notes.labels) << _LABELS,
        content_key=bytes.fromhex(content_key(notes)),
    )


def _text(text: str) -> bytes:
    # File names that are not UTF-8 have lone surrogates, which strict encoding refuses.
    return text.encode("utf-8", "surrogatepass")


def write_pieces(path: Path, entries: Iterable[Entry], about: Mapping[str, Any]) -> None:
    """Write a file of pieces, whole or not at all.

    Everything else in its folder is removed just before: older files of the same source, and those
    of killed writers.

    Args:
        path: The file, in a folder of its own.
        entries: Taken one at a time.
        about: JSON values to store; ``fingerprint``, ``pieces`` and ``notes`` are added.

    Raises:
        OutputError: If it cannot be written.
    """
    rows: list[tuple[Any, ...]] = []
    names: list[bytes] = []
    reports: list[bytes] = []
    fingerprint = hashlib.sha256()
    with atomic_write(path, hint=CACHE_HINT) as beside:
        with beside.open("wb") as file:
            file.write(MAGIC)
            for entry in entries:
                name, report = _text(entry.name), entry.report.encode()
                key = np.frombuffer(entry.content_key, np.uint8)
                crc = zlib.crc32(entry.record)
                row = (file.tell(), len(entry.record), *entry.counts, crc, len(name), len(report))
                rows.append((*row, entry.read, entry.optional, key))
                names.append(name)
                reports.append(report)
                if entry.read:
                    fingerprint.update(entry.digest)
                file.write(entry.record)
            table = np.array(rows, dtype=_TABLE)
            described = {
                **about,
                "fingerprint": fingerprint.hexdigest(),
                "pieces": int(table["read"].sum()),
                "notes": int(table["notes"].sum()),
            }
            records = file.tell() - len(MAGIC)
            texts = (b"".join(names), b"".join(reports), json.dumps(described).encode())
            parts = (table.tobytes(), *texts)
            sizes = struct.pack("<5Q", records, *map(len, parts))
            crc = zlib.crc32(b"".join((*parts, sizes)))
            file.write(b"".join((*parts, sizes, struct.pack("<I", crc))))
        _remove_others(beside)
        seal(beside, crc)


def _remove_others(kept: Path) -> None:
    for path in kept.parent.iterdir():
        if path != kept:
            # Windows refuses while the file is mapped; the next build removes it.
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@final
class PieceFile:
    """A file of pieces, mapped into memory.

    Everything but the records is checked each time it is opened; the records if the file was
    written to since it was sealed, and each one again when it is read.

    Args:
        path: The file.

    Attributes:
        path: The file.
        about: What was stored about it.
        table: (E,) one row for each entry.

    Raises:
        DamagedError: If its content does not match its checksums.
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < len(MAGIC) + _FOOTER.size:
                raise DamagedError(f"{size} bytes")
            self._map: Final = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        *sizes, crc = _FOOTER.unpack(self._map[-_FOOTER.size :])
        ends = np.cumsum([len(MAGIC), *map(float, sizes)])
        if self._map[: len(MAGIC)] != MAGIC or ends[-1] + _FOOTER.size != size:
            raise DamagedError("its parts have other sizes")
        begin = int(ends[1])
        if zlib.crc32(memoryview(self._map)[begin : size - 4]) != crc:
            raise DamagedError("its table has another checksum")
        parts = [self._map[int(a) : int(b)] for a, b in pairwise(ends[1:])]
        self.table: Final = np.frombuffer(parts[0], _TABLE)
        self._names, self._reports = parts[1:3]
        self.about: Final[Mapping[str, Any]] = json.loads(parts[3])
        if not is_sealed(path, crc):
            for entry in range(len(self.table)):
                self._record(entry)
            seal(path, crc)

    def _record(self, entry: int) -> memoryview:
        row = self.table[entry]
        record = memoryview(self._map)[int(row["offset"]) :][: int(row["size"])]
        if zlib.crc32(record) != row["crc"]:
            raise DamagedError(f"entry {entry} has another checksum")
        return record

    def notes(self, entry: int) -> Notes:
        """The notes of an entry, copied out of the file.

        Raises:
            DamagedError: If its record does not match its checksum.
        """
        row, record = self.table[entry], self._record(entry)
        has = {n: bool(int(row["optional"]) >> k & 1) for k, n in enumerate(_OPTIONAL)}
        columns: dict[str, Any] = {}
        offset = 0
        for name, dtype, count in _COLUMNS:
            if has.get("tempo_map" if name in _MAP_COLUMNS else name, True):
                columns[name] = np.frombuffer(record, dtype, int(row[count]), offset)
                offset += columns[name].nbytes
        length = None
        if has["length"]:
            (length,) = _LENGTH.unpack_from(record, offset)
            offset += _LENGTH.size
        names, labels = None, {}
        if int(row["optional"]) >> _LABELS & 1:
            names, labels = json.loads(bytes(record[offset:]))
        elif has["track_names"]:
            names = json.loads(bytes(record[offset:]))
        tempo_map = {name: columns.pop(name) for name in _MAP_COLUMNS if name in columns}
        return Notes(
            **columns,
            tempo_map=TempoMap(**tempo_map) if has["tempo_map"] else None,
            track_names=names,
            length=length,
            truncated=bool(int(row["optional"]) >> _TRUNCATED & 1),
            labels=labels,
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all entries."""
        ends = np.cumsum(self.table["name_size"], dtype=np.int64).tolist()
        return tuple(
            self._names[low:high].decode("utf-8", "surrogatepass")
            for low, high in pairwise([0, *ends])
        )

    @cached_property
    def _report_ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.table["report_size"], dtype=np.int64)

    def report(self, entry: int) -> str:
        """The report of an entry, JSON."""
        end = int(self._report_ends[entry])
        return self._reports[end - int(self.table["report_size"][entry]) : end].decode()
