"""``SequenceDataset``: windows of rows and their targets; ``PackedRows``: rows of many pieces."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, SupportsIndex, TypeAlias, final, overload

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
from notelstm.errors import ConfigError, DataError
from notelstm.fields import Rows
from notelstm.files import BAD_HEADER, output_errors

__all__ = ["PackedRows", "SequenceDataset", "Targets", "Windows"]

Targets: TypeAlias = Literal["last", "every"]
"""The rows of a window that are targets: only the last, or every one after the first."""


class Windows(NamedTuple):
    """(B,) each: the first rows of windows, whether they begin a piece, and its number."""

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
        pieces: The rows of each piece, (N, F) each. :class:`~notelstm.data.dataset.PackedRows` are
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
        counts = np.maximum(packed.lengths - sequence_length, 0)
        if targets == "every":
            side_by_side = -(-(packed.lengths - 1) // sequence_length)
            counts = np.where(counts > 0, side_by_side, 0)
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
        """A ``DataLoader`` that fetches a batch of B windows in one call, not item by item."""
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


def _of_one_width(pieces: Iterable[Rows]) -> Iterator[Rows]:
    """The same pieces, (N, F) each.

    Raises:
        DataError: If one has another F than the first.
    """
    width: int | None = None
    for piece in pieces:
        width = piece.shape[1] if width is None else width
        if piece.shape[1] != width:
            raise DataError(
                f"pieces have different columns: {width} and {piece.shape[1]}",
                hint="encode them with one encoder",
            )
        yield piece


@final
class PackedRows(Sequence[Rows]):
    """The rows of pieces in one long array; a file is mapped into memory at the first use.

    A mapped file takes only the memory of the rows in use, and is pickled as its path.

    Args:
        rows: (N, F) float32, or the ``.npy`` file that holds them.
        begins: (P,) the first row of each piece.
        lengths: (P,) the number of rows of each piece.

    Raises:
        DataError: If a piece lies outside the rows, or there is no such file.

    Example:
        >>> packed = PackedRows(np.arange(6, dtype=np.float32)[:, None], [0, 4], [4, 2])
        >>> [len(piece) for piece in packed], packed[1].ravel().tolist()
        ([4, 2], [4.0, 5.0])
        >>> [len(piece) for piece in packed[1:]]
        [2]
    """

    def __init__(
        self,
        rows: Rows | str | os.PathLike[str],
        begins: Sequence[int] | NDArray[np.int64],
        lengths: Sequence[int] | NDArray[np.int64],
    ) -> None:
        self._given = Path(rows) if isinstance(rows, str | os.PathLike) else rows
        self.begins: NDArray[np.int64] = np.asarray(begins, dtype=np.int64)
        self.lengths: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
        ends = self.begins + self.lengths
        if self.begins.size and not (
            self.begins.min() >= 0 and self.lengths.min() >= 0 and ends.max() <= len(self.rows)
        ):
            raise DataError(f"a piece does not lie within the {len(self.rows)} rows")

    @classmethod
    def join(cls, pieces: Iterable[Rows]) -> PackedRows:
        """Concatenate pieces in memory.

        Raises:
            DataError: If the pieces' columns differ.
        """
        pieces = list(_of_one_width(pieces))
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        empty = np.zeros((0, 0), dtype=np.float32)
        rows = np.concatenate(pieces, dtype=np.float32) if pieces else empty
        return cls(rows, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def on_disk(
        cls, pieces: Iterable[Rows], folder: str | os.PathLike[str] | None = None
    ) -> PackedRows:
        """Concatenate pieces in an anonymous temporary file that is mapped into memory.

        It is removed when it is no longer used, however the process ends.

        Args:
            pieces: (N, F) each, taken one at a time.
            folder: A folder on the disk to use; None for the system's temporary folder.

        Raises:
            DataError: If there is no piece, or the pieces' columns differ.
            OutputError: If it cannot be written.
        """
        lengths: list[int] = []
        width = 0
        where = folder or tempfile.gettempdir()
        with (
            output_errors("cannot write the rows of the corpus", where, "free some space"),
            tempfile.TemporaryFile(dir=folder) as file,
        ):
            for piece in _of_one_width(pieces):
                width = piece.shape[1]
                file.write(np.ascontiguousarray(piece, dtype=np.float32).tobytes())
                lengths.append(len(piece))
            file.flush()
            if not sum(lengths):
                raise DataError("there are no rows")
            # Torch wants writable memory; the copy-on-write mode keeps writes out of the file.
            shape = (sum(lengths), width)
            rows = np.asarray(np.memmap(file, np.float32, mode="c", shape=shape))
        counts = np.array(lengths, dtype=np.int64)
        return cls(rows, np.cumsum(counts) - counts, counts)

    def as_one(self) -> PackedRows:
        """All pieces as a single one, copied only if they are not consecutive."""
        ends = self.begins + self.lengths
        if not np.array_equal(self.begins[1:], ends[:-1]):
            return PackedRows.join(self).as_one()
        total = [int(self.lengths.sum())] if len(self) else []
        return PackedRows(self._given, self.begins[:1], total)

    @functools.cached_property
    def rows(self) -> Rows:
        """(N, F) all rows, including those of pieces that were not selected."""
        if not isinstance(self._given, Path):
            return self._given
        try:
            # Torch wants writable memory; the copy-on-write mode keeps writes out of the file.
            return np.asarray(np.load(self._given, mmap_mode="c"))
        except (OSError, EOFError, ValueError, *BAD_HEADER) as error:
            raise DataError(
                f"cannot map the rows into memory: {error}",
                where=str(self._given),
                hint="encode the corpus again",
            ) from error

    def select(self, pieces: Sequence[int] | NDArray[np.int64]) -> PackedRows:
        """Some of the pieces, by number; their rows are not copied."""
        chosen = np.asarray(pieces, dtype=np.int64)
        return PackedRows(self._given, self.begins[chosen], self.lengths[chosen])

    @override
    def __len__(self) -> int:
        """The number of pieces."""
        return len(self.begins)

    @overload
    def __getitem__(self, index: int) -> Rows: ...
    @overload
    def __getitem__(self, index: slice) -> PackedRows: ...
    @override
    def __getitem__(self, index: int | slice) -> Rows | PackedRows:
        """The rows of a piece, (N, F), or some of the pieces; neither is copied."""
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        low = int(self.begins[index])
        return self.rows[low : low + int(self.lengths[index])]

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a file as its path."""
        return PackedRows, (self._given, self.begins, self.lengths)
