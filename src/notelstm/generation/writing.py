"""``infill``, ``accompany`` and ``vary``: new notes between notes that are given.

The model must have an encoder that anticipates notes: one whose rows have given notes some seconds
before they sound. Notes before the span are its prompt, or given; as the music goes on, the given
notes that are due are read, and the rows between them are sampled.

What follows the span is also read in front of all, as if the piece began with it, so that a model
with a memory knows the passages to come as it knows those before.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypedDict, Unpack, final

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.bundle import Bundle
from notelstm.encoders.rows import label_map_of, part_map_of, snapped, watch_changes
from notelstm.errors import ConfigError, DataError, counted
from notelstm.fields import Field, Row, Rows, by_name, note_rows
from notelstm.generation.batches import (
    best_of_each,
    check_context,
    in_sequence,
    per_sequence,
    sampler_of_each,
    seeds_of_each,
    with_labels,
)
from notelstm.generation.rows import check_given
from notelstm.generation.session import Session
from notelstm.labels import Given
from notelstm.notes import Note, Notes
from notelstm.parts import ONE_PART, Part, PartMap, classes_named
from notelstm.protocols import AnticipatesNotes, Prediction, Processor, Sampler, SamplingContext
from notelstm.sampling.masking import allow_only, check_whole
from notelstm.sampling.samplers import with_processors
from notelstm.sampling.tones import ToneLimit, Waits, known_entry
from notelstm.tracker import Tracker

__all__ = [
    "WritingSettings",
    "WritingTask",
    "Written",
    "accompaniment",
    "accompany",
    "can_write",
    "infill",
    "read_first",
    "vary",
    "write_batch",
    "writing_steps",
]

_log = logging.getLogger(__name__)

_DENSEST: Final = 100
"""The most notes that are written for each second of a span, and at least."""
_ROWS_AT_ONCE: Final = 64
"""The rows of a prompt that are read in a step."""
_FOLLOWING: Final = 1024
"""The most notes after a span that are read in front of the piece."""
_PAUSE: Final = 2.0
"""Seconds of silence between them and the piece."""
_ROUNDED: Final = 1e-6
"""Times in seconds that differ by less are equal up to rounding."""


class WritingSettings(TypedDict, total=False):
    """The settings of the functions that write; :func:`infill` documents them."""

    num_notes: int | None
    temperature: float | None
    top_p: float | None
    processors: Sequence[Processor]
    sampler: Sampler | None
    seed: int
    best_of: int
    given: Given | None


@final
@dataclass(frozen=True, kw_only=True)
class WritingTask:
    """A span of a piece in which notes are to be written.

    Attributes:
        notes: The piece.
        start: The begin of the span, seconds.
        end: The excluded end of the span, seconds; new notes begin before it.
        parts: The names of the parts to write; None for all. The notes of other parts are given in
            the whole piece.
        replace: Whether the notes of these parts that begin in the span are left out; otherwise
            they stay, and are given too.

    Raises:
        ConfigError: If the span is empty, negative or infinite, or there are no parts.
    """

    notes: Notes
    start: float
    end: float
    parts: tuple[str, ...] | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.notes, Notes):
            raise ConfigError(f"{self.notes!r} is not Notes", hint="call read_midi(path)")
        if not 0 <= self.start < self.end < math.inf:
            raise ConfigError(
                f"there is no span from {self.start!r} s to {self.end!r} s",
                hint="give a start of at least 0, and a later end",
            )
        if self.parts is not None:
            if isinstance(self.parts, str) or not len(self.parts):
                raise ConfigError(
                    f"parts {self.parts!r} are not names of parts", hint="give a list, ['Bass']"
                )
            object.__setattr__(self, "parts", tuple(self.parts))


class Written(NamedTuple):
    """A piece in which notes were written.

    Attributes:
        notes: N notes: those that were given, unchanged, and the new ones.
        new: (N,) bool, which of them are new.
    """

    notes: Notes
    new: NDArray[np.bool_]


def infill(
    bundle: Bundle,
    notes: Notes,
    start: float,
    end: float,
    *,
    parts: Sequence[str] | None = None,
    **settings: Unpack[WritingSettings],
) -> Notes:
    """Fill a gap of a piece.

    The notes before the gap are the prompt. Those that begin in the gap or after it are given, so
    that the new notes lead to them. The first 1,024 notes after the gap are also read in front of
    the prompt, so that the memory of a model finds repetitions of them. No note of the piece
    changes. A new note ends where a given one of its pitch and instrument begins.

    Args:
        bundle: A model with an encoder that anticipates notes, such as one of the recipe
            ``chorales``.
        notes: The piece.
        start: The begin of the gap, seconds.
        end: The excluded end of the gap, seconds: new notes begin before it.
        parts: The names of the parts to write, None for all. The notes of other parts are given
            from the start of the piece.
        settings: `temperature`, `top_p`, `processors`, `sampler`, `seed`, `best_of` and `given` are
            those of :func:`~notelstm.generation.api.generate`. `best_of` compares the new notes
            alone. `num_notes` is the maximum number of new notes; without it, it is 100 for each
            second of the gap, and a warning is logged if it is reached.

    Returns:
        The whole piece, with its tempo map. The new notes are in the tracks of their parts.

    Raises:
        ConfigError: If the model cannot be given notes, has no such part, or settings contradict
            each other.
        EncodingError: If a note of the piece is outside the encoder's domain.
    """
    task = WritingTask(notes=notes, start=start, end=end, parts=_names(parts))
    return write_batch(bundle, [task], **settings)[0].notes


def vary(
    bundle: Bundle,
    notes: Notes,
    start: float,
    end: float,
    *,
    parts: Sequence[str] | None = None,
    **settings: Unpack[WritingSettings],
) -> Notes:
    """Write a span of a piece anew.

    The notes that begin in the span are left out, and it is filled as by :func:`infill`, whose
    arguments, result and errors these are. With `parts`, only notes of these parts are left out.
    """
    task = WritingTask(notes=notes, start=start, end=end, parts=_names(parts), replace=True)
    return write_batch(bundle, [task], **settings)[0].notes


def accompany(
    bundle: Bundle,
    notes: Notes,
    *,
    parts: Sequence[str] | None = None,
    **settings: Unpack[WritingSettings],
) -> Notes:
    """Write parts of a piece: harmonise a melody, or add a bass.

    Args:
        bundle: A model with instruments, and an encoder that anticipates notes.
        notes: The piece.
        parts: The names of the parts to write, by which the piece's own notes of these parts are
            replaced; None for all parts of the model that the piece does not have.
        settings: As in :func:`infill`.

    Returns:
        The notes of the other parts, unchanged, and the new ones. They begin with the first note
        of the other parts or later, and before the last of those ends.

    Raises:
        ConfigError: If the model cannot be given notes, has no such part, or none is missing.
        DataError: If the piece has no notes of other parts.
        EncodingError: If a note of the piece is outside the encoder's domain.
    """
    task = accompaniment(bundle, notes, _names(parts))
    return write_batch(bundle, [task], **settings)[0].notes


def accompaniment(bundle: Bundle, notes: Notes, parts: tuple[str, ...] | None) -> WritingTask:
    """The task of :func:`accompany`, with its arguments and errors."""
    part_map = part_map_of(_anticipating(bundle))
    classes, own = _classes(part_map, notes), _parts(part_map)
    if parts is None:
        here = {own[k].name.casefold() for k in set(classes.tolist())}
        parts = tuple(part.name for part in own if part.name.casefold() not in here)
        if not parts or part_map is None:
            raise ConfigError(
                "the piece has all parts of the model" if part_map else "the model has no parts",
                hint="name the parts to write anew" if part_map else "use vary or infill",
            )
    others = notes[~_selected(part_map, parts)[classes]]
    if not len(others):
        raise DataError(
            "the piece has no notes of other parts", hint="write the parts with generate()"
        )
    start = float(others.start[0])
    end = max(others.end_time, start + _ROUNDED * 2)
    return WritingTask(notes=notes, start=start, end=end, parts=parts, replace=True)


def can_write(bundle: Bundle) -> bool:
    """Whether a model can be given notes that are still to come."""
    return isinstance(bundle.encoder, AnticipatesNotes)


def write_batch(
    bundle: Bundle,
    tasks: Sequence[WritingTask],
    *,
    num_notes: int | Sequence[int | None] | None = None,
    temperature: float | Sequence[float | None] | None = None,
    top_p: float | Sequence[float | None] | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler | None = None,
    seed: int | Sequence[int] = 0,
    best_of: int = 1,
    given: Given | Sequence[Given | None] | None = None,
) -> list[Written]:
    """Write several pieces at once.

    The settings, and the errors, are those of :func:`infill`. As in
    :func:`~notelstm.generation.api.generate_batch`, `num_notes`, `temperature`, `top_p`, `seed` and
    `given` can be lists with an entry for each task; each piece is then the one that its task and
    its entries give alone.
    """
    steps = writing_steps(
        bundle,
        tasks,
        num_notes=num_notes,
        temperature=temperature,
        top_p=top_p,
        processors=processors,
        sampler=sampler,
        seed=seed,
        best_of=best_of,
        given=given,
    )
    while True:
        try:
            next(steps)
        except StopIteration as done:
            written: list[Written] = done.value
            return written


def writing_steps(
    bundle: Bundle,
    tasks: Sequence[WritingTask],
    *,
    num_notes: int | Sequence[int | None] | None = None,
    temperature: float | Sequence[float | None] | None = None,
    top_p: float | Sequence[float | None] | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler | None = None,
    seed: int | Sequence[int] = 0,
    best_of: int = 1,
    given: Given | Sequence[Given | None] | None = None,
) -> Generator[None, None, list[Written]]:
    """Write several pieces at once, step by step; the result is that of :func:`write_batch`.

    Yields:
        After some rows, so that other work can be done between them.
    """
    encoder = _anticipating(bundle)
    check_whole("best_of", best_of, 1)
    if not len(tasks):
        return []
    count, each = per_sequence(
        {
            "num_notes": num_notes,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "given": given,
        },
        len(tasks),
    )
    # Consumed, for its warnings.
    deque(watch_changes({id(t.notes): t.notes for t in tasks}.values(), encoder), maxlen=0)
    # Equal tasks share a plan, and with equal settings a sampler, so that they run as one batch.
    planned: dict[tuple[object, ...], _Plan] = {}
    chosen_samplers: dict[tuple[object, ...], Sampler] = {}
    plans, samplers = [], []
    for i, task in enumerate(tasks):
        most, own_given = each["num_notes"][i], each["given"][i]
        settings = (each["temperature"][i], each["top_p"][i])
        key = id(task), most, id(own_given)
        with in_sequence(i, count):
            if key not in planned:
                planned[key] = plan = _Plan(encoder, task, most, own_given or {})
                if len(plan.prompt):
                    check_context(bundle, plan.prompt)
            if (*key, *settings) not in chosen_samplers:
                (own,) = sampler_of_each(bundle, sampler, [settings], processors)
                own = with_processors(own, first=(planned[key].limit,))
                chosen_samplers[*key, *settings] = own
        plans.append(planned[key])
        samplers.append(chosen_samplers[*key, *settings])
    seeds = seeds_of_each(seed, count, best_of)
    numbers = [i for i in range(count) for _ in range(best_of)]
    session = Session(
        bundle.generation_model,
        bundle.encoder,
        [samplers[i] for i in numbers],
        batch_size=len(seeds),
        seed=seeds,
        input_transform=bundle.input_transform,
        max_undo=0,
        given=[plans[i].conditions for i in numbers],
        count_nats=best_of > 1,
    )
    prompts = [plans[i].prompt for i in numbers]
    # A prompt of all sequences is read in parts; different ones are read whole, each only once.
    longest = max(map(len, prompts))
    size = _ROWS_AT_ONCE if len(planned) == 1 else max(1, longest)
    for first in range(0, longest, size):
        parts = {id(rows): rows[first : first + size] for rows in prompts}
        session.feed_each([parts[id(rows)] for rows in prompts])
        yield
    sequences = [_Sequence(plans[i], session.trackers[j]) for j, i in enumerate(numbers)]
    yield from _run(session, sequences)
    chosen = best_of_each([sequence.nats_per_note for sequence in sequences], best_of)
    return [plans[numbers[j]].merged(sequences[j].new_notes()) for j in chosen]


def _run(session: Session, sequences: Sequence[_Sequence]) -> Iterator[None]:
    """Read and sample rows until all sequences are done; those that are run on with the others.

    Yields:
        After each row.
    """
    running = dict(enumerate(sequences))
    while True:
        trackers = session.trackers
        running = {i: one for i, one in running.items() if not one.is_done(trackers[i], i)}
        if not running:
            return
        due = {i: one.due_row(trackers[i]) for i, one in running.items()}
        forced = {i: row for i, row in due.items() if row is not None}
        rows, trackers, nats = session.advance(forced), session.trackers, session.nats
        for i in running.keys() - forced.keys():
            running[i].add(rows[i], trackers[i], float(nats[i]))
        yield


@final
class _Plan:
    """What is read and what is written for one task.

    The time of the rows is 0 s at the first of the notes that are read in front. The rows of the
    piece come after them, a whole number of cells later: from the first note that is kept or, if
    the span begins earlier, from there, to the whole cell.

    Attributes:
        encoder: The encoder.
        task: The task.
        prompt: (T, F) the rows before the first that is sampled.
        given: The given notes after those of the prompt, in the order of their rows; the track of
            each is the class of its part.
        end: The end of the span.
        most: The maximum number of new notes.
        chosen: Whether `most` is a setting.
        conditions: The entries of given fields in all rows, by name.
        limit: The limits of new notes, a processor.
    """

    def __init__(
        self,
        encoder: AnticipatesNotes,
        task: WritingTask,
        num_notes: int | None,
        conditions: Given,
    ) -> None:
        if num_notes is not None:
            check_whole("num_notes", num_notes)
        self.encoder: Final = encoder
        self.task: Final = task
        seconds = task.end - task.start
        self.chosen: Final = num_notes is not None
        self.most: Final = (
            math.ceil(_DENSEST * max(seconds, 1.0)) if num_notes is None else num_notes
        )
        self._part_map: Final = part_map_of(encoder)
        classes = _classes(self._part_map, task.notes)
        selected = _selected(self._part_map, task.parts)
        begins, mine = task.notes.start, selected[classes]
        kept = ~(task.replace & mine & (begins >= task.start) & (begins < task.end))
        written = mine & (begins < task.start)
        self._classes: Final = classes
        self._kept: Final = task.notes[kept]
        self._kept_classes: Final = classes[kept]
        front, moved = read_first(task.notes[kept & (begins >= task.end)], self._cell)
        self._zero: Final = self._first_time() - moved
        self.end: Final = task.end - self._zero
        given = snapped(encoder, self._moved(task.notes[kept & ~written]))
        prompt = snapped(encoder, self._moved(task.notes[written]))
        self.conditions: Final = with_labels(label_map_of(encoder), task.notes, conditions)
        check_given(by_name(encoder.fields), self.conditions)
        ready = self._read_prompt(snapped(encoder, front), prompt, given)
        given = given[ready:]
        given_classes = _classes(self._part_map, given)
        self.given: Final = [
            note._replace(track=k)
            for note, k in zip(_listed(given), given_classes.tolist(), strict=True)
        ]
        self.limit: Final = _SpanLimit(
            start=task.start - self._zero,
            selected=selected,
            begins=self._kept.start - self._zero - self._together,
            ends=self._kept.end - self._zero,
            tones=(self._kept_classes, self._kept.pitch),
        )

    def _moved(self, notes: Notes) -> Notes:
        """The same notes in the time of the rows."""
        start, end = notes.start - self._zero, notes.end - self._zero
        return replace(notes, start=start, end=end, tempo_map=None)

    def _first_time(self) -> float:
        """The time in the piece at which its rows begin."""
        if not len(self._kept):
            return self.task.start
        first = float(self._kept.start[0])
        # In whole cells, so that notes on a grid keep their places on it.
        early = max(0.0, first - self.task.start)
        return first - math.ceil(early / self._cell - _ROUNDED) * self._cell if early else first

    @property
    def _cell(self) -> float:
        """The shortest step, seconds."""
        steps = [f for f in self.encoder.fields if f.role == "step" and f.is_categorical]
        return min((v for f in steps for v in f.values if v > 0), default=_ROUNDED)

    @property
    def _together(self) -> float:
        """The greatest distance of two onsets that an encoder can round to one, seconds."""
        return self._cell / 2 + _ROUNDED

    def _with_conditions(self, rows: Rows) -> Rows:
        for column, field in enumerate(self.encoder.fields):
            if field.name in self.conditions:
                rows[:, column] = self.conditions[field.name]
        return rows

    def _read_prompt(self, front: Notes, prompt: Notes, given: Notes) -> int:
        """Set the prompt; returns the number of given notes that are in it."""
        # A note on the tone of a given one is not written, so that the last row is that of a note.
        tones = set(self._tones(given))
        prompt = prompt[np.array([tone not in tones for tone in self._tones(prompt)], np.bool_)]
        ready = 0
        self.prompt = np.zeros((0, len(self.encoder.fields)), dtype=np.float32)
        written = Notes.merge([front, prompt])
        if len(written):
            clock = float(written.start[-1])
            ready = int(np.count_nonzero(given.start <= clock + self.encoder.seconds + _ROUNDED))
            whole, is_written = _merged(given[:ready], written)
            whole = replace(whole, truncated=True)
            rows = self.encoder.encode_given(whole, ~is_written)
            self.prompt = self._with_conditions(rows)
        return ready

    def _tones(self, notes: Notes) -> list[tuple[float, int, int]]:
        classes = _classes(self._part_map, notes).tolist()
        return list(zip(notes.start.round(6).tolist(), classes, notes.pitch.tolist(), strict=True))

    def given_row(self, note: Note, clock: float) -> Row:
        """(F,) the row of a given note while the time of the tracker is `clock`."""
        row: Row = self._with_conditions(self.encoder.given_row(note, clock)[None])[0]
        return row

    def merged(self, new: Notes) -> Written:
        """The piece with new notes, in the time of the rows, that fit between those that are kept.

        Notes on a tone that sounds already are left out. Others end where the next one of their
        tone begins.
        """
        start = np.maximum(new.start + self._zero, self.task.start)
        inside = new.start + self._zero > self.task.start - _ROUNDED
        selected = _selected(self._part_map, self.task.parts)
        classes = np.zeros(len(new), np.int64)
        if self._part_map is not None and new.track is not None:
            classes = new.track
        end = new.end + self._zero
        kept = np.zeros(len(new), np.bool_)
        begun: dict[tuple[int, int], int] = {}
        for i in np.flatnonzero(inside & selected[classes]).tolist():
            tone = int(classes[i]), int(new.pitch[i])
            others = (self._kept_classes == tone[0]) & (self._kept.pitch == tone[1])
            begins, ends = self._kept.start[others], self._kept.end[others]
            together = begins - self._together <= start[i]
            if (together & ((ends > start[i] + _ROUNDED) | (begins >= start[i]))).any():
                continue
            before = begun.get(tone)
            if before is not None:
                if start[i] <= start[before] + _ROUNDED:
                    continue
                end[before] = min(end[before], start[i])
            end[i] = min(end[i], begins[~together].min(initial=math.inf))
            begun[tone], kept[i] = i, True
        fitted = self._in_tracks(replace(new, start=start, end=end)[kept][: self.most])
        whole, is_new = _merged(self._kept, fitted)
        piece = self.task.notes
        return Written(
            replace(
                whole,
                tempo_map=piece.tempo_map,
                length=piece.length,
                truncated=piece.truncated,
                labels=piece.labels,
            ),
            is_new,
        )

    def _in_tracks(self, new: Notes) -> Notes:
        """New notes, whose track is the class of their part, in tracks of the piece.

        They have the track, program and kind of most of the piece's notes of their part. A part
        without notes has the track of its name, or a new one.
        """
        piece, part_map = self.task.notes, self._part_map
        if part_map is None or new.track is None:
            return new.in_tracks_of(piece)
        zeros = np.zeros(len(piece), np.int64)
        columns = [zeros if c is None else c for c in (piece.track, piece.program, piece.drum)]
        instruments = np.stack(columns, axis=1)
        names = list(piece.track_names or ())
        names += [""] * (int(instruments[:, 0].max(initial=-1)) + 1 - len(names))
        silent = [k for k in range(len(names)) if not (instruments[:, 0] == k).any()]
        found = np.zeros((len(new), 3), np.int64)
        for k in np.unique(new.track).tolist():
            part, mine = part_map.classes[k], instruments[self._classes == k]
            if len(mine):
                different, counts = np.unique(mine, axis=0, return_counts=True)
                found[new.track == k] = different[counts.argmax()]
                continue
            own = [n for n in silent if names[n].casefold() == part.name.casefold()]
            track = k if k in own else own[0] if own else len(names)
            if own:
                silent.remove(track)
            else:
                names.append(part.name)
            found[new.track == k] = track, part.program, part.drum
        changed: dict[str, Any] = dict(zip(("track", "program", "drum"), found.T, strict=True))
        return replace(new, **changed, track_names=tuple(names))


@final
class _Sequence:
    """One sequence of a plan.

    Attributes:
        nats_per_note: The nats of its rows, by the number of new notes; infinite without any.
    """

    def __init__(self, plan: _Plan, tracker: Tracker) -> None:
        self._plan: Final = plan
        self._begin: Final = tracker.time
        # A rest may take as many rows as the shortest one allows.
        wait = max(0.0, plan.end - tracker.time) / plan.encoder.seconds
        self._most_rows: Final = plan.most + 2 * math.ceil(wait) + 2
        self._rows: list[Row] = []
        self._num_read = 0
        self._num_notes = 0
        self._num_rows = 0
        self.nats_per_note: float = math.inf

    def is_done(self, tracker: Tracker, number: int) -> bool:
        """Whether the span is over, or has the maximum number of notes; that is logged."""
        if tracker.time >= self._plan.end - _ROUNDED:
            return True
        full = self._num_notes >= self._plan.most or self._num_rows >= self._most_rows
        if full and not self._plan.chosen:
            _log.warning(
                "sequence %d stops short of %g s: %s in %g s is the most without num_notes; train "
                "the model longer, or sample with another temperature or seed",
                number,
                self._plan.task.end,
                counted(self._num_notes, "note"),
                self._plan.task.end - self._plan.task.start,
            )
        return full

    def due_row(self, tracker: Tracker) -> Row | None:
        """(F,) the row of the next given note, if it is due."""
        given = self._plan.given
        until = tracker.time + self._plan.encoder.seconds + _ROUNDED
        if self._num_read == len(given) or given[self._num_read].start > until:
            return None
        note = given[self._num_read]
        self._num_read += 1
        return self._plan.given_row(note, tracker.time)

    def add(self, row: Row, tracker: Tracker, nats: float) -> None:
        """Add a sampled row; `nats` is the sum of the nats of all of them."""
        self._num_rows += 1
        if tracker.time >= self._plan.end - _ROUNDED:
            return
        self._rows.append(row)
        self._num_notes += int(note_rows(row[None], self._plan.encoder.fields)[0])
        if self._num_notes:
            self.nats_per_note = nats / self._num_notes

    def new_notes(self) -> Notes:
        """The new notes, in the time of the rows."""
        rows = np.array(self._rows, dtype=np.float32)
        found = self._plan.encoder.decode(rows.reshape(-1, len(self._plan.encoder.fields)))
        return found.shifted(self._begin)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _SpanLimit(ToneLimit):
    """Limits the new notes of a task to its span, its parts, and tones that are free.

    Attributes:
        start: The begin of the span, in the time of the rows.
        selected: (I,) which parts are written.
        begins: (N,) the time from which the tone of each note of the piece is taken.
        ends: (N,) the time at which it is free again.
        tones: (N,) the class and (N,) the pitch of each note of the piece.
    """

    start: float
    selected: NDArray[np.bool_]
    begins: NDArray[np.float64]
    ends: NDArray[np.float64]
    tones: tuple[NDArray[np.int64], NDArray[np.int64]]

    @override
    def waits(self, context: SamplingContext) -> Waits:
        """The time until each tone is free."""
        tracker = context.tracker
        wait = max(0.0, self.start - tracker.time)
        waits = np.repeat(np.where(self.selected, wait, np.inf)[:, None], 128, axis=1)
        entry = known_entry(context, "step")
        step = next(field for field in tracker.fields if field.role == "step")
        at = tracker.time + (0.0 if entry is None else step.value_of(entry))
        taken = (self.begins <= at) & (self.ends > at + _ROUNDED)
        if taken.any():
            tones = tuple(column[taken] for column in self.tones)
            # With a step, the note would begin on a tone that sounds, however long it waits.
            left = self.ends[taken] - at if entry is None else np.inf
            np.maximum.at(waits, tones, left)
        return waits

    @override
    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Limit a step, an instrument or a pitch."""
        if field.role == "step" and field.rest is not None:
            # If the span is further away than any step, only a rest leads to it.
            longest = max(value for k, value in enumerate(field.values) if k != field.rest)
            masks = []
            for context in contexts:
                mask = np.ones(field.classes or 0, dtype=np.bool_)
                if self.start - context.tracker.time > longest:
                    mask[:] = False
                    mask[field.rest] = True
                masks.append(mask)
            prediction = allow_only(prediction, torch.from_numpy(np.stack(masks)))
        return super().__call__(field, prediction, contexts)


def read_first(following: Notes, cell: float) -> tuple[Notes, float]:
    """What is read in front of a piece of the notes that follow a span.

    Args:
        following: The notes.
        cell: The shortest step, seconds.

    Returns:
        The first of them, from 0 s on, and the time at which the piece begins, in whole cells.
    """
    front = following[:_FOLLOWING]
    if not len(front):
        return front, 0.0
    front = replace(front.shifted(-float(front.start[0])), tempo_map=None, length=None)
    return front, math.ceil((front.end_time + _PAUSE) / cell) * cell


def _anticipating(bundle: Bundle) -> AnticipatesNotes:
    """The encoder of a model.

    Raises:
        ConfigError: If it does not anticipate notes.
    """
    if not isinstance(bundle.encoder, AnticipatesNotes):
        raise ConfigError(
            "the model cannot be given notes that are still to come",
            where=type(bundle.encoder).__name__,
            hint="use a model with an AnticipatingEncoder, such as the pretrained one",
        )
    return bundle.encoder


def _names(parts: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if parts is None else (parts,) if isinstance(parts, str) else tuple(parts)


def _parts(part_map: PartMap | None) -> Sequence[Part]:
    return ONE_PART if part_map is None else part_map.classes


def _classes(part_map: PartMap | None, notes: Notes) -> NDArray[np.int64]:
    """(N,) the class of each note, 0 without parts."""
    return np.zeros(len(notes), np.int64) if part_map is None else part_map.classes_of(notes)


def _selected(part_map: PartMap | None, names: Sequence[str] | None) -> NDArray[np.bool_]:
    """(I,) the parts of these names; all for None.

    Raises:
        ConfigError: If the model has no such part.
    """
    parts = _parts(part_map)
    selected = np.full(len(parts), names is None)
    for name in names or ():
        selected[list(classes_named(parts, name))] = True
    return selected


def _merged(kept: Notes, new: Notes) -> tuple[Notes, NDArray[np.bool_]]:
    """The notes of both, those of `kept` first on equal onsets, and which are those of `new`."""
    whole = Notes.merge([kept, new])
    start = np.concatenate([kept.start, new.start])
    is_new = np.arange(len(start)) >= len(kept)
    return whole, is_new[np.argsort(start, kind="stable")]


def _listed(notes: Notes) -> list[Note]:
    """The notes one by one."""
    zeros = np.zeros(len(notes), np.int64)
    columns = (
        *(notes.start, notes.end, notes.pitch, notes.velocity),
        *(zeros if c is None else c for c in (notes.program, notes.drum, notes.track)),
    )
    return [Note(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]
