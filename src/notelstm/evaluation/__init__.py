"""Evaluation: one measure for every model, nats per note on a 10 ms grid."""

from notelstm.evaluation.grid import snap
from notelstm.evaluation.nats import PieceScore, Scores, nats_per_note, score_piece
from notelstm.evaluation.spread import Spread, fit_sigmas

__all__ = ["PieceScore", "Scores", "Spread", "fit_sigmas", "nats_per_note", "score_piece", "snap"]
