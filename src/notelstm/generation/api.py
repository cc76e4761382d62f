"""``generate``, ``generate_batch`` and ``stream``: new music from a trained model."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from notelstm.bundle import Bundle
from notelstm.encoders.rows import watch_changes
from notelstm.errors import ConfigError, DataError
from notelstm.fields import Field
from notelstm.generation.sequences import Progress, StoppingCriteria, StoppingCriterion, Until
from notelstm.generation.session import Session
from notelstm.notes import Note, Notes
from notelstm.protocols import HasLikelihood, Prediction, Processor, Sampler, SamplingContext
from notelstm.sampling.masking import check_number, check_whole
from notelstm.sampling.samplers import with_processors
from notelstm.sampling.timing import MAX_SECONDS, EndAt

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
    given: Mapping[str, float] | None = None,
    until: Until | None = None,
    end_at: float | None = None,
) -> Notes:
    """Generate one piece.

    Args:
        bundle: A trained model, from :func:`~notelstm.bundle.load` or from training.
        num_notes: Number of notes; 128 if neither `seconds` nor `stopping_criterion` is given.
        seconds: Length in seconds, by onsets.
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
            included.
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
    num_notes: int | None = None,
    *,
    batch_size: int,
    seconds: float | None = None,
    stopping_criterion: StoppingCriterion | None = None,
    prompt: Notes | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler | None = None,
    seed: int = 0,
    best_of: int = 1,
    given: Mapping[str, float] | None = None,
    until: Until | None = None,
    end_at: float | None = None,
) -> list[Notes]:
    """Generate several pieces at once; the first is the one that :func:`generate` returns.

    `batch_size`, B, is the number of pieces. The other arguments, and the errors, are those of
    :func:`generate`; the prompt is the same for all pieces, the noise differs, and `best_of` counts
    for each piece.
    """
    check_whole("best_of", best_of, 1)
    check_whole("batch_size", batch_size, 1)
    if end_at is not None:
        until = "end"
    if num_notes is None and seconds is None and stopping_criterion is None and until is None:
        num_notes = 128
    chosen = _sampler(bundle, sampler, temperature, top_p, processors)
    chosen = _ending_at(end_at, bundle, prompt, chosen)
    if best_of == 1:
        session = _session(bundle, batch_size, prompt, chosen, seed, given)
        return session.run(
            num_notes=num_notes,
            seconds=seconds,
            stopping_criterion=stopping_criterion,
            until=until,
        )
    measured = _NatsCounter(chosen, batch_size * best_of)
    session = _session(bundle, batch_size * best_of, prompt, measured, seed, given)
    session.ends = until is not None
    criteria = StoppingCriteria(num_notes, seconds, stopping_criterion).checked().until(until)
    # A finished sequence runs on with the others; its later rows do not count.
    done = {
        i: (measured.nats[i] / len(new) if len(new) else math.inf, i, new)
        for i, new in session.finished(criteria)
    }
    return [
        min((done[first + i] for i in range(best_of)), key=lambda piece: piece[:2])[2]
        for first in range(0, batch_size * best_of, best_of)
    ]


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
    given: Mapping[str, float] | None = None,
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
    if end_at is not None:
        until = "end"
    criteria = StoppingCriteria(num_notes, seconds, stopping_criterion).checked().until(until)
    chosen = _sampler(bundle, sampler, temperature, top_p, processors)
    chosen = _ending_at(end_at, bundle, prompt, chosen)
    session = _session(bundle, 1, prompt, chosen, seed, given)
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


def _sampler(
    bundle: Bundle,
    sampler: Sampler | None,
    temperature: float | None,
    top_p: float | None,
    processors: Sequence[Processor],
) -> Sampler:
    """The sampler for the arguments of a call."""
    if sampler is None:
        return with_processors(bundle.sampler, processors, temperature=temperature, top_p=top_p)
    if temperature is not None or top_p is not None or len(processors):
        raise ConfigError(
            "sampler is given together with temperature, top_p or processors",
            hint="give the sampler its processors: Ancestral(processors=(TopP(p=0.95),))",
        )
    return sampler


def _ending_at(
    end_at: float | None, bundle: Bundle, prompt: Notes | None, sampler: Sampler
) -> Sampler:
    """The sampler of a piece that ends at about a time, seconds after the prompt's last onset."""
    if end_at is None:
        return sampler
    check_number("end_at", end_at, 0, MAX_SECONDS)
    onset = 0.0
    if isinstance(prompt, Notes) and len(prompt):
        onset = float(bundle.encoder.decode(bundle.encoder.encode(prompt)).start[-1])
    return with_processors(sampler, (EndAt(seconds=onset + end_at),))


def _session(
    bundle: Bundle,
    batch_size: int,
    prompt: Notes | None,
    sampler: Sampler,
    seed: int,
    given: Mapping[str, float] | None,
) -> Session:
    """A session that has read the prompt."""
    if prompt is not None and not isinstance(prompt, Notes):
        raise ConfigError(f"the prompt {prompt!r} is not Notes", hint="call read_midi(prompt)")
    session = Session(
        bundle.generation_model,
        bundle.encoder,
        sampler,
        batch_size=batch_size,
        seed=seed,
        input_transform=bundle.input_transform,
        max_undo=0,
        given=given,
    )
    if prompt is not None:
        (prompt,) = watch_changes([prompt], bundle.encoder)
        # Its last note is not the end of the piece.
        rows = bundle.encoder.encode(dataclasses.replace(prompt, truncated=True))
        for column, field in enumerate(bundle.encoder.fields):
            if field.name in session.given:
                rows[:, column] = session.given[field.name]
        if bundle.context_length is not None and len(rows) < bundle.context_length:
            raise DataError(
                f"the prompt has {len(rows)} rows, fewer than the model's context of "
                f"{bundle.context_length}",
                hint="give a longer prompt, or leave it out",
            )
        session.feed(rows)
    return session


@final
class _NatsCounter:
    """A sampler that adds up (B,) nats of the chosen entries under the model, before processors.

    Fields without a likelihood do not count.
    """

    def __init__(self, sampler: Sampler, batch_size: int) -> None:
        self._sampler = sampler
        # Sessions check them.
        self.processors = getattr(sampler, "processors", ())
        self.nats: NDArray[np.float64] = np.zeros(batch_size)

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """Choose entries and add their nats."""
        chosen = self._sampler(field, prediction, noise, contexts)
        if isinstance(prediction, HasLikelihood):
            self.nats += prediction.nll(chosen).double().cpu().numpy()
        return chosen
