"""Training: the trainer, its callbacks, and a run folder from which a run can be resumed."""

from notelstm.training.callbacks import BestCheckpoint, Callback, EarlyStopping, JSONLogger
from notelstm.training.config import TrainingConfig
from notelstm.training.distributed import DistributedGroup
from notelstm.training.guards import DivergenceGuard, TimeBudget
from notelstm.training.profile import Profile
from notelstm.training.progress import Progress
from notelstm.training.report import Report
from notelstm.training.run_folder import RunFolder
from notelstm.training.samples import Samples
from notelstm.training.state import TrainerState
from notelstm.training.step import TrainStep, measure_terms
from notelstm.training.tensorboard import TensorBoard
from notelstm.training.trainer import History, Trainer

__all__ = [
    "BestCheckpoint",
    "Callback",
    "DistributedGroup",
    "DivergenceGuard",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "Profile",
    "Progress",
    "Report",
    "RunFolder",
    "Samples",
    "TensorBoard",
    "TimeBudget",
    "TrainStep",
    "Trainer",
    "TrainerState",
    "TrainingConfig",
    "measure_terms",
]
