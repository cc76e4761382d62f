"""Generation of music, row by row.

``generate`` returns a piece, ``generate_batch`` several, and ``stream`` yields notes without an
end. ``Session`` is for interactive use: feed notes, fix fields, undo.
"""

from notelstm.generation.api import generate, generate_batch, stream
from notelstm.generation.rows import NoiseStream
from notelstm.generation.sequences import StoppingCriterion
from notelstm.generation.session import Session, Snapshot

__all__ = [
    "NoiseStream",
    "Session",
    "Snapshot",
    "StoppingCriterion",
    "generate",
    "generate_batch",
    "stream",
]
