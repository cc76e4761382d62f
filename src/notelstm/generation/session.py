"""``Session``: a batch of sequences in the making."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from notelstm.encoders.rows import as_rows
from notelstm.errors import ConfigError, EncodingError, FieldError
from notelstm.fields import Rows
from notelstm.generation.engine import Engine
from notelstm.generation.goals import LOST, Goal, Limits, Until
from notelstm.generation.lanes import Lanes, rows_after
from notelstm.generation.noise import LaneNoise
from notelstm.generation.parts import (
    Parts,
    check_forced,
    check_parts,
    check_sampler,
)
from notelstm.generation.past import Past, Snapshot
from notelstm.notes import Note, Notes
from notelstm.protocols import (
    Feedback,
    NoteEncoder,
    NoteModel,
    Sampler,
    Tracker,
    TrackingEncoder,
)
from notelstm.sampling.settings import check_whole

__all__ = ["Session"]

_ROUNDED: Final = 1e-6
"""Seconds that float64 may be off."""


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
        ConfigError: If there are no lanes, the seed or `undoable` is negative.
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
        check_whole("lanes", lanes, 1)
        check_whole("a seed", seed)
        check_whole("undoable", undoable)
        check_sampler(sampler)
        check_parts(model, encoder)
        self._encoder: Final = encoder
        grammar = isinstance(encoder, TrackingEncoder)
        fields = {field.name: field for field in encoder.fields}
        self._parts: Final = Parts(model, sampler, feedback, fields, grammar)
        self._lanes: Final = Lanes(encoder, lanes)
        # By how much the session's clock is ahead of that of whoever feeds notes: their times are
        # rounded to what the encoder can say, and the next ones are measured from the true ones.
        self._ahead = 0.0
        self._noise = LaneNoise(seed, lanes, len(fields))
        self._engine: Final = Engine(self._parts, self._lanes)
        self._past: Final = Past(self._lanes, undoable if lanes == 1 else 0)

    @property
    def trackers(self) -> list[Tracker]:
        """Each lane's music so far."""
        return list(self._lanes.trackers)

    def feed(self, music: Rows | Notes | Note) -> None:
        """Let all lanes read the same, as if it had been drawn.

        Args:
            music: Rows (T, F); or, for encoders without a tracker of their own, notes that begin
                where the session stands or later, in seconds. Each is put as near to its time as
                the encoder can say; the next one is measured from the time that was given, so that
                notes may be fed as they are played.

        Raises:
            EncodingError: If they are not rows of the encoder's fields, or notes it cannot take.
        """
        if isinstance(music, Note):
            start, end, pitch, velocity = music
            music = Notes(start=[start], end=[end], pitch=[pitch], velocity=[velocity])
        last = float(music.start[-1]) if isinstance(music, Notes) and len(music) else None
        rows = self._rows_of(music) if isinstance(music, Notes) else music
        checked = as_rows(rows, self._encoder.fields)
        if not len(checked):
            return
        before = self._engine.place
        # Where rows may not fit what was played, the trackers say so before anything has changed.
        after = self._lanes.after(checked) if self._parts.grammar else None
        with self._engine.using():
            self._engine.read(checked)
        if after is None:
            self._lanes.add_all(checked)
        else:
            self._lanes.trackers = after
        self._past.add(checked, before)
        if last is not None:
            self._ahead = self._lanes.trackers[0].clock - last

    def _rows_of(self, notes: Notes) -> Rows:
        """Notes as rows that follow on what was played."""
        clock = self._lanes.trackers[0].clock - self._ahead
        if self._parts.grammar or not self._lanes.alike:
            raise EncodingError(
                "notes are fed to encoders without a tracker of their own, while lanes are alike",
                got=f"{type(self._encoder).__name__}, {len(self._lanes)} lanes",
                hint="feed rows",
            )
        if len(notes) and notes.start[0] < clock - _ROUNDED:
            raise EncodingError(
                f"notes begin where the session stands, at {clock:.6g} s, or later",
                got=f"{notes.start[0]:.6g} s",
                where="note 0",
                hint="feed notes in the order of their onsets",
            )
        return rows_after(clock, notes, self._encoder)

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
            FieldError: If a forced field does not exist, or cannot have that entry, ever or next;
                then nothing has changed.
        """
        check_forced(self._parts.fields, forced)
        with self._engine.using():
            return self._draw(forced)

    def _draw(self, forced: dict[str, float]) -> Rows:
        before, at = self._engine.place, self._noise.at
        try:
            rows = self._engine.draw(self._noise, forced)
        except FieldError:
            self._noise.at = at
            raise
        self._lanes.add(rows)
        self._past.add(rows, before)
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
        return Snapshot(
            self._engine.place,
            self._noise.seed,
            self._noise.at,
            trackers,
            self._lanes.alike,
            tuple(self._parts.fields.values()),
            self._ahead,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot: from there on the same calls give the same rows.

        Args:
            snapshot: Of this session, or of one of the same model, encoder and number of lanes; its
                seed is gone on with.

        Raises:
            ConfigError: If it has another number of lanes, or other fields.
        """
        if not isinstance(snapshot, Snapshot) or snapshot.fields != self._encoder.fields:
            raise ConfigError(
                "a snapshot is of a session with the same model and encoder",
                got="none" if not isinstance(snapshot, Snapshot) else "one with other fields",
            )
        if len(snapshot.trackers) != len(self._lanes):
            raise ConfigError(
                f"a snapshot has the session's {len(self._lanes)} lanes",
                got=f"{len(snapshot.trackers)}",
            )
        self._engine.place = snapshot.place
        if snapshot.seed != self._noise.seed:
            self._noise = LaneNoise(snapshot.seed, len(self._lanes), len(self._parts.fields))
        self._noise.at = snapshot.noise
        self._lanes.trackers = [tracker.copy() for tracker in snapshot.trackers]
        self._lanes.alike = snapshot.alike
        self._ahead = snapshot.ahead
        self._past.clear()

    def undo(self, notes: int = 1) -> None:
        """Take back the last notes, with all rows since the first of them.

        Noise is not taken back, so that other notes come in their place.

        Args:
            notes: How many, drawn or fed.

        Raises:
            ConfigError: If so many cannot be taken back.
        """
        check_whole("notes", notes, 1)
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
        limits = Limits(notes, seconds, until).checked()
        if limits == Limits():
            raise ConfigError("notes, seconds or until is given", got="none of them")
        done = dict(self.ends(limits))
        return [done[lane] for lane in range(len(self._lanes))]

    def ends(self, limits: Limits) -> Iterator[tuple[int, Notes]]:
        """Draw until every lane has reached its end.

        Args:
            limits: What ends a lane; at least one.

        Returns:
            Each lane's number and its new notes, as soon as they are played.
        """
        # With one row a note, and nobody who looks on the way, so many rows are so many notes.
        rows_are_notes = not self._parts.grammar and limits == Limits(limits.notes)
        return self._by_rows(limits.notes or 0) if rows_are_notes else self._by_goals(limits)

    def _by_rows(self, count: int) -> Iterator[tuple[int, Notes]]:
        with self._engine.using():
            table = self._lanes.table([self._draw({}) for _ in range(count)])  # (T, B, F)
        # In one go, since the rows of a lane are far apart.
        by_lane = table.transpose(1, 0, 2).copy()
        return ((i, self._encoder.decode(by_lane[i])) for i in range(len(self._lanes)))

    def _by_goals(self, limits: Limits) -> Iterator[tuple[int, Notes]]:
        going = {i: Goal(limits, tracker) for i, tracker in enumerate(self._lanes.trackers)}
        drawn = 0
        while True:
            for i, goal in list(going.items()):
                tracker = self._lanes.trackers[i]
                lost = drawn and drawn % LOST == 0
                if goal.reached(tracker) or (lost and goal.is_lost(tracker, i)):
                    del going[i]
                    yield i, goal.new_notes(tracker)
            if not going:
                return
            with self._engine.using():
                self._draw({})
            drawn += 1
