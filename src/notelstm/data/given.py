"""``GivenMixture``: copies of training pieces in which some notes are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import part_map_of
from notelstm.errors import ConfigError
from notelstm.fields import Rows
from notelstm.notes import Notes
from notelstm.protocols import AnticipatesNotes

__all__ = ["GivenMixture"]

_KINDS: Final = ("nothing", "spans", "parts", "notes")


@final
@dataclass(frozen=True, kw_only=True)
class GivenMixture:
    """Which notes of the training pieces are given to the model.

    Each piece is encoded several times, each time with one kind of given notes, chosen at random:

    - *nothing*: the model writes the whole piece;
    - *spans*: the piece alternates between spans of time that are written and spans that are given,
      so that the model learns to meet what follows a gap; in half of the pieces with several parts,
      some parts are given as a whole, too;
    - *parts*: all notes of some parts are given, any of them, but not all;
    - *notes*: single notes are given, each with the same probability, which differs from piece to
      piece.

    The copies of a piece are the same in every epoch, whatever the other pieces.

    Attributes:
        nothing: The weight of the first kind, at least 0; the sum of all need not be 1.
        spans: The weight of the second.
        parts: The weight of the third; pieces of a single part have spans in its place.
        notes: The weight of the fourth.
        gap: The shortest and the longest span to be written, seconds, on a logarithmic scale.
        span: Those of the spans that are given between them.
        variants: The number of copies of each piece, at least 1.

    Raises:
        ConfigError: If a setting is out of range.
    """

    nothing: float = 0.35
    spans: float = 0.4
    parts: float = 0.2
    notes: float = 0.05
    gap: tuple[float, float] = (1.0, 30.0)
    span: tuple[float, float] = (5.0, 15.0)
    variants: int = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        weights = [getattr(self, kind) for kind in _KINDS]
        if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
            named = ", ".join(f"{k} {w}" for k, w in zip(_KINDS, weights, strict=True))
            raise ConfigError(f"these are no weights of a mixture: {named}")
        for name in ("gap", "span"):
            ends = tuple(map(float, getattr(self, name)))
            object.__setattr__(self, name, ends)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1] < math.inf:
                raise ConfigError(
                    f"the {name} {ends} is not a shortest and a longest time",
                    hint="give two numbers of seconds above 0, the smaller one first",
                )
        if isinstance(self.variants, bool) or not isinstance(self.variants, int):
            raise ConfigError(f"variants is {self.variants!r}, not a whole number")
        if self.variants < 1:
            raise ConfigError(f"variants is {self.variants}, below 1")

    def encode(self, encoder: AnticipatesNotes, piece: Notes, seed: Sequence[int]) -> Rows:
        """The rows of one copy of a piece.

        Args:
            encoder: The encoder.
            piece: The piece.
            seed: Whole numbers that select the copy.

        Raises:
            EncodingError: If the piece is outside the encoder's domain.
        """
        part_map = part_map_of(encoder)
        part = np.zeros(len(piece), dtype=np.int64)
        if part_map is not None:
            part = part_map.classes_of(piece)
        given = self.choose(piece, part, np.random.default_rng(list(seed)))
        return encoder.encode_given(piece, given)

    def choose(
        self, piece: Notes, part: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """(N,) the notes of a copy that are given.

        Args:
            piece: N notes.
            part: (N,) the part of each.
            rng: The source of randomness.
        """
        weights = np.array([getattr(self, kind) for kind in _KINDS])
        kind = _KINDS[int(rng.choice(len(_KINDS), p=weights / weights.sum()))]
        count = len(np.unique(part))
        if kind == "notes":
            return rng.random(len(piece)) < rng.random()
        if kind == "parts" and count > 1:
            return _some_parts(part, rng)
        if kind == "nothing" or not len(piece):
            return np.zeros(len(piece), dtype=np.bool_)
        given = self._spans(piece.start, rng)
        if count > 1 and rng.integers(2):
            given |= _some_parts(part, rng)
        return given

    def _spans(self, start: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
        """(N,) whether the onset of a note is in a span that is given."""
        now, last = float(start[0]), float(start[-1])
        borders, written = [now], bool(rng.integers(2))
        starts_given = not written
        while now <= last:
            low, high = self.gap if written else self.span
            now += float(np.exp(rng.uniform(np.log(low), np.log(high))))
            borders.append(now)
            written = not written
        number = np.searchsorted(borders, start, side="right") - 1
        given: NDArray[np.bool_] = (number % 2 == 0) == starts_given
        return given


def _some_parts(part: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(N,) the notes of some of the parts, neither none nor all of them."""
    found = np.unique(part)
    chosen = rng.permutation(found)[: int(rng.integers(1, len(found)))]
    return np.isin(part, chosen)
