"""What lies in the cache folder, how large it is, and clearing it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from notelstm.data.cache import cache_folder
from notelstm.data.lock import locked_now

__all__ = ["Cached", "clear_caches", "list_caches"]


@final
@dataclass(frozen=True, kw_only=True)
class Cached:
    """One thing in the cache folder; all of it can be made again.

    Attributes:
        name: What it is called there.
        kind: ``"corpora"`` (notes), ``"encoded"`` (rows), ``"downloads"`` or ``"pieces"``.
        source: What it was made of, "" if that is not known.
        bytes: How much room it takes.
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
    """Remove things from the cache folder; what is being made at the moment stays.

    Args:
        names: What to remove, by name; None for everything.
        cache: The folder; None for :func:`~notelstm.data.cache.cache_folder`.

    Returns:
        What was removed.
    """
    base = cache_folder() if cache is None else Path(cache)
    wanted = None if names is None else set(names)
    removed = []
    for cached in list_caches(base):
        if wanted is not None and cached.name not in wanted:
            continue
        path = Path(cached.path)
        with contextlib.ExitStack() as locks:
            if not all(locks.enter_context(locked_now(lock)) for lock in _locks_of(base, cached)):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if not path.exists():
            removed.append(cached)
    return removed


def _locks_of(base: Path, cached: Cached) -> list[Path]:
    """The locks of whoever may be making it; what is not whole yet is named after the whole."""
    folder = base / ("downloads" if cached.kind == "downloads" else "locks")
    name = cached.name.lstrip(".")
    there = [
        lock
        for lock in sorted(folder.glob("*.lock"))
        if name.startswith(lock.name.lstrip(".").removesuffix(".lock"))
    ]
    # One that begins to make it now must wait as well.
    return there or [folder / f"{'.' if cached.kind == 'downloads' else ''}{name}.lock"]


def _things(base: Path) -> Iterator[tuple[str, Path]]:
    for kind in ("corpora", "encoded", "downloads"):
        folder = base / kind
        if folder.is_dir():
            yield from ((kind, path) for path in folder.iterdir() if path.suffix != ".lock")
    if base.is_dir():
        yield from (("pieces", path) for path in base.glob("*.npz"))


def _source(path: Path) -> str:
    for name in ("current.json", "about.json"):
        try:
            about = json.loads((path / name).read_text(encoding="utf-8"))
            return str(about["source"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        try:
            state = file.stat()
        except OSError:
            continue
        total += 0 if file.is_dir() else state.st_size
    return total
