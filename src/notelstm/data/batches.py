"""Training batches; an epoch of a number is the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.batch import Batch, shard_slice
from notelstm.data.dataset import SequenceDataset, Windows
from notelstm.data.shuffle import Shuffle
from notelstm.errors import ConfigError

__all__ = ["StatefulBatches", "WindowBatches"]

_BLOCK: Final = 1024
"""The number of batches whose order is computed at once."""


def _check(batch: int, seed: int, shared: tuple[int, int]) -> None:
    if batch < 1:
        raise ConfigError(f"batch {batch} is below 1")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative")
    if not 0 <= shared[0] < shared[1]:
        raise ConfigError(f"no share {shared[0]} of {shared[1]}", hint="count shares from 0")


@final
@dataclass(frozen=True, kw_only=True)
class WindowBatches:
    """Batches of independent windows; no state is carried.

    Attributes:
        dataset: The windows.
        batch: B, windows in a batch; the last batch of an epoch may be smaller.
        shuffle: Use a new order each epoch; False, the original's ``in-order``, keeps their order.
        seed: The random seed of the orders.
        shared: The number of the share of each batch that is read, from 0, and the number of
            shares.

    Raises:
        ConfigError: If a setting is out of range.
    """

    dataset: SequenceDataset
    batch_size: int = 64
    shuffle: bool = True
    seed: int = 0
    shared: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Check the settings."""
        _check(self.batch_size, self.seed, self.shared)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    @property
    def stateful(self) -> bool:
        """False: each window starts with a new state."""
        return False

    def shard(self, number: int, count: int) -> WindowBatches:
        """The part of each batch that one process reads."""
        return replace(self, shared=(number, count))

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        return (batch for batch, _ in self.numbered_epoch(number, first))

    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """Like :meth:`epoch`, and of each batch (B,) the numbers of the pieces in it."""
        n = len(self.dataset)
        shuffle = Shuffle(n, [self.seed, number])
        block = self.batch_size * _BLOCK
        for start in range(first * self.batch_size, n, block):
            stop = min(n, start + block)
            order = shuffle(start, stop) if self.shuffle else np.arange(start, stop)
            found = self.dataset.find(torch.from_numpy(order))
            for parts in zip(*(torch.split(part, self.batch_size) for part in found), strict=True):
                mine = shard_slice(len(parts[0]), *self.shared)
                windows = Windows(*(part[mine] for part in parts))
                yield self.dataset.read(windows), windows.piece


@final
@dataclass(frozen=True, kw_only=True)
class StatefulBatches:
    """Pieces read from beginning to end, B at a time, with the state carried between batches.

    The pieces, in a new order each epoch, are cut into stretches of T rows and laid out in B lanes
    of equal length. The state of a lane is reset where a piece begins, and at the beginning of the
    lane, which may be in the middle of a piece. Every row of every piece, short ones too, is a
    target once.

    Attributes:
        dataset: Pieces, and the length T of a stretch (its `window`).
        batch: B, lanes.
        shuffle: Use a new order each epoch.
        seed: The random seed of the orders.
        shared: The number of the share of each batch that is read, from 0, and the number of
            shares.

    Raises:
        ConfigError: If the data set scores only the last row of a window, or a setting is out of
            range.
    """

    dataset: SequenceDataset
    batch_size: int = 64
    shuffle: bool = True
    seed: int = 0
    shared: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Check the settings."""
        _check(self.batch_size, self.seed, self.shared)
        if self.dataset.scored != "every":
            raise ConfigError(
                f"the data set has scored={self.dataset.scored!r}, and lanes score every row",
                hint="build the SequenceDataset with scored='every'",
            )

    @property
    def _stretches(self) -> NDArray[np.int64]:
        """(P,) stretches in each piece."""
        lengths = self.dataset.packed.lengths
        return np.where(lengths > 0, np.maximum(1, -(-(lengths - 1) // self.dataset.window)), 0)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-int(self._stretches.sum()) // self.batch_size)

    @property
    def stateful(self) -> bool:
        """True: a lane continues where it stopped."""
        return True

    def _plan(self, number: int) -> tuple[NDArray[np.int64], ...]:
        """Each stretch's first row, its number of rows, its number in its piece, and the piece."""
        counts = self._stretches
        pieces = np.arange(len(counts))
        if self.shuffle:
            pieces = np.random.default_rng([self.seed, number]).permutation(pieces)
        piece = np.repeat(pieces, counts[pieces])
        k = np.concatenate([np.arange(c) for c in counts[pieces]])
        packed, skipped = self.dataset.packed, k * self.dataset.window
        start = packed.begins[piece] + skipped
        size = np.minimum(packed.lengths[piece] - skipped, self.dataset.window + 1)
        return start, size, k, piece

    def shard(self, number: int, count: int) -> StatefulBatches:
        """The lanes of one process: consecutive pieces, whole but at both ends."""
        return replace(self, shared=(number, count))

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        return (batch for batch, _ in self.numbered_epoch(number, first))

    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """Like :meth:`epoch`, and of each batch (B,) the numbers of the pieces in it."""
        plan = self._plan(number)
        steps = self.num_batches
        padding = steps * self.batch_size - len(plan[0])
        mine = shard_slice(self.batch_size, *self.shared)
        lanes = [
            torch.from_numpy(np.pad(column, (0, padding)).reshape(self.batch_size, steps)[mine])
            for column in plan
        ]
        places = torch.arange(self.dataset.window + 1)
        rows = self.dataset.rows
        for step in range(first, steps):
            start, size, k, piece = (lane[:, step] for lane in lanes)
            there = places < size[:, None]  # (B, T + 1)
            read = rows[(start[:, None] + places).clamp(max=len(rows) - 1)]
            read = torch.where(there.unsqueeze(-1), read, read.new_zeros(()))
            begin = (k == 0) & (size > 0)
            scored = there.clone()
            scored[:, 0] &= begin
            fresh = begin | torch.tensor(step == 0)
            yield Batch(read, scored, fresh), piece
