"""Models: ``torch.nn.Module`` classes that predict each row from those before it."""

from notelstm.models.note_lstm import NoteLSTM
from notelstm.models.three_head_lstm import ThreeHeadLSTM
from notelstm.models.windowed import Windowed

__all__ = ["NoteLSTM", "ThreeHeadLSTM", "Windowed"]
