"""Bringing the cache of a corpus up to date.

A cache is a folder. ``current.json`` in it names the **generation** in use, a folder of columns
that never changes once it is named. A build reads what is new into ``shards``, merges shards and
what is unchanged into a new generation, and names it, all under one lock. Whenever it is ended, the
generation in use is whole, and the shards that were finished serve the next build.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from tqdm.auto import tqdm

from notelstm.data.corpus.columns import READ, Columns, merge, open_columns
from notelstm.data.corpus.origins import Origins
from notelstm.data.corpus.pool import read_files
from notelstm.data.corpus.report import FileReport
from notelstm.data.corpus.shards import (
    FileToRead,
    Job,
    list_shards,
    load_shard,
    new_shard,
    write_shard,
)
from notelstm.data.scan import FileList
from notelstm.errors import DataError, OutputError
from notelstm.files import BAD_HEADER, written_whole
from notelstm.notes import Notes

__all__ = [
    "FORMAT",
    "Generation",
    "build_from_files",
    "build_from_pieces",
    "current",
    "is_fresh",
    "is_tidy",
    "tidy",
]

FORMAT: Final = 1
"""The version of the columns; a cache of another version is not used."""

SHARD_PIECES: Final = 64

_CURRENT: Final = "current.json"
_SHARDS: Final = "shards"
_TRIES: Final = 20

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Generation:
    """A state of a cache, open.

    Attributes:
        folder: Where its columns are.
        columns: The columns, mapped into memory.
        about: What the cache is of, as JSON values, and the ``fingerprint`` of its notes.
    """

    folder: Path
    columns: Columns
    about: Mapping[str, Any]


def current(cache: Path) -> Generation | None:
    """The generation in use, if the cache has one that is whole."""
    for _ in range(_TRIES):
        try:
            about = json.loads((cache / _CURRENT).read_text(encoding="utf-8"))
            folder = cache / about["generation"]
            return Generation(folder, open_columns(folder), about)
        except FileNotFoundError:
            # Another process may have replaced it between the reading of its name and of itself.
            if not (cache / _CURRENT).exists():
                return None
            time.sleep(0.01)
        except (OSError, EOFError, ValueError, KeyError, TypeError, *BAD_HEADER) as error:
            _log.warning("%s is damaged (%s) and is made again", cache, error)
            return None
    _log.warning("%s is not whole and is made again", cache)
    return None


def is_fresh(generation: Generation, files: FileList) -> bool:
    """Whether these are the very files that the generation was made of."""
    columns = generation.columns
    stamps = ("size", files.sizes), ("changed", files.changed), ("touched", files.touched)
    if not all(np.array_equal(columns[name], values) for name, values in stamps):
        return False
    names = "".join(files.names).encode("utf-8", "surrogatepass")
    lengths = [len(name.encode("utf-8", "surrogatepass")) for name in files.names]
    return bytes(columns["name_text"]) == names and np.array_equal(
        np.diff(columns["name_offsets"]), lengths
    )


def build_from_files(
    cache: Path,
    files: FileList,
    job: Job,
    about: Mapping[str, Any],
    *,
    workers: int | None,
    progress: bool,
) -> None:
    """Read what is new or changed of some files, and publish a new generation.

    The caller holds the cache's lock.

    Raises:
        OutputError: If the cache cannot be written.
    """
    shards = _begin(cache)
    stamps = zip(files.sizes.tolist(), files.changed.tolist(), files.touched.tolist(), strict=True)
    listed = zip(files.names, files.paths, stamps, strict=True)
    wanted = {name: FileToRead(name, path, *stamp) for name, path, stamp in listed}
    origins = Origins(wanted)
    old = current(cache)
    if old is not None:
        origins.add(old.columns, old.columns)
    for path, labels in list_shards(shards):
        origins.add(path, labels)
    missing = [file for name, file in wanted.items() if name not in origins]
    _log.info("%s: %d of %d files to read", about["name"], len(missing), len(wanted))
    with tqdm(
        total=len(wanted),
        initial=len(wanted) - len(missing),
        desc=f"reading {about['name']}",
        unit="file",
        disable=not progress,
    ) as bar:
        for done in read_files(missing, job, shards, workers):
            bar.update(done)
    if missing:
        for path, labels in list_shards(shards):
            origins.add(path, labels)
    given = {"size": files.sizes, "changed": files.changed, "touched": files.touched}
    _publish(cache, origins.runs(files.names), about, given)


def build_from_pieces(
    cache: Path, pieces: Iterable[tuple[str, Notes]], about: Mapping[str, Any], *, progress: bool
) -> None:
    """Read the pieces of a source that is not made of files, and publish a new generation.

    The caller holds the cache's lock.

    Raises:
        DataError: If two pieces have one name.
        OutputError: If the cache cannot be written.
    """
    shards = _begin(cache)
    for path, _ in list_shards(shards):
        path.unlink()  # nothing tells whether the source is still what they were read from
    origins, names = Origins(None), []
    source = iter(tqdm(pieces, desc=f"reading {about['name']}", unit="piece", disable=not progress))
    while block := list(itertools.islice(source, SHARD_PIECES)):
        path = new_shard(shards)
        write_shard(path, [_entry_of_piece(name, notes) for name, notes in block])
        origins.add(path, load_shard(path))
        names += [name for name, _ in block]
    twice = [name for name, often in Counter(names).items() if often > 1]
    if twice:
        raise DataError("each piece of a corpus has a name of its own", got=f"two {twice[0]!r}")
    _publish(cache, origins.runs(names), about, None)


def _entry_of_piece(name: str, notes: Notes) -> dict[str, Any]:
    report = FileReport(name=name, notes=len(notes), seconds=notes.seconds)
    stamps = dict.fromkeys(("size", "changed", "touched"), 0)
    text = json.dumps(report.to_json())
    return {"name": name, "notes": notes, "report": text, "file_hash": bytes(32), **stamps}


def is_tidy(cache: Path) -> bool:
    """Whether the last build came to its very end."""
    return not (cache / _SHARDS).exists()


def tidy(cache: Path) -> None:
    """Remove what the generation in use was made from; the caller holds the cache's lock."""
    _remove_unused(cache)
    shutil.rmtree(cache / _SHARDS, ignore_errors=True)


def _begin(cache: Path) -> Path:
    """Remove what builds that were ended left behind, but for their shards; the shards' folder."""
    shards = cache / _SHARDS
    try:
        shards.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "the cache can be written",
            got=error.strerror or str(error),
            where=str(cache),
            hint="set NOTELSTM_CACHE to a folder that you may write to",
        ) from error
    _remove_unused(cache)
    return shards


def _remove_unused(cache: Path) -> None:
    for folder in (cache, cache / _SHARDS):
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)
    used = current(cache)
    for folder in cache.glob("generation-*"):
        if used is None or folder != used.folder:
            # Where another process has it open, some systems refuse; the next build tries again.
            shutil.rmtree(folder, ignore_errors=True)


def _publish(
    cache: Path,
    runs: Iterable[tuple[Columns, int, int]],
    about: Mapping[str, Any],
    given: Columns | None,
) -> None:
    """Write a new generation, name it as the one in use, and remove what it was made from."""
    folder = cache / f"generation-{secrets.token_hex(8)}"
    try:
        folder.mkdir()
        size = merge(folder, runs, given)
    except OSError as error:
        raise OutputError(
            "the cache can be written",
            got=error.strerror or str(error),
            where=str(folder),
            hint="free some space, or set NOTELSTM_CACHE to another disk",
        ) from error
    columns = open_columns(folder)
    read = columns["status"] == READ
    described = {
        **about,
        "generation": folder.name,
        "fingerprint": hashlib.sha256(columns["notes_hash"][read].tobytes()).hexdigest(),
        "pieces": int(read.sum()),
        "notes": len(columns["pitch"]),
        "bytes": size,
        "built": time.time(),
    }
    with written_whole(cache / _CURRENT) as beside:
        beside.write_text(json.dumps(described), encoding="utf-8")
    tidy(cache)
