"""Keeping pieces that took long to read in the user's cache folder."""

from __future__ import annotations

import logging
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from notelstm.errors import OutputError
from notelstm.files import written_whole
from notelstm.notes import BeatMap, Notes

__all__ = ["cache_folder", "kept"]

FORMAT: Final = 1
"""The version of the files, a part of their names: another version's are left alone."""

_COLUMNS: Final = ("start", "end", "pitch", "velocity", "program", "drum", "track")
_TEMPI: Final = ("seconds", "tempi")
_METERS: Final = ("meter_beats", "numerators", "denominators")

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where files that can be made again are kept; it need not exist yet.

    The environment variable ``NOTELSTM_CACHE`` names it; otherwise it is in the platform's place
    for caches.
    """
    named = os.environ.get("NOTELSTM_CACHE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local", "notelstm")
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/notelstm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "notelstm")


def kept(name: str, read: Callable[[], Iterable[tuple[str, Notes]]]) -> Sequence[tuple[str, Notes]]:
    """Pieces from the cache, read and put there first if they are not.

    Several processes may do this at once. A damaged file is made again, and a folder that cannot
    be written to costs only time; both are logged.

    Args:
        name: What is kept: source and version, as part of a file name.
        read: Reads the pieces, each with its name.

    Returns:
        What `read` gives. An optional column is kept only if every piece has it.
    """
    path = cache_folder() / f"{name}-{FORMAT}.npz"
    if path.exists():
        try:
            return _load(path)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("%s is damaged (%s) and is made again", path, error)
    pieces = list(read())
    try:
        with written_whole(path) as beside, open(beside, "wb") as file:
            np.savez(file, **_packed(pieces))
    except OutputError as error:
        _log.warning("nothing is kept for the next time: %s", error)
    return pieces


def _packed(pieces: Sequence[tuple[str, Notes]]) -> dict[str, Any]:
    """All pieces as a few long arrays; ``*_at`` says where each piece begins in them."""
    notes = [piece for _, piece in pieces]
    maps = [piece.beats or BeatMap() for piece in notes]
    packed: dict[str, Any] = {
        "names": np.array([name for name, _ in pieces], dtype=np.str_),
        "mapped": np.array([piece.beats is not None for piece in notes], dtype=np.bool_),
        "notes_at": _offsets([len(piece) for piece in notes]),
        "tempi_at": _offsets([beats.tempi.size for beats in maps]),
        "meters_at": _offsets([beats.meter_beats.size for beats in maps]),
    }
    for column in _COLUMNS:
        values = [getattr(piece, column) for piece in notes]
        if notes and all(value is not None for value in values):
            packed[column] = np.concatenate(values)
    for column in (*_TEMPI, *_METERS):
        if maps:
            packed[column] = np.concatenate([getattr(beats, column) for beats in maps])
    return packed


def _offsets(sizes: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _load(path: Path) -> list[tuple[str, Notes]]:
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}

    def part(columns: Iterable[str], places: str, i: int) -> dict[str, Any]:
        low, high = arrays[places][i : i + 2]
        return {c: arrays[c][low:high] for c in columns if c in arrays}

    pieces = []
    for i, name in enumerate(arrays["names"]):
        tempi, meters = part(_TEMPI, "tempi_at", i), part(_METERS, "meters_at", i)
        beats = BeatMap(**tempi, **meters) if arrays["mapped"][i] else None
        pieces.append((str(name), Notes(**part(_COLUMNS, "notes_at", i), beats=beats)))
    return pieces
