"""Encoders: pieces to rows of numbers and back."""

from notelstm.encoders.anticipating import AnticipatingEncoder
from notelstm.encoders.beat import BeatEncoder
from notelstm.encoders.log_time import LogTimeEncoder
from notelstm.encoders.miditok import MidiTokEncoder
from notelstm.encoders.performance_event import PerformanceEventEncoder
from notelstm.encoders.rows import RowTracker, tracker_of
from notelstm.encoders.step_duration import StepDurationEncoder

__all__ = [
    "AnticipatingEncoder",
    "BeatEncoder",
    "LogTimeEncoder",
    "MidiTokEncoder",
    "PerformanceEventEncoder",
    "RowTracker",
    "StepDurationEncoder",
    "tracker_of",
]
