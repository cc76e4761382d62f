"""``SequenceDataset``: windows of rows with their targets, from many pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from notelstm.batch import Batch
from notelstm.errors import ConfigError, DataError
from notelstm.fields import Rows

__all__ = ["Scored", "SequenceDataset"]

Scored: TypeAlias = Literal["last", "every"]
"""Which rows of a window are targets: only the last, or every one after the first."""


@final
class SequenceDataset(Dataset[Batch]):
    """Windows of consecutive rows and the rows that follow them.

    A window holds `window` inputs and one row more: ``rows (window + 1, F)``. With scored
    ``"last"``, the original's way, there is a window for each row that has `window` rows before
    it. With ``"every"``, windows stand side by side, each row is a target once (but for an overlap
    at a piece's end), and the first row of a piece is a target too.

    Args:
        pieces: The rows of each piece, (N, F) each.
        window: T, inputs in a window.
        scored: Which rows are targets.
        crossing: Let windows run from one piece into the next, the original's fault of that name.

    Attributes:
        rows: (N, F) all pieces, one after the other.
        offsets: (P + 1,) where each piece starts in `rows`.
        short: How many pieces had no window in them.

    Raises:
        DataError: If no piece is long enough, or pieces have other columns than others.
        ConfigError: If the settings are out of range.

    Example:
        >>> piece = np.arange(40, dtype=np.float32)[:, None]
        >>> dataset = SequenceDataset([piece], window=25)
        >>> len(dataset), tuple(dataset[0].rows.shape)
        (15, (26, 1))
        >>> tuple(dataset.last_window().shape)
        (25, 1)
    """

    def __init__(
        self,
        pieces: Sequence[Rows],
        *,
        window: int = 25,
        scored: Scored = "last",
        crossing: bool = False,
    ) -> None:
        if window < 1:
            raise ConfigError("a window holds at least 1 row", got=f"{window}")
        if scored not in ("last", "every"):
            raise ConfigError("scored is 'last' or 'every'", got=repr(scored))
        lengths = [len(piece) for piece in pieces]
        if crossing:
            lengths = [sum(lengths)]
        self.window: Final = window
        self.scored: Final = scored
        self.offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.short: int = sum(length <= window for length in lengths)
        if self.short == len(lengths):
            longest = max(map(len, pieces), default=0)
            raise DataError(
                f"a piece has more than {window} rows, one window and its target",
                got=f"{len(pieces)} pieces, the longest of {longest} rows",
                fix="give longer pieces, or a smaller window",
            )
        widths = sorted({piece.shape[1:] for piece in pieces})
        if len(widths) > 1:
            raise DataError(
                "all pieces have the same columns",
                got=" and ".join(map(str, widths)),
                fix="encode them with one encoder",
            )
        self.rows: Tensor = torch.from_numpy(np.concatenate(pieces, dtype=np.float32))
        starts = [
            offset + _starts(length, window, scored)
            for offset, length in zip(self.offsets[:-1], lengths, strict=True)
        ]
        self._starts: Final = torch.from_numpy(np.concatenate(starts))
        self._begins: Final = torch.zeros(len(self.rows) + 1, dtype=torch.bool)
        self._begins[torch.from_numpy(self.offsets[:-1])] = True

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self._starts)

    @override
    def __getitem__(self, index: int) -> Batch:
        """One window, without a batch axis.

        Raises:
            IndexError: If there is no such window.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        rows, scored, fresh = self.__getitems__([index])
        return Batch(rows[0], scored[0], fresh[0])

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Batch:
        """Many windows at once, as a batch."""
        starts = self._starts[torch.as_tensor(indices, dtype=torch.long)]  # (B,)
        # A view of all windows, of which some are copied: no index is made for each entry.
        everywhere = self.rows.unfold(0, self.window + 1, 1).transpose(1, 2)
        rows = everywhere.index_select(0, starts)  # (B, T + 1, F)
        scored = torch.zeros(rows.shape[:2], dtype=torch.bool)
        if self.scored == "last":
            scored[:, -1] = True
            return Batch(rows, scored, torch.ones(len(starts), dtype=torch.bool))
        scored[:, 1:] = True
        scored[:, 0] = self._begins[starts]
        return Batch(rows, scored, torch.ones(len(starts), dtype=torch.bool))

    def loader(
        self, batch: int, *, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> DataLoader[Batch]:
        """A ``DataLoader`` whose batches are fetched in one call, without a loop over items.

        Args:
            batch: B, windows in a batch; the last one may be smaller.
            shuffle: In a new order each time.
            generator: Where that order comes from.
        """
        return DataLoader(
            self,
            batch_size=batch,
            shuffle=shuffle,
            generator=generator,
            collate_fn=_as_it_is,
        )

    def last_window(self, piece: int = -1) -> Tensor:
        """The last rows of a piece, (window, F), whose next row is not known.

        Raises:
            DataError: If the piece is shorter than a window.
        """
        first, last = (int(at) for at in self._bounds(piece))
        if last - first < self.window:
            raise DataError(
                f"a window has {self.window} rows", got=f"{last - first}", where=f"piece {piece}"
            )
        return self.rows[last - self.window : last]

    def _bounds(self, piece: int) -> tuple[int, int]:
        count = len(self.offsets) - 1
        if not -count <= piece < count:
            raise DataError(f"pieces are numbered 0 to {count - 1}", got=f"{piece}")
        return int(self.offsets[piece % count]), int(self.offsets[piece % count + 1])


def _starts(length: int, window: int, scored: Scored) -> NDArray[np.int64]:
    """Where the windows of a piece start."""
    last = length - window - 1
    if last < 0:
        return np.zeros(0, dtype=np.int64)
    if scored == "last":
        return np.arange(last + 1)
    side_by_side = np.arange(0, last + 1, window)
    # What is left at the end gets a window flush with it.
    return side_by_side if side_by_side[-1] == last else np.append(side_by_side, last)


def _as_it_is(batch: Any) -> Any:
    """The collate function of a loader; a named one, since workers cannot pickle a lambda."""
    return batch
