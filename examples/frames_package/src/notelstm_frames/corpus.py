"""Piano rolls of MATLAB files, as the polyphonic benchmark is distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError
from notelstm.notes import Notes
from notelstm_frames.encoder import FrameEncoder

__all__ = ["SPLITS", "MatRolls", "read_rolls"]

SPLITS = ("traindata", "validdata", "testdata")
"""The variables of a file, one for each split."""


def read_rolls(path: str | os.PathLike[str], split: str) -> list[NDArray[np.bool_]]:
    """The piano rolls of one split, (N, 88) bool each, for the MIDI notes 21 to 108.

    Args:
        path: The ``.mat`` file.
        split: One of :data:`SPLITS`.

    Raises:
        ConfigError: If there is no such split.
        DataError: If the file cannot be read, or is not one of piano rolls.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}", hint=f"choose among {', '.join(SPLITS)}")
    import scipy.io

    try:
        cells: Any = scipy.io.loadmat(str(path), variable_names=[split])[split]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read {split}: {error}", where=str(path), hint="download the file again"
        ) from error
    rolls = [np.asarray(roll) for roll in np.ravel(cells)]
    keys = FrameEncoder().none
    if not rolls or any(roll.ndim != 2 or roll.shape[1] != keys for roll in rolls):
        raise DataError(f"{split} is not a list of piano rolls of {keys} keys", where=str(path))
    return [roll.astype(np.bool_) for roll in rolls]


@final
@dataclass(frozen=True, kw_only=True)
class MatRolls:
    """The pieces of one split of a ``.mat`` file of piano rolls.

    Attributes:
        path: The file.
        split: ``"traindata"``, ``"validdata"`` or ``"testdata"``.
        frame: The length of a frame, seconds.
    """

    path: str
    split: str = "traindata"
    frame: float = 0.5

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.path).stem

    @property
    def license(self) -> str:
        """What is known of the rights."""
        return "see the source of the file"

    @property
    def source(self) -> str:
        """The path of the file."""
        return self.path

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The name and the notes of each piece.

        Raises:
            DataError: If the file cannot be read.
        """
        for i, roll in enumerate(read_rolls(self.path, self.split)[:limit]):
            voices = max(1, int(roll.sum(axis=1).max(initial=0)))
            encoder = FrameEncoder(voices=voices, frame=self.frame, copied=False)
            yield f"{self.split}/{i:04}", encoder.decode(encoder.rows_of(roll))
