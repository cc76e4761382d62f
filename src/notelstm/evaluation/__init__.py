"""Evaluation: one measure for every model, nats per note on a 10 ms grid, and a look at samples."""

from notelstm.evaluation.baselines import (
    Baseline,
    RepeatLast,
    Uniform,
    Unigram,
    fit_unigram,
    score_baseline,
)
from notelstm.evaluation.comparison import Comparison, Estimate, compare, intervals
from notelstm.evaluation.grid import quantize
from notelstm.evaluation.health import Diagnosis, Health, diagnose
from notelstm.evaluation.memorisation import Memorisation, find_copies
from notelstm.evaluation.nats import nats_per_note, score_piece
from notelstm.evaluation.ngrams import NGrams, fit_ngrams
from notelstm.evaluation.passages import Passage, longest_shared
from notelstm.evaluation.reliability import Reliability
from notelstm.evaluation.report import Report, baselines_of, evaluate
from notelstm.evaluation.samples import SampleReport, evaluate_samples
from notelstm.evaluation.scores import FIGURES, PieceScore, Scores
from notelstm.evaluation.similarity import FeatureSimilarity, Similarity, similarity_of
from notelstm.evaluation.spread import PointToNormal, fit_sigmas

__all__ = [
    "FIGURES",
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
    "Report",
    "SampleReport",
    "Scores",
    "Similarity",
    "PointToNormal",
    "Uniform",
    "Unigram",
    "baselines_of",
    "compare",
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
    "score_baseline",
    "score_piece",
    "similarity_of",
    "quantize",
]
