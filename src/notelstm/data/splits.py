"""Splitting a corpus by piece into training, validation and test pieces."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError, DataNotFoundError
from notelstm.notes import Notes

__all__ = [
    "Split",
    "check_shares",
    "content_key",
    "percussion_and_rest",
    "pitches_in_order",
    "split_at_random",
    "split_by_content",
    "split_by_keys",
    "split_by_table",
]

T = TypeVar("T")

SIDES: Final = ("train", "validation", "test")


@final
@dataclass(frozen=True, kw_only=True)
class Split:
    """The numbers of the pieces for training, measurements during it, and a test at the end."""

    train: tuple[int, ...]
    validation: tuple[int, ...] = ()
    test: tuple[int, ...] = ()


def _split(sides: Sequence[str]) -> Split:
    """A split from the side of each piece."""
    return Split(**{side: tuple(k for k, s in enumerate(sides) if s == side) for side in SIDES})


def content_key(notes: Notes) -> str:
    """A hash of the intervals from note to note: equal for copies and transpositions.

    Percussion is compared by pitch. Tempo, velocity, programs, tracks and the order of notes in a
    chord do not matter.
    """
    drums, notes = percussion_and_rest(notes)
    digest = hashlib.sha256(np.diff(pitches_in_order(notes)).astype(np.int16).tobytes())
    if len(drums):
        digest.update(b"drums" + pitches_in_order(drums).astype(np.int16).tobytes())
    return digest.hexdigest()


def percussion_and_rest(notes: Notes) -> tuple[Notes, Notes]:
    """The percussion of a piece, and its other notes."""
    drum = np.zeros(len(notes), np.bool_) if notes.drum is None else notes.drum
    return notes[drum], notes[~drum]


def pitches_in_order(notes: Notes) -> NDArray[np.int64]:
    """(N,) pitches, those of notes that start together ascending."""
    return notes.pitch[np.lexsort((notes.pitch, notes.start))]


def split_by_content(
    pieces: Sequence[tuple[T, Notes]], fraction: float, *, seed: int = 0
) -> tuple[list[T], list[T]]:
    """Hold out about `fraction` of the pieces, 0 to 1 (1 excluded), by their content.

    Returns:
        The other items, and those held out.

    Raises:
        ConfigError: If the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"fraction {fraction} is not 0 to 1 (1 excluded)")
    split = split_by_keys(
        [content_key(notes) for _, notes in pieces], validation=fraction, test=0.0, seed=seed
    )
    return [pieces[k][0] for k in split.train], [pieces[k][0] for k in split.validation]


def split_by_keys(
    keys: Sequence[str], *, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Split pieces so that those of the same key are on the same side.

    The side of a piece depends only on its key and the seed, not on other pieces.

    Args:
        keys: A key for each piece; a corpus' ``content_keys`` keep copies and transpositions
            together.
        validation: The approximate share of the keys for validation.
        test: The approximate share for the test.
        seed: The random seed.

    Raises:
        ConfigError: If the shares are out of range.
    """
    check_shares(validation, test)

    def side(key: str) -> str:
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        if share < validation:
            return "validation"
        return "test" if share < validation + test else "train"

    return _split([side(key) for key in keys])


def split_at_random(
    pieces: int, *, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Split a number of pieces at random; each side has exactly its share, rounded.

    Raises:
        ConfigError: If the shares are out of range.
    """
    check_shares(validation, test)
    order = np.random.default_rng(seed).permutation(pieces)
    first = round(pieces * validation)
    second = first + min(round(pieces * test), pieces - first)
    sides = np.full(pieces, "train", dtype=object)
    sides[order[:first]] = "validation"
    sides[order[first:second]] = "test"
    return _split(sides.tolist())


def check_shares(validation: float, test: float) -> None:
    """Raise ConfigError for shares of held-out pieces that leave nothing, or are negative."""
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ConfigError(
            f"validation {validation} and test {test} leave nothing to train on, or are negative",
            hint="use shares of at least 0 that are together less than 1",
        )


def split_by_table(names: Sequence[str], table: str | os.PathLike[str]) -> Split:
    """Split pieces by a table, for example MAESTRO's ``.csv``.

    Args:
        names: The pieces.
        table: A CSV file with the columns ``midi_filename`` and ``split``; the latter holds
            ``train``, ``validation`` or ``test``. It may list other pieces too.

    Raises:
        DataNotFoundError: If it does not exist.
        DataError: If it is not such a table, or lacks a piece.
    """
    path = Path(table)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            listed = {row["midi_filename"]: row["split"] for row in csv.DictReader(file)}
    except FileNotFoundError as error:
        raise DataNotFoundError(f"no such table: {path}", hint="check the path") from error
    except KeyError as error:
        raise DataError(f"the table has no column {error}", where=str(path)) from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the table: {error}", where=str(path)) from error
    bad = next((name for name in names if listed.get(name) not in SIDES), None)
    if bad is not None:
        problem = f"{bad!r} is not in the table"
        if bad in listed:
            problem = f"{bad!r} has the split {listed[bad]!r}, not {', '.join(SIDES)}"
        raise DataError(problem, where=str(path), hint="use the table that came with these files")
    return _split([listed[name] for name in names])
