"""``SequenceDataset``: windows of rows with their targets, cut from many pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, SupportsIndex, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)
from typing_extensions import override

from notelstm.batch import Batch
from notelstm.data.packed import PackedRows
from notelstm.errors import ConfigError, DataError
from notelstm.fields import Rows

__all__ = ["SequenceDataset", "Targets", "Windows"]

Targets: TypeAlias = Literal["last", "every"]
"""The rows of a window that are targets: only the last, or every one after the first."""


class Windows(NamedTuple):
    """The positions of B windows.

    Attributes:
        start: (B,) the first row of each in the data set.
        first: (B,) bool, whether it is the first of its piece.
        piece: (B,) the number of its piece.
    """

    start: Tensor
    first: Tensor
    piece: Tensor


@final
class SequenceDataset(Dataset[Batch]):
    """Windows of consecutive rows and the rows that follow them.

    A window has T inputs and one more row: ``rows (T + 1, F)``. With targets ``"last"``, as in the
    original, each row after T others is the target of a window. With ``"every"``, windows do not
    overlap, each row is a target once (except for an overlap at a piece's end), and so is the first
    row of a piece.

    It works with everything in :mod:`torch.utils.data`: an item is a
    :class:`~notelstm.batch.Batch` without a batch axis, and the default collate function stacks
    items. :meth:`loader` is faster, since it copies the rows of a batch in one call.

    Args:
        pieces: The rows of each piece, (N, F) each. :class:`~notelstm.data.packed.PackedRows` are
            used without a copy; others are copied.
        sequence_length: T, inputs in a window.
        targets: The rows of a window that are targets.
        cross_piece_boundaries: Whether windows may cross from one piece into the next, a fault of
            the original.

    Attributes:
        packed: The pieces.
        short: The number of pieces too short for a window.

    Raises:
        DataError: If no piece is long enough, or the pieces' columns differ.
        ConfigError: If the settings are out of range.

    Example:
        >>> piece = np.arange(40, dtype=np.float32)[:, None]
        >>> dataset = SequenceDataset([piece], sequence_length=25)
        >>> len(dataset), tuple(dataset[0].rows.shape)
        (15, (26, 1))
        >>> tuple(next(iter(DataLoader(dataset, batch_size=4))).rows.shape)
        (4, 26, 1)
        >>> tuple(dataset[[3, 1]].rows.shape)
        (2, 26, 1)
        >>> tuple(dataset.last_window().shape)
        (25, 1)
    """

    def __init__(
        self,
        pieces: Sequence[Rows],
        *,
        sequence_length: int = 25,
        targets: Targets = "last",
        cross_piece_boundaries: bool = False,
    ) -> None:
        if sequence_length < 1:
            raise ConfigError(f"sequence_length {sequence_length} is below 1")
        if targets not in ("last", "every"):
            raise ConfigError(f"targets is {targets!r}", hint="use 'last' or 'every'")
        packed = pieces if isinstance(pieces, PackedRows) else PackedRows.join(pieces)
        if cross_piece_boundaries:
            packed = packed.as_one()
        self.sequence_length: Final = sequence_length
        self.targets: Final = targets
        self.packed: Final = packed
        self.short: int = int(np.count_nonzero(packed.lengths <= sequence_length))
        if self.short == len(packed):
            longest = max(map(len, pieces), default=0)
            raise DataError(
                f"no piece has more than {sequence_length} rows, one window and its target: "
                f"the longest of {len(pieces)} has {longest}",
                hint="give longer pieces, or use a smaller sequence_length",
            )
        counts = _windows_in(packed.lengths, sequence_length, targets)
        self._ends: Final = torch.from_numpy(np.cumsum(counts))
        self._firsts: Final = self._ends - torch.from_numpy(counts)

    @property
    def rows(self) -> Tensor:
        """(N, F) the rows of all pieces."""
        return torch.from_numpy(self.packed.rows)

    def __len__(self) -> int:
        """The number of windows."""
        return int(self._ends[-1])

    @override
    def __getitem__(self, index: SupportsIndex | Sequence[int] | Tensor) -> Batch:
        """One window, without a batch axis; or, for a list of B numbers, a batch of B windows.

        Raises:
            IndexError: If there is no such window.
        """
        chosen = torch.as_tensor(index, dtype=torch.long)
        outside = (chosen < -len(self)) | (chosen >= len(self))
        if outside.any():
            raise IndexError(f"window {int(chosen[outside][0])} of {len(self)}")
        batch = self.read(self.find(chosen.reshape(-1)))
        return batch if chosen.ndim else Batch(*(part[0] for part in batch))

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """Many windows, one by one, for a ``DataLoader``."""
        return [Batch(*parts) for parts in zip(*self[indices], strict=True)]

    def find(self, chosen: Tensor) -> Windows:
        """The positions of windows, from their (B,) numbers; negative ones count from the end."""
        chosen = torch.where(chosen < 0, chosen + len(self), chosen)
        # Computed when needed: a table of all windows would grow with the corpus.
        piece = torch.searchsorted(self._ends, chosen, right=True)
        number = chosen - self._firsts[piece]
        offset = number
        if self.targets == "every":
            last = torch.from_numpy(self.packed.lengths)[piece] - self.sequence_length - 1
            # The last window ends with the piece.
            offset = torch.minimum(number * self.sequence_length, last)
        return Windows(torch.from_numpy(self.packed.begins)[piece] + offset, number == 0, piece)

    def read(self, windows: Windows) -> Batch:
        """The windows at some positions, as a batch."""
        # Copied from a view of all windows: indexing each entry would be slower.
        everywhere = self.rows.unfold(0, self.sequence_length + 1, 1).transpose(1, 2)
        rows = everywhere.index_select(0, windows.start)  # (B, T + 1, F)
        count = len(windows.start)
        mask = torch.zeros((count, self.sequence_length + 1), dtype=torch.bool)
        if self.targets == "last":
            mask[:, -1] = True
        else:
            mask[:, 1:] = True
            mask[:, 0] = windows.first
        return Batch(rows, mask, torch.ones(count, dtype=torch.bool))

    def loader(
        self, batch: int, *, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> DataLoader[Batch]:
        """A ``DataLoader`` that fetches each batch in one call, without a loop over items.

        Args:
            batch: B, windows in a batch; the last one may be smaller.
            shuffle: Use a new order each time.
            generator: The random generator of that order.
        """
        order: Sampler[int] = (
            RandomSampler(self, generator=generator) if shuffle else SequentialSampler(self)
        )
        return DataLoader(
            self,
            # Without a batch size, the loader passes the whole list of numbers to the data set.
            batch_size=None,
            sampler=BatchSampler(order, batch, drop_last=False),
            generator=generator,
        )

    def last_window(self, piece: int = -1) -> Tensor:
        """The last T rows of a piece, (T, F), which no row follows.

        Raises:
            DataError: If the piece is shorter than a window.
        """
        count = len(self.packed)
        if not -count <= piece < count:
            raise DataError(f"no piece {piece} of {count}")
        rows = self.packed[piece]
        if len(rows) < self.sequence_length:
            raise DataError(
                f"{len(rows)} rows are shorter than a window of {self.sequence_length}",
                where=f"piece {piece}",
            )
        return torch.from_numpy(rows[len(rows) - self.sequence_length :])


def _windows_in(lengths: NDArray[np.int64], window: int, targets: Targets) -> NDArray[np.int64]:
    """(P,) the number of windows in each piece."""
    if targets == "last":
        return np.maximum(lengths - window, 0)
    side_by_side = -(-(lengths - 1) // window)
    return np.where(lengths > window, side_by_side, 0)
