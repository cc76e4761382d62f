"""Training: a loop one can read, callbacks, and a run folder that can be resumed."""

from notelstm.training.callbacks import BestKept, Callback, EarlyStop, Event, JsonLog, Progress
from notelstm.training.config import TrainingConfig
from notelstm.training.run_folder import RunFolder
from notelstm.training.step import TrainStep, measure_terms
from notelstm.training.trainer import History, Trainer

__all__ = [
    "BestKept",
    "Callback",
    "EarlyStop",
    "Event",
    "History",
    "JsonLog",
    "Progress",
    "RunFolder",
    "TrainStep",
    "Trainer",
    "TrainingConfig",
    "measure_terms",
]
