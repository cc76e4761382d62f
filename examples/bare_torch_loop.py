"""The library's dataset and model in a plain PyTorch training loop.

The original design: windows of 25 notes, and the next note as the target. The piece is synthetic.
"""

import numpy as np
import torch

from notelstm import Notes, SequenceDataset, StepDurationEncoder, ThreeHeadLSTM, reference
from notelstm.training import TrainStep

torch.manual_seed(0)
degree = np.abs(np.arange(800) % 16 - 8)
piece = Notes(start=0.25 * np.arange(800), end=0.25 * np.arange(800) + 0.2, pitch=60 + degree)

encoder = StepDurationEncoder()
dataset = SequenceDataset([encoder.encode(piece)], sequence_length=25, targets="last")
model = ThreeHeadLSTM(fields=encoder.fields)
optimizer = torch.optim.SGD(model.parameters(), lr=0.005)

# Model and loss as one module, which can be wrapped by a compiler or DistributedDataParallel.
step = TrainStep(model, reference().build_loss())
for epoch in range(3):
    total = 0.0
    for batch in dataset.loader(64, shuffle=True):
        losses, _ = step(batch, None)  # None: each window starts from the initial state
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        total += losses.total.item() * len(batch.rows)
    print(f"epoch {epoch + 1}: loss {total / len(dataset):.4f}")
