"""``Engine``: one model for all sessions, which continues pieces note by note."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from notelstm.bundle import Bundle
from notelstm.errors import DataError
from notelstm.fields import Field, Rows
from notelstm.generation import Session
from notelstm.generation.rows import Seed
from notelstm.generation.sequences import STALL_LIMIT
from notelstm.generation.session import Snapshot
from notelstm.generation.writing import WritingTask, can_write, writing_steps
from notelstm.models.inference import HasNumpyStep, NumpyStep, in_use
from notelstm.notes import Notes, TempoMap
from notelstm.parts import Part, PartMap
from notelstm.protocols import NoteModel, Prediction, Sampler, SamplingContext
from notelstm.sampling.masking import allow_only, constrain_interval

__all__ = ["STRIDE", "Continuation", "Engine", "Memory", "Played", "first_read", "notes_of"]

_CONTEXT: Final = 160
"""The notes at the end of a piece that a model reads at least; they take it 30 ms."""
STRIDE: Final = 512
"""The first note that is read moves in steps of so many notes, between which only new ones are."""
_CHECKPOINT: Final = 8
"""Rows between two of the latest states of the model that are kept; the rows read in a call."""
_LATEST: Final = 128
"""Rows after the first of these states: more than are sampled ahead of the play head."""
_SPARSE: Final = 8
"""The share of the earlier states that are kept is one in so many."""
_ROWS_AT_ONCE: Final = 2
"""The rows that are sampled in a call, so that the sessions of a server take turns."""
_SESSIONS: Final = 32
"""The most sessions of a model: with more continuations at a time, they take turns."""
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
    at rows before the first difference are still right. The rows that a continuation samples have
    been read by the model as well, whether or not all of them will be part of the piece.

    Attributes:
        engine: The engine of the model, None if nothing was read.
        rows: (N, F) the rows that were read.
        states: States of the model by the number of rows that it had read.
        first: The number of the first note of the piece that was read.
        last: The number of the first note that was not.
        begin: The number of rows after which the latest continuation began.
        continuation: The continuation whose rows are the last, None if they are those of a piece.
    """

    engine: Engine | None = None
    rows: Rows = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    states: dict[int, Snapshot] = dataclasses.field(default_factory=dict)
    first: int = 0
    last: int = 0
    begin: int = 0
    continuation: Continuation | None = None

    def cut(self, engine: Engine, rows: Rows) -> int:
        """Forget all but a state that was reached by the first of some rows (N, F).

        Returns:
            The number of the rows that led to it.
        """
        if self.engine is not engine:
            self.engine, self.rows = engine, rows[:0]
        count = min(len(rows), len(self.rows))
        differ = (rows[:count] != self.rows[:count]).any(axis=1)
        shared = int(differ.argmax()) if differ.any() else count
        self.states = {n: state for n, state in self.states.items() if n <= shared}
        last = max(self.states, default=0)
        self.rows, self.continuation = rows[:last], None
        return last

    def add(self, rows: Rows, session: Session) -> None:
        """Add rows (N, F) that a session has read after the others, and maybe its state."""
        self.rows = np.concatenate([self.rows, rows])
        count = len(self.rows)
        if self.continuation is None or count % _CHECKPOINT == 0:
            self.states[count] = session.snapshot()
            latest = count - _LATEST
            self.states = {
                n: state
                for n, state in self.states.items()
                if n in (self.begin, count)
                or (n % _CHECKPOINT == 0 and (n > latest or n // _CHECKPOINT % _SPARSE == 0))
            }


def first_read(count: int) -> int:
    """The number of the first note that is read of a piece of `count` notes."""
    return max(0, (count - _CONTEXT) // STRIDE * STRIDE)


@final
@dataclasses.dataclass(eq=False)
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
    """A model that reads and continues the pieces of all players.

    Each job uses one of a few sessions. A continuation finds its own as it left it, unless there
    are so many that another one has taken it.

    Thread-safe, one job at a time.

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
        self._model: Final = _OneStep(bundle.generation_model)
        self._sessions: Final = [self._new_session()]
        self._session_of: Final[WeakKeyDictionary[Continuation, Session]] = WeakKeyDictionary()
        self._initial: Final = self._sessions[0].snapshot()
        # The first rows of a process take many times as long as later ones.
        memory = Memory()
        self.read(memory, ())
        self.advance(self.begin(memory, (), bundle.sampler, 0), memory, 0.0)

    def _new_session(self) -> Session:
        bundle = self.bundle
        return Session(
            self._model,
            bundle.encoder,
            bundle.sampler,
            input_transform=bundle.input_transform,
            max_undo=0,
        )

    @contextlib.contextmanager
    def _session(
        self, snapshot: Snapshot, sampler: Sampler, user: Continuation | None = None
    ) -> Iterator[Session]:
        """A session in the state of a snapshot.

        Args:
            snapshot: The snapshot.
            sampler: The sampler.
            user: The continuation whose latest snapshot this is, if it is one.
        """
        with self._lock:
            session = None if user is None else self._session_of.pop(user, None)
            if session is None:
                session = self._free_session()
                session.restore(snapshot)
            if session.sampler is not sampler:
                session.sampler = sampler
            yield session
            if user is not None:
                user.snapshot = session.snapshot()
                self._session_of[user] = session

    def _free_session(self) -> Session:
        """A session that no continuation has, or that of the one that has waited for longest."""
        taken = {id(session) for session in self._session_of.values()}
        for session in self._sessions:
            if id(session) not in taken:
                return session
        if len(self._sessions) < _SESSIONS:
            self._sessions.append(self._new_session())
            return self._sessions[-1]
        return self._session_of.pop(next(iter(self._session_of)))

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
        for _ in self.read_steps(memory, played, tempo_map):
            pass
        return self._state(memory)

    def _state(self, memory: Memory) -> Snapshot:
        """The state after the piece of a memory."""
        return memory.states.get(len(memory.rows), self._initial)

    def read_steps(
        self, memory: Memory, played: Sequence[Played], tempo_map: TempoMap | None = None
    ) -> Iterator[None]:
        """Read a piece in steps of a few milliseconds; arguments as for :meth:`read`.

        Yields:
            Between two steps. They can be left there, and the piece be read another time.
        """
        first = first_read(len(played))
        beats = tempo_map or TempoMap(time_signature_beats=[0], numerators=[4], denominators=[4])
        notes = self._with_parts(notes_of(played[first:], beats), played[first:])
        # The piece goes on: its last note so far is not its end.
        rows = self.bundle.encoder.encode(dataclasses.replace(notes, truncated=True))
        least = self.bundle.context_length
        if least is not None and 0 < len(rows) < least:
            raise DataError(
                f"the model continues {least} notes or more, not {len(rows)}",
                hint="play more notes, or start without any",
            )
        last, memory.first = memory.cut(self, rows), first
        while last < len(rows):
            after = min((last // _CHECKPOINT + 1) * _CHECKPOINT, len(rows))
            state = memory.states.get(last, self._initial)
            with self._session(state, self.bundle.sampler) as session:
                session.feed(rows[last:after])
                session.pop_finished()
                memory.add(rows[last:after], session)
            last = after
            if last < len(rows):
                yield
        memory.last = len(played)

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
        self, memory: Memory, played: Sequence[Played], sampler: Sampler, seed: int
    ) -> Continuation:
        """Begin to continue a piece that has been read.

        Args:
            memory: The memory of the piece. The rows of the continuation are added to it, until
                another piece is read.
            played: The notes of the piece.
            sampler: The sampler.
            seed: The random seed.
        """
        state = self._state(memory)
        tracker = state.trackers[0]
        last = float(tracker.latest(1)[0][0]) if tracker.num_notes else 0.0
        continuation = Continuation(
            snapshot=dataclasses.replace(state, seeds=(Seed(seed),), noise=(0,)),
            sampler=sampler,
            zero=(played[-1].start if played else 0.0) - last,
            first=tracker.num_notes,
            instrument=_most_common(played[-_CONTEXT:]),
        )
        memory.begin = len(memory.rows)
        # A model whose input is transformed does not read the rows that it samples.
        if self.bundle.input_transform is None:
            memory.continuation = continuation
        return continuation

    def first_onset(
        self, continuation: Continuation, memory: Memory, earliest: float | None = None
    ) -> float:
        """Sample up to the first new note.

        Args:
            continuation: The continuation, which is advanced.
            memory: The memory with which it began.
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
        with self._session(continuation.snapshot, sampler, continuation) as session:
            while (tracker := session.trackers[0]).num_notes == continuation.first:
                if continuation.stalled:
                    return float("inf")
                _sample(session, continuation, memory)
            return continuation.zero + float(tracker.latest(1)[0][0])

    def advance(
        self, continuation: Continuation, memory: Memory, until: float
    ) -> tuple[list[Played], bool]:
        """Sample a few rows; none before the first notes have been returned.

        Args:
            continuation: The continuation, which is advanced.
            memory: The memory with which it began.
            until: The time in the piece up to which notes are wanted, seconds.

        Returns:
            The new notes whose end is known, and whether to call again for the same time.
        """
        wanted = until - continuation.zero
        is_first = not continuation.taken
        with self._session(continuation.snapshot, continuation.sampler, continuation) as session:
            made = self._finished(session, continuation)
            for _ in range(_ROWS_AT_ONCE):
                tracker = session.trackers[0]
                complete = tracker.num_notes - continuation.first == continuation.taken
                if tracker.time >= wanted + (0.0 if complete else _LONGEST_HOLD):
                    return made, False
                if continuation.stalled or (is_first and made):
                    break
                _sample(session, continuation, memory)
                made += self._finished(session, continuation)
        return made, not continuation.stalled

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


def _sample(session: Session, continuation: Continuation, memory: Memory) -> None:
    """Sample a row."""
    row = session.next()
    tracker = session.trackers[0]
    continuation.count_row(tracker.num_notes, tracker.time)
    if memory.continuation is continuation:
        memory.add(row, session)


@final
class _OneStep(nn.Module):
    """A model with a single numpy step, which all sessions share.

    Args:
        model: The model.
    """

    def __init__(self, model: NoteModel) -> None:
        super().__init__()
        self._model = model
        with in_use(model):
            self._step: Final = model.numpy_step() if isinstance(model, HasNumpyStep) else None

    def numpy_step(self) -> NumpyStep | None:
        """The step, with the weights of the beginning."""
        return self._step

    @property
    def fields(self) -> tuple[Field, ...]:
        return self._model.fields

    @property
    def field_order(self) -> tuple[str, ...]:
        return self._model.field_order

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        return self._model.initial_state(batch_size)

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        return self._model.forward(rows, state)

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        return self._model.predict(field, context, known)


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
    kinds = Counter((note.program, note.drum) for note in played)
    return kinds.most_common(1)[0][0] if kinds else (0, False)


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
