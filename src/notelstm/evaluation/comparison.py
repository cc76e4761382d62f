"""Confidence intervals of figures, the comparison of two models, and a table of several.

Intervals are percentiles of the bootstrap over pieces, since notes of one piece are dependent.

Models with and without instruments are compared by the figure ``without_instrument``, on the notes
that every encoder keeps apart (:func:`score_together`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.bundle import Bundle
from notelstm.encoders.rows import snapped
from notelstm.errors import ConfigError, DataError, counted
from notelstm.evaluation.grid import quantize
from notelstm.evaluation.nats import nats_per_note
from notelstm.evaluation.scores import FIGURES, PieceScore, Scores
from notelstm.notes import Notes

__all__ = ["Comparison", "Estimate", "Together", "compare", "intervals", "score_together"]

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
        notes: The number of notes that each of them scored in these pieces. If they differ, an
            encoder merged notes; see :func:`score_together`.
        differences: By figure, nats per note of the first minus those of the second. Below 0 the
            first is better; the difference is significant if the interval excludes 0.
        better: By figure, the number of pieces on which the first is better.
    """

    pieces: int
    notes: tuple[int, int]
    differences: Mapping[str, Estimate]
    better: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "pieces": self.pieces,
            "notes": list(self.notes),
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
    return Comparison(
        pieces=len(names), notes=(left.notes, right.notes), differences=differences, better=better
    )


@final
@dataclass(frozen=True, kw_only=True)
class Together:
    """Several models, with and without instruments, scored on the same notes.

    Attributes:
        scores: The scores by model.
        notes: The number of notes of the pieces, scored or not.
        merged: The number of them that were left out, as some encoder merges them with others.
    """

    scores: Mapping[str, Scores]
    notes: int
    merged: int

    def table(self) -> str:
        """A Markdown table of nats per note, with a row for each model, and the notes left out."""
        rows = [["", *(figure.replace("_", " ") for figure in FIGURES), "notes"]]
        for name, scores in self.scores.items():
            figures = [scores.of(figure) for figure in FIGURES]
            shown = ["" if nats is None else f"{nats:.3f}" for nats in figures]
            rows.append([name, *shown, f"{scores.notes:,}"])
        rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join(
            [*lines, "", f"Left out: {self.merged:,} of {counted(self.notes, 'note')}, merged."]
        )


def score_together(
    models: Mapping[str, Bundle], pieces: Sequence[Notes], *, names: Sequence[str] | None = None
) -> Together:
    """Score several models on the notes that the encoders of all of them keep apart.

    Of the notes of one pitch in a cell, an encoder without instruments keeps one, with the greatest
    duration and velocity; it is scored with the instrument of the first. Each piece has the same
    number of notes for every model. The order of the notes of a cell differs (by instrument and
    pitch, or by pitch), so that in the cell of the 26th note, the first that is scored, they may
    not be the same.

    Args:
        models: The models by name.
        pieces: Held-out pieces.
        names: The names of the pieces; None for their numbers.

    Raises:
        DataError: As :func:`~notelstm.evaluation.nats_per_note`.
        EncodingError: If an encoder rejects a piece.
        FieldError: If a model cannot be scored.
    """
    distinct = []
    for piece in pieces:
        notes = quantize(piece)
        for bundle in models.values():
            notes = snapped(bundle.encoder, notes)
        distinct.append(notes)
    return Together(
        scores={
            name: nats_per_note(
                bundle.generation_model, bundle.encoder, distinct, sigmas=bundle.sigmas, names=names
            )
            for name, bundle in models.items()
        },
        notes=sum(map(len, pieces)),
        merged=sum(map(len, pieces)) - sum(map(len, distinct)),
    )


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
