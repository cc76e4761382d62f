"""Listing and clearing the cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from notelstm.data.cache import SUFFIX, cache_folder, locked
from notelstm.data.piece_file import DamagedError, PieceFile

__all__ = ["Cached", "clear_caches", "list_caches"]


@final
@dataclass(frozen=True, kw_only=True)
class Cached:
    """An item in the cache folder; all of it can be made again.

    Attributes:
        name: Its name there.
        kind: ``"corpora"`` (notes), ``"encoded"`` (rows), ``"downloads"`` or ``"pieces"``.
        source: What it was made of, "" if that is not known.
        bytes: Its size.
        path: Where it is.
    """

    name: str
    kind: str
    source: str
    bytes: int
    path: str

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def list_caches(cache: str | os.PathLike[str] | None = None) -> list[Cached]:
    """Everything in the cache folder, the largest first.

    Args:
        cache: The folder; None for :func:`~notelstm.data.cache.cache_folder`.
    """
    base = cache_folder() if cache is None else Path(cache)
    found = [
        Cached(name=path.name, kind=kind, source=_source(path), bytes=_size(path), path=str(path))
        for kind, path in _things(base)
    ]
    return sorted(found, key=lambda cached: (-cached.bytes, cached.name))


def clear_caches(
    names: Iterable[str] | None = None, cache: str | os.PathLike[str] | None = None
) -> list[Cached]:
    """Remove items from the cache folder; one that is being made at the moment stays.

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
    """The locks of whoever may be making it; an unfinished item is named after the finished one."""
    folder = base / ("downloads" if cached.kind == "downloads" else "locks")
    name = cached.name.lstrip(".")
    there = [
        lock
        for lock in sorted(folder.glob("*.lock"))
        if name.startswith(lock.name.lstrip(".").removesuffix(".lock"))
    ]
    # A process that begins to make it now must wait as well.
    return there or [folder / f"{'.' if cached.kind == 'downloads' else ''}{name}.lock"]


def _things(base: Path) -> Iterator[tuple[str, Path]]:
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
    """Bytes of a file, or of all files in a folder; one that vanishes meanwhile counts nothing."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        try:
            state = file.stat()
        except OSError:
            continue
        total += 0 if file.is_dir() else state.st_size
    return total
