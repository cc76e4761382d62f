"""Confidence intervals of figures, and the comparison of two models piece by piece.

Intervals are percentiles of the bootstrap over pieces, since notes of one piece are dependent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError, counted
from notelstm.evaluation.scores import FIGURES, PieceScore, Scores

__all__ = ["Comparison", "Estimate", "compare", "intervals"]

_RESAMPLES: Final = 2000


class Estimate(NamedTuple):
    """A figure and its confidence interval, from `low` to `high`."""

    value: float
    low: float
    high: float


def intervals(scores: Scores, *, confidence: float = 0.95, seed: int = 0) -> dict[str, Estimate]:
    """Each figure that is predicted, with its confidence interval; none for fewer than two pieces.

    Args:
        scores: Scores of one model.
        confidence: Confidence level, between 0 and 1.
        seed: Random seed of the resampling.

    Raises:
        ConfigError: If the confidence is out of range.
    """
    if len(scores.pieces) < 2:
        return {}
    notes = _notes(scores)
    times = _resampled(len(notes), seed)
    return {
        figure: _estimate(nats.sum() / notes.sum(), (times @ nats) / (times @ notes), confidence)
        for figure in FIGURES
        if (nats := scores.nats(figure)) is not None
    }


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of two models on the same pieces.

    Attributes:
        pieces: The number of pieces that both scored.
        differences: By figure, nats per note of the first minus those of the second. Below 0 the
            first is better; the difference is significant if the interval excludes 0.
        better: By figure, the number of pieces on which the first is better.
    """

    pieces: int
    differences: Mapping[str, Estimate]
    better: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "pieces": self.pieces,
            "differences": {k: estimate._asdict() for k, estimate in self.differences.items()},
            "better": dict(self.better),
        }


def compare(a: Scores, b: Scores, *, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two models piece by piece, so that hard and easy pieces cancel.

    Pieces are matched by name. Confidence and seed are those of :func:`intervals`.

    Raises:
        DataError: If a name is used twice, or fewer than two pieces are in both.
        ConfigError: If the confidence is out of range.
    """
    mine, theirs = _by_name(a), _by_name(b)
    names = [name for name in mine if name in theirs]
    if len(names) < 2:
        raise DataError(
            f"the two scores have {counted(len(names), 'piece')} in common, fewer than 2",
            hint="score both models on the same pieces, and give nats_per_note the same names",
        )
    left = Scores(pieces=tuple(mine[name] for name in names))
    right = Scores(pieces=tuple(theirs[name] for name in names))
    times = _resampled(len(names), seed)
    # Encoders that merge notes may differ in the number that they score.
    n, m = _notes(left), _notes(right)
    differences, better = {}, {}
    for figure in FIGURES:
        x, y = left.nats(figure), right.nats(figure)
        if x is None or y is None:
            continue
        drawn = (times @ x) / (times @ n) - (times @ y) / (times @ m)
        value = x.sum() / n.sum() - y.sum() / m.sum()
        differences[figure] = _estimate(value, drawn, confidence)
        better[figure] = int((x / n < y / m).sum())
    return Comparison(pieces=len(names), differences=differences, better=better)


def _notes(scores: Scores) -> NDArray[np.float64]:
    return np.array([piece.notes for piece in scores.pieces], dtype=np.float64)


def _by_name(scores: Scores) -> dict[str, PieceScore]:
    named = {piece.name: piece for piece in scores.pieces}
    if len(named) < len(scores.pieces):
        raise DataError(
            f"{counted(len(scores.pieces), 'piece')} with {counted(len(named), 'different name')} "
            "cannot be compared",
            hint="give each piece a name of its own in nats_per_note",
        )
    return named


def _resampled(pieces: int, seed: int) -> NDArray[np.float64]:
    """(R, P) the number of times that each piece is in each of R resamples."""
    rng = np.random.default_rng(seed)
    times = rng.multinomial(pieces, np.full(pieces, 1 / pieces), size=_RESAMPLES)
    return times.astype(np.float64)


def _estimate(value: float, drawn: NDArray[np.float64], confidence: float) -> Estimate:
    if not 0 < confidence < 1:
        raise ConfigError(f"the confidence {confidence} is not between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))
