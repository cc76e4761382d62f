"""Encoders: pieces to rows of numbers and back."""

from notelstm.encoders.beat import BeatEncoder
from notelstm.encoders.log_time import LogTimeEncoder
from notelstm.encoders.performance_event import PerformanceEventEncoder
from notelstm.encoders.step_duration import StepDurationEncoder
from notelstm.encoders.tracker import RowTracker, tracker_of

__all__ = [
    "BeatEncoder",
    "LogTimeEncoder",
    "PerformanceEventEncoder",
    "RowTracker",
    "StepDurationEncoder",
    "tracker_of",
]
