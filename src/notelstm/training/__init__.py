"""Training: the trainer, its callbacks, and a run folder from which a run can be resumed."""

from notelstm.training.callbacks import (
    BestCheckpoint,
    DivergenceGuard,
    EarlyStopping,
    JSONLogger,
    TimeBudget,
)
from notelstm.training.checkpoints import RunFolder
from notelstm.training.config import TrainingConfig
from notelstm.training.distributed import DistributedGroup
from notelstm.training.progress import Progress
from notelstm.training.step import TrainerState, TrainStep, measure_terms
from notelstm.training.trainer import Callback, History, Trainer
from notelstm.training.writers import Profile, Report, Samples, TensorBoard

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
