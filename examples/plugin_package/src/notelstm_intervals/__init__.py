"""Notes as intervals and loudness: a plugin for notelstm."""

from notelstm_intervals.encoder import IntervalEncoder, IntervalTracker
from notelstm_intervals.prediction import CategoricalMixture, MixtureHead
from notelstm_intervals.recipe import intervals
from notelstm_intervals.sampling import BestOfTwo, SmallLeaps

__all__ = [
    "BestOfTwo",
    "CategoricalMixture",
    "IntervalEncoder",
    "IntervalTracker",
    "MixtureHead",
    "SmallLeaps",
    "intervals",
]
