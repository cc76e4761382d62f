"""``Performance``: the piece that one client and the model play in turns, and its takes.

Time is kept twice: in the piece, whose turns follow each other, and on the client's clock, which
also runs while nothing is played. The two differ by an offset that is set when a turn begins.
"""

from __future__ import annotations

import bisect
import dataclasses
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, final

from notelstm.notes import Notes, TempoMap
from notelstm.play.controls import Controls
from notelstm.play.engine import (
    STRIDE,
    Continuation,
    Engine,
    Memory,
    Played,
    first_read,
    notes_of,
)
from notelstm.play.limits import Limits
from notelstm.play.protocol import Message, RefusedError, Reply

__all__ = ["AHEAD", "Performance", "Take"]

AHEAD: Final = 2.0
"""Seconds ahead of the play head up to which notes are sent."""

_AT_ONCE: Final = 60.0
"""The most seconds of music for one message, whatever the client's clock says."""
_UNREAD: Final = 4
"""The new notes of the player after which the model reads them."""
_UNREAD_PLAYING: Final = 16
"""The notes of the model that have sounded after which it reads them, where it has to."""
_MARGIN: Final = 0.25
"""Seconds after the play head from which notes are replaced when a control changes."""
_AFTER_CHORD: Final = 0.05
"""Seconds within which notes would belong to the chord before."""
_LONGEST_REST: Final = 2.0
"""Seconds of silence that are kept in a piece; longer waits are not music."""
_SHOWN: Final = 256
"""The number of notes that a client gets to draw a piece."""
_DIGITS: Final = 6
"""Decimals of times in a piece; differences of a clock's times have rounding errors beyond them."""
_SEEDS: Final = 2**31
_FILLS_KEPT: Final = 8
"""The spans that can be undone, one after another."""
_AT_A_LATER_TIME: Final = frozenset({"continue", "again"})
"""The messages whose time may lie ahead of the clock: when the model shall begin."""

By: TypeAlias = Literal["you", "model"]
Reason: TypeAlias = Literal["length", "stopped", "interrupted", "stalled"]


@final
@dataclasses.dataclass
class _Turn:
    """Notes that one of the two has played.

    Attributes:
        by: The player.
        notes: The notes, in the order of their onsets.
        take: The number of the take that the model plays, or None.
    """

    by: By
    notes: list[Played]
    take: int | None = None


@final
@dataclasses.dataclass
class Take:
    """A continuation that the model has played, with the piece before it.

    Attributes:
        number: Its number, from 1.
        model: The name of the model.
        seed: The random seed.
        controls: The controls at its end.
        prompt: The notes before it.
        notes: Its notes.
        tempo_map: The tempo map of the piece, if it came from a file.
        kept: Whether it is kept.
        dropped: The number of its first notes that made room for later ones.
        until: The time in the piece from which notes are those before it was filled; infinite for
            a continuation.
    """

    number: int
    model: str
    seed: int
    controls: Controls
    prompt: list[Played]
    notes: list[Played]
    tempo_map: TempoMap | None
    kept: bool = False
    dropped: int = 0
    until: float = float("inf")

    def piece(self) -> Notes:
        """The prompt and the take as one piece."""
        return notes_of([*self.prompt, *self.notes], self.tempo_map)

    def summary(self) -> Reply:
        """The take in the list of takes."""
        return {
            "take": self.number,
            "kept": self.kept,
            "model": self.model,
            "seed": self.seed,
            "controls": self.controls.to_json(),
            "prompt_notes": len(self.prompt),
            "notes": len(self.notes),
            "seconds": round(_end(self.notes) - self.notes[0].start, 3) if self.notes else 0.0,
            "dropped": self.dropped,
        }


class _Key(NamedTuple):
    """A key of an instrument."""

    pitch: int
    program: int
    drum: bool
    part: str


class _Open(NamedTuple):
    """A key that is held: the onset of its note in the piece, and its velocity."""

    start: float
    velocity: int


@final
@dataclasses.dataclass
class _Playing:
    """The turn of the model.

    Attributes:
        take: The take.
        begin: The time of the clock at which it begins.
        offset: The offset of the clock before that time.
        continuation: The continuation, as far as it is sampled.
        until: The time in the piece at which it ends, infinite if it is not limited.
        sent: The time of the clock up to which its notes have been asked for.
        latest: The time of the clock of the last onset that has been sent.
    """

    take: Take
    begin: float
    offset: float | None
    continuation: Continuation
    until: float
    sent: float
    latest: float


@final
class Performance:
    """The piece, the takes and the controls of one client.

    A message is handled in steps, between which the messages of other clients are handled.

    Args:
        engines: The models by name, at least one; the first is used until another is chosen.
        limits: The limits.
    """

    def __init__(self, engines: Mapping[str, Engine], limits: Limits) -> None:
        self._engines: Final = engines
        self._limits: Final = limits
        self.model: str = next(iter(engines))
        self.controls: Controls = Controls()
        self.file: Notes | None = None
        self.takes: Final[dict[int, Take]] = {}
        self._last_take = 0
        self._clock_name: str | None = None
        self._handlers: Final[Mapping[str, Callable[..., Iterator[list[Reply]]]]] = {
            "note-on": self._note_on,
            "note-off": self._note_off,
            "notes": self._notes,
            "continue": self._continue,
            "again": self._again,
            "head": self._head,
            "steer": self._steer,
            "piece": self._show,
            "fill": self._fill,
            "stop": self._stop,
            "undo": self._undo,
            "clear": self._clear,
            "model": self._model,
            "prompt": self._prompt,
            "keep": self._keep,
            "delete": self._delete,
            "take": self._take,
        }
        self._reset()

    def _reset(self) -> None:
        """Begin an empty piece."""
        self._turns: list[_Turn] = []
        # The turns before each span that was filled since the last note.
        self._before_fills: deque[list[_Turn]] = deque(maxlen=_FILLS_KEPT)
        self._open: dict[_Key, _Open] = {}
        self._playing: _Playing | None = None
        self._offset: float | None = None
        self._clock = 0.0
        self._tempo_map: TempoMap | None = None
        self._memory = Memory()

    def attach(self, clock: str, at: float) -> None:
        """Connect a client.

        Args:
            clock: The name of its clock: if it is that of the last client, the clock has gone on.
            at: The time on it, seconds.
        """
        if clock == self._clock_name:
            self._clock = max(self._clock, at)
            return
        if self._clock_name is not None:
            self._finish(self._clock, "stopped")
            self._close_keys(self._clock)
        self._clock_name, self._clock = clock, at
        self._offset = at - self._end() if self._turns else None

    def handle(self, message: Message) -> Iterator[list[Reply]]:
        """Handle a message, step by step.

        Yields:
            The replies of each step, which may take some milliseconds.

        Raises:
            RefusedError: If the message is not possible now; the state is as it was before.
            NotelstmError: If the model cannot do it.
        """
        values = dict(message.values)
        if "at" in values:
            # A clock that seems to go back was only overtaken by another message.
            values["at"] = max(self._clock, values["at"])
            if message.type not in _AT_A_LATER_TIME:
                self._clock = values["at"]
        return self._handlers[message.type](**values)

    @property
    def seconds_ahead(self) -> float:
        """Seconds of music that have been sent ahead of the play head."""
        return 0.0 if self._playing is None else max(0.0, self._playing.latest - self._clock)

    def state(self) -> list[Reply]:
        """The messages with the whole state, for a client that has just connected."""
        playing = None if self._playing is None else self._playing.take.number
        return [
            {"type": "controls", "controls": self.controls.to_json(), "model": self.model},
            self._takes_reply(),
            {**self._piece_reply(), "playing": playing},
        ]

    # What the player does.

    def _note_on(
        self, pitch: int, velocity: int, at: float, program: int, drum: bool, part: str
    ) -> Iterator[list[Reply]]:
        replies = self._finish(at, "interrupted")
        key = _Key(pitch, program, drum, part)
        self._release(key, at)
        self._open[key] = _Open(self._time_of_new_note(at), velocity)
        yield replies

    def _note_off(
        self, pitch: int, at: float, program: int, drum: bool, part: str
    ) -> Iterator[list[Reply]]:
        self._release(_Key(pitch, program, drum, part), at)
        yield []

    def _notes(self, notes: Sequence[Mapping[str, Any]]) -> Iterator[list[Reply]]:
        ordered = sorted(notes, key=lambda note: float(note["start"]))
        replies = self._finish(ordered[0]["start"], "interrupted")
        for note in ordered:
            start = self._time_of_new_note(note["start"])
            end = round(start + note["end"] - note["start"], _DIGITS)
            self._add(Played(**{**note, "start": start, "end": end}))
        yield replies

    def _time_of_new_note(self, at: float) -> float:
        """The time in the piece of a note of the player; a long silence before it is cut."""
        end = max([self._end(), *(note.start for note in self._open.values())])
        if self._offset is None:
            self._offset = at
        elif not self._open and at - self._offset > end + _LONGEST_REST:
            self._offset = at - end - _LONGEST_REST
        return max(self._time_at(at), self._last_onset())

    def _release(self, key: _Key, at: float) -> None:
        """End a note of the player, if it is held."""
        held = self._open.pop(key, None)
        if held is not None and self._offset is not None:
            end = max(held.start, self._time_at(at))
            self._add(Played(held.start, end, velocity=held.velocity, **key._asdict()))

    def _close_keys(self, at: float) -> None:
        for key in list(self._open):
            self._release(key, at)

    def _add(self, note: Played) -> None:
        """Add a note of the player to the piece."""
        self._before_fills.clear()
        if not self._turns or self._turns[-1].by != "you":
            self._turns.append(_Turn("you", []))
        bisect.insort(self._turns[-1].notes, note)
        self._make_room()

    # What the model does.

    def _continue(
        self, at: float, seconds: float | None, seed: int | None
    ) -> Iterator[list[Reply]]:
        if self._playing is not None:
            length = float("inf") if seconds is None else at - self._time_zero() + seconds
            self._playing.until = length
            yield []
            return
        self._close_keys(at)
        yield from self._play(at, seconds, seed)

    def _again(self, at: float, seconds: float | None, seed: int | None) -> Iterator[list[Reply]]:
        if not self._turns or self._turns[-1].take is None:
            raise RefusedError("not-now", "there is no continuation to replace")
        yield from self._play(at, seconds, seed, replaced=self._turns[-1])

    def _play(
        self, at: float, seconds: float | None, seed: int | None, replaced: _Turn | None = None
    ) -> Iterator[list[Reply]]:
        """Let the model continue the piece, without the turn `replaced`, from the time `at` on."""
        self._check_room_for_take()
        seed = secrets.randbelow(_SEEDS) if seed is None else seed
        engine = self._engines[self.model]
        prompt = [note for turn in self._turns if turn is not replaced for note in turn.notes]
        sampler = self.controls.sampler_for(engine.bundle)
        yield from self._read(engine, self._memory, prompt)
        continuation = engine.begin(self._memory, prompt, sampler, seed)
        # An answer does not begin as a part of the last chord, which has been heard.
        earliest = prompt[-1].start + _AFTER_CHORD if prompt else None
        first = engine.first_onset(continuation, self._memory, earliest)
        replies: list[Reply] = []
        if replaced is not None:
            replies = self._finish(at, "stopped")
            if self._turns and self._turns[-1] is replaced:
                self._turns.pop()
        take = self._new_take(seed, prompt, [])
        self._before_fills.clear()
        # The first note sounds at once: the wait before it is not in the piece.
        offset = self._offset
        if first < float("inf"):
            self._offset = at - first
        if replaced is not None:
            replies.append(self._piece_reply())
        self._turns.append(_Turn("model", [], take.number))
        until = float("inf") if seconds is None else first + seconds
        self._playing = _Playing(take, at, offset, continuation, until, at, at)
        replies.append({"type": "playing", "take": take.number, "at": at, "seed": seed})
        yield from self._send(at, replies)

    def _new_take(self, seed: int, prompt: list[Played], notes: list[Played]) -> Take:
        """Add a take to the list, where the oldest that is not kept makes room."""
        while len(self.takes) >= self._limits.takes:
            del self.takes[next(n for n, take in self.takes.items() if not take.kept)]
        self._last_take += 1
        number, beats = self._last_take, self._tempo_map
        take = Take(number, self.model, seed, self.controls, prompt, notes, beats)
        self.takes[number] = take
        return take

    def _show(self, at: float) -> Iterator[list[Reply]]:
        yield [self._piece_reply()]

    def _fill(self, start: float, end: float, at: float, seed: int | None) -> Iterator[list[Reply]]:
        most = self._limits.fill_seconds
        if not 0 < end - start <= most:
            raise RefusedError("too-long", f"a span of up to {most:g} s can be filled")
        if self._playing is not None:
            raise RefusedError("not-now", "the model plays: stop it first")
        self._close_keys(at)
        begin, until = max(0.0, self._time_at(start)), self._time_at(end)
        piece = self._piece()
        if not piece or not begin < min(until, self._end()):
            raise RefusedError("not-now", "the span is not in the piece")
        engine = self._engines[self.model]
        sampler = self.controls.sampler_for(engine.bundle)
        seed = secrets.randbelow(_SEEDS) if seed is None else seed
        steps = engine.fill(piece, begin, until, sampler, seed, self._tempo_map)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                made: list[Played] = done.value
                break
            yield []
        self._check_room_for_take()
        self._before_fills.append(self._turns)
        before, after = self._split(begin, until)
        filled = [*before, _Turn("model", made), *after]
        self._turns = [turn for turn in filled if turn.notes]
        take = self._new_take(
            seed,
            [note for turn in before for note in turn.notes],
            [note for turn in filled[len(before) :] for note in turn.notes],
        )
        take.until = until
        reply = {
            "type": "filled",
            "take": take.number,
            "start": start,
            "end": end,
            "seed": seed,
            "notes": len(made),
        }
        self._make_room()
        yield [self._takes_reply(), self._piece_reply(), reply]

    def _split(self, begin: float, until: float) -> tuple[list[_Turn], list[_Turn]]:
        """The turns before a span of the piece, and those after it, without its notes.

        A turn that is not whole any more is not that of its take.
        """
        before: list[_Turn] = []
        after: list[_Turn] = []
        for turn in self._turns:
            first = [note for note in turn.notes if note.start < begin]
            last = [note for note in turn.notes if note.start >= until]
            for notes, turns in ((first, before), (last, after)):
                take = turn.take if len(notes) == len(turn.notes) else None
                turns.append(_Turn(turn.by, notes, take))
        return before, after

    def _head(self, at: float) -> Iterator[list[Reply]]:
        yield from self._send(at)

    def _send(self, at: float, before: Sequence[Reply] = ()) -> Iterator[list[Reply]]:
        """Send the notes of the model until :data:`AHEAD` seconds after `at`.

        Args:
            at: The time of the clock.
            before: The replies to send before the notes.
        """
        replies = [*before]
        until, more = at + AHEAD, True
        if self._playing is not None:
            until = self._playing.sent = min(until, self._playing.sent + _AT_ONCE)
        while more and (playing := self._playing) is not None:
            engine, continuation = self._engines[playing.take.model], playing.continuation
            time = min(until - self._time_zero(), playing.until)
            made, more = engine.advance(continuation, self._memory, time)
            made = sorted(note for note in made if note.start < playing.until)
            for note in made:
                bisect.insort(self._turns[-1].notes, note)
            playing.take.notes = self._turns[-1].notes[:]
            self._make_room()
            if made:
                playing.latest = max(playing.latest, made[-1].start + self._time_zero())
                notes = self._json(made)
                replies.append({"type": "notes", "take": playing.take.number, "notes": notes})
            if continuation.stalled:
                replies += self._end_turn("stalled")
            elif not more and time >= playing.until:
                replies += self._end_turn("length")
            yield replies
            replies = []
        yield [{"type": "ready", "until": round(until, _DIGITS)}]

    def _steer(self, at: float, controls: Controls) -> Iterator[list[Reply]]:
        sampler = controls.sampler_for(self._engines[self.model].bundle)
        self.controls = controls
        reply = {"type": "controls", "controls": controls.to_json(), "model": self.model}
        playing = self._playing
        if playing is None:
            yield [reply]
            return
        # What will sound after the margin is sampled anew.
        cut = max(at + _MARGIN, playing.begin)
        engine, time = self._engines[playing.take.model], cut - self._time_zero()
        piece = [note for note in self._piece() if note.start <= self._time_at(cut)]
        yield from self._read(engine, self._memory, piece)
        replies = self._cut(cut)
        playing.sent, playing.latest, playing.take.controls = at, at, controls
        seed = (playing.take.seed + len(playing.take.notes) + 1) % _SEEDS
        continuation = engine.begin(self._memory, piece, sampler, seed)
        first = engine.first_onset(continuation, self._memory, time)
        # A model whose steps cannot be constrained to the time waits for it.
        continuation.zero += max(0.0, time - first) if first < float("inf") else 0.0
        playing.continuation = continuation
        yield from self._send(at, [reply, *replies])

    def _stop(self, at: float) -> Iterator[list[Reply]]:
        self._close_keys(at)
        yield self._finish(at, "stopped")

    def _undo(self, at: float) -> Iterator[list[Reply]]:
        if not (self._turns or self._open or self._before_fills):
            raise RefusedError("not-now", "there is nothing to undo")
        self._close_keys(at)
        if self._before_fills:
            self._turns = self._before_fills.pop()
            yield [self._piece_reply()]
            return
        undone = self._turns[-1]
        replies = self._finish(at, "stopped")
        if self._turns and self._turns[-1] is undone:
            self._turns.pop()
        self._offset = at - self._end() if self._turns else None
        yield [*replies, self._piece_reply()]

    def _clear(self, at: float) -> Iterator[list[Reply]]:
        replies = self._finish(at, "stopped")
        self._reset()
        self._clock = at
        yield [*replies, self._piece_reply()]

    def _finish(self, at: float, reason: Reason) -> list[Reply]:
        """End the turn of the model at a time of the clock, if it plays."""
        if self._playing is None:
            return []
        replies = self._cut(at)
        if at < self._playing.begin:
            # It has not begun.
            self._offset = self._playing.offset
            self._turns[-1].notes.clear()
            # Neither has the end of a phrase that the client sent ahead of its time.
            for turn in self._turns[-2:-1]:
                turn.notes[:] = [note for note in turn.notes if note.start <= self._time_at(at)]
        time = self._time_at(at)
        notes = self._turns[-1].notes
        notes[:] = [note._replace(end=min(note.end, max(time, note.start))) for note in notes]
        self._playing.take.notes = notes[:]
        return [*replies, *self._end_turn(reason)]

    def _cut(self, at: float) -> list[Reply]:
        """Drop the notes of the model that start after a time of the clock."""
        assert self._playing is not None
        notes = self._turns[-1].notes
        time = self._time_at(at)
        notes[:] = [note for note in notes if note.start <= time]
        self._playing.take.notes = notes[:]
        return [{"type": "cut", "from": at}]

    def _end_turn(self, reason: Reason) -> list[Reply]:
        """End the turn of the model; a take without a note is no take."""
        assert self._playing is not None
        take, self._playing = self._playing.take, None
        if not take.notes:
            del self.takes[take.number]
            self._turns.pop()
        end = round(self._end() + self._time_zero(), 4)
        reply = {"type": "end", "take": take.number, "at": end, "reason": reason}
        return [reply, self._takes_reply()]

    # Models, files and takes.

    def _model(self, name: str, at: float) -> Iterator[list[Reply]]:
        if name not in self._engines:
            raise RefusedError("unknown", f"there is no model {name!r}")
        self.controls.sampler_for(self._engines[name].bundle)
        replies = self._finish(at, "stopped")
        self.model = name
        reply = {"type": "controls", "controls": self.controls.to_json(), "model": name}
        yield [*replies, reply]

    def _prompt(self, until: float | None, at: float) -> Iterator[list[Reply]]:
        if self.file is None:
            raise RefusedError("not-now", "there is no file: upload one first")
        end = float("inf") if until is None else until
        count = int(self.file.start.searchsorted(end, side="right"))
        if not count:
            raise RefusedError("not-now", f"the file has no notes before {end:g} s")
        replies = self._finish(at, "stopped")
        self._reset()
        self._clock, self._tempo_map = at, self.file.tempo_map
        used = self.file[max(0, count - self._limits.notes) : count]
        self._turns = [_Turn("you", _played(used))]
        self._offset = at - min(end, self._end())
        yield [*replies, self._piece_reply()]

    def _keep(self, take: int) -> Iterator[list[Reply]]:
        self._take_of(take).kept = True
        yield [self._takes_reply()]

    def _delete(self, take: int) -> Iterator[list[Reply]]:
        self._take_of(take)
        if self._playing is not None and self._playing.take.number == take:
            raise RefusedError("not-now", f"take {take} is being played: stop it first")
        del self.takes[take]
        yield [self._takes_reply()]

    def _take(self, take: int) -> Iterator[list[Reply]]:
        found = self._take_of(take)
        whole = [*found.prompt, *found.notes]
        zero = whole[0].start if whole else 0.0
        notes = [
            _json(note, -zero, n >= len(found.prompt) and note.start < found.until)
            for n, note in enumerate(whole)
        ]
        yield [{"type": "take", **found.summary(), "all_notes": notes}]

    def _take_of(self, number: int) -> Take:
        if number not in self.takes:
            raise RefusedError("unknown", f"there is no take {number}")
        return self.takes[number]

    def _check_room_for_take(self) -> None:
        """Refuse a new take if all are kept."""
        if len(self.takes) >= self._limits.takes and all(t.kept for t in self.takes.values()):
            raise RefusedError(
                "full", f"{len(self.takes)} takes are kept, the most there can be: delete one"
            )

    # The piece.

    def reading(self) -> Iterator[list[Reply]] | None:
        """The steps in which the model reads what has been played, so that an answer comes sooner.

        They can be left at any step, and can run while a message is handled that does not need the
        model.

        Returns:
            Steps without replies; None if there is little to read.
        """
        playing, memory = self._playing, self._memory
        engine = self._engines[self.model if playing is None else playing.take.model]
        count, least = sum(len(turn.notes) for turn in self._turns), _UNREAD
        if playing is not None:
            notes, time = self._turns[-1].notes, self._time_at(self._clock)
            count -= len(notes) - bisect.bisect_right(notes, time, key=lambda note: note.start)
            least = _UNREAD_PLAYING
        if not count:
            return None
        if memory.engine is not engine or memory.first != first_read(count):
            memory = self._memory = Memory()
        elif playing is not None and memory.continuation is playing.continuation:
            return None  # what is sampled has been read
        elif abs(count - memory.last) < least:
            return None
        return self._read(engine, memory, self._piece()[:count])

    def _read(
        self, engine: Engine, memory: Memory, piece: Sequence[Played]
    ) -> Iterator[list[Reply]]:
        """Read a piece, in steps without replies."""
        for _ in engine.read_steps(memory, piece, self._tempo_map):
            yield []

    def _piece(self) -> list[Played]:
        return [note for turn in self._turns for note in turn.notes]

    def _last_onset(self) -> float:
        """The last onset of the piece that is no longer open to earlier notes."""
        earlier = [turn for turn in self._turns if turn.by == "model"][-1:]
        return earlier[0].notes[-1].start if earlier and earlier[0].notes else 0.0

    def _end(self) -> float:
        """The last release in the piece."""
        return max((_end(turn.notes) for turn in self._turns), default=0.0)

    def _time_at(self, at: float) -> float:
        """The time in the piece at a time of the clock, the same wherever the clock began."""
        return round(at - self._time_zero(), _DIGITS)

    def _time_zero(self) -> float:
        """The time of the clock at which the piece began, if it had been played without waits."""
        return 0.0 if self._offset is None else self._offset

    def _make_room(self) -> None:
        """Drop the oldest notes of a piece that is too long."""
        surplus = sum(len(turn.notes) for turn in self._turns) - self._limits.notes
        if surplus > 0:
            # In strides, so that the model need not read the rest again after each note.
            stride = min(STRIDE, self._limits.notes // 2)
            surplus = -(-surplus // stride) * stride
            self._memory.first -= surplus
            self._memory.last -= surplus
        while surplus > 0:
            oldest = self._turns[0]
            count = min(surplus, len(oldest.notes))
            del oldest.notes[:count]
            surplus -= count
            if self._playing is not None and oldest is self._turns[-1]:
                # The take goes on without its beginning, which no longer follows its prompt.
                take = self._playing.take
                take.dropped += count
                take.prompt, take.notes = [], oldest.notes[:]
            if not oldest.notes and len(self._turns) > 1:
                self._turns.pop(0)

    def _json(self, notes: Sequence[Played]) -> list[Reply]:
        """Notes of the model, with the times of the clock."""
        return [_json(note, self._time_zero(), True) for note in notes]

    def _piece_reply(self) -> Reply:
        """The last notes of the piece, with the times of the clock."""
        notes = [(note, turn.by == "model") for turn in self._turns for note in turn.notes]
        shown = [_json(note, self._time_zero(), model) for note, model in notes[-_SHOWN:]]
        return {"type": "piece", "notes": shown}

    def _takes_reply(self) -> Reply:
        playing = None if self._playing is None else self._playing.take
        finished = [take for take in self.takes.values() if take is not playing]
        return {"type": "takes", "takes": [take.summary() for take in finished]}


def _end(notes: Sequence[Played]) -> float:
    return max((note.end for note in notes), default=0.0)


def _json(note: Played, shift: float, by_model: bool) -> Reply:
    return {
        "start": round(note.start + shift, 4),
        "end": round(note.end + shift, 4),
        "pitch": note.pitch,
        "velocity": note.velocity,
        "program": note.program,
        "drum": note.drum,
        "part": note.part,
        "by": "model" if by_model else "you",
    }


def _played(notes: Notes) -> list[Played]:
    """The notes of a piece."""
    zeros, names = [0] * len(notes), notes.track_names or ()
    part = [""] * len(notes)
    if notes.track is not None:
        part = [names[k] if 0 <= k < len(names) else "" for k in notes.track.tolist()]
    columns = (
        notes.start.tolist(),
        notes.end.tolist(),
        notes.pitch.tolist(),
        notes.velocity.tolist(),
        zeros if notes.program is None else notes.program.tolist(),
        list(map(bool, zeros)) if notes.drum is None else notes.drum.tolist(),
        part,
    )
    return [Played(*note) for note in zip(*columns, strict=True)]
