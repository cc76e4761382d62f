"""Training: a loop one can read, callbacks, and a run folder that can be resumed."""

from notelstm.training.callbacks import BestKept, Callback, EarlyStop, Event, JsonLog
from notelstm.training.config import TrainingConfig
from notelstm.training.guards import DivergenceGuard, TimeBudget
from notelstm.training.processes import Processes
from notelstm.training.profile import Profile
from notelstm.training.progress import Progress
from notelstm.training.report import Report
from notelstm.training.run_folder import RunFolder
from notelstm.training.samples import Playing, Samples
from notelstm.training.step import TrainStep, measure_terms
from notelstm.training.tensorboard import TensorBoard
from notelstm.training.trainer import History, Trainer

__all__ = [
    "BestKept",
    "Callback",
    "DivergenceGuard",
    "EarlyStop",
    "Event",
    "History",
    "JsonLog",
    "Playing",
    "Processes",
    "Profile",
    "Progress",
    "Report",
    "RunFolder",
    "Samples",
    "TensorBoard",
    "TimeBudget",
    "TrainStep",
    "Trainer",
    "TrainingConfig",
    "measure_terms",
]
