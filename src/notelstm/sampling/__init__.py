"""Samplers choose the next entry; processors change what they choose from."""

from notelstm.sampling.feedback import RawPitch
from notelstm.sampling.processors import ShortestDuration, Temperature, allow_only
from notelstm.sampling.samplers import Ancestral, Greedy, Weighted

__all__ = [
    "Ancestral",
    "Greedy",
    "RawPitch",
    "ShortestDuration",
    "Temperature",
    "Weighted",
    "allow_only",
]
