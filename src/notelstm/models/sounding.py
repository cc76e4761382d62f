"""Sounding notes: the time left of each pitch and the time since its last onset, as features.

With instruments, these are times of each pitch of each instrument. A feature is of a group of
instruments, as if one played their notes: see :meth:`SoundingClock.groups`.
"""

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
from notelstm.models.lstm import LSTMState, NumpyLinear

__all__ = [
    "AROUND",
    "CHORD",
    "FEATURES",
    "LONGEST",
    "SAME",
    "SCALE",
    "NoteContext",
    "NoteState",
    "NumpySounding",
    "Sounding",
    "SoundingClock",
    "sounding_features",
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


class NoteContext(NamedTuple):
    """The context of a model with sounding-note features.

    Attributes:
        hidden: (B, T, H) the output of the last layer.
        features: (B, T, S) the features at the previous onset, which the LSTM reads.
        sounding: (B, T, I P) the sounding notes at that onset.
    """

    hidden: Tensor
    features: Tensor
    sounding: Sounding


class NoteState(NamedTuple):
    """The state of the LSTM, and the sounding notes (B, I P) at the last onset."""

    lstm: LSTMState
    sounding: Sounding


def sounding_features(sounding: Sounding) -> Tensor:
    """The features of P pitches, all 0 for a pitch without a note for a minute.

    Returns:
        (..., 4 P) float32 from 0 to 1: whether the pitch sounds; the time left, on a logarithmic
        scale; the recency of its onset, on a logarithmic scale and on one that distinguishes chords
        from fast runs.
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
    """Tracks the sounding notes through the rows of an encoder with one row per note.

    Times are whole thousandths of the fields' unit, so that the result is exact for pieces of any
    length, cut anywhere. Notes longer than :data:`LONGEST` are clipped to it; of overlapping notes
    of one pitch, the longest counts.

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
        for name, field in (("steps", step[1]), ("durations", duration[1])):
            table = _thousandths(torch.tensor(field.values, dtype=torch.float64))
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
        return _times(self.steps, step)

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
        ends = silent.scatter(-1, at, onset + _times(self.durations, duration).unsqueeze(-1))
        begun = (silent - LONGEST).scatter(-1, at, onset)
        ends[:, 0] = torch.maximum(ends[:, 0], before.left)
        begun[:, 0] = torch.maximum(begun[:, 0], -before.since)
        left = ends.cummax(1).values - onset
        since = onset - begun.cummax(1).values
        return Sounding(left.clamp_min(0).int(), since.clamp_max(LONGEST).int())


_ROLES: Final[tuple[Role, ...]] = ("pitch", "step", "duration", "instrument")


def _thousandths(values: Tensor) -> Tensor:
    return (values * 1000).round().clamp(0, LONGEST).long()


def _times(table: Tensor, entries: Tensor) -> Tensor:
    """(...) thousandths of (...) class ids, or of numbers if the table is empty."""
    return table[entries.long()] if len(table) else _thousandths(entries.double())


_Times = NDArray[np.int32]
_REACH: Final = AROUND // 2
_NEAR: Final = np.arange(AROUND)


@final
class NumpySounding:
    """The sounding-note features of one model in numpy.

    Args:
        clock: The module that tracks sounding notes.
        layers: The linear layers of the features, by key.
        place_of: The key of the features of the head of each field.
    """

    def __init__(
        self, clock: SoundingClock, layers: nn.ModuleDict, place_of: Mapping[str, str]
    ) -> None:
        self._clock: Final = clock
        self._place_of: Final = dict(place_of)
        self._layers: Final[dict[str, Callable[[Array], Array]]] = {
            place: NumpyLinear(cast(Tensor, layer.weight), cast(Tensor, layer.bias))
            for place, layer in layers.items()
        }
        self._steps: Final = clock.steps.numpy().astype(np.int32)
        self._durations: Final = clock.durations.numpy().astype(np.int32)
        # Tables of the features by time.
        times = torch.arange(LONGEST + 1)
        tables = sounding_features(Sounding(times, times)).reshape(FEATURES, -1)
        _, self._log, self._recency, self._chord = tables.numpy()
        # Several heads share features.
        self._context: Any = None
        self._found: dict[tuple[str, bytes], Array] = {}

    def after(self, rows: Rows, before: Any) -> Any:
        """(B, I P) the sounding notes at the onset of rows (B, F), with their own notes."""
        pitch, step, duration = (rows[:, i] for i in self._clock.columns)
        left, since = _later(before, _numpy_thousandths(self._steps, step))
        tone = pitch.astype(np.intp)
        if self._clock.instrument_column is not None:
            instrument = rows[:, self._clock.instrument_column].astype(np.intp)
            tone += instrument * self._clock.pitches
        at = np.arange(len(rows)), tone
        left[at] = np.maximum(left[at], _numpy_thousandths(self._durations, duration))
        since[at] = 0
        return Sounding(left, since)  # type: ignore[arg-type]

    def features(self, place: str, groups: Sequence[tuple[_Times, _Times]]) -> Array:
        """(B, S) the features by their key, of groups of instruments."""
        parts: list[Any] = []
        for left, since in groups:
            parts += (left > 0, self._log[left], self._recency[since], self._chord[since])
        return self._layers[place](np.concatenate(parts, axis=1, dtype=np.float32))

    def groups(
        self, sounding: Any, instrument: NDArray[Any] | None = None
    ) -> list[tuple[_Times, _Times]]:
        """The sounding notes, (B, P), as :meth:`SoundingClock.groups`."""
        clock = self._clock
        left, since = sounding
        if clock.instrument is None:
            return [(left, since)]
        shape = len(left), clock.instruments, clock.pitches
        left, since = left.reshape(shape), since.reshape(shape)
        same = []
        if instrument is not None:
            own = np.arange(len(left)), instrument.astype(np.intp)
            same = [(left[own], since[own])]
            left, since = left.copy(), since.copy()
            left[own], since[own] = 0, LONGEST
        return [(left.max(axis=1), since.min(axis=1)), *same]

    def features_for(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Array:
        """(B, S) the features of the head of a field."""
        place, clock = self._place_of[field], self._clock
        if place == "before":
            features: Array = context.features
            return features
        where, with_instrument = place.removesuffix(SAME), place.endswith(SAME)
        used = [clock.step] * (where != "before") + [clock.pitch] * (where == "around")
        instrument = known[str(clock.instrument)] if with_instrument else None
        entries = [known[name] for name in used] + ([] if instrument is None else [instrument])
        key = place, b"".join(entry.tobytes() for entry in entries)
        if context is not self._context:
            self._context, self._found = context, {}
        if key not in self._found:
            sounding = context.sounding
            if where != "before":
                sounding = _later(sounding, _numpy_thousandths(self._steps, known[clock.step]))
            groups = self.groups(sounding, instrument)
            if where == "around":
                pitch = known[clock.pitch]
                groups = [(_around(a, pitch, 0), _around(b, pitch, LONGEST)) for a, b in groups]
            self._found[key] = self.features(place, groups)
        return self._found[key]


def _later(sounding: Any, wait: _Times) -> tuple[_Times, _Times]:
    """The sounding notes after a wait of (B,) thousandths."""
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
    """(B,) thousandths of class ids, or of numbers if the table is empty."""
    if len(table):
        return np.asarray(table[entries.astype(np.intp)])
    whole = np.rint(entries.astype(np.float64) * 1000)
    return np.clip(whole, 0, LONGEST).astype(np.int32)
