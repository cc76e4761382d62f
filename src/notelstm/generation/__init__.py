"""Generation of music, row by row.

``generate`` returns a piece, ``generate_batch`` several, and ``stream`` yields notes without an
end. ``infill``, ``accompany`` and ``vary`` write between notes that are given. ``Session`` is for
interactive use: feed notes, fix fields, undo.
"""

from notelstm.generation.api import generate, generate_batch, stream
from notelstm.generation.rows import NoiseStream, Seed
from notelstm.generation.sequences import StoppingCriterion
from notelstm.generation.session import Session, Snapshot
from notelstm.generation.writing import (
    WritingSettings,
    WritingTask,
    Written,
    accompany,
    can_write,
    infill,
    vary,
    write_batch,
)

__all__ = [
    "NoiseStream",
    "Seed",
    "Session",
    "Snapshot",
    "StoppingCriterion",
    "WritingSettings",
    "WritingTask",
    "Written",
    "accompany",
    "can_write",
    "generate",
    "generate_batch",
    "infill",
    "stream",
    "vary",
    "write_batch",
]
