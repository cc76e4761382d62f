"""The note loop: a model, a sampler and some noise make music, one row at a time.

``generate`` is the short way; ``Session`` is the loop itself, for whoever wants to feed notes in,
force fields, or listen while it plays.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast, final, overload

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.bundle import Bundle
from notelstm.encoders import tracker_of
from notelstm.encoders.rows import as_rows
from notelstm.errors import ConfigError, DataError, FieldError, ShapeError
from notelstm.fields import Field, Mask, Rows
from notelstm.models.modes import in_use
from notelstm.notes import Notes
from notelstm.protocols import (
    Context,
    Feedback,
    Legal,
    NoteEncoder,
    NoteModel,
    Sampler,
    State,
    Tracker,
    TrackingEncoder,
    View,
)
from notelstm.tree import index, leaf, map_tree

__all__ = ["NoiseStream", "Session", "generate", "generate_batch"]

_log = logging.getLogger(__name__)

_BLOCK: Final = 64
_READ: Final = 1024
"""Rows of all lanes that are read at once; more would not fit in memory."""
_LOST: Final = 512
"""A lane that gets no nearer to its end in so many rows has lost its way; the loop stops it."""
_TOO_DENSE: Final = 1000
"""Rows in a second of music that no instrument plays: such a lane gets no nearer to its end."""


@final
class NoiseStream:
    """The uniforms of one sequence: the same number for each row, forced or not.

    Args:
        seed: The seed of the whole batch.
        lane: The number of the sequence in it; lane 0 alone equals lane 0 of a batch.
        fields: F, fields of a row.
    """

    def __init__(self, seed: int, lane: int, fields: int) -> None:
        self._rng: Final = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(lane,)))
        self._fields: Final = fields

    def block(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """The next rows' uniforms, (64, F, 2) in [0, 1)."""
        return self._rng.random((_BLOCK, self._fields, 2))


class _Lane:
    """One sequence's music so far; its tracker catches up only when someone looks."""

    def __init__(self, encoder: NoteEncoder, number: int, history: list[Rows]) -> None:
        self._tracker: Final = tracker_of(encoder)
        self._number: Final = number
        self._history: Final = history
        self._taken = 0

    @property
    def tracker(self) -> Tracker:
        for rows in self._history[self._taken :]:
            self._tracker.push(rows[self._number])
        self._taken = len(self._history)
        return self._tracker


class _Views(Sequence[View]):
    """What processors may know of each lane, made when looked at."""

    def __init__(self, lanes: Sequence[_Lane], known: Mapping[str, Tensor]) -> None:
        self._lanes: Final = lanes
        self._known: Final = known

    @override
    def __len__(self) -> int:
        return len(self._lanes)

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> list[View]: ...
    @override
    def __getitem__(self, index: int | slice) -> View | list[View]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        known = {name: float(values[index]) for name, values in self._known.items()}
        return View(known, self._lanes[index].tracker)


class _Met(NamedTuple):
    """Where a model stands."""

    context: Context
    state: State


@final
class Session:
    """A batch of sequences in the making.

    Args:
        model: What predicts; :attr:`~notelstm.bundle.Bundle.player` of a bundle.
        encoder: What the rows mean.
        sampler: How to choose.
        lanes: B, sequences made side by side, each with its own noise.
        seed: The same seed gives the same music.
        feedback: What the model reads of a drawn row, None for the row itself.

    Raises:
        FieldError: If model and encoder have other fields.
        ConfigError: If there are no lanes, or the seed is negative.
        DataError: If a parameter of the model is NaN or infinite.
    """

    def __init__(
        self,
        model: NoteModel,
        encoder: NoteEncoder,
        sampler: Sampler,
        *,
        lanes: int = 1,
        seed: int = 0,
        feedback: Feedback | None = None,
    ) -> None:
        if lanes < 1:
            raise ConfigError("a session has at least 1 lane", got=f"{lanes}")
        if seed < 0:
            raise ConfigError("a seed is at least 0", got=f"{seed}")
        if model.fields != encoder.fields:
            raise FieldError(
                "the model's fields are the encoder's",
                got=f"{[f.name for f in model.fields]}, {[f.name for f in encoder.fields]}",
                fix="use the encoder that the model was trained with",
            )
        for name, parameter in cast(nn.Module, model).named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise DataError(
                    "a model's parameters are finite",
                    got="NaN or infinity",
                    where=name,
                    fix="the model has diverged; go back to an earlier checkpoint",
                )
        self._model: Final = model
        self._encoder: Final = encoder
        self._sampler: Final = sampler
        self._feedback: Final = feedback
        self._fields: Final = {field.name: field for field in encoder.fields}
        self._columns: Final = {name: i for i, name in enumerate(self._fields)}
        self._grammar: Final = isinstance(encoder, TrackingEncoder)
        self._history: list[Rows] = []
        self._drawn = False
        self._lanes: Final = [_Lane(encoder, i, self._history) for i in range(lanes)]
        self._streams: Final = [NoiseStream(seed, i, len(self._fields)) for i in range(lanes)]
        self._noise = torch.zeros(0)
        self._noise_at = _BLOCK
        with in_use(model):
            context, state = model.start(lanes)
        self._context: Context = index(context, (slice(None), -1))
        self._state: State = state
        self._device: Final = leaf(context).device

    @property
    def trackers(self) -> list[Tracker]:
        """Each lane's music so far."""
        return [lane.tracker for lane in self._lanes]

    def feed(self, rows: Rows) -> None:
        """Let all lanes read the same rows, as if they had been drawn.

        Args:
            rows: (T, F).

        Raises:
            EncodingError: If they are not rows of the encoder's fields.
        """
        checked = as_rows(rows, self._encoder.fields)
        if not len(checked):
            return
        # Until something is drawn all lanes are alike, and one is read for all of them.
        lanes = len(self._lanes)
        distinct = lanes if self._drawn else 1
        state: State = index(self._state, slice(0, distinct))
        some = max(1, _READ // distinct)
        with in_use(self._model):
            for first in range(0, len(checked), some):
                tensor = torch.from_numpy(checked[first : first + some]).to(self._device)
                batch = tensor.expand(distinct, *tensor.shape)  # (B, T, F)
                context, state = self._model.forward(batch, state)
            self._context, self._state = map_tree(
                lambda t: t.expand(lanes, *t.shape[1:]),
                _Met(index(context, (slice(None), -1)), state),
            )
        self._history.extend(np.broadcast_to(row, (lanes, len(row))) for row in checked)

    def next(self, **forced: float) -> Rows:
        """Draw the next row of each lane and read it.

        A forced field is not drawn; fields that come earlier in the model's order are drawn
        without knowing of it.

        Args:
            forced: Entries (class ids or values) by field name, the same in each lane.

        Returns:
            (B, F) rows.

        Raises:
            FieldError: If a forced field does not exist, or cannot have that entry.
        """
        for name, entry in forced.items():
            self._check_forced(name, entry)
        noise = self._next_noise()  # (B, F, 2)
        known: dict[str, Tensor] = {}
        with in_use(self._model):
            for name in self._model.order:
                column = self._columns[name]
                known[name] = self._entry(name, forced.get(name), noise[:, column], known)
            rows = torch.stack([known[name].float() for name in self._columns], dim=1)  # (B, F)
            read = rows if self._feedback is None else self._feedback(rows, self._encoder.fields)
            context, self._state = self._model.forward(read.unsqueeze(1), self._state)
            self._context = index(context, (slice(None), -1))
        drawn: Rows = rows.cpu().numpy()
        self._history.append(drawn)
        self._drawn = True
        return drawn

    def _check_forced(self, name: str, entry: float) -> None:
        if name not in self._fields:
            raise FieldError(
                "forced fields are the encoder's", got=name, fix=f"use {', '.join(self._fields)}"
            )
        field = self._fields[name]
        low, high = field.interval if field.classes is None else (0, field.classes - 1)
        if not low <= entry <= high or (field.is_categorical and entry != int(entry)):
            what = "a class id" if field.is_categorical else "a number"
            raise FieldError(f"{name} is {what} from {low:g} to {high:g}", got=f"{entry:g}")

    def _entry(
        self, name: str, forced: float | None, noise: Tensor, known: Mapping[str, Tensor]
    ) -> Tensor:
        """(B,) the forced entry, or one drawn from what is legal: a class id or a value."""
        field, size = self._fields[name], (len(self._lanes),)
        kind = torch.int64 if field.is_categorical else torch.float32
        if forced is not None:
            return torch.full(size, forced, device=self._device).to(kind)
        views = _Views(self._lanes, known)
        prediction = self._model.predict(name, self._context, known)
        legal = self._legal(field, views)
        if legal is not None:
            prediction = prediction.masked(legal)
        drawn = self._sampler(field, prediction, noise, views)
        if not isinstance(drawn, Tensor) or drawn.shape != size:
            got = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
            raise ShapeError(
                f"a sampler gives a tensor with an entry for each lane, {size}",
                got=f"{got}",
                where=f"field {name!r}",
                fix="try the sampler with notelstm.testing.check_sampler",
            )
        return drawn.to(kind)

    def _legal(self, field: Field, views: Sequence[View]) -> Legal | None:
        """What can be decoded next, for all lanes."""
        masks: list[Mask | None] = [None] * len(views)
        if self._grammar:
            masks = [view.tracker.legal(field, view.known) for view in views]
        if not field.is_categorical:
            ends = np.array([field.interval if m is None else m for m in masks], dtype=np.float32)
            least, greatest = torch.from_numpy(ends).to(self._device).unbind(1)
            return least, greatest
        if all(mask is None for mask in masks):
            return None
        anything = np.ones(field.classes or 0, dtype=np.bool_)
        stacked = np.stack([anything if m is None else np.asarray(m) for m in masks])
        return torch.from_numpy(stacked).to(self._device)

    def _next_noise(self) -> Tensor:
        """(B, F, 2) uniforms, each lane's from its own stream."""
        if self._noise_at == _BLOCK:
            blocks = np.stack([stream.block() for stream in self._streams], axis=1)
            self._noise = torch.from_numpy(blocks).to(self._device)  # (block, B, F, 2)
            self._noise_at = 0
        self._noise_at += 1
        return self._noise[self._noise_at - 1]

    def run(self, *, notes: int | None, seconds: float | None) -> list[Notes]:
        """Draw until every lane has so many new notes, or has gone on for so many seconds.

        Args:
            notes: New notes in each lane, or None for any number.
            seconds: New seconds in each lane, or None for any length.

        Returns:
            The new notes of each lane; 0 s is the onset of the last note before, if there was one.

        Raises:
            ConfigError: If neither is given, or one is negative, infinite or NaN.
        """
        if notes is None and seconds is None:
            raise ConfigError("a number of notes or of seconds is given", got="neither")
        for name, value in (("notes", notes), ("seconds", seconds)):
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} is finite and at least 0", got=f"{value}")
        before = [(tracker.n, tracker.clock) for tracker in self.trackers]
        marks = list(before)
        ends: list[int | None] = [None] * len(self._lanes)
        drawn = 0
        while True:
            for i, (n, clock) in enumerate(before):
                if ends[i] is None and self._done(i, n, clock, notes, seconds):
                    ends[i] = len(self._history)
            if drawn and drawn % _LOST == 0:
                self._stop_lost(marks, ends, notes, seconds)
            if all(end is not None for end in ends):
                break
            self.next()
            drawn += 1
        return [
            self._new_notes(i, before[i][0], end, notes, seconds)
            for i, end in enumerate(cast(list[int], ends))
        ]

    def _done(
        self, lane: int, n: int, clock: float, notes: int | None, seconds: float | None
    ) -> bool:
        if seconds is None and not self._grammar:
            # One row a note: there is no need for a look at the tracker.
            return notes is not None and len(self._history) >= n + notes
        tracker = self._lanes[lane].tracker
        enough = notes is not None and tracker.n - n >= notes
        return enough or (seconds is not None and tracker.clock - clock >= seconds)

    def _stop_lost(
        self,
        marks: list[tuple[int, float]],
        ends: list[int | None],
        notes: int | None,
        seconds: float | None,
    ) -> None:
        """End the lanes that have got no nearer to what was asked for since their mark."""
        for i, (n, clock) in enumerate(marks):
            if ends[i] is not None or (seconds is None and not self._grammar):
                continue
            tracker = self._lanes[i].tracker
            nearer = notes is not None and tracker.n > n
            nearer |= seconds is not None and tracker.clock - clock > _LOST / _TOO_DENSE
            marks[i] = (tracker.n, tracker.clock)
            if not nearer:
                ends[i] = len(self._history)
                _log.warning(
                    "lane %d stops short after %d notes: its last %d rows play none or stand still "
                    "in time; train the model longer, or draw with another temperature or seed",
                    i,
                    tracker.n,
                    _LOST,
                )

    def _new_notes(
        self, lane: int, old: int, end: int, notes: int | None, seconds: float | None
    ) -> Notes:
        """What one lane has played since it had `old` notes, from the last of these on."""
        tracker = tracker_of(self._encoder)
        for rows in self._history[:end]:
            tracker.push(rows[lane])
        for row in tracker.closing():
            tracker.push(row)
        everything = tracker.notes()
        zero = float(everything.start[old - 1]) if old else 0.0
        new = everything[old:].shifted(-zero)
        if seconds is not None:
            new = new[new.start < seconds]
        return new if notes is None else new[:notes]


def generate(
    bundle: Bundle,
    notes: int | None = None,
    *,
    seconds: float | None = None,
    prompt: Notes | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> Notes:
    """Write new music.

    Args:
        bundle: A trained model, from :func:`~notelstm.bundle.load` or from training.
        notes: How many notes; 128 if `seconds` is not given either.
        seconds: How many seconds, counted by onsets.
        prompt: Music to go on from; None to begin with nothing.
        sampler: How to choose; None for the bundle's own.
        seed: The same seed gives the same music.

    Returns:
        The new notes, without the prompt; 0 s is the prompt's last onset.

    Raises:
        DataError: If the prompt is shorter than the model's context.
        EncodingError: If the prompt is outside the encoder's domain.
    """
    return generate_batch(
        bundle, notes, batch=1, seconds=seconds, prompt=prompt, sampler=sampler, seed=seed
    )[0]


def generate_batch(
    bundle: Bundle,
    notes: int | None = None,
    *,
    batch: int,
    seconds: float | None = None,
    prompt: Notes | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> list[Notes]:
    """Write several pieces side by side; the first is what :func:`generate` gives.

    Args:
        bundle: As for :func:`generate`, as all arguments but one.
        notes: As for :func:`generate`.
        batch: B, how many pieces.
        seconds: As for :func:`generate`.
        prompt: As for :func:`generate`, the same for each.
        sampler: As for :func:`generate`.
        seed: As for :func:`generate`; each piece has its own noise from it.
    """
    session = Session(
        bundle.player,
        bundle.encoder,
        bundle.sampler if sampler is None else sampler,
        lanes=batch,
        seed=seed,
        feedback=bundle.feedback,
    )
    if prompt is not None:
        rows = bundle.encoder.encode(prompt)
        if bundle.context is not None and len(rows) < bundle.context:
            raise DataError(
                f"a prompt fills the model's context of {bundle.context} rows",
                got=f"{len(rows)} rows",
                fix="give a longer prompt, or none",
            )
        session.feed(rows)
    if notes is None and seconds is None:
        notes = 128
    return session.run(notes=notes, seconds=seconds)
