"""Evaluation: one measure for every model, nats per note on a 10 ms grid."""

from notelstm.evaluation.baselines import (
    Baseline,
    RepeatLast,
    Uniform,
    Unigram,
    fit_unigram,
    score_baseline,
)
from notelstm.evaluation.comparison import Comparison, Estimate, compare, intervals
from notelstm.evaluation.grid import snap
from notelstm.evaluation.nats import nats_per_note, score_piece
from notelstm.evaluation.ngrams import NGrams, fit_ngrams
from notelstm.evaluation.reliability import Reliability
from notelstm.evaluation.report import Report, baselines_of, evaluate
from notelstm.evaluation.scores import FIGURES, PieceScore, Scores
from notelstm.evaluation.spread import Spread, fit_sigmas

__all__ = [
    "FIGURES",
    "Baseline",
    "Comparison",
    "Estimate",
    "NGrams",
    "PieceScore",
    "Reliability",
    "RepeatLast",
    "Report",
    "Scores",
    "Spread",
    "Uniform",
    "Unigram",
    "baselines_of",
    "compare",
    "evaluate",
    "fit_ngrams",
    "fit_sigmas",
    "fit_unigram",
    "intervals",
    "nats_per_note",
    "score_baseline",
    "score_piece",
    "snap",
]
