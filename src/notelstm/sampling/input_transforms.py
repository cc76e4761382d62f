"""Input transforms: they map each sampled row to the row that the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from notelstm.fields import Field

__all__ = ["RawPitch"]


@final
@dataclass(frozen=True, kw_only=True)
class RawPitch:
    """The original's ``raw-feedback`` fault: sampled pitches are read without their scaling.

    In training the model reads pitch / 128; here it reads the pitch number itself, far outside
    the range it was trained on.
    """

    def __call__(self, rows: Tensor, fields: Sequence[Field]) -> Tensor:
        """Multiply the pitch columns of (B, F) rows by their number of classes."""
        scale = [f.classes or 1 if f.role == "pitch" else 1 for f in fields]
        return rows * rows.new_tensor(scale)
