"""Samplers choose the next entry; processors change what they choose from."""

from notelstm.sampling.confining import allow_only
from notelstm.sampling.feedback import RawPitch
from notelstm.sampling.pitches import Forbid, PitchRange, Scale, TempoRange
from notelstm.sampling.processors import ShortestDuration, Temperature
from notelstm.sampling.repetition import NoRepeat, RepetitionPenalty
from notelstm.sampling.samplers import Ancestral, Greedy, Weighted
from notelstm.sampling.texture import LargestChord, PolyphonyCap
from notelstm.sampling.timing import GridSnap, NoteDensity
from notelstm.sampling.truncation import MinP, TopK, TopP

__all__ = [
    "Ancestral",
    "Forbid",
    "Greedy",
    "GridSnap",
    "LargestChord",
    "MinP",
    "NoRepeat",
    "NoteDensity",
    "PitchRange",
    "PolyphonyCap",
    "RawPitch",
    "RepetitionPenalty",
    "Scale",
    "ShortestDuration",
    "Temperature",
    "TempoRange",
    "TopK",
    "TopP",
    "Weighted",
    "allow_only",
]
