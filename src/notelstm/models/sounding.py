"""Sounding notes: the time left of each pitch and the time since its last onset, as features.

With instruments, these are times of each pitch of each instrument. A feature is of a group of
instruments, as if one played their notes: see :meth:`SoundingClock.groups`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from notelstm.fields import Field, Role, Rows
from notelstm.models.inference import Array, has_float64
from notelstm.models.lstm import LSTMState, NumpyLinear

__all__ = [
    "AROUND",
    "CHORD",
    "FAR",
    "FEATURES",
    "LONGEST",
    "NEAR",
    "SAME",
    "SCALE",
    "Anticipated",
    "NoteContext",
    "NoteState",
    "NumpySounding",
    "Sounding",
    "SoundingClock",
    "later",
    "nearness",
    "running_max",
    "sounding_features",
    "times_of",
    "times_of_rows",
]

LONGEST: Final = 60_000
"""Thousandths of a second or beat, to which longer times are clipped."""
AROUND: Final = 49
"""Number of pitches in :meth:`Sounding.around`: two octaves up and down."""
FEATURES: Final = 4
"""Number of features of each pitch."""
SCALE: Final = 50.0
"""Thousandths below which the logarithmic scale of the features is linear."""
CHORD: Final = 100.0
"""Thousandths at which the scale for chords has fallen by half."""
NEAR: Final = 500.0
"""Thousandths of the short scale of :func:`nearness`."""
FAR: Final = 2000.0
"""Those of the long one."""
SAME: Final = "_same"
"""The end of the keys of features with the sounding notes of the instrument of the note to come."""


class Sounding(NamedTuple):
    """The sounding notes of P pitches at some time; in thousandths, 0 to :data:`LONGEST`.

    Those of I instruments have I P entries for P, the pitches of one instrument after another.

    Attributes:
        left: (..., P) int32 the time that each pitch will still sound; 0 if it is silent.
        since: (..., P) int32 the time since the last onset of each pitch.
    """

    left: Tensor
    since: Tensor

    def later(self, wait: Tensor) -> Sounding:
        """The sounding notes after a wait of (...) thousandths without onsets."""
        by = wait.unsqueeze(-1).int()
        return Sounding((self.left - by).clamp_min(0), (self.since + by).clamp_max(LONGEST))

    def around(self, pitch: Tensor) -> Sounding:
        """(..., :data:`AROUND`) the sounding notes around (...) class ids of a pitch.

        Outside the range of pitches, there is silence.
        """
        reach = AROUND // 2
        at = pitch.unsqueeze(-1) + torch.arange(-reach, reach + 1, device=pitch.device)
        inside = at.clamp(0, self.left.shape[-1] - 1)
        outside = at != inside
        left, since = (times.gather(-1, inside) for times in self)
        return Sounding(left.masked_fill(outside, 0), since.masked_fill(outside, LONGEST))


class Anticipated(NamedTuple):
    """The sounding notes of P pitches, and the next given note of each; in thousandths.

    Attributes:
        left: As of :class:`Sounding`, as is `since`.
        since: (..., P) int32.
        coming: (..., P) int32 the time until the next given note of each pitch begins, from 1;
            :data:`LONGEST` if there is none.
        length: (..., P) int32 the duration of that note, 0 if there is none.
    """

    left: Tensor
    since: Tensor
    coming: Tensor
    length: Tensor

    def later(self, wait: Tensor) -> Anticipated:
        """The same after a wait of (...) thousandths without onsets of written notes.

        Of the given notes of a pitch that begin meanwhile, the first one counts.
        """
        by = wait.unsqueeze(-1).int()
        known = self.coming < LONGEST
        begun = known & (self.coming <= by)
        rest = torch.where(begun, self.coming + self.length - by, 0)
        return Anticipated(
            torch.maximum(self.left - by, rest).clamp_min(0),
            torch.where(begun, by - self.coming, self.since + by).clamp_max(LONGEST),
            torch.where(known & ~begun, self.coming - by, LONGEST),
            torch.where(begun, 0, self.length),
        )

    def around(self, pitch: Tensor) -> Anticipated:
        """(..., :data:`AROUND`) the same around (...) class ids of a pitch; silence outside."""
        sounding = Sounding(self.left, self.since).around(pitch)
        # A length is 0 without a note, as the time left is.
        given = Sounding(self.length, self.coming).around(pitch)
        return Anticipated(*sounding, given.since, given.left)


class NoteContext(NamedTuple):
    """The context of a model with sounding-note features.

    Attributes:
        hidden: (B, T, H) the output of the last layer.
        features: (B, T, S) the features at the previous onset, which the LSTM reads.
        sounding: (B, T, I P) the sounding notes at that onset.
    """

    hidden: Tensor
    features: Tensor
    sounding: Sounding | Anticipated


class NoteState(NamedTuple):
    """The state of the LSTM, and that of the clock: the sounding notes (B, I P), and the like."""

    lstm: LSTMState
    sounding: Any


def sounding_features(sounding: Sounding | Anticipated) -> Tensor:
    """The features of P pitches, all 0 for a pitch without a note for a minute.

    Returns:
        (..., 4 P) float32 from 0 to 1: whether the pitch sounds; the time left, on a logarithmic
        scale; the recency of its onset, on a logarithmic scale and on one that distinguishes chords
        from fast runs.
    """
    left, since = sounding.left.float(), sounding.since.float()
    whole = math.log1p(LONGEST / SCALE)
    return torch.cat(
        [
            (left > 0).float(),
            torch.log1p(left / SCALE) / whole,
            1 - torch.log1p(since / SCALE) / whole,
            (LONGEST - since) / (LONGEST + LONGEST / CHORD * since),
        ],
        dim=-1,
    )


def nearness(coming: Tensor, scale: float) -> Tensor:
    """From 1 for a note that begins now to 0 for one that is far ahead, or for none.

    Args:
        coming: (...) thousandths until it begins; :data:`LONGEST` for none.
        scale: The thousandths after which the nearness has fallen by a factor of e.
    """
    return torch.exp(-coming / scale).masked_fill(coming >= LONGEST, 0)


@final
class SoundingClock(nn.Module):
    """Tracks the sounding notes through the rows of an encoder with one row per note.

    Times are whole thousandths of the fields' unit, so that the result is exact for pieces of any
    length, cut anywhere. If the steps begin on a grid of cells, thousandths are rounded so that a
    cell is a whole number of them: otherwise sums of steps and the durations of the same length
    would differ, and a note that has ended would seem to sound on. Notes longer than
    :data:`LONGEST` are clipped to it; of overlapping notes of one pitch, the longest counts.

    Args:
        pitch: Column and field of the pitch, which is categorical.
        step: Column and field of the step.
        duration: Column and field of the duration, in the unit of the step.
        instrument: Column and field of the instrument, which is categorical; None for one.

    Attributes:
        pitch: Name of the pitch field; so are `step` and `instrument`, which can be None.
        pitches: P, the number of pitches.
        instruments: I, the number of instruments.
        columns: The columns of pitch, step and duration.
        instrument_column: The column of the instrument, or None.
        steps: Thousandths of each class of the step, int64; none of a continuous field.
        durations: Those of the duration.
        per_unit: The number of thousandths in a unit, about 1,000.
    """

    def __init__(
        self,
        pitch: tuple[int, Field],
        step: tuple[int, Field],
        duration: tuple[int, Field],
        instrument: tuple[int, Field] | None = None,
    ) -> None:
        super().__init__()
        self.pitch: Final = pitch[1].name
        self.step: Final = step[1].name
        self.columns: Final = (pitch[0], step[0], duration[0])
        self.pitches: Final = pitch[1].classes or 0
        column, field = (None, None) if instrument is None else instrument
        self.instrument: Final = None if field is None else field.name
        self.instruments: Final = 1 if field is None else field.classes or 1
        self.instrument_column: Final = column
        self.steps: Tensor
        self.durations: Tensor
        self.per_unit: Final = _per_unit(step[1])
        for name, field in (("steps", step[1]), ("durations", duration[1])):
            table = _thousandths(torch.tensor(field.values, dtype=torch.float64), self.per_unit)
            self.register_buffer(name, table, persistent=False)

    @classmethod
    def of(cls, fields: Sequence[Field]) -> SoundingClock | None:
        """The clock of fields with one pitch (in classes), step and duration (in the same unit).

        Returns:
            None if there is none or several of them.
        """
        pitch, step, duration, instrument = (
            [(i, f) for i, f in enumerate(fields) if f.role == role and not f.given]
            for role in _ROLES
        )
        if not len(pitch) == len(step) == len(duration) == 1:
            return None
        timed = [step[0][1], duration[0][1]]
        whole = all(len(f.values) == (f.classes or 0) for f in timed)
        if not pitch[0][1].is_categorical or not whole or timed[0].unit != timed[1].unit:
            return None
        known = len(instrument) == 1 and instrument[0][1].is_categorical
        return cls(pitch[0], step[0], duration[0], instrument[0] if known else None)

    def initial_state(self, batch_size: int) -> Sounding:
        """(B, I P) silence, the state before the first row."""
        tones = self.instruments * self.pitches
        left = torch.zeros(batch_size, tones, dtype=torch.int32, device=self.steps.device)
        return Sounding(left, torch.full_like(left, LONGEST))

    def now(self, state: Sounding) -> Sounding:
        """(B, I P) the sounding notes of a state, which is nothing else."""
        return state

    def num_groups(self, *, known: bool) -> int:
        """The number of :meth:`groups`, if the instrument of the note is `known` or not."""
        return 1 + (known and self.instrument is not None)

    def groups(self, sounding: Sounding, instrument: Tensor | None = None) -> list[Sounding]:
        """The sounding notes of groups of instruments.

        Args:
            sounding: (..., I P) those of all instruments.
            instrument: (...) the class of the note to come; None if it is not known.

        Returns:
            Those of all instruments or, if it is known, of all but that of the note to come and of
            that one, (..., P) each.
        """
        if self.instrument is None:
            return [sounding]
        shape = *sounding.left.shape[:-1], self.instruments, self.pitches
        left, since = (times.reshape(shape) for times in sounding)
        same = []
        if instrument is not None:
            classes = torch.arange(self.instruments, device=left.device)
            own = (instrument.long().unsqueeze(-1) == classes).unsqueeze(-1)  # (..., I, 1)
            same = [Sounding(*((t * own).sum(-2, dtype=t.dtype) for t in (left, since)))]
            left, since = left.masked_fill(own, 0), since.masked_fill(own, LONGEST)
        return [Sounding(left.amax(-2), since.amin(-2)), *same]

    def wait(self, step: Tensor) -> Tensor:
        """(...) thousandths of (...) entries of the step."""
        return times_of(self.steps, step, self.per_unit)

    @functools.cached_property
    def _steps(self) -> NDArray[np.int32]:
        return self.steps.numpy().astype(np.int32)

    def moved(self, steps: NDArray[Any]) -> NDArray[np.int32]:
        """(B,) thousandths of (B,) entries of the step, in numpy."""
        return times_of_rows(self._steps, steps, self.per_unit)

    def lengths(self, duration: Tensor) -> Tensor:
        """(...) thousandths of (...) entries of the duration."""
        return times_of(self.durations, duration, self.per_unit)

    def read(self, rows: Tensor, state: Sounding) -> tuple[Sounding, Sounding]:
        """The sounding notes at each of (B, T, F) rows, and the state after the last."""
        sounding = self.forward(rows, state)
        return sounding, Sounding(*(times[:, -1] for times in sounding))

    @override
    def forward(self, rows: Tensor, before: Sounding) -> Sounding:
        """(B, T, I P) the sounding notes at the onset of each row, with its own note.

        Args:
            rows: (B, T, F).
            before: (B, I P) the sounding notes at the previous onset.
        """
        pitch, step, duration = (rows[..., i] for i in self.columns)
        onset = self.wait(step).cumsum(1).unsqueeze(-1)  # (B, T, 1) after that of `before`
        at = pitch.long().unsqueeze(-1)
        if self.instrument_column is not None:
            at = at + self.pitches * rows[..., self.instrument_column].long().unsqueeze(-1)
        silent = onset.new_zeros(*at.shape[:2], before.left.shape[1])  # (B, T, I P)
        ends = silent.scatter(-1, at, onset + self.lengths(duration).unsqueeze(-1))
        begun = (silent - LONGEST).scatter(-1, at, onset)
        ends[:, 0] = torch.maximum(ends[:, 0], before.left)
        begun[:, 0] = torch.maximum(begun[:, 0], -before.since)
        left = running_max(ends) - onset
        since = onset - running_max(begun)
        return Sounding(left.clamp_min(0).int(), since.clamp_max(LONGEST).int())


def running_max(values: Tensor) -> Tensor:
    """(B, T, N) the greatest of the values (B, T, N) up to each step in time.

    After k passes, an entry is the greatest of the last 2^k; on the CPU, this is several times
    faster than ``cummax`` on an axis that is not the last.
    """
    reach = 1
    while reach < values.shape[1]:
        later = torch.maximum(values[:, reach:], values[:, :-reach])
        values = torch.cat([values[:, :reach], later], dim=1)
        reach *= 2
    return values


_ROLES: Final[tuple[Role, ...]] = ("pitch", "step", "duration", "instrument")


def _per_unit(step: Field) -> float:
    """The thousandths in the unit of a step, so that each has a whole number of them in a cell."""
    cell, second = [*sorted(value for value in step.values if value > 0), 0.0, 0.0][:2]
    on_grid = cell >= 0.001 and abs(second - 2 * cell) < 1e-6 * cell
    return round(1000 * cell) / cell if on_grid else 1000.0


def _thousandths(values: Tensor, per_unit: float) -> Tensor:
    return (values * per_unit).round().clamp(0, LONGEST).long()


def times_of(table: Tensor, entries: Tensor, per_unit: float) -> Tensor:
    """(...) thousandths of (...) class ids, or of numbers if the table is empty."""
    if len(table):
        return table[entries.long()]
    # As exact as in numpy.
    precise = entries if has_float64(entries.device) else entries.cpu()
    return _thousandths(precise.double(), per_unit).to(entries.device)


_Times = NDArray[np.int32]
_Notes = tuple[_Times, ...]
"""The arrays of sounding notes, or those of anticipated ones."""
_SILENCE: Final = (0, LONGEST, LONGEST, 0)
"""Their values without a note."""
_REACH: Final = AROUND // 2
_NEAR: Final = np.arange(AROUND)


@final
class NumpySounding:
    """The sounding-note features of one model in numpy.

    Args:
        clock: The module that tracks sounding notes.
        layers: The linear layers of the features, by key.
        place_of: The key of the features of the head of each field.
        after: Returns the :class:`Anticipated` notes at rows (B, F) and the state after them, from
            the rows and the state before; None for sounding notes alone.
    """

    def __init__(
        self,
        clock: SoundingClock,
        layers: nn.ModuleDict,
        place_of: Mapping[str, str],
        after: Callable[[Rows, Any], tuple[Any, Any]] | None = None,
    ) -> None:
        self.read: Final = self._read if after is None else after
        self._clock: Final = clock
        self._place_of: Final = dict(place_of)
        self._layers: Final[dict[str, Callable[[Array], Array]]] = {
            place: NumpyLinear(cast(Tensor, layer.weight), cast(Tensor, layer.bias))
            for place, layer in layers.items()
        }
        self._durations: Final = clock.durations.numpy().astype(np.int32)
        # Tables of the features by time.
        times = torch.arange(LONGEST + 1)
        tables = sounding_features(Sounding(times, times)).reshape(FEATURES, -1)
        _, self._log, self._recency, self._chord = tables.numpy()
        self._near, self._far = (nearness(times, scale).numpy() for scale in (NEAR, FAR))
        # Several heads share features.
        self._context: Any = None
        self._found: dict[tuple[str, bytes], Array] = {}

    def _read(self, rows: Rows, before: Any) -> tuple[Any, Any]:
        """(B, I P) the sounding notes at the onset of rows (B, F), twice: they are the state."""
        pitch, step, duration = (rows[:, i] for i in self._clock.columns)
        left, since = later(before, self._clock.moved(step))
        tone = pitch.astype(np.intp)
        if self._clock.instrument_column is not None:
            instrument = rows[:, self._clock.instrument_column].astype(np.intp)
            tone += instrument * self._clock.pitches
        at = np.arange(len(rows)), tone
        left[at] = np.maximum(
            left[at], times_of_rows(self._durations, duration, self._clock.per_unit)
        )
        since[at] = 0
        now = Sounding(left, since)  # type: ignore[arg-type]
        return now, now

    def features(self, place: str, groups: Sequence[_Notes]) -> Array:
        """(B, S) the features by their key, of groups of instruments."""
        parts: list[Any] = []
        for left, since, *_ in groups:
            parts += (left > 0, self._log[left], self._recency[since], self._chord[since])
        return self._layers[place](np.concatenate(parts, axis=1, dtype=np.float32))

    def groups(self, sounding: Any, instrument: NDArray[Any] | None = None) -> list[_Notes]:
        """The sounding notes, (B, P), as the groups of the clock."""
        clock = self._clock
        if clock.instrument is None:
            return [tuple(sounding)]
        shape = len(sounding[0]), clock.instruments, clock.pitches
        times = [part.reshape(shape) for part in sounding]
        same: list[_Notes] = []
        if instrument is not None:
            own = np.arange(shape[0]), instrument.astype(np.intp)
            same = [tuple(part[own] for part in times)]
            times = [part.copy() for part in times]
            for part, silence in zip(times, _SILENCE, strict=False):
                part[own] = silence
        left, since, *given = times
        group: _Notes = (left.max(axis=1), since.min(axis=1))
        if given:
            coming, length = given
            first = coming.min(axis=1)
            lasts = np.where(coming == first[:, None], length, 0).max(axis=1)
            group += (first, np.where(first < LONGEST, lasts, 0))
        return [group, *same]

    def _used(self, place: str) -> list[str]:
        """The names of the fields on which features depend, by their key."""
        clock, where = self._clock, place.removesuffix(SAME)
        used = [clock.step] * (where != "before") + [clock.pitch] * (where == "around")
        return used + [str(clock.instrument)] * place.endswith(SAME)

    def groups_for(
        self, field: str, sounding: Any, known: Mapping[str, NDArray[Any]]
    ) -> list[_Notes]:
        """The sounding notes that the head of a field reads, by group."""
        place, clock = self._place_of[field], self._clock
        where = place.removesuffix(SAME)
        instrument = known[str(clock.instrument)] if place.endswith(SAME) else None
        groups = self.groups(sounding, instrument)
        if where != "before":
            wait = clock.moved(known[clock.step])
            groups = [later(group, wait) for group in groups]
        if where == "around":
            pitch = known[clock.pitch]
            groups = [
                tuple(_around(t, pitch, s) for t, s in zip(group, _SILENCE, strict=False))
                for group in groups
            ]
        return groups

    def interval_features(self, group: _Notes) -> Array:
        """(B, 6, P) the features of an IntervalLayer, of one group."""
        left, since, coming, _ = group
        last = (since == since.min(axis=1, keepdims=True)) & (since < LONGEST)
        first, far = coming == coming.min(axis=1, keepdims=True), self._far[coming]
        parts: list[Any] = [left > 0, self._chord[since], last, far]
        parts += [first * self._near[coming], first * far]
        return np.stack(parts, axis=1, dtype=np.float32)

    def features_for(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, S) the features of the head of a field."""
        place = self._place_of[field]
        if place == "before":
            features: Array = context.features
            return features
        key = place, b"".join(known[name].tobytes() for name in self._used(place))
        if context is not self._context:
            self._context, self._found = context, {}
        if key not in self._found:
            self._found[key] = self.features(place, self.groups_for(field, context.sounding, known))
        return self._found[key]


def later(sounding: Any, wait: NDArray[np.int32]) -> tuple[NDArray[np.int32], ...]:
    """The sounding notes in numpy after a wait of (B,) thousandths, as those of tensors."""
    left, since, *given = sounding
    by = wait[:, None]
    left, since = np.maximum(left - by, 0), np.minimum(since + by, LONGEST)
    if not given:
        return left, since
    coming, length = given
    known = coming < LONGEST
    begun = known & (coming <= by)
    return (
        np.maximum(left, np.where(begun, coming + length - by, 0)),
        np.where(begun, by - coming, since),
        np.where(known & ~begun, coming - by, LONGEST),
        np.where(begun, 0, length),
    )


def _around(times: _Times, pitch: NDArray[Any], silence: int) -> _Times:
    """(B, AROUND) of (B, P) times."""
    padded = np.full((len(times), times.shape[1] + AROUND), silence, dtype=np.int32)
    padded[:, _REACH : _REACH + times.shape[1]] = times
    at = pitch.astype(np.intp)[:, None] + _NEAR
    near: _Times = padded[np.arange(len(times))[:, None], at]
    return near


def times_of_rows(table: _Times, entries: NDArray[Any], per_unit: float) -> _Times:
    """(B,) thousandths of class ids, or of numbers if the table is empty."""
    if len(table):
        return np.asarray(table[entries.astype(np.intp)])
    whole = np.rint(entries.astype(np.float64) * per_unit)
    return np.clip(whole, 0, LONGEST).astype(np.int32)
