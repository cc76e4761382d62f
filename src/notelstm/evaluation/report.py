"""``evaluate``: a model's figures with everything that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from notelstm.bundle import Bundle
from notelstm.evaluation.baselines import Baseline, RepeatLast, Uniform, Unigram, score_baseline
from notelstm.evaluation.comparison import compare, intervals
from notelstm.evaluation.nats import nats_per_note
from notelstm.evaluation.ngrams import fit_ngrams
from notelstm.evaluation.scores import Scores
from notelstm.notes import Notes

__all__ = ["Report", "baselines_of", "evaluate"]


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """How good a model is, and how good one can be without it.

    Attributes:
        model: What the model scored.
        baselines: What the baselines scored on the same notes, by name.
    """

    model: Scores
    baselines: Mapping[str, Scores]

    def to_json(self) -> dict[str, Any]:
        """Everything under the names of the command line's ``--json``.

        The figures of the model are at the top. Of each baseline there are its figures and, as
        ``difference``, how far the model is below them.
        """
        reliability = self.model.reliability
        pitch = reliability.get("pitch")
        return {
            **self.model.to_json(),
            "bits_per_second": self.model.bits_per_second,
            "pitch_top1": None if pitch is None else pitch.top1,
            "pitch_top5": None if pitch is None else pitch.top5,
            "too_short": self.model.too_short,
            "refused": dict(self.model.refused),
            "calibration": {role: made.to_json() for role, made in reliability.items()},
            "intervals": {k: [e.low, e.high] for k, e in intervals(self.model).items()},
            "baselines": {
                name: {
                    **scores.to_json(),
                    "bits_per_second": scores.bits_per_second,
                    "difference": self._difference(scores),
                }
                for name, scores in self.baselines.items()
            },
            "pieces": [piece.to_json() for piece in self.model.pieces],
        }

    def _difference(self, baseline: Scores) -> dict[str, Any] | None:
        """How the model compares; None on a single piece, which tells nothing of others."""
        if len(self.model.pieces) < 2:
            return None
        return compare(self.model, baseline).to_json()


def baselines_of(bundle: Bundle, training: Iterable[Notes] | None = None) -> dict[str, Baseline]:
    """What a model is compared with.

    Args:
        bundle: The model; its counts serve where no pieces are given.
        training: Pieces to count n-grams in: those that it was trained on.

    Returns:
        By name: ``uniform``; ``unigram`` and ``repeat-last`` where there are counts; ``bigram``
        and ``4-gram`` where there are pieces.

    Raises:
        DataError: If the pieces have no notes, or the bundle's counts are damaged.
    """
    made: dict[str, Baseline] = {"uniform": Uniform()}
    ngrams = None if training is None else fit_ngrams(training)
    unigram = None
    if ngrams is not None:
        unigram = ngrams.unigram
    elif bundle.unigram:
        unigram = Unigram.from_json(bundle.unigram)
    if unigram is not None:
        made["unigram"], made["repeat-last"] = unigram, RepeatLast(unigram=unigram)
    if ngrams is not None:
        made["bigram"], made["4-gram"] = ngrams.up_to(2), ngrams
    return made


def evaluate(
    bundle: Bundle,
    pieces: Sequence[Notes],
    *,
    names: Sequence[str] | None = None,
    training: Iterable[Notes] | None = None,
) -> Report:
    """Score a model on held-out pieces, and its baselines beside it.

    Args:
        bundle: The model with its parts.
        pieces: Held-out pieces; those of 25 notes or fewer are left out and counted, those that
            the encoder refuses are left out with the reason.
        names: What the pieces are called; None for their numbers.
        training: Pieces to count n-grams in: those that it was trained on; None for no n-grams.

    Raises:
        DataError: If no piece has more than 25 notes and is accepted by the encoder, or there are
            not as many names as pieces.
        FieldError: If a field cannot be measured.
    """
    baselines = baselines_of(bundle, training)
    scores = nats_per_note(bundle.generation_model, bundle.encoder, pieces, sigmas=bundle.sigmas, names=names)
    if scores.refused:
        # The baselines are scored on the same notes.
        called = [str(k) for k in range(len(pieces))] if names is None else names
        kept = [k for k, name in enumerate(called) if name not in scores.refused]
        pieces, names = [pieces[k] for k in kept], [called[k] for k in kept]
    return Report(
        model=scores,
        baselines={
            name: score_baseline(baseline, pieces, names=names)
            for name, baseline in baselines.items()
        },
    )
