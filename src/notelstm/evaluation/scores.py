"""``Scores``: nats per note of a set of pieces, and the ``Reliability`` of predicted classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.errors import DataError, ShapeError, counted
from notelstm.evaluation.grid import FIRST
from notelstm.notes import Notes
from notelstm.predictions import Categorical

__all__ = ["BINS", "FIGURES", "PieceScore", "Reliability", "Scores", "all_scored", "long_enough"]

BINS: Final = 15
"""The number of bins of equal width for the confidence."""


@final
@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Accuracy by confidence of the predictions of a categorical field.

    Classes that are equally likely share the first place, so that a uniform prediction of C classes
    is right once in C times.

    Attributes:
        counts: The number of predictions in each of :data:`BINS` bins of their confidence, which is
            the probability of the most likely class.
        confidence: The sum of the confidence in each bin.
        correct: The number of correct predictions in each bin.
        top5_count: The number of predictions with the right class among the five most likely.

    Source:
        Guo, Pleiss, Sun and Weinberger: On calibration of modern neural networks, ICML 2017.
    """

    counts: tuple[float, ...] = (0.0,) * BINS
    confidence: tuple[float, ...] = (0.0,) * BINS
    correct: tuple[float, ...] = (0.0,) * BINS
    top5_count: float = 0.0

    @classmethod
    def of(cls, prediction: Categorical, target: Tensor) -> Reliability:
        """The reliability of (M,) predictions, given the right classes, int64.

        Raises:
            ShapeError: If the shapes do not match.
        """
        if prediction.logits.shape[:-1] != target.shape:
            raise ShapeError(
                f"targets of shape {tuple(target.shape)} do not fit logits of shape "
                f"{tuple(prediction.logits.shape)}",
                hint="give one target for each prediction",
            )
        p = prediction.logits.double().softmax(-1)  # (M, C)
        own = p.gather(-1, target.unsqueeze(-1))  # (M, 1)
        above, alike = (p > own).sum(-1), (p == own).sum(-1)  # (M,)
        top = p.amax(-1)
        at = (top * BINS).long().clamp(max=BINS - 1)

        def binned(values: Tensor) -> tuple[float, ...]:
            sums = torch.zeros(BINS, dtype=torch.float64, device=values.device)
            return tuple(sums.index_add_(0, at, values).tolist())

        def among(k: int) -> Tensor:
            return ((k - above) / alike).double().clamp(0, 1)

        return cls(
            counts=binned(torch.ones_like(top)),
            confidence=binned(top),
            correct=binned(among(1)),
            top5_count=float(among(5).sum()),
        )

    def __add__(self, other: Reliability) -> Reliability:
        """The reliability of two sets of predictions together."""
        return Reliability(
            counts=_added(self.counts, other.counts),
            confidence=_added(self.confidence, other.confidence),
            correct=_added(self.correct, other.correct),
            top5_count=self.top5_count + other.top5_count,
        )

    @property
    def count(self) -> float:
        """The number of predictions."""
        return sum(self.counts)

    @property
    def top1(self) -> float:
        """The share of predictions whose most likely class was right."""
        return sum(self.correct) / self.count

    @property
    def top5(self) -> float:
        """The share of predictions with the right class among the five most likely."""
        return self.top5_count / self.count

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap of confidence and accuracy, 0 to 1."""
        gaps = (abs(a - b) for a, b in zip(self.confidence, self.correct, strict=True))
        return sum(gaps) / self.count

    def to_json(self) -> dict[str, Any]:
        """The error, and the bounds, size, confidence and accuracy of each bin that is not empty.

        Example:
            >>> sure = Categorical(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
            >>> [made] = Reliability.of(sure, torch.tensor([0, 0])).to_json()["bins"]
            >>> made["count"], made["accuracy"]
            (2, 0.5)
        """
        bins = [
            {
                "from": k / BINS,
                "to": (k + 1) / BINS,
                "count": round(self.counts[k]),
                "confidence": self.confidence[k] / self.counts[k],
                "accuracy": self.correct[k] / self.counts[k],
            }
            for k in range(BINS)
            if self.counts[k]
        ]
        return {"error": self.error, "bins": bins}


def _added(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


FIGURES: Final = (
    "pitch",
    "step",
    "duration",
    "pitch_step_duration",
    "velocity",
    "instrument",
    "total",
    "without_instrument",
)
"""The names of the figures: five roles, pitch, step and duration together, all of a note, and all
but the instrument, which is summed out."""

_SUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "pitch_step_duration": ("pitch", "step", "duration"),
    "total": ("pitch", "step", "duration", "velocity"),
}


@final
@dataclass(frozen=True, kw_only=True)
class PieceScore:
    """The score of one piece.

    A model of instruments predicts more of a note than others, so that its total is larger.
    ``"without_instrument"`` is comparable: the sum of -ln P of each note with any instrument, given
    the instruments of the notes before. It is the total of a model without instruments.

    ``"end"``, of models that predict the end of a piece, is in no total: totals are of notes that
    follow, and comparable with those of models without ends.

    Attributes:
        notes: The number of notes that were scored.
        nats: By role, the sum of -ln P over these notes; ``"event"`` for event encoders. With
            instruments, also ``"without_instrument"``.
        name: The piece's name.
        seconds: From the onset before the first scored note to the last onset.
        reliability: By role, for fields that are predicted as classes.
        merged: The number of notes of the whole piece that the encoder merges with others, so that
            they are not scored.
        parts: With instruments, the score of the notes of each part, by name; the pitches of drums
            are drum keys.
    """

    notes: int
    nats: Mapping[str, float]
    name: str = ""
    seconds: float = 0.0
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    merged: int = 0
    parts: Mapping[str, PieceScore] = field(default_factory=dict)

    def of(self, figure: str) -> float | None:
        """The sum of nats of one of :data:`FIGURES` or ``"end"``, None if it is not predicted."""
        if figure == "without_instrument" and "instrument" not in self.nats:
            figure = "total"
        if figure == "total" and "event" in self.nats:
            return self.nats["event"]
        roles = _SUMS.get(figure, (figure,))
        if any(role not in self.nats for role in roles):
            return None
        total = sum(self.nats[role] for role in roles)
        return total + self.nats.get("instrument", 0.0) if figure == "total" else total

    def to_json(self) -> dict[str, Any]:
        """Name, size and nats per note."""
        figures = Scores(pieces=(self,)).to_json()
        return {"name": self.name, "seconds": self.seconds, **figures}


@final
@dataclass(frozen=True, kw_only=True)
class Scores:
    """Nats per note over a set of pieces.

    Attributes:
        pieces: The score of each piece, in order, for paired comparisons.
        too_short: The number of pieces left out because they have 25 notes or fewer.
        rejected: The pieces that the encoder rejected, by name, with the reason.
    """

    pieces: tuple[PieceScore, ...]
    too_short: int = 0
    rejected: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> int:
        """The number of notes that were scored."""
        return sum(piece.notes for piece in self.pieces)

    def of(self, figure: str) -> float | None:
        """Nats per note of one of :data:`FIGURES` or ``"end"``, None if it is not predicted."""
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
    def merged(self) -> int:
        """The number of notes of these pieces that the encoder merges with others."""
        return sum(piece.merged for piece in self.pieces)

    @property
    def parts(self) -> dict[str, Scores]:
        """The scores of the notes of each part, by name; empty without instruments."""
        names = dict.fromkeys(name for piece in self.pieces for name in piece.parts)
        return {
            name: Scores(pieces=tuple(p.parts[name] for p in self.pieces if name in p.parts))
            for name in names
        }

    @property
    def bits_per_second(self) -> float | None:
        """Bits per second of music, of all fields; None without a total."""
        nats = self.nats("total")
        seconds = sum(piece.seconds for piece in self.pieces)
        return None if nats is None or not seconds else float(nats.sum()) / math.log(2) / seconds

    @property
    def reliability(self) -> dict[str, Reliability]:
        """By role, for fields that are predicted as classes."""
        total: dict[str, Reliability] = {}
        for piece in self.pieces:
            for role, made in piece.reliability.items():
                total[role] = total.get(role, Reliability()) + made
        return total

    def to_json(self) -> dict[str, float | int | None]:
        """The figures under the names of the command line's ``--json``."""
        figures = {figure: self.of(figure) for figure in FIGURES}
        if (end := self.of("end")) is not None:
            figures["end"] = end
        return {**figures, "notes": self.notes, "merged": self.merged}


def long_enough(
    pieces: Sequence[Notes], names: Sequence[str] | None = None
) -> Iterator[tuple[str, Notes]]:
    """The pieces that can be scored, with their names; None for their numbers.

    Raises:
        DataError: If there are not as many names as pieces.
    """
    called = [str(k) for k in range(len(pieces))] if names is None else names
    if len(called) != len(pieces):
        raise DataError(
            f"{counted(len(called), 'name')} for {counted(len(pieces), 'piece')}",
            hint="give each piece one name",
        )
    return ((n, piece) for n, piece in zip(called, pieces, strict=True) if len(piece) > FIRST)


def all_scored(
    scored: Sequence[PieceScore], pieces: int, rejected: Mapping[str, str] | None = None
) -> Scores:
    """The scores of those of a number of pieces that could be scored.

    Raises:
        DataError: If none could be scored.
    """
    rejected = rejected or {}
    too_short = pieces - len(scored) - len(rejected)
    if scored:
        return Scores(pieces=tuple(scored), too_short=too_short, rejected=rejected)
    if rejected:
        name, reason = next(iter(rejected.items()))
        raise DataError(
            f"the encoder rejects {counted(len(rejected), 'piece')}, and {too_short:,} of the rest "
            f"are too short to be scored; the first: {reason}",
            where=name,
            hint="give pieces that the model's encoder can represent",
        )
    raise DataError(
        f"no piece is long enough to be scored: {counted(pieces, 'piece')} of {FIRST} notes or "
        "fewer",
        hint=f"give pieces of more than {FIRST} notes",
    )
