"""A lock between processes that ends with its owner."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from notelstm.errors import OutputError

__all__ = ["locked", "locked_now"]

_PAUSE: Final = 0.05

_log = logging.getLogger(__name__)

# The operating system keeps these locks, so one whose owner is killed is free again at once. The
# lock file itself means nothing and stays: to remove it would let two processes lock two files of
# the same name.
if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked_now(path: Path) -> Iterator[bool]:
    """Hold a lock if it is free.

    Args:
        path: The lock file; it is made if it is missing.

    Yields:
        Whether the lock is held.

    Raises:
        OutputError: If there can be no lock in that folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        try:
            _take(file)
            free = True
        except (BlockingIOError, PermissionError):
            free = False
        except OSError as error:
            raise _no_lock(path, error) from error
        yield free
    finally:
        os.close(file)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, after waiting for it for as long as its owner lives.

    Args:
        path: The lock file; it is made if it is missing.

    Raises:
        OutputError: If there can be no lock in that folder.
    """
    told = False
    while True:
        with locked_now(path) as free:
            if free:
                yield
                return
        if not told:
            _log.info("waiting for another process to finish %s", path.stem)
            told = True
        time.sleep(_PAUSE)


def _no_lock(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "a cache can be locked",
        got=error.strerror or str(error),
        where=str(path),
        hint="set NOTELSTM_CACHE to a folder on a local disk that you may write to",
    )
