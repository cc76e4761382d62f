"""The note loop: a model, a sampler and some noise make music, one row at a time.

``generate`` is the short way, ``stream`` the same music note by note and without an end;
``Session`` is the loop itself, for whoever wants to feed notes in, force fields, or take some back.
"""

from notelstm.generation.goals import Until
from notelstm.generation.loop import generate, generate_batch, stream
from notelstm.generation.noise import NoiseStream
from notelstm.generation.past import Snapshot
from notelstm.generation.session import Session

__all__ = ["NoiseStream", "Session", "Snapshot", "Until", "generate", "generate_batch", "stream"]
