"""The library's dataset and model in PyTorch Lightning; `bare_torch_loop.py` is plain PyTorch.

The original design: windows of 25 notes, and the next note as the target. The piece is synthetic.
Needs `pip install 'notelstm[lightning]'`.
"""

import logging
import warnings
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from notelstm import Notes, SequenceDataset, StepDurationEncoder, ThreeHeadLSTM, reference
from notelstm.batch import Batch
from notelstm.training import TrainStep


class LightningStep(lightning.LightningModule):
    """Model and loss as a Lightning module."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__()
        self.step = step

    def training_step(self, batch: Batch, number: int) -> Tensor:
        loss: Tensor = self.step(batch, None)[0].total  # None: start from the initial state
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.rows))
        return loss

    def transfer_batch_to_device(self, batch: Batch, device: Any, number: int) -> Batch:
        return batch.move(device)  # moves the rows; flags stay on the CPU

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.005)

    def on_train_epoch_end(self) -> None:
        print(f"epoch {self.current_epoch + 1}: loss {self.trainer.callback_metrics['loss']:.4f}")


# Silence tips and device information, and a deprecation warning of PyTorch.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")

torch.manual_seed(0)
degree = np.abs(np.arange(800) % 16 - 8)
piece = Notes(start=0.25 * np.arange(800), end=0.25 * np.arange(800) + 0.2, pitch=60 + degree)
encoder = StepDurationEncoder()
dataset = SequenceDataset([encoder.encode(piece)], sequence_length=25, targets="last")
step = LightningStep(TrainStep(ThreeHeadLSTM(fields=encoder.fields), reference().build_loss()))
trainer = lightning.Trainer(
    max_epochs=3,
    # Write no files and no progress bars.
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(step, dataset.loader(64, shuffle=True))
