"""Samplers, which choose the next entry, and processors, which change predictions before that.

A setting out of its range is a :class:`~notelstm.errors.ConfigError`.
"""

from notelstm.sampling.instruments import Instruments, MaxInstruments
from notelstm.sampling.masking import allow_only
from notelstm.sampling.pitches import ForbidValues, PitchRange, Scale, TempoRange
from notelstm.sampling.polyphony import MaxChordSize, MaxPolyphony
from notelstm.sampling.processors import MinDuration, MinP, Temperature, TopK, TopP
from notelstm.sampling.recall import Recall
from notelstm.sampling.repetition import NoRepeatNGram, RepetitionPenalty
from notelstm.sampling.samplers import Ancestral, Greedy, RawPitch, Weighted
from notelstm.sampling.timing import EndAt, GridSnap, NoteDensity

__all__ = [
    "Ancestral",
    "EndAt",
    "ForbidValues",
    "Greedy",
    "GridSnap",
    "Instruments",
    "MaxChordSize",
    "MaxInstruments",
    "MaxPolyphony",
    "MinDuration",
    "MinP",
    "NoRepeatNGram",
    "NoteDensity",
    "PitchRange",
    "RawPitch",
    "Recall",
    "RepetitionPenalty",
    "Scale",
    "Temperature",
    "TempoRange",
    "TopK",
    "TopP",
    "Weighted",
    "allow_only",
]
