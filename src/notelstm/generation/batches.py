"""Batches of unlike sequences: arguments, samplers and seeds of each, and the best of several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, DataError, NotelstmError
from notelstm.fields import Rows
from notelstm.generation.rows import Seed
from notelstm.labels import Given, LabelMap
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, Processor, Sampler
from notelstm.sampling.masking import check_number, check_whole
from notelstm.sampling.samplers import with_processors
from notelstm.sampling.timing import MAX_SECONDS, EndAt

__all__ = [
    "best_of_each",
    "check_context",
    "ending_at",
    "in_sequence",
    "per_sequence",
    "sampler_of_each",
    "seeds_of_each",
    "with_labels",
]


def per_sequence(
    arguments: Mapping[str, object], batch_size: int | None
) -> tuple[int, dict[str, list[Any]]]:
    """The entries of arguments that are one value for all sequences, or a list.

    Args:
        arguments: The arguments, by name.
        batch_size: The number of sequences, None for the length of the lists.

    Returns:
        The number of sequences, and that many entries of each argument.

    Raises:
        ConfigError: If lengths differ, or the number of sequences is not known or less than 1.
    """
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1)
    sizes = {} if batch_size is None else {f"batch_size is {batch_size}": int(batch_size)}
    for name, value in arguments.items():
        if isinstance(value, list | tuple | np.ndarray):
            sizes[f"{name} has {len(value)} entries"] = len(value)
    if len(set(sizes.values())) > 1:
        one, other = list(sizes)[:2]
        two = next((text for text, size in sizes.items() if size != sizes[one]), other)
        raise ConfigError(f"{one}, but {two}", hint="give one entry for each sequence")
    count = next(iter(sizes.values()), 0)
    if count < 1:
        raise ConfigError("the number of sequences is not given", hint="give batch_size")
    return count, {
        name: list(value) if isinstance(value, list | tuple | np.ndarray) else [value] * count
        for name, value in arguments.items()
    }


@contextlib.contextmanager
def in_sequence(number: int, of: int) -> Iterator[None]:
    """Name the sequence in the errors of a block, if there are several."""
    try:
        yield
    except NotelstmError as error:
        if of > 1:
            error.where = ", ".join(filter(None, (f"sequence {number}", error.where)))
        raise


def check_context(bundle: Bundle, rows: Rows) -> None:
    """Check the length of a prompt, (T, F).

    Raises:
        DataError: If it is shorter than the model's context.
    """
    if bundle.context_length is not None and len(rows) < bundle.context_length:
        raise DataError(
            f"the prompt has {len(rows)} rows, fewer than the model's context of "
            f"{bundle.context_length}",
            hint="give a longer prompt, or leave it out",
        )


def seeds_of_each(seed: Any, count: int, best_of: int) -> list[Seed]:
    """The noise of ``count * best_of`` sequences, those of a piece one after another.

    Args:
        seed: One random seed, or a list with the seed of each of `count` pieces. The noise of a
            piece with a seed of its own does not depend on the others.
        count: The number of pieces.
        best_of: The number of sequences of each piece.

    Raises:
        ConfigError: If a seed is not a whole number of at least 0.
    """
    own = isinstance(seed, list | tuple | np.ndarray)
    seeds: list[Any] = list(seed) if own else [seed] * count
    for i, one in enumerate(seeds):
        with in_sequence(i, count):
            check_whole("seed", one)
    return [
        Seed(int(one), j if own else i * best_of + j)
        for i, one in enumerate(seeds)
        for j in range(best_of)
    ]


def sampler_of_each(
    bundle: Bundle,
    sampler: Sampler | None,
    settings: Sequence[tuple[float | None, float | None]],
    processors: Sequence[Processor],
) -> list[Sampler]:
    """The sampler of each piece, the same object for equal settings.

    Args:
        bundle: The model.
        sampler: Replaces the sampler of the bundle and its processors; None for that one.
        settings: The temperature and `top_p` of each piece, or None.
        processors: More processors of all pieces.

    Raises:
        ConfigError: If a sampler is given together with other arguments, or a setting is out of
            range.
    """
    if sampler is not None:
        if len(processors) or any(value is not None for pair in settings for value in pair):
            raise ConfigError(
                "sampler is given together with temperature, top_p or processors",
                hint="give the sampler its processors: Ancestral(processors=(TopP(p=0.95),))",
            )
        return [sampler] * len(settings)
    samplers: dict[tuple[float | None, float | None], Sampler] = {}
    for i, pair in enumerate(settings):
        if pair not in samplers:
            with in_sequence(i, len(settings)):
                samplers[pair] = with_processors(
                    bundle.sampler, processors, temperature=pair[0], top_p=pair[1]
                )
    return [samplers[pair] for pair in settings]


def ending_at(
    times: Sequence[float | None],
    samplers: Sequence[Sampler],
    encoder: NoteEncoder,
    prompts: Sequence[Notes | None],
) -> list[Sampler]:
    """The samplers of pieces that end at about a time, the same object for equal ones.

    Args:
        times: The time of each piece, seconds after the last onset of its prompt, or None.
        samplers: The sampler of each piece.
        encoder: The encoder of the prompts.
        prompts: The prompt of each piece, or None.

    Raises:
        ConfigError: If a time is negative or too large, or a sampler has no processors.
    """
    found: dict[tuple[int, float], Sampler] = {}
    result = []
    for i, (time, sampler, prompt) in enumerate(zip(times, samplers, prompts, strict=True)):
        if time is None:
            result.append(sampler)
            continue
        with in_sequence(i, len(times)):
            check_number("end_at", time, 0, MAX_SECONDS)
            start = 0.0
            if isinstance(prompt, Notes) and len(prompt):
                start = float(encoder.decode(encoder.encode(prompt)).start[-1])
            key = id(sampler), start + time
            if key not in found:
                found[key] = with_processors(sampler, (EndAt(seconds=start + time),))
        result.append(found[key])
    return result


def with_labels(labels: LabelMap | None, piece: Notes | None, given: Given) -> Given:
    """Given entries as numbers, with the labels of a piece where they are not given."""
    if labels is None:
        return given
    names = [label.name for label in labels.labels]
    classes = [0] * len(names) if piece is None else labels.classes_of(piece)
    return {**dict(zip(names, map(float, classes), strict=True)), **labels.entries(given)}


def best_of_each(nats: Sequence[float], best_of: int) -> list[int]:
    """The numbers of the sequences with the fewest nats, one of each `best_of` consecutive ones."""
    return [
        min(range(first, first + best_of), key=lambda i: (nats[i], i))
        for first in range(0, len(nats), best_of)
    ]
