"""The cache folder: its locks, cached pieces, and its contents."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import platformdirs
from filelock import FileLock, Timeout

from notelstm.data.piece_file import DamagedError, PieceFile, entry_of, write_pieces
from notelstm.errors import DataError, OutputError
from notelstm.notes import Notes

__all__ = [
    "Cached",
    "cache_folder",
    "cached_pieces",
    "clear_caches",
    "list_caches",
    "locked",
    "open_pieces",
]

SUFFIX: Final = ".notes"
"""The suffix of a file of pieces."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder for files that can be recomputed; it need not exist yet.

    It is the environment variable ``NOTELSTM_CACHE``, or else the platform's cache folder.
    """
    named = os.environ.get("NOTELSTM_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("notelstm", appauthor=False)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock between processes, which is released if its owner dies.

    Args:
        path: The lock file; it is created if missing, and not removed.
        wait: Wait for another owner to release it.

    Yields:
        Whether the lock is held; always True with `wait`.

    Raises:
        OutputError: If no file can be locked there.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait:
                _log.info("waiting for another process to finish %s", path.stem)
                lock.acquire(poll_interval=0.05)
    except (OSError, NotImplementedError) as error:
        raise OutputError(
            f"cannot lock the cache: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            hint="set NOTELSTM_CACHE to a folder on a local disk that you may write to",
        ) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def open_pieces(path: Path) -> PieceFile | None:
    """Open a file of pieces; None if it does not exist or is damaged.

    Raises:
        DataError: If it exists and cannot be opened.
    """
    try:
        return PieceFile(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (DamagedError, IsADirectoryError) as error:
        _log.warning("%s is damaged (%s) and is rebuilt", path, error)
        return None
    except OSError as error:
        raise DataError(
            f"cannot open the cache: {error.strerror or error}",
            where=str(path),
            hint="close other files, raise the limit with ulimit -n, or check your rights",
        ) from error


def cached_pieces(
    name: str, read: Callable[[], Iterable[tuple[str, Notes]]]
) -> Sequence[tuple[str, Notes]]:
    """Pieces with their names from the cache, which is filled first if it has none.

    Several processes may do this at the same time. A damaged file is rebuilt, and without write
    access the pieces are read again each time; both are logged.

    Args:
        name: Source and version, the name of a folder in the cache.
        read: Reads the pieces, each with its name.
    """
    base = cache_folder()
    path = base / "pieces" / name / f"all{SUFFIX}"
    stored = open_pieces(path)
    if stored is not None:
        with contextlib.suppress(DamagedError):
            return [(title, stored.notes(k)) for k, title in enumerate(stored.names)]
    pieces = list(read())
    entries = (entry_of(title, notes, "{}") for title, notes in pieces)
    try:
        with locked(base / "locks" / f"{name}.lock"):
            write_pieces(path, entries, {})
    except OutputError as error:
        _log.warning("the pieces are not cached: %s", error)
    return pieces


@final
@dataclass(frozen=True, kw_only=True)
class Cached:
    """An item in the cache folder.

    Attributes:
        name: Its name there.
        kind: ``"corpora"`` (notes), ``"encoded"`` (rows), ``"downloads"`` or ``"pieces"``.
        source: Where it comes from, "" if that is not known.
        bytes: Its size.
        path: Its path.
    """

    name: str
    kind: str
    source: str
    bytes: int
    path: str

    def to_json(self) -> dict[str, Any]:
        """The item as JSON values."""
        return asdict(self)


def list_caches(cache: str | os.PathLike[str] | None = None) -> list[Cached]:
    """The items in the cache folder, the largest first.

    Args:
        cache: The folder; None for :func:`~notelstm.data.cache.cache_folder`.
    """
    base = cache_folder() if cache is None else Path(cache)
    found = [
        Cached(name=path.name, kind=kind, source=_source(path), bytes=_size(path), path=str(path))
        for kind, path in _items(base)
    ]
    return sorted(found, key=lambda cached: (-cached.bytes, cached.name))


def clear_caches(
    names: Iterable[str] | None = None, cache: str | os.PathLike[str] | None = None
) -> list[Cached]:
    """Remove items from the cache folder, except those that another process is writing.

    Args:
        names: The names of the items to remove; None for everything.
        cache: The folder; None for :func:`~notelstm.data.cache.cache_folder`.

    Returns:
        The removed items.
    """
    base = cache_folder() if cache is None else Path(cache)
    wanted = None if names is None else set(names)
    removed = []
    for cached in list_caches(base):
        if wanted is not None and cached.name not in wanted:
            continue
        path = Path(cached.path)
        with contextlib.ExitStack() as locks:
            held = (locked(lock, wait=False) for lock in _locks_of(base, cached))
            if not all(locks.enter_context(lock) for lock in held):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if not path.exists():
            removed.append(cached)
    return removed


def _locks_of(base: Path, cached: Cached) -> list[Path]:
    """The locks of processes that may be writing it; the name of an unfinished item is longer."""
    folder = base / ("downloads" if cached.kind == "downloads" else "locks")
    name = cached.name.lstrip(".")
    held = [
        lock
        for lock in sorted(folder.glob("*.lock"))
        if name.startswith(lock.name.lstrip(".").removesuffix(".lock"))
    ]
    # A process that starts to write it now must wait too.
    return held or [folder / f"{'.' if cached.kind == 'downloads' else ''}{name}.lock"]


def _items(base: Path) -> Iterator[tuple[str, Path]]:
    for kind in ("corpora", "encoded", "downloads", "pieces"):
        folder = base / kind
        if folder.is_dir():
            yield from ((kind, path) for path in folder.iterdir() if path.suffix != ".lock")


def _source(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, DamagedError):
        for file in path.glob(f"*{SUFFIX}"):
            return str(PieceFile(file).about.get("source", ""))
        about = json.loads((path / "about.json").read_text(encoding="utf-8"))
        return str(about["about"]["source"])
    return ""


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; files that vanish meanwhile are ignored."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        try:
            state = file.stat()
        except OSError:
            continue
        total += 0 if file.is_dir() else state.st_size
    return total
