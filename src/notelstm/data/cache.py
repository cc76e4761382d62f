"""The cache folder: where it is, its locks, and pieces that took long to read."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock, Timeout

from notelstm.data.piece_file import DamagedError, PieceFile, entry_of, write_pieces
from notelstm.errors import DataError, OutputError
from notelstm.notes import Notes

__all__ = ["cache_folder", "cached_pieces", "locked", "open_pieces"]

SUFFIX: Final = ".notes"
"""The suffix of a file of pieces."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder for files that can be made again; it need not exist yet.

    The environment variable ``NOTELSTM_CACHE`` names it; otherwise it is in the platform's place
    for caches.
    """
    named = os.environ.get("NOTELSTM_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("notelstm", appauthor=False)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock between processes, which ends with its owner.

    Args:
        path: The lock file; it is made if it is missing, and stays.
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
    """Open a file of pieces; None if there is none, or it is damaged and has to be made again.

    Raises:
        DataError: If there is one and it cannot be opened, which is no reason to make it again.
    """
    try:
        return PieceFile(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (DamagedError, IsADirectoryError) as error:
        _log.warning("%s is damaged (%s) and is made again", path, error)
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
    """Pieces from the cache, read and put there first if they are not.

    Several processes may do this at once. A damaged file is made again, and a folder that cannot
    be written to costs only time; both are logged.

    Args:
        name: Source and version, the name of a folder in the cache.
        read: Reads the pieces, each with its name.

    Returns:
        The pieces with their names.
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
        _log.warning("nothing is cached for the next time: %s", error)
    return pieces
