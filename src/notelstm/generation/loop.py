"""``generate``, ``generate_batch`` and ``stream``: new music from a trained model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, DataError
from notelstm.generation.best import Weighed
from notelstm.generation.goals import LOST, Goal, Limits, Until
from notelstm.generation.session import Session
from notelstm.notes import Note, Notes
from notelstm.protocols import Sampler
from notelstm.sampling.settings import check_whole

__all__ = ["generate", "generate_batch", "stream"]


def generate(
    bundle: Bundle,
    notes: int | None = None,
    *,
    seconds: float | None = None,
    until: Until | None = None,
    prompt: Notes | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    best_of: int = 1,
) -> Notes:
    """Write new music.

    Args:
        bundle: A trained model, from :func:`~notelstm.bundle.load` or from training.
        notes: How many notes; 128 if neither `seconds` nor `until` is given.
        seconds: How many seconds, counted by onsets.
        until: Told of the music so far before each row, prompt included, it says whether to stop.
        prompt: Music to go on from; None to begin with nothing.
        sampler: How to choose; None for the bundle's own.
        seed: The same seed gives the same music.
        best_of: Draw so many pieces, and keep the one that the model itself finds likeliest, by its
            nats a note. What is likely is not what is good: it repeats itself more.

    Returns:
        The new notes, without the prompt; 0 s is the prompt's last onset.

    Raises:
        DataError: If the prompt is shorter than the model's context.
        EncodingError: If the prompt is outside the encoder's domain.
    """
    return generate_batch(
        bundle,
        notes,
        batch=1,
        seconds=seconds,
        until=until,
        prompt=prompt,
        sampler=sampler,
        seed=seed,
        best_of=best_of,
    )[0]


def generate_batch(
    bundle: Bundle,
    notes: int | None = None,
    *,
    batch: int,
    seconds: float | None = None,
    until: Until | None = None,
    prompt: Notes | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    best_of: int = 1,
) -> list[Notes]:
    """Write several pieces side by side; the first is what :func:`generate` gives.

    Args:
        bundle: As for :func:`generate`, as all arguments but one.
        notes: As for :func:`generate`.
        batch: B, how many pieces.
        seconds: As for :func:`generate`.
        until: As for :func:`generate`; told of each piece in turn.
        prompt: As for :func:`generate`, the same for each.
        sampler: As for :func:`generate`.
        seed: As for :func:`generate`; each piece has its own noise from it.
        best_of: As for :func:`generate`; so many are drawn for each piece.

    Raises:
        ConfigError: If a limit is negative, infinite or NaN, or there is nothing to draw.
    """
    check_whole("best_of", best_of, 1)
    check_whole("batch", batch, 1)
    if notes is None and seconds is None and until is None:
        notes = 128
    chosen = bundle.sampler if sampler is None else sampler
    if best_of == 1:
        session = _session(bundle, batch, prompt, chosen, seed)
        return session.run(notes=notes, seconds=seconds, until=until)
    weighed = Weighed(chosen, batch * best_of)
    session = _session(bundle, batch * best_of, prompt, weighed, seed)
    limits = Limits(notes, seconds, until).checked()
    # A lane that has ended is drawn on with the others; what it draws then does not count.
    ended = {
        lane: (weighed.nats[lane] / len(new) if len(new) else math.inf, lane, new)
        for lane, new in session.ends(limits)
    }
    return [
        min((ended[first + i] for i in range(best_of)), key=lambda end: end[:2])[2]
        for first in range(0, batch * best_of, best_of)
    ]


def stream(
    bundle: Bundle,
    *,
    prompt: Notes | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    notes: int | None = None,
    seconds: float | None = None,
    until: Until | None = None,
) -> Iterator[Note]:
    """Write new music note by note, for ever unless told otherwise.

    A note takes the same time and memory however many came before. The notes are those that
    :func:`generate` gives with the same arguments. Each comes as soon as its end is known: with
    one row a note that is at once; where ends are events, or wait for the tempo, notes come in the
    order of their ends.

    Args:
        bundle: As for :func:`generate`.
        prompt: As for :func:`generate`.
        sampler: As for :func:`generate`.
        seed: As for :func:`generate`.
        notes: How many notes, None for any number.
        seconds: How many seconds, counted by onsets; None for any length.
        until: As for :func:`generate`; its tracker has forgotten the notes that were given out.

    Returns:
        The new notes, made as they are asked for; 0 s is the prompt's last onset.

    Raises:
        ConfigError: If a limit is negative, infinite or NaN.
        DataError: If the prompt is shorter than the model's context.
        EncodingError: If the prompt is outside the encoder's domain.
    """
    limits = Limits(notes, seconds, until).checked()
    chosen = bundle.sampler if sampler is None else sampler
    return _played(_session(bundle, 1, prompt, chosen, seed), limits)


def _played(session: Session, limits: Limits) -> Iterator[Note]:
    goal = Goal(limits, session.trackers[0])
    endless = limits == Limits()
    drawn = 0
    while True:
        yield from _new(goal, session.take()[0])
        tracker = session.trackers[0]
        if goal.reached(tracker):
            break
        if not endless and drawn and drawn % LOST == 0 and goal.is_lost(tracker, 0):
            break
        session.next()
        drawn += 1
    for row in tracker.closing():
        tracker.push(row)
    yield from _new(goal, tracker.forget(everything=True))


def _new(goal: Goal, notes: Iterable[tuple[int, Note]]) -> Iterator[Note]:
    for number, (start, end, pitch, velocity) in notes:
        if goal.holds(number, start - goal.zero):
            yield Note(start - goal.zero, end - goal.zero, pitch, velocity)


def _session(
    bundle: Bundle,
    lanes: int,
    prompt: Notes | None,
    sampler: Sampler,
    seed: int,
) -> Session:
    """A session that has read the prompt."""
    if prompt is not None and not isinstance(prompt, Notes):
        raise ConfigError("a prompt is Notes", got=f"{prompt!r}", hint="call read_midi(prompt)")
    session = Session(
        bundle.player,
        bundle.encoder,
        sampler,
        lanes=lanes,
        seed=seed,
        feedback=bundle.feedback,
        undoable=0,
    )
    if prompt is not None:
        rows = bundle.encoder.encode(prompt)
        if bundle.context is not None and len(rows) < bundle.context:
            raise DataError(
                f"a prompt fills the model's context of {bundle.context} rows",
                got=f"{len(rows)} rows",
                hint="give a longer prompt, or none",
            )
        session.feed(rows)
    return session
