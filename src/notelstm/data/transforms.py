"""Augmentation: the same pieces in another key, at another speed, louder or softer.

In each epoch each piece is changed in one way, chosen at random: all its windows, or its lane from
beginning to end, are in the same key. Rows are changed in whole batches on their way to the model,
so nothing is stored. A transform finds columns by their roles and changes the values that entries
stand for; the class that a class becomes is looked up in a table.

Percussion keeps its pitches under every transform: :class:`~notelstm.data.augmented.Augmented` sees
to that, with ``drums=True``, which training with a recipe sets.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field

__all__ = ["TimeStretch", "Transpose", "VelocityShift"]


@final
@dataclass(frozen=True, kw_only=True)
class Transpose:
    """Each piece higher or lower by some semitones, as far as its pitches leave room.

    Percussion is left as it is, see :class:`~notelstm.data.augmented.Augmented`.

    Attributes:
        low: The furthest down, semitones, at most 0.
        high: The furthest up, semitones, at least 0.
        lowest: No note is moved below this MIDI note number.
        highest: No note is moved above this MIDI note number.

    Raises:
        ConfigError: If a setting is out of range.
    """

    low: int = -3
    high: int = 3
    lowest: int = 0
    highest: int = 127

    def __post_init__(self) -> None:
        """Check the settings."""
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

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(P,) semitones above `low`, uniform among those that the piece has room for."""
        columns = _columns(fields, "transposes", ("pitch",))
        down, up = np.full(len(low), self.low), np.full(len(low), self.high)
        for column in columns:
            values = np.array(fields[column].values)
            at = np.stack([low[:, column], high[:, column]]).astype(np.int64)  # (2, P)
            least = max(self.lowest, int(values.min()))
            most = min(self.highest, int(values.max()))
            down = np.maximum(down, np.minimum(least - values[at].min(axis=0), 0))
            up = np.minimum(up, np.maximum(most - values[at].max(axis=0), 0))
        return generator.integers(down.astype(np.int64), up.astype(np.int64) + 1) - self.low

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """(B, T + 1, F) the rows of (B,) lanes, each moved by its own number of semitones."""
        shifts = tuple(float(k) for k in range(self.low, self.high + 1))
        return _changed(fields, rows, choices, ("pitch",), "+", shifts)


@final
@dataclass(frozen=True, kw_only=True)
class TimeStretch:
    """Each piece slower or faster: its steps and durations times a factor.

    Times that are classes become the class that the stretched time falls into. What is lost by that
    is not carried from step to step, so a piece in classes is not exactly as much longer, and times
    of a few cells may stay as they are.

    Attributes:
        factors: The factors, one of which is chosen for each piece; above 0.

    Raises:
        ConfigError: If a factor is not above 0.
    """

    factors: tuple[float, ...] = (0.95, 0.975, 1.0, 1.025, 1.05)

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "factors", tuple(map(float, self.factors)))
        if not self.factors or not all(0 < factor < np.inf for factor in self.factors):
            raise ConfigError(f"factors {self.factors} are not finite numbers above 0")

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(P,) which factor each piece gets."""
        _columns(fields, "stretches", _TIMES)
        return generator.integers(0, len(self.factors), len(low))

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """(B, T + 1, F) the rows of (B,) lanes, each stretched by its own factor."""
        return _changed(fields, rows, choices, _TIMES, "*", self.factors)


@final
@dataclass(frozen=True, kw_only=True)
class VelocityShift:
    """Each piece louder or softer by some MIDI velocities; what would leave the scale stays on it.

    Attributes:
        amounts: MIDI velocities, one of which is chosen for each piece.

    Raises:
        ConfigError: If an amount is out of range.
    """

    amounts: tuple[int, ...] = (-12, -8, -4, 0, 4, 8, 12)

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "amounts", tuple(self.amounts))
        if not self.amounts or not all(-126 <= amount <= 126 for amount in self.amounts):
            raise ConfigError(f"amounts {self.amounts} are not numbers from -126 to 126")

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(P,) which amount each piece gets."""
        _columns(fields, "shifts the velocities of", ("velocity",))
        return generator.integers(0, len(self.amounts), len(low))

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """(B, T + 1, F) the rows of (B,) lanes, each shifted by its own amount."""
        return _changed(fields, rows, choices, ("velocity",), "+", self.amounts)


_TIMES: Final = ("step", "duration")


def _columns(fields: Sequence[Field], does: str, roles: tuple[str, ...]) -> list[int]:
    """The columns that a transform changes.

    Raises:
        FieldError: If there are none, or others say the same in another way.
    """
    columns = [k for k, field in enumerate(fields) if field.role in roles]
    awkward = {"event"} | ({"position", "tempo"} if roles == _TIMES else set())
    odd = [field for field in fields if field.role in awkward]
    odd += [fields[k] for k in columns if roles == _TIMES and fields[k].unit != "s"]
    odd += [fields[k] for k in columns if "pitch" in roles and not fields[k].is_categorical]
    if odd or not columns:
        what = " and ".join(roles) + (" in seconds" if roles == _TIMES else "")
        named = ", ".join(f"{f.name} ({f.role}{', ' + f.unit if f.unit else ''})" for f in fields)
        raise FieldError(
            f"a transform that {does} pieces cannot change rows of {named}",
            hint=f"use an encoder with columns of {what} and without events or beats, or leave the "
            "transform out",
        )
    return columns


def _changed(
    fields: Sequence[Field],
    rows: Tensor,
    choices: Tensor,
    roles: tuple[str, ...],
    sign: str,
    amounts: tuple[float, ...],
) -> Tensor:
    """A copy of rows (B, T + 1, F) with the columns of some roles changed by the chosen amounts."""
    changed = rows.clone()
    for column, field in enumerate(fields):
        if field.role not in roles:
            continue
        entries = rows[..., column]  # (B, T + 1)
        if field.is_categorical:
            table = _table(field, sign, amounts).to(rows.device)
            changed[..., column] = table[choices.to(rows.device)].gather(1, entries.long())
        else:
            by = torch.tensor(amounts, dtype=rows.dtype, device=rows.device)[choices][:, None]
            moved = entries * by if sign == "*" else entries + by
            changed[..., column] = moved.clamp(*field.interval)
    return changed


@functools.lru_cache(maxsize=64)
def _table(field: Field, sign: str, amounts: tuple[float, ...]) -> Tensor:
    """(K, C) float32: what each class becomes under each of K amounts."""
    values = np.array(field.values)
    by = np.array(amounts, dtype=np.float64)[:, None]
    wanted = values * by if sign == "*" else values + by  # (K, C)
    order = np.argsort(values, kind="stable")
    if field.edges:
        borders, order = np.array(field.edges[1:-1]), np.arange(len(values))
    else:
        ascending = values[order]
        borders = (ascending[1:] + ascending[:-1]) / 2
    classes = order[np.searchsorted(borders, wanted, side="right")]
    return torch.from_numpy(classes.astype(np.float32))
