"""``Engine``: one model for all sessions, which continues pieces note by note."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch

from notelstm.bundle import Bundle
from notelstm.errors import DataError
from notelstm.fields import Field, Rows
from notelstm.generation import Session
from notelstm.generation.rows import Seed
from notelstm.generation.sequences import STALL_LIMIT
from notelstm.generation.session import Snapshot
from notelstm.generation.writing import WritingTask, can_write, writing_steps
from notelstm.notes import Notes, TempoMap
from notelstm.parts import Part, PartMap
from notelstm.protocols import Prediction, Sampler, SamplingContext
from notelstm.sampling.masking import allow_only, constrain_interval

__all__ = ["STRIDE", "Continuation", "Engine", "Memory", "Played", "notes_of"]

_CONTEXT: Final = 192
"""The notes at the end of a piece that a model reads at least; they take it 20 ms."""
STRIDE: Final = 128
"""The first note that is read moves in steps of so many notes, between which only new ones are."""
_CHECKPOINT: Final = 8
"""Rows between two states of the model that are kept."""
_ROWS_AT_ONCE: Final = 4
"""The rows that are sampled in a call, so that the sessions of a server take turns."""
_READ_AT_ONCE: Final = 32
"""The rows that are read in a call; reading one takes a fraction of the time of sampling it."""
_FOLLOWING: Final = 30.0
"""Seconds after a span whose notes are given to the model that fills it."""
_LONGEST_HOLD: Final = 12.0
"""Seconds that are sampled ahead for the end of a note, where it is an event of its own."""
_ROUNDED: Final = 1e-6


class Played(NamedTuple):
    """A note of a piece, in seconds from the start of the piece.

    Attributes:
        start: Onset.
        end: Release.
        pitch: MIDI note number.
        velocity: MIDI velocity.
        program: General MIDI program.
        drum: Whether it is percussion.
        part: The name of its part or track, "" if it has none.
    """

    start: float
    end: float
    pitch: int
    velocity: int
    program: int = 0
    drum: bool = False
    part: str = ""


def notes_of(played: Sequence[Played], tempo_map: TempoMap | None = None) -> Notes:
    """Notes as a piece whose first one starts at 0 s.

    Args:
        played: The notes, in the order of their onsets.
        tempo_map: The tempo map of the piece from which they are, or None.
    """
    zero = played[0].start if played else 0.0
    columns = zip(*played, strict=True) if played else ([],) * len(Played._fields)
    start, end, pitch, velocity, program, drum, part = (list(column) for column in columns)
    track = {name: number for number, name in enumerate(dict.fromkeys(part))}
    return Notes(
        start=np.maximum(np.array(start) - zero, 0.0),
        end=np.maximum(np.array(end) - zero, 0.0),
        pitch=pitch,
        velocity=velocity,
        program=program,
        drum=drum,
        track=[track[name] for name in part],
        track_names=tuple(track),
        tempo_map=tempo_map and tempo_map.shifted(-zero),
    )


@final
@dataclasses.dataclass
class Memory:
    """What a model has read of a piece, so that it reads only what is new.

    The rows of a piece are those of its beginning, followed by new ones; the states that were kept
    at rows before the first difference are still right.

    Attributes:
        engine: The engine of the model, None if nothing was read.
        rows: (N, F) the rows that were read.
        states: States of the model by the number of rows that it had read.
    """

    engine: Engine | None = None
    rows: Rows = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    states: dict[int, Snapshot] = dataclasses.field(default_factory=dict)

    def shared(self, rows: Rows) -> int:
        """The number of first rows that are the same as those that were read."""
        count = min(len(rows), len(self.rows))
        differ = (rows[:count] != self.rows[:count]).any(axis=1)
        return int(differ.argmax()) if differ.any() else count


def _first_read(count: int) -> int:
    """The number of the first note that is read of a piece of `count` notes."""
    return max(0, (count - _CONTEXT) // STRIDE * STRIDE)


@final
@dataclasses.dataclass
class Continuation:
    """A continuation of a piece that is being sampled.

    Attributes:
        snapshot: The state of the model.
        sampler: The sampler of the next rows.
        zero: The time in the piece at which the time of the model is 0 s.
        first: The number of notes that the model has read.
        instrument: Program and percussion of the notes of a model without instruments.
        taken: The number of new notes whose end is known.
        mark: Notes and time of the model when it last made progress.
        idle: Rows since then.
        stalled: Whether these are too many.
    """

    snapshot: Snapshot
    sampler: Sampler
    zero: float
    first: int
    instrument: tuple[int, bool]
    taken: int = 0
    mark: tuple[int, float] = (0, -1.0)
    idle: int = 0

    @property
    def stalled(self) -> bool:
        """Whether there was no new note, or all at one time, in the last rows."""
        return self.idle >= STALL_LIMIT

    def count_row(self, num_notes: int, time: float) -> None:
        """Count a row, after which the model has a number of notes and a time."""
        self.idle += 1
        if num_notes > self.mark[0] and time > self.mark[1]:
            self.mark, self.idle = (num_notes, time), 0


@final
class Engine:
    """A model whose sessions are shared: each job borrows one and puts back a snapshot.

    Thread-safe.

    Args:
        bundle: The model.

    Attributes:
        bundle: The same.
        parts: The model's parts, by their classes, each with a name of its own.

    Raises:
        DataError: If a parameter of the model is NaN or infinite.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle: Final = bundle
        self._lock: Final = threading.Lock()
        parts = getattr(bundle.encoder, "parts", None)
        self._parts: Final = parts if isinstance(parts, PartMap) else None
        self.parts: Final[tuple[Part, ...]] = () if self._parts is None else _named(self._parts)
        self._class_of: Final = {part.name: k for k, part in enumerate(self.parts)}
        session = self._new_session()
        self._initial: Final = session.snapshot()
        self._free: Final = [session]
        # The first rows of a process take many times as long as later ones.
        self.advance(self.begin(Memory(), (), bundle.sampler, 0), 0.0, rows=2)

    def _new_session(self) -> Session:
        bundle = self.bundle
        return Session(
            bundle.generation_model,
            bundle.encoder,
            bundle.sampler,
            input_transform=bundle.input_transform,
            max_undo=0,
        )

    @contextlib.contextmanager
    def _session(self, snapshot: Snapshot, sampler: Sampler) -> Iterator[Session]:
        with self._lock:
            session = self._free.pop() if self._free else None
        session = session or self._new_session()
        session.restore(snapshot)
        if session.sampler is not sampler:
            session.sampler = sampler
        try:
            yield session
        finally:
            with self._lock:
                self._free.append(session)

    def read(
        self, memory: Memory, played: Sequence[Played], tempo_map: TempoMap | None = None
    ) -> Snapshot:
        """Read a piece: only what is not in the memory already.

        Args:
            memory: What was read before, which is updated.
            played: The notes, sorted; may be none.
            tempo_map: The tempo map of the piece, or None for 120 beats per minute.

        Returns:
            The state after the piece.

        Raises:
            DataError: If the piece is shorter than the model's context.
            EncodingError: If it is outside the encoder's domain.
        """
        while self.read_part(memory, played, tempo_map):
            pass
        return memory.states.get(len(memory.rows), self._initial)

    def read_part(
        self, memory: Memory, played: Sequence[Played], tempo_map: TempoMap | None = None
    ) -> bool:
        """Read the next rows of a piece, some milliseconds' worth; arguments as for :meth:`read`.

        Returns:
            Whether there are more.
        """
        read = played[_first_read(len(played)) :]
        beats = tempo_map or TempoMap(time_signature_beats=[0], numerators=[4], denominators=[4])
        rows = self.bundle.encoder.encode(self._with_parts(notes_of(read, beats), read))
        least = self.bundle.context_length
        if least is not None and 0 < len(rows) < least:
            raise DataError(
                f"the model continues {least} notes or more, not {len(rows)}",
                hint="play more notes, or start without any",
            )
        shared = memory.shared(rows) if memory.engine is self else 0
        kept = {n: state for n, state in memory.states.items() if 0 < n <= shared}
        last = max(kept, default=0)
        end = min(last + _READ_AT_ONCE, len(rows))
        with self._session(kept.get(last, self._initial), self.bundle.sampler) as session:
            for n in range(last, end, _CHECKPOINT):
                session.feed(rows[n : min(n + _CHECKPOINT, end)])
                session.pop_finished()
                kept[min(n + _CHECKPOINT, end)] = session.snapshot()
        memory.engine, memory.rows, memory.states = self, rows[:end], kept
        return end < len(rows)

    def _with_parts(self, notes: Notes, played: Sequence[Played]) -> Notes:
        """The notes with the classes of the model's parts as tracks: by name, else by program."""
        if self._parts is None or not played:
            return notes
        classes = np.array([self._class_of.get(note.part, -1) for note in played])
        other = np.flatnonzero(classes < 0)
        classes[other] = self._parts.classes_of(dataclasses.replace(notes[other], track=None))
        names = tuple(part.name for part in self._parts.classes)
        return dataclasses.replace(notes, track=classes, track_names=names)

    def begin(
        self,
        memory: Memory,
        played: Sequence[Played],
        sampler: Sampler,
        seed: int,
        tempo_map: TempoMap | None = None,
    ) -> Continuation:
        """Begin to continue a piece.

        Args:
            memory: As for :meth:`read`, as are `played` and `tempo_map`.
            played: The notes of the piece.
            sampler: The sampler.
            seed: The random seed.
            tempo_map: The tempo map of the piece.

        Raises:
            DataError: If the piece is shorter than the model's context.
            EncodingError: If it is outside the encoder's domain.
        """
        state = self.read(memory, played, tempo_map)
        tracker = state.trackers[0]
        last = float(tracker.latest(1)[0][0]) if tracker.num_notes else 0.0
        return Continuation(
            snapshot=dataclasses.replace(state, seeds=(Seed(seed),), noise=(0,)),
            sampler=sampler,
            zero=(played[-1].start if played else 0.0) - last,
            first=tracker.num_notes,
            instrument=_most_common(played[-_CONTEXT:]),
        )

    def first_onset(self, continuation: Continuation, earliest: float | None = None) -> float:
        """Sample up to the first new note.

        Args:
            continuation: The continuation, which is advanced.
            earliest: A time in the piece before which the note shall not start, if the model can
                be constrained to it; None for any time.

        Returns:
            The onset of the note, seconds from the start of the piece; infinite if there is none.
        """
        sampler = continuation.sampler
        own = getattr(sampler, "processors", None)
        if earliest is not None and isinstance(own, tuple):
            first = _NotBefore(earliest - continuation.zero)
            sampler = dataclasses.replace(cast(Any, sampler), processors=(first, *own))
        with self._session(continuation.snapshot, sampler) as session:
            while (tracker := session.trackers[0]).num_notes == continuation.first:
                if continuation.stalled:
                    return float("inf")
                session.next()
                continuation.count_row(session.trackers[0].num_notes, session.trackers[0].time)
            continuation.snapshot = session.snapshot()
            return continuation.zero + float(tracker.latest(1)[0][0])

    def advance(
        self, continuation: Continuation, until: float, rows: int = _ROWS_AT_ONCE
    ) -> tuple[list[Played], bool]:
        """Sample a few rows.

        Args:
            continuation: The continuation, which is advanced.
            until: The time in the piece up to which notes are wanted, seconds.
            rows: The most rows.

        Returns:
            The new notes whose end is known, and whether to call again for the same time.
        """
        wanted = until - continuation.zero
        made: list[Played] = []
        more = True
        with self._session(continuation.snapshot, continuation.sampler) as session:
            for _ in range(0 if continuation.stalled else rows):
                made += self._finished(session, continuation)
                tracker = session.trackers[0]
                complete = tracker.num_notes - continuation.first == continuation.taken
                if tracker.time >= wanted + (0.0 if complete else _LONGEST_HOLD):
                    more = False
                    break
                session.next()
                continuation.count_row(session.trackers[0].num_notes, session.trackers[0].time)
            continuation.snapshot = session.snapshot()
        more &= not continuation.stalled
        return made, more

    @property
    def fills(self) -> bool:
        """Whether the model can write between notes that are given."""
        return can_write(self.bundle)

    def fill(
        self,
        played: Sequence[Played],
        start: float,
        end: float,
        sampler: Sampler,
        seed: int,
        tempo_map: TempoMap | None = None,
    ) -> Generator[None, None, list[Played]]:
        """Write a span of a piece anew, step by step.

        Args:
            played: The notes of the piece, sorted.
            start: The begin of the span, seconds from the start of the piece.
            end: Its excluded end.
            sampler: The sampler.
            seed: The random seed.
            tempo_map: The tempo map of the piece, or None for 120 beats per minute.

        Yields:
            After some rows.

        Returns:
            The new notes, in the order of their onsets, in place of those that begin in the span.

        Raises:
            ConfigError: If the model cannot be given notes.
            EncodingError: If the piece is outside the encoder's domain.
        """
        onsets = [note.start for note in played]
        first = max(0, bisect.bisect_left(onsets, start) - _CONTEXT)
        read = played[first : bisect.bisect_right(onsets, end + _FOLLOWING)]
        zero = min([start, *(note.start for note in read[:1])])
        notes = self._with_parts(notes_of(read, tempo_map), read)
        if read:
            notes = notes.shifted(read[0].start - zero)
        task = WritingTask(notes=notes, start=start - zero, end=end - zero, replace=True)
        (written,) = yield from writing_steps(self.bundle, [task], sampler=sampler, seed=seed)
        instrument, zeros = _most_common(read), np.zeros(len(written.notes), np.int64)
        columns = (written.notes.program, written.notes.drum, written.notes.track)
        program, drum, track = (zeros if column is None else column for column in columns)
        made = []
        for i in np.flatnonzero(written.new).tolist():
            kind, part = instrument, ""
            if self._parts is not None:
                # Tracks are classes, see _with_parts.
                kind, part = (int(program[i]), bool(drum[i])), self.parts[int(track[i])].name
            begin, release = float(written.notes.start[i]), float(written.notes.end[i])
            pitch, velocity = int(written.notes.pitch[i]), int(written.notes.velocity[i])
            made.append(Played(zero + begin, zero + release, pitch, velocity, *kind, part))
        return made

    def _finished(self, session: Session, continuation: Continuation) -> list[Played]:
        """The new notes that have ended since the last call."""
        made = []
        for number, note in session.pop_finished()[0]:
            if number < continuation.first:
                continue
            continuation.taken += 1
            (program, drum), part = continuation.instrument, ""
            if self._parts is not None:
                program, drum = int(note.program), bool(note.drum)
                part = self.parts[int(note.track)].name
            start = continuation.zero + float(note.start)
            end = continuation.zero + float(note.end)
            made.append(
                Played(start, end, int(note.pitch), int(note.velocity), program, drum, part)
            )
        return made


def _named(parts: PartMap) -> tuple[Part, ...]:
    """The part of each class; those with one name are numbered."""
    names = [part.name for part in parts.classes]
    return tuple(
        part
        if names.count(part.name) == 1
        else dataclasses.replace(part, name=f"{part.name} {1 + names[:k].count(part.name)}")
        for k, part in enumerate(parts.classes)
    )


def _most_common(played: Sequence[Played]) -> tuple[int, bool]:
    """The program and kind of most notes; a piano if there are none."""
    kinds = [(note.program, note.drum) for note in played]
    return max(kinds, key=kinds.count) if kinds else (0, False)


@final
@dataclasses.dataclass(frozen=True)
class _NotBefore:
    """A processor that limits the step of a note so that it starts at `time` or later.

    Attributes:
        time: Seconds since the start of the sequence.
    """

    time: float

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a step in seconds."""
        if field.role != "step" or field.unit != "s":
            return prediction
        least = [self.time - context.tracker.time for context in contexts]
        if field.is_categorical:
            values = np.array(field.values)
            return allow_only(prediction, [values >= low - _ROUNDED for low in least])
        mode = prediction.mode()
        low = mode.new_tensor(least).clamp(*field.interval)
        return constrain_interval(prediction, low, torch.full_like(mode, field.interval.high))
