"""Sounding notes: the time left of each pitch, and the time since its last onset."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from notelstm.fields import Field, Role, Rows
from notelstm.models.inference import Array
from notelstm.models.lstm import LSTMState, linear_of

__all__ = [
    "AROUND",
    "CHORD",
    "FEATURES",
    "LONGEST",
    "SCALE",
    "NoteContext",
    "NoteState",
    "NumpySounding",
    "Sounding",
    "SoundingClock",
    "features",
]

LONGEST: Final = 60_000
"""Thousandths of a second or beat above which times are equal."""


AROUND: Final = 49
"""Pitches that :meth:`Sounding.around` gives: two octaves up and down."""


FEATURES: Final = 4
"""Numbers that :func:`features` gives for each pitch."""


SCALE: Final = 50.0
"""Thousandths below which the logarithmic scale of :func:`features` is linear."""


CHORD: Final = 100.0
"""Thousandths by which the other scale of :func:`features` has fallen by half."""


class Sounding(NamedTuple):
    """What is sounding at some time, P pitches; in thousandths, 0 to :data:`LONGEST`.

    Attributes:
        left: (..., P) int32 how long a note of each pitch will still sound; 0 where none does.
        since: (..., P) int32 how long ago each pitch was last struck.
    """

    left: Tensor
    since: Tensor

    def later(self, wait: Tensor) -> Sounding:
        """What is sounding after a wait of (...) thousandths in which nothing is struck."""
        by = wait.unsqueeze(-1).int()
        return Sounding((self.left - by).clamp_min(0), (self.since + by).clamp_max(LONGEST))

    def around(self, pitch: Tensor) -> Sounding:
        """What is sounding near one pitch: silence where there are no pitches.

        Args:
            pitch: (...) class ids.

        Returns:
            (..., :data:`AROUND`), with `pitch` in the middle.
        """
        reach = AROUND // 2
        at = pitch.unsqueeze(-1) + torch.arange(-reach, reach + 1, device=pitch.device)
        there = at.clamp(0, self.left.shape[-1] - 1)
        outside = at != there
        left, since = (times.gather(-1, there) for times in self)
        return Sounding(left.masked_fill(outside, 0), since.masked_fill(outside, LONGEST))


class NoteContext(NamedTuple):
    """The context of a model with sounding-note features.

    Attributes:
        hidden: (B, T, H) the last layer's output.
        features: (B, T, S) the features that the LSTM read at the onset before.
        sounding: (B, T, P) the sounding notes at that onset.
    """

    hidden: Tensor
    features: Tensor
    sounding: Sounding


class NoteState(NamedTuple):
    """The state of a model with sounding-note features.

    Attributes:
        lstm: The LSTM's state.
        sounding: (B, P) the sounding notes at the last onset.
    """

    lstm: LSTMState
    sounding: Sounding


def features(sounding: Sounding) -> Tensor:
    """The inputs of a network for each pitch: all 0 for a pitch without a note for a minute.

    Args:
        sounding: P pitches.

    Returns:
        (..., 4 P) float32 from 0 to 1: whether it sounds, how long it will on a logarithmic scale,
        how lately it was struck on a logarithmic scale, and on one that tells chords from runs.
    """
    left, since = (times.float() for times in sounding)
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


@final
class SoundingClock(nn.Module):
    """Follows what is sounding through the rows of an encoder of one row a note.

    Times are whole thousandths of the fields' unit, so that nothing is lost however long the piece
    and wherever it is cut. A note longer than :data:`LONGEST` is taken for one of that length; of
    several notes of one pitch the longest sounds.

    Args:
        pitch: Column and field of the pitch, which is categorical.
        step: Column and field of the step.
        duration: Column and field of the duration, in the step's unit.

    Attributes:
        pitch: Name of the pitch.
        step: Name of the step.
        pitches: P, how many pitches there are.
        columns: Of pitch, step and duration.
    """

    def __init__(
        self, pitch: tuple[int, Field], step: tuple[int, Field], duration: tuple[int, Field]
    ) -> None:
        super().__init__()
        self.pitch: Final = pitch[1].name
        self.step: Final = step[1].name
        self.columns: Final = (pitch[0], step[0], duration[0])
        self.pitches: Final = pitch[1].classes or 0
        # Of each class; empty for numbers.
        self._steps: Tensor
        self._durations: Tensor
        for name, field in (("_steps", step[1]), ("_durations", duration[1])):
            table = _thousandths(torch.tensor(field.values, dtype=torch.float64))
            self.register_buffer(name, table, persistent=False)

    @classmethod
    def of(cls, fields: Sequence[Field]) -> SoundingClock | None:
        """The clock of these fields.

        Args:
            fields: Any fields.

        Returns:
            None if they have not one field each for pitch (classes), step and duration (one unit).
        """
        pitch, step, duration = (
            [(i, f) for i, f in enumerate(fields) if f.role == role] for role in _ROLES
        )
        if not len(pitch) == len(step) == len(duration) == 1:
            return None
        timed = [step[0][1], duration[0][1]]
        whole = all(len(f.values) == (f.classes or 0) for f in timed)
        if not pitch[0][1].is_categorical or not whole or timed[0].unit != timed[1].unit:
            return None
        return cls(pitch[0], step[0], duration[0])

    def initial_state(self, batch_size: int) -> Sounding:
        """Before the first row: (B, P), silence."""
        left = torch.zeros(batch_size, self.pitches, dtype=torch.int32, device=self._steps.device)
        return Sounding(left, torch.full_like(left, LONGEST))

    def tables(self) -> tuple[list[int], list[int]]:
        """Thousandths of each class of the step and of the duration; empty for numbers."""
        return self._steps.tolist(), self._durations.tolist()

    def wait(self, step: Tensor) -> Tensor:
        """(...) thousandths that (...) entries of the step stand for."""
        return _times(self._steps, step)

    @override
    def forward(self, rows: Tensor, before: Sounding) -> Sounding:
        """Read rows.

        Args:
            rows: (B, T, F).
            before: (B, P) what is sounding at the onset before.

        Returns:
            (B, T, P) what is sounding at each row's onset, its own note included.
        """
        pitch, step, duration = (rows[..., i] for i in self.columns)
        onset = self.wait(step).cumsum(1).unsqueeze(-1)  # (B, T, 1) after that of `before`
        at = pitch.long().unsqueeze(-1)
        silent = onset.new_zeros(*at.shape[:2], self.pitches)  # (B, T, P)
        ends = silent.scatter(-1, at, onset + _times(self._durations, duration).unsqueeze(-1))
        struck = (silent - LONGEST).scatter(-1, at, onset)
        ends[:, 0] = torch.maximum(ends[:, 0], before.left)
        struck[:, 0] = torch.maximum(struck[:, 0], -before.since)
        left = ends.cummax(1).values - onset
        since = onset - struck.cummax(1).values
        return Sounding(left.clamp_min(0).int(), since.clamp_max(LONGEST).int())


_ROLES: Final[tuple[Role, ...]] = ("pitch", "step", "duration")


def _thousandths(values: Tensor) -> Tensor:
    return (values * 1000).round().clamp(0, LONGEST).long()


def _times(table: Tensor, entries: Tensor) -> Tensor:
    """(...) thousandths of (...) class ids, or of numbers where the table is empty."""
    return table[entries.long()] if len(table) else _thousandths(entries.double())


_Times = NDArray[np.int32]


_REACH: Final = AROUND // 2


_NEAR: Final = np.arange(AROUND)


_TIMES: Final = np.arange(LONGEST + 1, dtype=np.float32)
"""Every time in thousandths; features are looked up, not computed."""


class _Request(NamedTuple):
    """The latest request: several heads share the features of one row."""

    context: Any
    place: str
    step: bytes
    pitch: bytes
    features: Array


@final
class NumpySounding:
    """The sounding-note features of one model in numpy.

    Args:
        clock: The module that tracks sounding notes.
        num_layers: The linear layers of the features, by place.
        place_of: The place of the head of each field.
    """

    def __init__(
        self, clock: SoundingClock, layers: nn.ModuleDict, place_of: Mapping[str, str]
    ) -> None:
        self._clock: Final = clock
        self._place_of: Final = dict(place_of)
        self._layers: Final[dict[str, Callable[[Array], Array]]] = {
            place: linear_of(cast(Tensor, layer.weight), cast(Tensor, layer.bias))
            for place, layer in layers.items()
        }
        # (thousandths of each class, or none), for the step and the duration
        self._steps, self._durations = (np.array(t, dtype=np.int32) for t in clock.tables())
        whole = math.log1p(LONGEST / SCALE)
        longer = np.log1p(_TIMES / np.float32(SCALE)) / np.float32(whole)
        self._longer: Final = longer.astype(np.float32)
        self._lately: Final = (1 - longer).astype(np.float32)
        width = LONGEST + LONGEST / CHORD * _TIMES
        self._just: Final = ((LONGEST - _TIMES) / width).astype(np.float32)
        self._last: _Request | None = None

    def after(self, rows: Rows, before: Any) -> Any:
        """The sounding notes at the onset of rows (B, F), their own included; (B, P)."""
        pitch, step, duration = (rows[:, i] for i in self._clock.columns)
        left, since = _later(before, _numpy_thousandths(self._steps, step))
        at = np.arange(len(rows)), pitch.astype(np.intp)
        left[at] = np.maximum(left[at], _numpy_thousandths(self._durations, duration))
        since[at] = 0
        return Sounding(left, since)  # type: ignore[arg-type]

    def features(self, place: str, sounding: Any) -> Array:
        """(B, S) the features at a place."""
        left, since = sounding
        parts = (left > 0, self._longer[left], self._lately[since], self._just[since])
        return self._layers[place](np.concatenate(parts, axis=1, dtype=np.float32))

    def features_for(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, S) the features of the head of a field."""
        place, clock = self._place_of[field], self._clock
        if place == "before":
            features: Array = context.features
            return features
        step = known[clock.step]
        pitch = known[clock.pitch] if place == "around" else step[:0]
        request = _Request(context, place, step.tobytes(), pitch.tobytes(), context.features)
        last = self._last
        if last is None or context is not last.context or request[1:4] != last[1:4]:
            left, since = _later(context.sounding, _numpy_thousandths(self._steps, step))
            if place == "around":
                left, since = _around(left, pitch, 0), _around(since, pitch, LONGEST)
            last = self._last = request._replace(features=self.features(place, (left, since)))
        return last.features


def _later(sounding: Any, wait: _Times) -> tuple[_Times, _Times]:
    """After a wait of (B,) thousandths."""
    left, since = sounding
    by = wait[:, None]
    return np.maximum(left - by, 0), np.minimum(since + by, LONGEST)


def _around(times: _Times, pitch: NDArray[Any], silence: int) -> _Times:
    """(B, AROUND) of (B, P) times."""
    padded = np.full((len(times), times.shape[1] + AROUND), silence, dtype=np.int32)
    padded[:, _REACH : _REACH + times.shape[1]] = times
    at = pitch.astype(np.intp)[:, None] + _NEAR
    near: _Times = padded[np.arange(len(times))[:, None], at]
    return near


def _numpy_thousandths(table: _Times, entries: NDArray[Any]) -> _Times:
    """(B,) the time of class ids or numbers."""
    if len(table):
        return np.asarray(table[entries.astype(np.intp)])
    whole = np.rint(entries.astype(np.float64) * 1000)
    return np.clip(whole, 0, LONGEST).astype(np.int32)
