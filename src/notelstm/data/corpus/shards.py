"""Reading a few files into a shard: what a build has done so far, and keeps if it is ended."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import secrets
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.data.corpus.columns import Columns, pack
from notelstm.data.corpus.report import FileReport
from notelstm.errors import MidiError
from notelstm.files import written_whole
from notelstm.midi import ReadPolicy, read_midi_with_report
from notelstm.midi.reading import MAX_BYTES

__all__ = [
    "FileToRead",
    "Job",
    "chunks_of",
    "file_hash",
    "list_shards",
    "load_shard",
    "new_shard",
    "read_shard",
    "write_shard",
]

CHUNK_BYTES: Final = 1 << 20
CHUNK_FILES: Final = 128
"""How much a shard holds at most: what is lost if a build is ended."""

_LABELS: Final = (
    "status",
    "size",
    "changed",
    "touched",
    "file_hash",
    "name_text",
    "name_offsets",
)

_log = logging.getLogger(__name__)


class FileToRead(NamedTuple):
    """A file, and its state when it was listed."""

    name: str
    path: str
    size: int
    changed: int
    touched: int


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """How files are read; it goes to the worker processes as JSON.

    Attributes:
        policy: The choices of reading.
        reader: The reader's name, or ``"auto"``.
    """

    policy: ReadPolicy
    reader: str = "auto"

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Job:
        """The inverse of :meth:`to_json`."""
        return cls(policy=ReadPolicy(**saved["policy"]), reader=saved["reader"])


def chunks_of(files: Sequence[FileToRead]) -> Iterator[list[FileToRead]]:
    """Cut a list of files into pieces of a shard each."""
    chunk: list[FileToRead] = []
    size = 0
    for file in files:
        if chunk and (size + file.size > CHUNK_BYTES or len(chunk) >= CHUNK_FILES):
            yield chunk
            chunk, size = [], 0
        chunk.append(file)
        size += file.size
    if chunk:
        yield chunk


def new_shard(folder: Path) -> Path:
    """A name for a shard that no other has."""
    return folder / f"{secrets.token_hex(8)}.npz"


def file_hash(data: bytes) -> bytes:
    """32 bytes that tell the content of a file from any other."""
    return hashlib.blake2b(data, digest_size=32).digest()


def read_shard(files: Sequence[FileToRead], job: Job) -> list[dict[str, Any]]:
    """Read files as entries; one that cannot be read is an entry too, with the reason."""
    return [_entry(file, job) for file in files]


def _entry(file: FileToRead, job: Job) -> dict[str, Any]:
    entry: dict[str, Any] = {**file._asdict(), "notes": None, "file_hash": bytes(32)}
    try:
        with open(file.path, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        entry["file_hash"] = file_hash(data)
        named = io.BytesIO(data)
        named.name = file.path
        notes, report = read_midi_with_report(named, job.policy, reader=job.reader)
        entry["notes"] = notes
        made = FileReport.of_read(file.name, report)
    except MidiError as error:
        made = FileReport(name=file.name, error=str(error), rule=error.problem)
    except OSError as error:
        rule = "a MIDI file can be opened and read"
        made = FileReport(name=file.name, error=f"{rule}; got {error}", rule=rule)
    except Exception as error:  # a reader may be another's, and one file must not stop the rest
        _log.exception("%s: the reader failed", file.path)
        rule = "a reader raises only MidiError"
        text = f"{rule}; got {type(error).__name__}: {error} ({file.path})"
        made = FileReport(name=file.name, error=text, rule=rule)
    entry["report"] = json.dumps(made.to_json())
    return entry


def write_shard(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Write entries as a shard, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_whole(path) as beside, beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **pack(entries))


def load_shard(path: Path) -> dict[str, NDArray[Any]]:
    """All columns of a shard."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as shard:
        return {name: shard[name] for name in shard.files}


def list_shards(folder: Path) -> Iterator[tuple[Path, Columns]]:
    """The shards in a folder, each with the columns that say which files it is of.

    A damaged shard is removed: what it held will be read again.
    """
    for path in sorted(folder.glob("*.npz")):
        try:
            # To read all of it is to check all of it: the format keeps a checksum of each column.
            columns = load_shard(path)
            yield path, {name: columns[name] for name in _LABELS}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("%s is damaged (%s) and is made again", path, error)
            path.unlink(missing_ok=True)
