"""``generate``, ``generate_batch`` and ``stream``: new music from a trained model."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from notelstm.bundle import Bundle
from notelstm.encoders.rows import label_map_of, watch_changes
from notelstm.errors import ConfigError
from notelstm.fields import Rows
from notelstm.generation.batches import (
    best_of_each,
    check_context,
    ending_at,
    in_sequence,
    per_sequence,
    sampler_of_each,
    seeds_of_each,
    with_labels,
)
from notelstm.generation.rows import Seed
from notelstm.generation.sequences import Progress, StoppingCriteria, StoppingCriterion, Until
from notelstm.generation.session import Session
from notelstm.labels import Given
from notelstm.notes import Note, Notes
from notelstm.protocols import Processor, Sampler
from notelstm.sampling.masking import check_whole

__all__ = ["generate", "generate_batch", "stream"]


def generate(  # noqa: PLR0913 - the settings of one piece
    bundle: Bundle,
    num_notes: int | None = None,
    *,
    seconds: float | None = None,
    stopping_criterion: StoppingCriterion | None = None,
    prompt: Notes | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler | None = None,
    seed: int = 0,
    best_of: int = 1,
    given: Given | None = None,
    until: Until | None = None,
    end_at: float | None = None,
) -> Notes:
    """Generate one piece.

    Args:
        bundle: A trained model, from :func:`~notelstm.bundle.load` or from training.
        num_notes: Number of notes; 128 if neither `seconds` nor `stopping_criterion` is given.
        seconds: Length in seconds, by onsets. After a prompt, it is counted from its last onset;
            with an encoder of events, from the end of its last note.
        stopping_criterion: Called before each row with the tracker of the sequence, which includes
            the prompt; returns whether to stop.
        prompt: Music to continue; None for unconditional generation.
        temperature: Makes predictions flatter above 1, sharper below.
        top_p: Samples from the fewest most likely classes with this total probability.
        processors: More processors, which run after those of the bundle and before `top_p`.
        sampler: Replaces the bundle's sampler and its processors; not together with `temperature`,
            `top_p` or `processors`.
        seed: The random seed; equal seeds give equal music.
        best_of: Number of pieces to generate, of which the one with the lowest nats per note under
            the model is returned. Likely music is more repetitive, not better.
        given: The entries of given fields, by field name, in all rows, those of the prompt
            included. Labels are given as texts: ``{"composer": "Chopin"}``. One that is left out is
            that of the prompt, or else none; one that the model was not trained with counts as
            none, with a warning.
        until: ``"end"`` to stop where the model ends the piece. Without `num_notes` and `seconds`,
            the limit is then 10,000 new notes; a piece that is stopped by a limit is `truncated`.
        end_at: End the piece at about this time, seconds, by :class:`~notelstm.sampling.EndAt` with
            its default window; includes ``until="end"``.

    Returns:
        The new notes, without the prompt; 0 s is the prompt's last onset.

    Raises:
        ConfigError: If a limit is negative, infinite or NaN, settings contradict each other, or the
            model does not predict the end of a piece.
        FieldError: If a given field does not exist, or has no entry.
        DataError: If the prompt is shorter than the model's context.
        EncodingError: If the prompt is outside the encoder's domain.

    Example:
        >>> import notelstm
        >>> music = notelstm.generate(notelstm.load(), num_notes=8, temperature=1.1, top_p=0.95)
        >>> len(music)
        8
    """
    return generate_batch(
        bundle,
        num_notes,
        batch_size=1,
        seconds=seconds,
        stopping_criterion=stopping_criterion,
        prompt=prompt,
        temperature=temperature,
        top_p=top_p,
        processors=processors,
        sampler=sampler,
        seed=seed,
        best_of=best_of,
        given=given,
        until=until,
        end_at=end_at,
    )[0]


def generate_batch(  # noqa: PLR0913 - those of generate, and one more
    bundle: Bundle,
    num_notes: int | Sequence[int | None] | None = None,
    *,
    batch_size: int | None = None,
    seconds: float | Sequence[float | None] | None = None,
    stopping_criterion: StoppingCriterion | Sequence[StoppingCriterion | None] | None = None,
    prompt: Notes | Sequence[Notes | None] | None = None,
    temperature: float | Sequence[float | None] | None = None,
    top_p: float | Sequence[float | None] | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler | None = None,
    seed: int | Sequence[int] = 0,
    best_of: int = 1,
    given: Given | Sequence[Given | None] | None = None,
    until: Until | Sequence[Until | None] | None = None,
    end_at: float | Sequence[float | None] | None = None,
) -> list[Notes]:
    """Generate several pieces at once.

    `batch_size`, B, is the number of pieces. The other arguments, and the errors, are those of
    :func:`generate`. The limits, `until`, `end_at`, `prompt`, `temperature`, `top_p`, `seed` and
    `given` can also be lists with an entry for each piece, whose length is then B. Each piece is
    the one that :func:`generate` returns with its entries. With one seed for all, this holds for
    the first piece, and the noise of the others differs. `best_of` counts for each piece.

    Example:
        >>> import notelstm
        >>> pieces = notelstm.generate_batch(notelstm.load(), [4, 8], temperature=[1.0, 1.2])
        >>> [len(piece) for piece in pieces]
        [4, 8]
    """
    check_whole("best_of", best_of, 1)
    count, each = per_sequence(
        {
            "num_notes": num_notes,
            "seconds": seconds,
            "stopping_criterion": stopping_criterion,
            "prompt": prompt,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "given": given,
            "until": until,
            "end_at": end_at,
        },
        batch_size,
    )
    pairs = zip(each["until"], each["end_at"], strict=True)
    untils: list[Until | None] = [own if time is None else "end" for own, time in pairs]
    size = count * best_of
    criteria = []
    limits = zip(each["num_notes"], each["seconds"], each["stopping_criterion"], strict=True)
    for i, limit in enumerate(limits):
        with in_sequence(i, count):
            own = StoppingCriteria(*limit).checked().until(untils[i])
        criteria += [StoppingCriteria(128) if own == StoppingCriteria() else own] * best_of
    settings = list(zip(each["temperature"], each["top_p"], strict=True))
    samplers = sampler_of_each(bundle, sampler, settings, processors)
    samplers = ending_at(each["end_at"], samplers, bundle.encoder, each["prompt"])
    seeds = seeds_of_each(seed, count, best_of)
    session = _session(bundle, each["prompt"], samplers, seeds, each["given"])
    session.ends = [one is not None for one in untils for _ in range(best_of)]
    pieces, nats = [Notes.empty()] * size, [math.inf] * size
    # A finished sequence runs on with the others; its later rows do not count.
    for i, new in session.finished(criteria):
        pieces[i] = new
        if len(new):
            nats[i] = float(session.nats[i]) / len(new)
    return [pieces[i] for i in best_of_each(nats, best_of)]


def stream(  # noqa: PLR0913 - those of generate
    bundle: Bundle,
    *,
    prompt: Notes | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler | None = None,
    seed: int = 0,
    num_notes: int | None = None,
    seconds: float | None = None,
    stopping_criterion: StoppingCriterion | None = None,
    given: Given | None = None,
    until: Until | None = None,
    end_at: float | None = None,
) -> Iterator[Note]:
    """Generate note by note, without an end unless a limit is given.

    Time and memory per note are constant. The notes are those that :func:`generate` returns with
    the same arguments. Each is yielded as soon as its end is known: with one row per note that is
    immediately; if ends are events or depend on the tempo, notes are yielded in the order of their
    ends.

    The arguments, and the errors, are those of :func:`generate`, but without `num_notes`,
    `seconds`, `stopping_criterion` and `until` there is no limit. The tracker that a stopping
    criterion gets does not have the notes that have been yielded. 0 s is the prompt's last onset.
    """
    until = until if end_at is None else "end"
    criteria = StoppingCriteria(num_notes, seconds, stopping_criterion).checked().until(until)
    samplers = sampler_of_each(bundle, sampler, [(temperature, top_p)], processors)
    samplers = ending_at([end_at], samplers, bundle.encoder, [prompt])
    session = _session(bundle, [prompt], samplers, seeds_of_each(seed, 1, 1), [given])
    session.ends = until is not None
    return _streamed(session, criteria)


def _streamed(session: Session, criteria: StoppingCriteria) -> Iterator[Note]:
    progress = Progress(criteria, session.trackers[0])
    for num_rows in itertools.count():
        yield from _new(progress, session.pop_finished()[0])
        if progress.is_over(session.trackers[0], num_rows):
            break
        session.next()
    tracker = session.trackers[0]
    tracker.extend(tracker.closing_rows())
    yield from _new(progress, tracker.pop_finished(include_sounding=True))


def _new(progress: Progress, notes: Iterable[tuple[int, Note]]) -> Iterator[Note]:
    for number, note in notes:
        start, end = note.start - progress.zero, note.end - progress.zero
        if progress.includes(number, start):
            yield note._replace(start=start, end=end)


def _session(
    bundle: Bundle,
    prompts: Sequence[Notes | None],
    samplers: Sequence[Sampler],
    seeds: Sequence[Seed],
    given: Sequence[Given | None],
) -> Session:
    """A session of sequences that have read their prompts, equally many of each piece."""
    best_of = len(seeds) // len(prompts)
    for i, prompt in enumerate(prompts):
        if prompt is not None and not isinstance(prompt, Notes):
            with in_sequence(i, len(prompts)):
                raise ConfigError(
                    f"the prompt {prompt!r} is not Notes", hint="call read_midi(prompt)"
                )
    entries: dict[tuple[int, int], Given] = {}
    for i, (prompt, own) in enumerate(zip(prompts, given, strict=True)):
        if (id(prompt), id(own)) not in entries:
            with in_sequence(i, len(prompts)):
                found = with_labels(label_map_of(bundle.encoder), prompt, own or {})
                entries[id(prompt), id(own)] = found
    given = [entries[id(prompt), id(own)] for prompt, own in zip(prompts, given, strict=True)]
    session = Session(
        bundle.generation_model,
        bundle.encoder,
        [own for own in samplers for _ in range(best_of)],
        batch_size=len(seeds),
        seed=seeds,
        input_transform=bundle.input_transform,
        max_undo=0,
        given=[own or {} for own in given for _ in range(best_of)],
        count_nats=best_of > 1,
    )
    different = {id(prompt): prompt for prompt in prompts if prompt is not None}
    # Consumed, for its warnings.
    deque(watch_changes(different.values(), bundle.encoder), maxlen=0)
    read: dict[tuple[int, int], Rows] = {}
    for i, (prompt, own) in enumerate(zip(prompts, given, strict=True)):
        if (id(prompt), id(own)) not in read:
            with in_sequence(i, len(prompts)):
                read[id(prompt), id(own)] = _prompt_rows(bundle, prompt, own or {})
    rows = [read[id(prompt), id(own)] for prompt, own in zip(prompts, given, strict=True)]
    session.feed_each([own for own in rows for _ in range(best_of)])
    return session


def _prompt_rows(bundle: Bundle, prompt: Notes | None, given: Given) -> Rows:
    """The rows of a prompt, with the given entries."""
    fields = bundle.encoder.fields
    if prompt is None:
        return np.zeros((0, len(fields)), dtype=np.float32)
    # Its last note is not the end of the piece.
    rows = bundle.encoder.encode(dataclasses.replace(prompt, truncated=True))
    for column, field in enumerate(fields):
        if field.name in given:
            rows[:, column] = given[field.name]
    check_context(bundle, rows)
    return rows
