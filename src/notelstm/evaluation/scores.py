"""``Scores``: nats per note of a set of pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError, counted
from notelstm.evaluation.grid import FIRST
from notelstm.evaluation.reliability import Reliability
from notelstm.notes import Notes

__all__ = ["FIGURES", "PieceScore", "Scores", "all_scored", "long_enough"]

FIGURES: Final = ("pitch", "step", "duration", "pitch_step_duration", "velocity", "total")
"""The names of the figures: four roles, pitch, step and duration together, and all of a note."""

_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "pitch_step_duration": ("pitch", "step", "duration"),
    "total": ("pitch", "step", "duration", "velocity"),
}


@final
@dataclass(frozen=True, kw_only=True)
class PieceScore:
    """The score of one piece.

    Attributes:
        notes: The number of notes that were scored.
        nats: By role, the sum of -ln P over these notes; ``"event"`` for event encoders.
        name: The piece's name.
        seconds: From the onset before the first scored note to the last onset.
        reliability: By role, for fields that are predicted as classes.
    """

    notes: int
    nats: Mapping[str, float]
    name: str = ""
    seconds: float = 0.0
    reliability: Mapping[str, Reliability] = field(default_factory=dict)

    def of(self, figure: str) -> float | None:
        """The sum of nats of one of :data:`FIGURES`, None if it is not predicted."""
        if figure == "total" and "event" in self.nats:
            return self.nats["event"]
        parts = _PARTS.get(figure, (figure,))
        if any(part not in self.nats for part in parts):
            return None
        return sum(self.nats[part] for part in parts)

    def to_json(self) -> dict[str, Any]:
        """Name, size and nats per note."""
        figures = {figure: self.of(figure) for figure in FIGURES}
        return {
            "name": self.name,
            "notes": self.notes,
            "seconds": self.seconds,
            **{k: None if nats is None else nats / self.notes for k, nats in figures.items()},
        }


@final
@dataclass(frozen=True, kw_only=True)
class Scores:
    """Nats per note over a set of pieces.

    Attributes:
        pieces: The score of each piece, in order, for paired comparisons.
        too_short: The number of pieces left out because they have 25 notes or fewer.
        refused: The pieces that the encoder refused, by name, with the reason.
    """

    pieces: tuple[PieceScore, ...]
    too_short: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> int:
        """The number of notes that were scored."""
        return sum(piece.notes for piece in self.pieces)

    def of(self, figure: str) -> float | None:
        """Nats per note of one of :data:`FIGURES`, None if it is not predicted."""
        nats = self.nats(figure)
        return None if nats is None else float(nats.sum()) / self.notes

    def nats(self, figure: str) -> NDArray[np.float64] | None:
        """(P,) each piece's nats of a figure, None if it is not predicted."""
        sums = [piece.of(figure) for piece in self.pieces]
        return None if None in sums else np.array(sums, dtype=np.float64)

    @property
    def pitch_step_duration(self) -> float | None:
        """Nats per note of pitch, step and duration together."""
        return self.of("pitch_step_duration")

    @property
    def total(self) -> float | None:
        """Nats per note of all fields; None for a model without velocity."""
        return self.of("total")

    @property
    def bits_per_second(self) -> float | None:
        """Bits per second of music, of all fields; None without a total."""
        nats = self.nats("total")
        seconds = sum(piece.seconds for piece in self.pieces)
        return None if nats is None or not seconds else float(nats.sum()) / math.log(2) / seconds

    @property
    def reliability(self) -> dict[str, Reliability]:
        """By role, for fields that are predicted as classes."""
        roles = dict.fromkeys(role for piece in self.pieces for role in piece.reliability)
        return {
            role: Reliability.sum(
                piece.reliability[role] for piece in self.pieces if role in piece.reliability
            )
            for role in roles
        }

    def to_json(self) -> dict[str, float | int | None]:
        """The figures under the names of the command line's ``--json``."""
        return {**{figure: self.of(figure) for figure in FIGURES}, "notes": self.notes}


def long_enough(
    pieces: Sequence[Notes], names: Sequence[str] | None = None
) -> Iterator[tuple[str, Notes]]:
    """The pieces that can be scored, with their names.

    Args:
        pieces: Any pieces.
        names: Their names; None for their numbers.

    Raises:
        DataError: If there are not as many names as pieces.
    """
    called = [str(k) for k in range(len(pieces))] if names is None else names
    if len(called) != len(pieces):
        raise DataError(
            f"there are {counted(len(called), 'name')} for {counted(len(pieces), 'piece')}",
            hint="give each piece one name",
        )
    return ((n, piece) for n, piece in zip(called, pieces, strict=True) if len(piece) > FIRST)


def all_scored(
    scored: Sequence[PieceScore], pieces: int, refused: Mapping[str, str] | None = None
) -> Scores:
    """The scores of a set of pieces.

    Args:
        scored: The scores of the pieces that could be scored.
        pieces: The number of all pieces.
        refused: The pieces that the encoder refused, by name, with the reason.

    Raises:
        DataError: If none could be scored.
    """
    refused = refused or {}
    too_short = pieces - len(scored) - len(refused)
    if scored:
        return Scores(pieces=tuple(scored), too_short=too_short, refused=refused)
    if refused:
        name, reason = next(iter(refused.items()))
        raise DataError(
            f"the encoder refuses {counted(len(refused), 'piece')}, and {too_short:,} of the rest "
            f"are too short to be scored; the first: {reason}",
            where=name,
            hint="give pieces that the model's encoder can represent",
        )
    raise DataError(
        f"no piece is long enough to be scored: {counted(pieces, 'piece')} of {FIRST} notes or "
        "fewer",
        hint=f"give pieces of more than {FIRST} notes",
    )
