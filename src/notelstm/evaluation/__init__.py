"""Evaluation: one measure for every model, nats per note on a 10 ms grid, and a look at samples."""

from notelstm.evaluation.baselines import (
    Baseline,
    NGrams,
    RepeatLast,
    Uniform,
    Unigram,
    fit_ngrams,
    fit_unigram,
    score_baseline,
)
from notelstm.evaluation.comparison import (
    Comparison,
    Estimate,
    Together,
    compare,
    intervals,
    score_together,
)
from notelstm.evaluation.grid import quantize
from notelstm.evaluation.health import Diagnosis, Health, diagnose
from notelstm.evaluation.memorisation import Memorisation, Passage, find_copies, longest_shared
from notelstm.evaluation.nats import fit_sigmas, nats_per_note, score_piece
from notelstm.evaluation.repetition import (
    Repetition,
    RepetitionReport,
    compare_repetition,
    repetition_of,
)
from notelstm.evaluation.reports import (
    AdaptedReport,
    Report,
    SampleReport,
    baselines_of,
    evaluate,
    evaluate_samples,
)
from notelstm.evaluation.rows import RowScores, averaged, nats_per_row
from notelstm.evaluation.scores import FIGURES, PieceScore, Reliability, Scores
from notelstm.evaluation.similarity import FeatureSimilarity, Similarity, similarity_of

__all__ = [
    "FIGURES",
    "AdaptedReport",
    "Baseline",
    "Comparison",
    "Diagnosis",
    "Estimate",
    "FeatureSimilarity",
    "Health",
    "Memorisation",
    "NGrams",
    "Passage",
    "PieceScore",
    "Reliability",
    "RepeatLast",
    "Repetition",
    "RepetitionReport",
    "Report",
    "RowScores",
    "SampleReport",
    "Scores",
    "Similarity",
    "Together",
    "Uniform",
    "Unigram",
    "averaged",
    "baselines_of",
    "compare",
    "compare_repetition",
    "diagnose",
    "evaluate",
    "evaluate_samples",
    "find_copies",
    "fit_ngrams",
    "fit_sigmas",
    "fit_unigram",
    "intervals",
    "longest_shared",
    "nats_per_note",
    "nats_per_row",
    "quantize",
    "repetition_of",
    "score_baseline",
    "score_piece",
    "score_together",
    "similarity_of",
]
