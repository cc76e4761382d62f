"""``evaluate``: a model beside baselines. ``evaluate_samples``: its samples beside real music."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from notelstm.adaptation import Adaptation
from notelstm.bundle import Bundle
from notelstm.encoders.rows import part_map_of
from notelstm.errors import DataError, counted
from notelstm.evaluation.baselines import (
    Baseline,
    RepeatLast,
    Uniform,
    Unigram,
    fit_ngrams,
    score_baseline,
)
from notelstm.evaluation.comparison import compare, intervals
from notelstm.evaluation.health import Health, diagnose
from notelstm.evaluation.memorisation import Memorisation, find_copies
from notelstm.evaluation.nats import nats_per_note
from notelstm.evaluation.repetition import RepetitionReport, compare_repetition
from notelstm.evaluation.scores import Scores
from notelstm.evaluation.similarity import Similarity, similarity_of
from notelstm.notes import Notes

__all__ = [
    "AdaptedReport",
    "Report",
    "SampleReport",
    "baselines_of",
    "evaluate",
    "evaluate_samples",
]


@final
@dataclass(frozen=True, kw_only=True)
class AdaptedReport:
    """The scores of a model that adapts to each piece, and the cost of the adaptation.

    Attributes:
        settings: How it adapts.
        scores: The scores, of the same notes as those of the fixed model.
        seconds_per_note: The time of scoring a note.
        fixed_seconds_per_note: The same without adaptation.
    """

    settings: Adaptation
    scores: Scores
    seconds_per_note: float
    fixed_seconds_per_note: float


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """The scores of a model and of baselines.

    Attributes:
        model: The scores of the model.
        baselines: The scores of the baselines on the same notes, by name.
        adapted: The scores of the model with dynamic evaluation; None if it was not asked for.
    """

    model: Scores
    baselines: Mapping[str, Scores]
    adapted: AdaptedReport | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as the command line prints it with ``--json``.

        The figures of the model are at the top. Each baseline has its figures and, as
        ``difference``, the model's figures minus its own. With dynamic evaluation, ``adapted`` has
        its settings, figures and costs, and as ``difference`` its figures minus those of the model.
        """
        reliability = self.model.reliability
        pitch = reliability.get("pitch")
        parts = {name: scores.to_json() for name, scores in self.model.parts.items()}
        for part in parts.values():
            del part["merged"]  # which part a merged note had is not counted
        return {
            **self.model.to_json(),
            "bits_per_second": self.model.bits_per_second,
            "pitch_top1": None if pitch is None else pitch.top1,
            "pitch_top5": None if pitch is None else pitch.top5,
            "parts": parts,
            "too_short": self.model.too_short,
            "rejected": dict(self.model.rejected),
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
            **({} if self.adapted is None else {"adapted": self._adapted(self.adapted)}),
            "pieces": [piece.to_json() for piece in self.model.pieces],
        }

    def _adapted(self, adapted: AdaptedReport) -> dict[str, Any]:
        several = len(self.model.pieces) > 1
        return {
            "settings": asdict(adapted.settings),
            **adapted.scores.to_json(),
            "difference": compare(adapted.scores, self.model).to_json() if several else None,
            "seconds_per_note": adapted.seconds_per_note,
            "fixed_seconds_per_note": adapted.fixed_seconds_per_note,
            "pieces": [piece.to_json() for piece in adapted.scores.pieces],
        }

    def _difference(self, baseline: Scores) -> dict[str, Any] | None:
        """The comparison with the model; None for a single piece."""
        if len(self.model.pieces) < 2:
            return None
        return compare(self.model, baseline).to_json()


def baselines_of(bundle: Bundle, training: Iterable[Notes] | None = None) -> dict[str, Baseline]:
    """The baselines of a model.

    Args:
        bundle: The model; its stored counts are used if no pieces are given.
        training: The pieces that it was trained on, to count n-grams in.

    Returns:
        By name: ``uniform``; ``unigram`` and ``repeat-last`` if there are counts; ``bigram`` and
        ``4-gram`` if there are pieces.

    Raises:
        DataError: If the pieces have no notes, or the bundle's counts are damaged.
    """
    encoder = bundle.encoder
    part_map = part_map_of(encoder)
    num_parts = 1 if part_map is None else len(part_map.classes)
    made: dict[str, Baseline] = {"uniform": Uniform(num_parts=num_parts)}
    ngrams = None if training is None else fit_ngrams(training, encoder=encoder)
    unigram = None if ngrams is None else ngrams.unigram
    if unigram is None and bundle.unigram:
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
    adapt: Adaptation | None = None,
) -> Report:
    """Score a model and its baselines on held-out pieces.

    Args:
        bundle: The model with its parts.
        pieces: Held-out pieces; rules and errors are those of
            :func:`~notelstm.evaluation.nats.nats_per_note`.
        names: The names of the pieces; None for their numbers.
        training: The pieces that it was trained on, to count n-grams in; None for no n-grams.
        adapt: Settings of dynamic evaluation, to score the model with it as well; None to leave it
            out.
    """
    baselines = baselines_of(bundle, training)
    scores, seconds = _timed(bundle, pieces, names)
    adapted = None
    if adapt is not None:
        adapted_scores, adapted_seconds = _timed(bundle, pieces, names, adapt)
        adapted = AdaptedReport(
            settings=adapt,
            scores=adapted_scores,
            seconds_per_note=adapted_seconds,
            fixed_seconds_per_note=seconds,
        )
    if scores.rejected:
        # The baselines are scored on the same notes.
        called = [str(k) for k in range(len(pieces))] if names is None else names
        kept = [k for k, name in enumerate(called) if name not in scores.rejected]
        pieces, names = [pieces[k] for k in kept], [called[k] for k in kept]
    return Report(
        model=scores,
        baselines={
            name: score_baseline(baseline, pieces, names=names, encoder=bundle.encoder)
            for name, baseline in baselines.items()
        },
        adapted=adapted,
    )


def _timed(
    bundle: Bundle,
    pieces: Sequence[Notes],
    names: Sequence[str] | None,
    adapt: Adaptation | None = None,
) -> tuple[Scores, float]:
    """The scores of a model, and the seconds per note that was scored."""
    start = time.perf_counter()
    scores = nats_per_note(
        bundle.generation_model,
        bundle.encoder,
        pieces,
        sigmas=bundle.sigmas,
        names=names,
        adapt=adapt,
    )
    return scores, (time.perf_counter() - start) / scores.notes


@final
@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """The properties of a model's samples.

    Attributes:
        similarity: Similarity to real pieces.
        health: Symptoms of degenerate output.
        repetition: Repetition of earlier passages, beside that of real pieces.
        memorisation: Copies of training pieces; None if these were not given.
    """

    similarity: Similarity
    health: Health
    repetition: RepetitionReport
    memorisation: Memorisation | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        copies = self.memorisation
        return {
            "similarity": self.similarity.to_json(),
            "health": self.health.to_json(),
            "repetition": self.repetition.to_json(),
            "memorisation": None if copies is None else copies.to_json(),
        }


def evaluate_samples(
    samples: Sequence[Notes],
    real: Sequence[Notes],
    training: Iterable[tuple[str, Notes]] | None = None,
) -> SampleReport:
    """Compare samples of a model with real pieces and with its training pieces.

    Args:
        samples: At least two generated pieces.
        real: At least two pieces that the model was not trained on.
        training: The pieces that it was trained on, with their names; None to skip the search.

    Raises:
        DataError: If there are fewer pieces, or one has fewer than two notes.
    """
    for kind, pieces in (("sample", samples), ("real piece", real)):
        short = [k for k, piece in enumerate(pieces) if len(piece) < 2]
        if short:
            raise DataError(
                f"{kind} {short[0]} has {counted(len(pieces[short[0]]), 'note')}, fewer than 2",
                hint="leave it out; train a model that generates no notes longer",
            )
    return SampleReport(
        similarity=similarity_of(samples, real),
        health=diagnose(samples, real),
        repetition=compare_repetition(samples, real),
        memorisation=None if training is None else find_copies(samples, training, real),
    )
