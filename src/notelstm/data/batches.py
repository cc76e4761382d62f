"""Training batches; an epoch of a number is always the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.batch import Batch, shard_slice
from notelstm.data.dataset import SequenceDataset, Windows
from notelstm.errors import ConfigError

__all__ = ["NumberedBatches", "Shuffle", "StatefulBatches", "WindowBatches"]

_BLOCK: Final = 1024
"""The number of batches whose order is computed at once."""
_NUMBERS_AT_ONCE: Final = 2**18
"""The number of entries of rows that are read at once, a megabyte, unless a batch has more."""


@dataclass(frozen=True, kw_only=True)
class NumberedBatches(ABC):
    """Batches of a data set, with the numbers of their pieces.

    Attributes:
        dataset: The pieces.
        batch_size: B.
        shuffle: Use a new order each epoch.
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
        if self.batch_size < 1:
            raise ConfigError(f"batch_size {self.batch_size} is below 1")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative")
        rank, world_size = self.shared
        if not 0 <= rank < world_size:
            raise ConfigError(f"no share {rank} of {world_size}", hint="count shares from 0")

    stateful: ClassVar[bool]
    """Whether the state is carried from batch to batch."""

    @property
    @abstractmethod
    def num_batches(self) -> int:
        """Batches in an epoch."""

    def shard(self, rank: int, world_size: int) -> Self:
        """As many batches, each with the part of one of several processes."""
        return replace(self, shared=(rank, world_size))

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        return (batch for batch, _ in self.numbered_epoch(number, first))

    @abstractmethod
    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """Like :meth:`epoch`, each with (B,) the numbers of its pieces."""


@final
@dataclass(frozen=True, kw_only=True)
class WindowBatches(NumberedBatches):
    """Batches of independent windows; no state is carried between them.

    The last batch of an epoch may be smaller. Without `shuffle`, windows keep their order, as in
    the original's ``in-order``.
    """

    stateful = False

    @property
    @override
    def num_batches(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    @override
    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        n = len(self.dataset)
        shuffle = Shuffle(n, [self.seed, number])
        block = self.batch_size * _BLOCK
        for start in range(first * self.batch_size, n, block):
            stop = min(n, start + block)
            order = shuffle(start, stop) if self.shuffle else np.arange(start, stop)
            found = self.dataset.find(torch.from_numpy(order))
            at_once = self._windows_at_once
            for parts in zip(*(torch.split(part, at_once) for part in found), strict=True):
                yield from self._read(Windows(*parts))

    @property
    def _windows_at_once(self) -> int:
        """The number of windows, a multiple of B, that are read at once."""
        window = (self.dataset.sequence_length + 1) * self.dataset.rows.shape[1]
        return max(1, _NUMBERS_AT_ONCE // (window * self.batch_size)) * self.batch_size

    def _read(self, windows: Windows) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of windows, which take less time together than one by one."""
        sizes = [len(part) for part in torch.split(windows.piece, self.batch_size)]
        if self.shared != (0, 1):
            mine = [range(size)[shard_slice(size, *self.shared)] for size in sizes]
            chosen = [i + k * self.batch_size for k, part in enumerate(mine) for i in part]
            windows = Windows(*(part[chosen] for part in windows))
            sizes = [len(part) for part in mine]
        whole = (*self.dataset.read(windows), windows.piece)
        parts = (torch.split(part, sizes) for part in whole)
        for *batch, piece in zip(*parts, strict=True):
            yield Batch(*batch), piece


@final
@dataclass(frozen=True, kw_only=True)
class StatefulBatches(NumberedBatches):
    """Pieces from beginning to end, B at a time, with the state carried between batches.

    The pieces, in a new order each epoch, are cut into segments of T rows, which form B streams of
    equal length. A stream's state is reset at the first row of each piece, and at the first batch,
    which may be in the middle of a piece. Every row of every piece, short ones too, is a target
    once.

    T is the data set's `sequence_length`; its targets must be ``"every"``.
    """

    stateful = True

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset.targets != "every":
            raise ConfigError(
                f"stateful batches of a data set with targets={self.dataset.targets!r}",
                hint="build the SequenceDataset with targets='every'",
            )

    @property
    def _segments(self) -> NDArray[np.int64]:
        """(P,) segments in each piece."""
        lengths = self.dataset.packed.lengths
        following = -(-(lengths - 1) // self.dataset.sequence_length)
        return np.where(lengths > 0, np.maximum(1, following), 0)

    @property
    @override
    def num_batches(self) -> int:
        return -(-int(self._segments.sum()) // self.batch_size)

    def _plan(self, number: int) -> tuple[NDArray[np.int64], ...]:
        """Each segment's first row, number of rows, number in its piece, and piece."""
        counts = self._segments
        pieces = np.arange(len(counts))
        if self.shuffle:
            pieces = np.random.default_rng([self.seed, number]).permutation(pieces)
        piece = np.repeat(pieces, counts[pieces])
        k = np.concatenate([np.arange(c) for c in counts[pieces]])
        packed, skipped = self.dataset.packed, k * self.dataset.sequence_length
        start = packed.begins[piece] + skipped
        size = np.minimum(packed.lengths[piece] - skipped, self.dataset.sequence_length + 1)
        return start, size, k, piece

    @override
    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        plan = self._plan(number)
        steps = self.num_batches
        padding = steps * self.batch_size - len(plan[0])
        mine = shard_slice(self.batch_size, *self.shared)
        columns = [
            torch.from_numpy(np.pad(column, (0, padding)).reshape(self.batch_size, steps)[mine])
            for column in plan
        ]
        offsets = torch.arange(self.dataset.sequence_length + 1)
        rows = self.dataset.rows
        for step in range(first, steps):
            start, size, k, piece = (column[:, step] for column in columns)
            mask = offsets < size[:, None]  # (B, T + 1)
            read = rows[(start[:, None] + offsets).clamp(max=len(rows) - 1)]
            read = torch.where(mask.unsqueeze(-1), read, read.new_zeros(()))
            begin = (k == 0) & (size > 0)
            mask[:, 0] &= begin
            yield Batch(read, mask, begin | torch.tensor(step == 0)), piece


_ROUNDS: Final = 8
_MIX: Final = np.uint64(0xBF58476D1CE4E5B9)


@final
class Shuffle:
    """A random order of the numbers below `n`, any part of which can be computed directly.

    A list of the order would take 8 bytes a number. A cipher on numbers of just enough bits is a
    permutation of them, and a result that is not below `n` is ciphered again until it is.

    Args:
        n: The length of the order; at least 0.
        seed: The random seed, whole numbers of at least 0.

    Source:
        J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (a Feistel
        network with cycle walking); the mixing function is the first step of SplitMix64's.

    Example:
        >>> order = Shuffle(10, [0])
        >>> sorted(order(0, 10).tolist()) == list(range(10))
        True
        >>> order(3, 5).tolist() == order(0, 10)[3:5].tolist()
        True
    """

    def __init__(self, n: int, seed: Sequence[int]) -> None:
        self.n: Final = n
        self._half: Final = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
        self._mask: Final = (np.uint64(1) << self._half) - np.uint64(1)
        rng = np.random.default_rng(list(seed))
        self._keys: Final = rng.integers(0, 2**64, _ROUNDS, dtype=np.uint64)

    def __call__(self, low: int, high: int) -> NDArray[np.int64]:
        """The numbers at the positions from `low` to before `high` in the order."""
        values = np.arange(low, min(high, self.n), dtype=np.uint64)
        outside = np.arange(len(values))
        while outside.size:
            values[outside] = self._ciphered(values[outside])
            outside = outside[values[outside] >= self.n]
        return values.astype(np.int64)

    def _ciphered(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            mixed = (right + key) * _MIX
            mixed ^= mixed >> np.uint64(31)
            left, right = right, left ^ (mixed * _MIX >> np.uint64(17) & self._mask)
        return left << self._half | right
