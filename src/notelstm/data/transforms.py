"""Augmentation: the same pieces in another key, at another speed, louder or softer.

In each epoch each piece is changed in one randomly chosen way, the same for all its windows. Rows
are changed in whole batches before they reach the model, so nothing is stored. A transform selects
columns by their roles, given ones too, and changes the values of their entries; classes are mapped
by a table. A class that stands for no value, or for a rest, stays.

Percussion keeps its pitches under every transform that is not set to change them, by
:class:`Augmented` with ``drums=True``, which training with a recipe sets.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Protocol, final, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.batch import Batch
from notelstm.data.batches import NumberedBatches
from notelstm.data.dataset import PackedRows
from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, Rows
from notelstm.notes import Notes

__all__ = [
    "Augmented",
    "DropLabels",
    "TimeStretch",
    "Transform",
    "Transpose",
    "VelocityShift",
    "with_drums",
]


_MAX_LABELS: Final = 63
"""Labels of which each has a bit of an integer."""


class Transform(Protocol):
    """Augments pieces for training; a plugin of the kind ``transforms``."""

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Sample the parameter of each piece for an epoch.

        Args:
            fields: The F columns.
            low: (P, F) the minimum of each column in each piece, among entries with a value; the
                class `none` if there is no other.
            high: (P, F) the maximum, likewise.
            generator: The source of randomness.

        Returns:
            (P,) parameters for :meth:`apply`.

        Raises:
            FieldError: If the transform does not apply to these fields.
        """
        ...

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """Transform a batch; the result for padding rows of zeros does not matter.

        Args:
            fields: The F columns.
            rows: (B, T + 1, F), not changed in place.
            choices: (B,) the parameter of the piece of each sequence.

        Returns:
            (B, T + 1, F) float32.
        """
        ...


class _OneOfSeveral(ABC):
    """A transform that changes each piece by one of several amounts."""

    _roles: ClassVar[tuple[str, ...]]
    _verb: ClassVar[str]
    _sign: ClassVar[str] = "+"

    @property
    @abstractmethod
    def _amounts(self) -> tuple[float, ...]: ...

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(P,) the number of each piece's amount, uniform."""
        _columns(fields, self._verb, self._roles)
        return generator.integers(0, len(self._amounts), len(low))

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """(B, T + 1, F) the rows of (B,) sequences, each changed by its own amount."""
        changed = rows.clone()
        for column, field in enumerate(fields):
            if field.role not in self._roles:
                continue
            entries = rows[..., column]  # (B, T + 1)
            if field.is_categorical:
                table = _table(field, self._sign, self._amounts).to(rows.device)
                changed[..., column] = table[choices.to(rows.device)].gather(1, entries.long())
            else:
                amounts = torch.tensor(self._amounts, dtype=rows.dtype, device=rows.device)
                by = amounts[choices][:, None]
                moved = entries * by if self._sign == "*" else entries + by
                changed[..., column] = moved.clamp(*field.interval)
        return changed


@final
@dataclass(frozen=True, kw_only=True)
class Transpose(_OneOfSeveral):
    """Each piece higher or lower by some semitones, within the range of pitches.

    All instruments are moved by the same interval, so that the harmony remains, but not percussion,
    whose pitches name drums: see :class:`Augmented`.

    Attributes:
        low: The furthest down, semitones, at most 0.
        high: The furthest up, semitones, at least 0.
        lowest: No note is moved below this MIDI note number.
        highest: No note is moved above this MIDI note number.
        drums: Whether percussion is moved as well.
        probability: The share of the pieces that are moved; the others keep their key.

    Raises:
        ConfigError: If a setting is out of range.
    """

    _roles = ("pitch",)
    _verb = "transposes"

    low: int = -3
    high: int = 3
    lowest: int = 0
    highest: int = 127
    drums: bool = False
    probability: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.drums, bool):
            raise ConfigError(f"drums {self.drums!r} is not true or false")
        if not (-127 <= self.low <= 0 <= self.high <= 127):
            raise ConfigError(
                f"cannot transpose by {self.low} to {self.high} semitones",
                hint="use a low of -127 to 0 and a high of 0 to 127",
            )
        if not 0 <= self.lowest <= self.highest <= 127:
            raise ConfigError(
                f"{self.lowest} to {self.highest} is no range of pitches",
                hint="use MIDI note numbers from 0 to 127, the lowest first",
            )
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"the probability {self.probability} is not from 0 to 1")

    @override
    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(P,) semitones above `low`, uniform among those within the range of pitches."""
        columns = _columns(fields, self._verb, self._roles)
        down, up = np.full(len(low), self.low), np.full(len(low), self.high)
        for column in columns:
            field = fields[column]
            values = np.array(field.values)
            at = np.stack([low[:, column], high[:, column]]).astype(np.int64)  # (2, P)
            missing = at == (-1 if field.none is None else field.none)
            possible = np.delete(values, [] if field.none is None else field.none)
            least = max(self.lowest, int(possible.min()))
            most = min(self.highest, int(possible.max()))
            bottom = np.where(missing, np.inf, values[at]).min(axis=0)
            top = np.where(missing, -np.inf, values[at]).max(axis=0)
            down = np.maximum(down, np.minimum(least - bottom, 0))
            up = np.minimum(up, np.maximum(most - top, 0))
        moved = generator.integers(down.astype(np.int64), up.astype(np.int64) + 1)
        if self.probability < 1:
            moved = np.where(generator.random(len(low)) < self.probability, moved, 0)
        return moved - self.low

    @property
    def _amounts(self) -> tuple[float, ...]:
        return tuple(float(k) for k in range(self.low, self.high + 1))


@final
@dataclass(frozen=True, kw_only=True)
class TimeStretch(_OneOfSeveral):
    """Each piece slower or faster: its steps and durations times a factor.

    Times that are classes become the class of the stretched time. The rounding is not carried from
    step to step, so the length of a piece in classes changes by not exactly the factor, and times
    of a few cells may not change.

    Attributes:
        factors: The factors, one of which is chosen for each piece; above 0.

    Raises:
        ConfigError: If a factor is not above 0.
    """

    _roles = ("step", "duration")
    _verb = "stretches"
    _sign = "*"

    factors: tuple[float, ...] = (0.95, 0.975, 1.0, 1.025, 1.05)

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "factors", tuple(map(float, self.factors)))
        if not self.factors or not all(0 < factor < np.inf for factor in self.factors):
            raise ConfigError(f"factors {self.factors} are not finite numbers above 0")

    @property
    @override
    def _amounts(self) -> tuple[float, ...]:
        return self.factors


@final
@dataclass(frozen=True, kw_only=True)
class VelocityShift(_OneOfSeveral):
    """Each piece louder or softer by some MIDI velocities, clipped to their range.

    Attributes:
        amounts: MIDI velocities, one of which is chosen for each piece.

    Raises:
        ConfigError: If an amount is out of range.
    """

    _roles = ("velocity",)
    _verb = "shifts the velocities of"

    amounts: tuple[int, ...] = (-12, -8, -4, 0, 4, 8, 12)

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "amounts", tuple(self.amounts))
        if not self.amounts or not all(-126 <= amount <= 126 for amount in self.amounts):
            raise ConfigError(f"amounts {self.amounts} are not numbers from -126 to 126")

    @property
    @override
    def _amounts(self) -> tuple[float, ...]:
        return self.amounts


@final
@dataclass(frozen=True, kw_only=True)
class DropLabels:
    """Labels of pieces are left out at random, so that a model also works without them.

    In an epoch, a piece loses all its labels with this probability; otherwise, with several labels,
    it loses each of them with it.

    Attributes:
        probability: The share of pieces, 0 to 1.

    Raises:
        ConfigError: If the probability is out of range.
    """

    probability: float = 0.1

    def __post_init__(self) -> None:
        """Check the probability."""
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"the probability {self.probability} is not from 0 to 1")

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(P,) a number whose bit k says whether label k is left out."""
        count = len(_label_columns(fields))
        uniform = generator.random((len(low), count + 1))
        dropped = uniform[:, 1:] < (self.probability if count > 1 else 0)
        dropped |= uniform[:, :1] < self.probability
        bits: NDArray[np.int64] = (dropped << np.arange(count, dtype=np.int64)).sum(axis=1)
        return bits

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """(B, T + 1, F) the rows of (B,) sequences, with class 0 for labels that are left out."""
        changed = rows.clone()
        for k, column in enumerate(_label_columns(fields)):
            kept = (choices.to(rows.device) >> k & 1) == 0
            changed[..., column] = rows[..., column] * kept[:, None]
        return changed


def _label_columns(fields: Sequence[Field]) -> list[int]:
    """The columns of labels.

    Raises:
        FieldError: If there are none, or too many.
    """
    columns = [k for k, field in enumerate(fields) if field.role == "label"]
    if not 0 < len(columns) < _MAX_LABELS:
        raise FieldError(
            f"labels cannot be left out of rows with {len(columns)} labels",
            hint=f"give the recipe 1 to {_MAX_LABELS - 1} conditions",
        )
    return columns


def _columns(fields: Sequence[Field], does: str, roles: tuple[str, ...]) -> list[int]:
    """The columns that a transform changes.

    Raises:
        FieldError: If there are none, or others would contradict them.
    """
    times = "step" in roles
    columns = [k for k, field in enumerate(fields) if field.role in roles]
    conflicting = {"event"} | ({"position", "tempo"} if times else set())
    bad = [field for field in fields if field.role in conflicting]
    bad += [fields[k] for k in columns if times and fields[k].unit != "s"]
    bad += [fields[k] for k in columns if "pitch" in roles and not fields[k].is_categorical]
    if bad or not columns:
        what = " and ".join(roles) + (" in seconds" if times else "")
        named = ", ".join(f"{f.name} ({f.role}{', ' + f.unit if f.unit else ''})" for f in fields)
        raise FieldError(
            f"a transform that {does} pieces cannot change rows of {named}",
            hint=f"use an encoder with columns of {what} and without events or beats, or leave the "
            "transform out",
        )
    return columns


@functools.lru_cache(maxsize=64)
def _table(field: Field, sign: str, amounts: tuple[float, ...]) -> Tensor:
    """(K, C) float32: the new class of each class under each of K amounts."""
    values = np.array(field.values)
    by = np.array(amounts, dtype=np.float64)[:, None]
    wanted = values * by if sign == "*" else values + by  # (K, C)
    classes = np.delete(np.arange(len(values)), [] if field.none is None else field.none)
    order = classes[np.argsort(values[classes], kind="stable")]
    if field.edges:
        borders, order = np.array(field.edges[1:-1]), np.arange(len(values))
    else:
        ascending = values[order]
        borders = (ascending[1:] + ascending[:-1]) / 2
    table = order[np.searchsorted(borders, wanted, side="right")]
    for kept in (field.none, field.rest):
        if kept is not None:
            table[:, kept] = kept
    return torch.from_numpy(table.astype(np.float32))


@runtime_checkable
class _OfDrums(Protocol):
    """A transform that can be set to change the pitches of percussion."""

    @property
    def drums(self) -> bool: ...


def _changes_drums(transform: Transform) -> bool:
    return isinstance(transform, _OfDrums) and transform.drums


@final
@dataclass(frozen=True, kw_only=True)
class Augmented:
    """Training batches whose pieces are changed differently in each epoch.

    Wrap the training batches, never those of validation. An epoch of a number is always the same,
    from any batch on, so that a run can be resumed.

    Attributes:
        batches: The batches to change.
        fields: The fields of their rows.
        transforms: The transforms, in the order of their application; each kind once.
        seed: The random seed.
        drums: Whether the rows have one column more than `fields`, as :func:`with_drums` adds it.
            Pitches of percussion, each of which names another drum, are then changed only by
            transforms with a setting `drums` that is true; the column is removed from the batches.

    Raises:
        FieldError: If a transform cannot change such rows.
        ConfigError: If a kind of transform is listed twice, or the seed is negative.
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
            raise ConfigError(f"a kind of transform is listed twice: {', '.join(kinds)}")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative")
        self._choices(0)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return self.batches.num_batches

    @property
    def stateful(self) -> bool:
        """Whether the state is carried from batch to batch."""
        return self.batches.stateful

    def shard(self, rank: int, world_size: int) -> Augmented:
        """The part of one process, changed as in one process."""
        return replace(self, batches=self.batches.shard(rank, world_size))

    @functools.cached_property
    def _pitches(self) -> Tensor:
        """(F,) which columns are pitches."""
        return torch.tensor([field.role == "pitch" for field in self.fields])

    @functools.cached_property
    def _extremes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(2, P, F) the least and greatest entry of each column in each piece; 0 if it is empty.

        In the second table, those of pitches leave out percussion in pieces that have other notes.
        """
        packed, is_pitch = self.batches.dataset.packed, self._pitches.numpy()
        width = packed.rows.shape[1] - self.drums
        every, pitched = np.zeros((2, 2, len(packed), width), dtype=np.float32)
        none = np.array([np.nan if f.none is None else f.none for f in self.fields], np.float32)
        for k, rows in enumerate(packed):
            if not len(rows):
                continue
            others = rows[rows[:, -1] == 0] if self.drums else rows
            every[:, k] = _extremes_of(rows[:, :width], none)
            of_others = _extremes_of((others if len(others) else rows)[:, :width], none)
            pitched[:, k] = np.where(is_pitch, of_others, every[:, k])
        return every, pitched

    def _choices(self, number: int) -> list[Tensor]:
        """For each transform, (P,) the parameters of each piece in an epoch."""
        every, pitched = self._extremes
        chosen = []
        for position, transform in enumerate(self.transforms):
            rng = np.random.default_rng([self.seed, number, position])
            low, high = every if _changes_drums(transform) else pitched
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
                if fixed is not None and not _changes_drums(transform):
                    changed = torch.where(fixed, rows, changed)
                rows = changed
            yield batch._replace(rows=rows)


def _extremes_of(rows: Rows, none: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """(F,) the least and the greatest entry of each column of (N, F) rows.

    `none` (F,) is the class that stands for no value, NaN if there is none; it is the result only
    for a column without other entries.
    """
    if np.isnan(none).all():
        return rows.min(axis=0), rows.max(axis=0)
    valued = np.where(rows == none, np.nan, rows)
    # These, unlike min and max, leave out NaN.
    least, greatest = np.fmin.reduce(valued), np.fmax.reduce(valued)
    return np.where(np.isnan(least), none, least), np.where(np.isnan(greatest), none, greatest)


def with_drums(rows: Sequence[Rows], pieces: Iterable[Notes]) -> Sequence[Rows]:
    """Rows with one more column, which is 1 for percussion, for :class:`Augmented`.

    Few encoders encode percussion, so drums cannot be recognised in the rows alone.

    Args:
        rows: Of each piece, (N, F). With other than one row a note, as with rests or given notes,
            all rows of a piece that has percussion count as percussion.
        pieces: The pieces in the same order, with the notes in the order of the rows.

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
