"""Splitting pieces so that copies and transpositions of one fall on the same side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from notelstm.errors import ConfigError
from notelstm.notes import Notes

__all__ = ["content_key", "split_by_content"]

T = TypeVar("T")


def content_key(notes: Notes) -> str:
    """A hash of the intervals from note to note: equal for copies and transpositions.

    Tempo, velocity and the order in which notes of a chord were stored do not matter.
    """
    pitches = notes.by_pitch().pitch
    return hashlib.sha256(np.diff(pitches).astype(np.int16).tobytes()).hexdigest()


def split_by_content(
    pieces: Sequence[tuple[T, Notes]], fraction: float, *, seed: int = 0
) -> tuple[list[T], list[T]]:
    """Set aside about `fraction` of the pieces by their content.

    Args:
        pieces: Whatever is to be split, with its notes.
        fraction: Share to set aside, 0 to 1 (1 excluded).
        seed: Another seed sets aside other pieces.

    Returns:
        Those that stay, and those set aside.

    Raises:
        ConfigError: If the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise ConfigError("a fraction is 0 to 1", got=f"{fraction}")
    stay: list[T] = []
    aside: list[T] = []
    for item, notes in pieces:
        digest = hashlib.sha256(f"{seed}:{content_key(notes)}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        (aside if share < fraction else stay).append(item)
    return stay, aside
