"""``Session``: a batch of sequences in the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, final

import torch
from torch import nn

from notelstm.encoders.rows import as_rows
from notelstm.errors import ConfigError, DataError, EncodingError, FieldError
from notelstm.fields import Rows
from notelstm.generation.choosing import Parts, check_forced
from notelstm.generation.engine import Engine
from notelstm.generation.goals import LOST, Goal, Limits, Until
from notelstm.generation.lanes import Lanes
from notelstm.generation.noise import LaneNoise
from notelstm.generation.past import Past
from notelstm.generation.steps import Place
from notelstm.notes import Note, Notes
from notelstm.protocols import (
    Feedback,
    NoteEncoder,
    NoteModel,
    Sampler,
    Tracker,
    TrackingEncoder,
)

__all__ = ["Session", "Snapshot"]


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where a session stood; only a session made of the same parts can go back to it.

    Attributes:
        place: Where the model stood.
        noise: Which row's noise came next.
        trackers: Each lane's music.
        alike: Whether all lanes were alike.
    """

    place: Place
    noise: int
    trackers: Sequence[Tracker]
    alike: bool


@final
class Session:
    """A batch of sequences in the making.

    On the CPU a lean copy of the model runs, if it offers one
    (:class:`~notelstm.protocols.LeanModel`), with the weights that it has now. A row costs the same
    however many came before; so does the memory, if the notes are taken out with :meth:`take`.

    Args:
        model: What predicts; :attr:`~notelstm.bundle.Bundle.player` of a bundle.
        encoder: What the rows mean.
        sampler: How to choose.
        lanes: B, sequences made side by side, each with its own noise.
        seed: The same seed gives the same music.
        feedback: What the model reads of a drawn row, None for the row itself.
        undoable: How many of the last notes :meth:`undo` can take back, with one lane.

    Raises:
        FieldError: If model and encoder have other fields.
        ConfigError: If there are no lanes, or the seed or `undoable` is negative.
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
        undoable: int = 64,
    ) -> None:
        _check(model, encoder, lanes, seed, undoable)
        self._encoder: Final = encoder
        grammar = isinstance(encoder, TrackingEncoder)
        fields = {field.name: field for field in encoder.fields}
        self._parts: Final = Parts(model, sampler, feedback, fields, grammar)
        self._lanes: Final = Lanes(encoder, lanes)
        self._noise: Final = LaneNoise(seed, lanes, len(fields))
        self._engine: Final = Engine(self._parts, self._lanes)
        self._past: Final = Past(self._lanes, undoable if lanes == 1 else 0)
        self._alike = True

    @property
    def trackers(self) -> list[Tracker]:
        """Each lane's music so far."""
        return list(self._lanes.trackers)

    def feed(self, music: Rows | Notes | Note) -> None:
        """Let all lanes read the same, as if it had been drawn.

        Args:
            music: Rows (T, F); or, for encoders without a tracker of their own, notes that begin
                where the session stands or later, in seconds on its clock.

        Raises:
            EncodingError: If they are not rows of the encoder's fields, or notes it cannot take.
        """
        if isinstance(music, Note):
            start, end, pitch, velocity = music
            music = Notes(start=[start], end=[end], pitch=[pitch], velocity=[velocity])
        rows = self._rows_of(music) if isinstance(music, Notes) else music
        checked = as_rows(rows, self._encoder.fields)
        if not len(checked):
            return
        before = self._engine.place
        with self._engine.using():
            self._engine.read(checked, alike=self._alike)
        self._lanes.add_all(checked, alike=self._alike)
        self._past.add(checked, before)

    def _rows_of(self, notes: Notes) -> Rows:
        """Notes on the session's clock as rows that follow on what was played."""
        clock = self._lanes.trackers[0].clock
        if self._parts.grammar or not (self._alike or len(self._lanes) == 1):
            raise EncodingError(
                "notes are fed to encoders without a tracker of their own, while lanes are alike",
                got=f"{type(self._encoder).__name__}, {len(self._lanes)} lanes",
                fix="feed rows",
            )
        if len(notes) and notes.start[0] < clock:
            raise EncodingError(
                f"notes begin where the session stands, at {clock:g} s, or later",
                got=f"{notes.start[0]:g} s",
                where="note 0",
            )
        # A note where the session stands makes the encoder measure the step from there.
        anchor = Notes(start=[clock], end=[clock], pitch=[0], velocity=[1])
        plain = Notes(start=notes.start, end=notes.end, pitch=notes.pitch, velocity=notes.velocity)
        return self._encoder.encode(Notes.merge([anchor, plain]))[1:]

    def next(self, **forced: float) -> Rows:
        """Draw the next row of each lane and read it.

        A forced field is not drawn. The free field right before it in the model's order, if it is
        in classes, is drawn as likely as the model has it once the forced one is known:
        p(free) p(forced | free). Fields before that are drawn without knowing of what is forced
        later; fields after it know of it.

        Args:
            forced: Entries (class ids or values) by field name, the same in each lane.

        Returns:
            (B, F) rows.

        Raises:
            FieldError: If a forced field does not exist, or cannot have that entry.
        """
        check_forced(self._parts.fields, forced)
        with self._engine.using():
            return self._draw(forced)

    def _draw(self, forced: dict[str, float]) -> Rows:
        before = self._engine.place
        rows = self._engine.draw(self._noise.next(), forced)
        self._lanes.add(rows)
        self._past.add(rows, before)
        self._alike = False
        return rows

    def take(self) -> list[list[tuple[int, Note]]]:
        """The notes of each lane that have ended since this was asked last; they are forgotten.

        Returns:
            For each lane the notes with their numbers from 0, in the order of their ends; times
            are on the session's clock.
        """
        return self._past.take()

    def snapshot(self) -> Snapshot:
        """Where the session stands, to go back to with :meth:`restore` as often as one likes."""
        trackers = [tracker.copy() for tracker in self._lanes.trackers]
        return Snapshot(self._engine.place, self._noise.at, trackers, self._alike)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot: from there on the same calls give the same rows.

        Args:
            snapshot: Of this session, or of one of the same model, encoder and number of lanes.

        Raises:
            ConfigError: If it has another number of lanes.
        """
        if len(snapshot.trackers) != len(self._lanes):
            raise ConfigError(
                f"a snapshot has the session's {len(self._lanes)} lanes",
                got=f"{len(snapshot.trackers)}",
            )
        self._engine.place, self._noise.at = snapshot.place, snapshot.noise
        self._lanes.trackers = [tracker.copy() for tracker in snapshot.trackers]
        self._alike = snapshot.alike
        self._past.clear()

    def undo(self, notes: int = 1) -> None:
        """Take back the last notes, with all rows since the first of them.

        Noise is not taken back, so that other notes come in their place.

        Args:
            notes: How many, drawn or fed.

        Raises:
            ConfigError: If so many cannot be taken back.
        """
        if notes < 1:
            raise ConfigError("at least 1 note is taken back", got=f"{notes}")
        self._engine.place, rest = self._past.undo(notes)
        if len(rest):
            self.feed(rest)

    def run(
        self,
        *,
        notes: int | None = None,
        seconds: float | None = None,
        until: Until | None = None,
    ) -> list[Notes]:
        """Draw until every lane has reached one of its limits.

        Args:
            notes: New notes in each lane, or None for any number.
            seconds: New seconds in each lane, or None for any length.
            until: Told of a lane's music before each row, it says whether that lane stops.

        Returns:
            The new notes of each lane; 0 s is the onset of the last note before, if there was one.

        Raises:
            ConfigError: If no limit is given, or one is negative, infinite or NaN.
        """
        limits = Limits(notes, seconds, until)
        if limits == Limits():
            raise ConfigError("notes, seconds or until is given", got="none of them")
        goals = [Goal(limits.checked(), tracker) for tracker in self._lanes.trackers]
        done: list[Notes | None] = [None] * len(goals)
        with self._engine.using():
            if not self._parts.grammar and limits == Limits(notes):
                # One row a note: there is no need for a look at the trackers on the way.
                for _ in range(notes or 0):
                    self._draw({})
            drawn = 0
            while True:
                for i, (goal, tracker) in enumerate(zip(goals, self._lanes.trackers, strict=True)):
                    if done[i] is None and (
                        goal.reached(tracker)
                        or (drawn and drawn % LOST == 0 and goal.is_lost(tracker, i))
                    ):
                        done[i] = _new_notes(tracker, goal)
                if all(new is not None for new in done):
                    return cast(list[Notes], done)
                self._draw({})
                drawn += 1


def _new_notes(tracker: Tracker, goal: Goal) -> Notes:
    """What a lane has played since it set out, from its last note before on."""
    closing = tracker.closing()
    if len(closing):
        tracker = tracker.copy()
        for row in closing:
            tracker.push(row)
    new = tracker.notes()
    count = tracker.n - goal.n
    if count < len(new):
        new = new[len(new) - count :]
    if goal.zero:
        new = new.shifted(-goal.zero)
    held = goal.held(new.start)
    return new if held == len(new) else new[:held]


def _check(model: NoteModel, encoder: NoteEncoder, lanes: int, seed: int, undoable: int) -> None:
    if lanes < 1:
        raise ConfigError("a session has at least 1 lane", got=f"{lanes}")
    for name, value in (("a seed", seed), ("undoable", undoable)):
        if value < 0:
            raise ConfigError(f"{name} is at least 0", got=f"{value}")
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
