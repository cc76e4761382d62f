"""Piano rolls frame by frame: a plugin for notelstm."""

from notelstm_frames.corpus import MatRolls, read_rolls
from notelstm_frames.encoder import FrameEncoder, FrameTracker
from notelstm_frames.model import FrameLSTM
from notelstm_frames.recipe import frames
from notelstm_frames.repeats import Repeats

__all__ = [
    "FrameEncoder",
    "FrameLSTM",
    "FrameTracker",
    "MatRolls",
    "Repeats",
    "frames",
    "read_rolls",
]
