"""What a note model that hears knows and carries."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from notelstm.models.lstm import LSTMState
from notelstm.models.sounding import Sounding

__all__ = ["NoteContext", "NoteState"]


class NoteContext(NamedTuple):
    """What a model that hears knows before a row.

    Attributes:
        hidden: (B, T, H) the last layer's output.
        heard: (B, T, S) what the LSTM heard at the onset before.
        sounding: (B, T, P) what is sounding at that onset.
    """

    hidden: Tensor
    heard: Tensor
    sounding: Sounding


class NoteState(NamedTuple):
    """What a model that hears carries from row to row.

    Attributes:
        lstm: The LSTM's state.
        sounding: (B, P) what is sounding at the last onset.
    """

    lstm: LSTMState
    sounding: Sounding
