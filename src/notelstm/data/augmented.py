"""``Augmented``: training batches whose pieces are changed differently in each epoch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.batch import Batch
from notelstm.data.dataset import SequenceDataset
from notelstm.data.packed import PackedRows
from notelstm.errors import ConfigError
from notelstm.fields import Field, Rows
from notelstm.notes import Notes
from notelstm.protocols import Transform

__all__ = ["Augmented", "NumberedBatches", "with_drums"]


class NumberedBatches(Protocol):
    """Batches that come with the number of the piece in each lane."""

    @property
    def dataset(self) -> SequenceDataset:
        """The pieces."""
        ...

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        ...

    @property
    def stateful(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        ...

    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """The batches of an epoch, and of each batch (B,) the numbers of the pieces in it."""
        ...

    def shard(self, number: int, count: int) -> NumberedBatches:
        """As many batches, each with the lanes of one of several processes only."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Augmented:
    """Training batches whose pieces are changed differently in each epoch.

    Wrap the batches that are trained on, never those of validation. An epoch is the same each time
    it is asked for, from any batch on, so that a run can be resumed.

    Attributes:
        batches: The batches to change.
        fields: The fields of their rows.
        transforms: The transforms, in the order in which they are applied; each kind once.
        seed: The random seed.
        drums: Whether the rows have one column more than `fields`, as :func:`with_drums` adds it.
            Pitches of percussion are then never changed, since each names another drum; the column
            is removed from the batches.

    Raises:
        FieldError: If a transform cannot change such rows.
        ConfigError: If a kind of transform is there twice, or the seed is negative.
    """

    batches: NumberedBatches
    fields: tuple[Field, ...]
    transforms: tuple[Transform, ...]
    seed: int = 0
    drums: bool = False

    def __post_init__(self) -> None:
        """Check that every transform fits."""
        kinds = [type(transform).__name__ for transform in self.transforms]
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"a kind of transform is there twice: {', '.join(kinds)}")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative")
        self._choices(0)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return self.batches.num_batches

    @property
    def stateful(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        return self.batches.stateful

    def shard(self, number: int, count: int) -> Augmented:
        """One process's lanes, changed as all are."""
        return replace(self, batches=self.batches.shard(number, count))

    @functools.cached_property
    def _extremes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return _extremes(self.batches.dataset.packed, self._pitches if self.drums else None)

    @functools.cached_property
    def _pitches(self) -> Tensor:
        """(F,) which columns are pitches."""
        return torch.tensor([field.role == "pitch" for field in self.fields])

    def _choices(self, number: int) -> list[Tensor]:
        """For each transform, (P,) the parameters of each piece in an epoch."""
        low, high = self._extremes
        chosen = []
        for place, transform in enumerate(self.transforms):
            rng = np.random.default_rng([self.seed, number, place])
            chosen.append(torch.from_numpy(transform.sample_params(self.fields, low, high, rng)))
        return chosen

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        chosen = self._choices(number)
        for batch, pieces in self.batches.numbered_epoch(number, first):
            rows, fixed = batch.rows, None
            if self.drums:
                rows, drum = rows[..., :-1].contiguous(), rows[..., -1:] > 0
                fixed = drum & self._pitches  # (B, T + 1, F)
            for transform, choices in zip(self.transforms, chosen, strict=True):
                changed = transform.apply(self.fields, rows, choices[pieces])
                rows = changed if fixed is None else torch.where(fixed, rows, changed)
            yield batch._replace(rows=rows)


def with_drums(rows: Sequence[Rows], pieces: Iterable[Notes]) -> Sequence[Rows]:
    """Rows with one more column, which is 1 for percussion: :class:`Augmented` leaves it alone.

    Encoders do not encode percussion, so the rows alone do not tell a drum from a pitch.

    Args:
        rows: Of each piece, (N, F). With other than one row a note, all rows of a piece that has
            percussion count as percussion.
        pieces: The pieces, in the same order.

    Returns:
        Of each piece, (N, F + 1); on the disk if `rows` are :class:`PackedRows`.
    """
    pairs = zip(rows, pieces, strict=True)
    marked = (np.column_stack([table, _drums(table, piece)]) for table, piece in pairs)
    return PackedRows.on_disk(marked) if isinstance(rows, PackedRows) else list(marked)


def _drums(rows: Rows, piece: Notes) -> NDArray[np.float32]:
    """(N,) 1 for each row that is percussion."""
    if piece.drum is None:
        return np.zeros(len(rows), dtype=np.float32)
    if len(piece) != len(rows):
        return np.full(len(rows), piece.drum.any(), dtype=np.float32)
    return piece.drum.astype(np.float32)


def _extremes(
    packed: PackedRows, pitches: Tensor | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(P, F) the least and the greatest entry of each column in each piece; 0 in an empty one.

    Args:
        packed: The pieces.
        pitches: (F,) which columns are pitches, if the rows have a last column that marks
            percussion; extremes of these are those of the other notes.
    """
    width = packed.rows.shape[1] - (pitches is not None)
    low = np.zeros((len(packed), width), dtype=np.float32)
    high = low.copy()
    for k, rows in enumerate(packed):
        if not len(rows):
            continue
        low[k], high[k] = rows[:, :width].min(axis=0), rows[:, :width].max(axis=0)
        if pitches is not None and 0 < (melodic := rows[:, -1] == 0).sum() < len(rows):
            columns = pitches.numpy()
            low[k, columns] = rows[melodic, :width].min(axis=0)[columns]
            high[k, columns] = rows[melodic, :width].max(axis=0)[columns]
    return low, high
