"""``Augmented``: training batches whose pieces are changed differently in each epoch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
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
from notelstm.fields import Field
from notelstm.protocols import Transform

__all__ = ["Augmented", "NumberedBatches"]


class NumberedBatches(Protocol):
    """Batches that come with the number of the piece in each lane."""

    @property
    def dataset(self) -> SequenceDataset:
        """The pieces."""
        ...

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        ...

    @property
    def carries(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        ...

    def numbered_epoch(self, number: int, first: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """The batches of an epoch, and of each batch (B,) the numbers of the pieces in it."""
        ...

    def share(self, number: int, count: int) -> NumberedBatches:
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

    Raises:
        FieldError: If a transform cannot change such rows.
        ConfigError: If a kind of transform is there twice, or the seed is negative.
    """

    batches: NumberedBatches
    fields: tuple[Field, ...]
    transforms: tuple[Transform, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that every transform fits."""
        kinds = [type(transform).__name__ for transform in self.transforms]
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"a kind of transform is there twice: {', '.join(kinds)}")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative")
        self._choices(0)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.batches.steps

    @property
    def carries(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        return self.batches.carries

    def share(self, number: int, count: int) -> Augmented:
        """One process's lanes, changed as all are."""
        return replace(self, batches=self.batches.share(number, count))

    @functools.cached_property
    def _extremes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return _extremes(self.batches.dataset.packed)

    def _choices(self, number: int) -> list[Tensor]:
        """For each transform, (P,) the parameters of each piece in an epoch."""
        low, high = self._extremes
        chosen = []
        for place, transform in enumerate(self.transforms):
            rng = np.random.default_rng([self.seed, number, place])
            chosen.append(torch.from_numpy(transform.choose(self.fields, low, high, rng)))
        return chosen

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""
        chosen = self._choices(number)
        for batch, pieces in self.batches.numbered_epoch(number, first):
            rows = batch.rows
            for transform, choices in zip(self.transforms, chosen, strict=True):
                rows = transform.apply(self.fields, rows, choices[pieces])
            yield batch._replace(rows=rows)


def _extremes(packed: PackedRows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(P, F) the least and the greatest entry of each column in each piece; 0 in an empty one."""
    low = np.zeros((len(packed), packed.rows.shape[1]), dtype=np.float32)
    high = low.copy()
    for k, rows in enumerate(packed):
        if len(rows):
            low[k], high[k] = rows.min(axis=0), rows.max(axis=0)
    return low, high
