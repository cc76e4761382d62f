"""A training set cut into batches, the same ones each time an epoch is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.batch import Batch
from notelstm.data.dataset import SequenceDataset
from notelstm.errors import ConfigError

__all__ = ["LaneBatches", "WindowBatches"]


def _check(batch: int, seed: int) -> None:
    if batch < 1:
        raise ConfigError("a batch has at least 1 lane", got=f"{batch}")
    if seed < 0:
        raise ConfigError("a seed is at least 0", got=f"{seed}")


@final
@dataclass(frozen=True, kw_only=True)
class WindowBatches:
    """Windows that have nothing to do with each other; no state is carried.

    Attributes:
        dataset: The windows.
        batch: B, windows in a batch; the last batch of an epoch may be smaller.
        shuffle: In a new order each epoch; False, the original's ``in-order``, as they come.
        seed: What the orders are made from.

    Raises:
        ConfigError: If a setting is out of range.
    """

    dataset: SequenceDataset
    batch: int = 64
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        _check(self.batch, self.seed)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch)

    @property
    def carries(self) -> bool:
        """False: each window starts afresh."""
        return False

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        n = len(self.dataset)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, number])
            order = torch.from_numpy(rng.permutation(n))
        else:
            order = torch.arange(n)
        for at in range(first * self.batch, n, self.batch):
            yield self.dataset.__getitems__(order[at : at + self.batch])


@final
@dataclass(frozen=True, kw_only=True)
class LaneBatches:
    """Pieces read from begin to end, B at a time, with the state carried from batch to batch.

    The pieces, in a new order each epoch, are cut into stretches of T rows and laid out in B lanes
    of equal length. A lane starts afresh where a piece begins, and at its own beginning, which may
    be in the middle of a piece. Every row of every piece, short ones too, is a target once.

    Attributes:
        dataset: Pieces, and the length T of a stretch (its `window`).
        batch: B, lanes.
        shuffle: In a new order each epoch.
        seed: What the orders are made from.

    Raises:
        ConfigError: If the data set scores only the last row of a window, or a setting is out of
            range.
    """

    dataset: SequenceDataset
    batch: int = 64
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        _check(self.batch, self.seed)
        if self.dataset.scored != "every":
            raise ConfigError(
                "lanes score every row",
                got=repr(self.dataset.scored),
                fix="build the SequenceDataset with scored='every'",
            )

    @property
    def _stretches(self) -> NDArray[np.int64]:
        """(P,) stretches in each piece."""
        lengths = np.diff(self.dataset.offsets)
        return np.where(lengths > 0, np.maximum(1, -(-(lengths - 1) // self.dataset.window)), 0)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-int(self._stretches.sum()) // self.batch)

    @property
    def carries(self) -> bool:
        """True: a lane goes on where it stopped."""
        return True

    def _plan(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Each stretch's first row, its number of rows, and whether a piece begins there."""
        counts = self._stretches
        pieces = np.arange(len(counts))
        if self.shuffle:
            pieces = np.random.default_rng([self.seed, number]).permutation(pieces)
        piece = np.repeat(pieces, counts[pieces])
        k = np.concatenate([np.arange(c) for c in counts[pieces]])
        start = self.dataset.offsets[piece] + k * self.dataset.window
        size = np.minimum(self.dataset.offsets[piece + 1] - start, self.dataset.window + 1)
        return start, size, k == 0

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        start, size, begins = self._plan(number)
        steps = self.steps
        padding = steps * self.batch - len(start)
        lanes = [
            torch.from_numpy(np.pad(column, (0, padding)).reshape(self.batch, steps))
            for column in (start, size, begins)
        ]
        places = torch.arange(self.dataset.window + 1)
        top = len(self.dataset.rows) - 1
        for step in range(first, steps):
            starts, sizes, begin = (lane[:, step] for lane in lanes)
            there = places < sizes[:, None]  # (B, T + 1)
            rows = self.dataset.rows[(starts[:, None] + places).clamp(max=top)]
            rows = torch.where(there.unsqueeze(-1), rows, rows.new_zeros(()))
            scored = there.clone()
            scored[:, 0] &= begin
            fresh = begin | torch.tensor(step == 0)
            yield Batch(rows, scored, fresh)
