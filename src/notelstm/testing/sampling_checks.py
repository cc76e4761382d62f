"""``check_sampler`` and ``check_processor``: the contracts of :mod:`notelstm.protocols`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from notelstm.encoders.log_time import LogTimeEncoder
from notelstm.encoders.rows import END, PITCH, RowTracker
from notelstm.encoders.step_duration import StepDurationEncoder
from notelstm.fields import Field, Role
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.predictions import Categorical, LogisticMixture, Normal, PointEstimate
from notelstm.protocols import Prediction, Processor, Sampler, SamplingContext
from notelstm.testing.clauses import require, run
from notelstm.testing.prediction_checks import as_numbers, noise_like, require_in_domain

__all__ = ["BAND", "SamplingCase", "Trial", "check_processor", "check_sampler"]

BAND: Final = (Part(name="Piano"), Part(name="Bass", program=33), Part(name="Drums", drum=True))
"""The parts of the sequences with which processors of instruments are checked."""

Make: TypeAlias = Callable[[Tensor], Prediction]

_BATCH_SIZE: Final = 6
_ALL: Final = slice(None)

_FIELDS: Final = (
    PITCH,
    Field.categorical("step", "step", values=(0.0, 0.25, 1.0), edges=(0, 0.1, 0.5, 2), unit="s"),
    Field.categorical("duration", "duration", values=(0.001, 0.5), edges=(0, 0.1, 1), unit="s"),
    Field.categorical("velocity", "velocity", values=(40, 80)),
    Field.continuous("duration-s", "duration", unit="s", low=0.0),
    Field.continuous("tempo", "tempo", unit="quarter notes a minute", low=10.0, high=400.0),
    END,
)


@final
@dataclass(frozen=True)
class Trial:
    """A prediction of one field for (B,) sequences; `make` gives that of some of them."""

    field: Field
    make: Callable[[slice], Prediction]
    name: str


def _predictions(
    field: Field, make: Make | None
) -> Iterator[tuple[str, Callable[[slice], Prediction]]]:
    generator = torch.Generator().manual_seed(0)
    if field.classes is None:
        low = field.interval.low if field.low is not None else -1.0
        ends = [torch.full((_BATCH_SIZE,), bound) for bound in field.interval]
        value = low + 2 * torch.rand(_BATCH_SIZE, generator=generator) - 0.5
        sigma = torch.full((_BATCH_SIZE,), 0.5)
        logits, mean, log_scale = torch.randn(3, _BATCH_SIZE, 4, generator=generator).unbind(0)
        scale = log_scale[:, 1:].exp()

        def constrained(at: slice, cls: Callable[..., Prediction], *parts: Tensor) -> Prediction:
            prediction = cls(*(part[at].clone() for part in parts))
            return prediction.constrained((ends[0][at], ends[1][at]))

        yield "a value", lambda at: constrained(at, PointEstimate, value)
        yield "a normal", lambda at: constrained(at, Normal, value, sigma)
        if field.low is not None:
            mixture = functools.partial(LogisticMixture, origin=field.low)
            yield "a mixture", lambda at: constrained(at, mixture, logits, mean[:, 1:], scale)
        return
    logits = 3 * torch.randn(_BATCH_SIZE, field.classes, generator=generator)
    weights = torch.rand(_BATCH_SIZE, field.classes, generator=generator)
    some = torch.rand(_BATCH_SIZE, field.classes, generator=generator) < 0.4
    some[:, 0] |= ~some.any(-1)

    def classes(at: slice, allowed: Tensor | None = None) -> Prediction:
        if make is not None:
            prediction = make(logits[at].clone())
        else:
            own = None if allowed is None else weights[at].clone()
            prediction = Categorical(logits[at].clone(), own)
        return prediction if allowed is None else prediction.constrained(allowed[at])

    yield "any class", classes
    yield "some classes", lambda at: classes(at, some)
    for c in range(min(field.classes, 3)):
        only = torch.zeros_like(some)
        only[:, c] = True
        yield f"only class {c}", lambda at, only=only: classes(at, only)  # type: ignore[misc]


def _contexts() -> list[SamplingContext]:
    """Sequences in which three notes sound, each with another top note."""
    contexts = []
    for i in range(_BATCH_SIZE):
        tracker = RowTracker(StepDurationEncoder())
        for pitch in (60, 64, 67 + i):
            tracker.push(np.array([pitch, 0.0, 1.5], dtype=np.float32))
        contexts.append(SamplingContext({}, tracker))
    return contexts


@final
@dataclass(frozen=True, kw_only=True)
class SamplingCase:
    """The arguments of :func:`check_sampler` or :func:`check_processor`.

    Attributes:
        apply: The sampler, or the processor, which ignores the noise.
    """

    apply: Callable[[Field, Prediction, Tensor, Sequence[SamplingContext]], Any]
    fields: Sequence[Field]
    contexts: Sequence[SamplingContext]
    make: Make | None
    roles: Collection[Role] | None = None
    instruments: Collection[str] | None = None

    @property
    def trials(self) -> Iterator[Trial]:
        """Predictions of each field, with and without constraints."""
        for field in self.fields:
            for name, part in _predictions(field, self.make):
                yield Trial(field, part, f"{field.name!r}, {name}")

    def result(self, trial: Trial, *, at: slice = _ALL, seed: int = 0) -> Any:
        """The samples, or the processed prediction, of some sequences."""
        noise = noise_like(torch.zeros(_BATCH_SIZE), seed)[at]
        return self.apply(trial.field, trial.make(at), noise, self.contexts[at])

    def numbers(self, trial: Trial, *, at: slice = _ALL) -> Tensor:
        """The result as a tensor."""
        result = self.result(trial, at=at)
        return result if isinstance(result, Tensor) else as_numbers(result, trial.field)


def check_sampler(
    sampler: Sampler,
    *,
    fields: Sequence[Field] = _FIELDS,
    looks: bool = False,
    make: Make | None = None,
) -> None:
    """Check that a sampler keeps the contract.

    Args:
        sampler: The sampler.
        fields: Fields that it can sample.
        looks: Whether it reads the contexts; one that does not must work without any.
        make: Makes the prediction of a categorical field from (B, C) logits, such as a
            prediction of your own; ``Categorical`` by default.

    Raises:
        AssertionError: At the first broken clause, with its name.

    Example:
        >>> from notelstm.sampling import Ancestral
        >>> check_sampler(Ancestral())
    """
    contexts = _contexts() if looks else ()
    case = SamplingCase(apply=sampler, fields=fields, contexts=contexts, make=make)
    run("check_sampler", SAMPLER_CLAUSES, case)


def check_processor(
    processor: Processor,
    *,
    fields: Sequence[Field] = _FIELDS,
    roles: Collection[Role] | None = None,
    contexts: Sequence[SamplingContext] | None = None,
    make: Make | None = None,
    instruments: Collection[str] | None = None,
) -> None:
    """Check that a processor keeps the contract.

    Args:
        processor: The processor.
        fields: Fields whose predictions it is given.
        roles: The roles of the fields that it changes; None for any. Predictions of other fields
            must stay unchanged.
        contexts: Contexts of 6 sequences; by default of sequences in which three notes sound, of
            :data:`BAND` if `instruments` are given.
        make: As for :func:`check_sampler`.
        instruments: The names of the parts that it acts on, of :data:`BAND`, where it limits the
            notes of each instrument by those of the same one; None if it does not.

    Raises:
        AssertionError: At the first broken clause, with its name.

    Example:
        >>> from notelstm.sampling import MinDuration
        >>> check_processor(MinDuration(), roles={"duration"})
    """
    case = SamplingCase(
        apply=lambda field, prediction, _, contexts: processor(field, prediction, contexts),
        fields=fields,
        contexts=contexts or (_contexts() if instruments is None else _band_contexts()),
        make=make,
        roles=roles,
        instruments=instruments,
    )
    run("check_processor", PROCESSOR_CLAUSES, case)


def _possible(prediction: Prediction) -> Tensor | None:
    """(B, C) the classes of positive probability; None for a prediction of numbers."""
    weights = prediction.log_weights()
    return None if weights is None else weights > -torch.inf


def _require_unchanged(trial: Trial, prediction: Prediction) -> None:
    same = torch.equal(*(as_numbers(one, trial.field) for one in (prediction, trial.make(_ALL))))
    require(same, f"{trial.name}: the prediction changed.")


def _inputs_are_unchanged(case: SamplingCase) -> None:
    """Prediction, noise and contexts are left unchanged, except for the memo of a tracker."""
    music = [_music_of(context) for context in case.contexts]
    for trial in case.trials:
        noise, prediction = noise_like(torch.zeros(_BATCH_SIZE)), trial.make(_ALL)
        before = noise.clone()
        case.apply(trial.field, prediction, noise, case.contexts)
        require(torch.equal(noise, before), f"{trial.name}: the noise changed.")
        _require_unchanged(trial, prediction)
        for i, (context, own) in enumerate(zip(case.contexts, music, strict=True)):
            for name, value in _music_of(context).items():
                require(value == own[name], f"{trial.name}: {name} of sequence {i} changed.")


def _music_of(context: SamplingContext) -> dict[str, object]:
    """The parts of a context that are the same after each call."""
    tracker = context.tracker
    return {
        "known": dict(context.known),
        "num_notes": tracker.num_notes,
        "time": tracker.time,
        "notes": tracker.notes(),
    }


def _sequences_are_independent(case: SamplingCase) -> None:
    """A sequence has the same result alone as in a batch."""
    for trial in case.trials:
        whole = case.numbers(trial)
        tolerance = 0.0 if isinstance(case.result(trial), Tensor) else 1e-6
        for i in range(_BATCH_SIZE):
            alone, same = case.numbers(trial, at=slice(i, i + 1)), whole[i : i + 1]
            near = alone.shape == same.shape
            near = near and torch.allclose(alone, same, rtol=10 * tolerance, atol=tolerance)
            require(near, f"{trial.name}: sequence {i} differs.")


def _results_are_repeatable(case: SamplingCase) -> None:
    """The same prediction and noise have the same result, without torch's global generator."""
    for trial in case.trials:
        before = torch.get_rng_state()
        one, two = case.numbers(trial), case.numbers(trial)
        require(torch.equal(one, two), f"{trial.name}: the second result differs.")
        same = torch.equal(before, torch.get_rng_state())
        require(same, f"{trial.name}: torch's global generator was used.")


def _samples_are_in_the_domain(case: SamplingCase) -> None:
    """Samples are (B,) class ids, or (B,) values within the bounds of the field."""
    for trial in case.trials:
        samples = case.result(trial)
        require(isinstance(samples, Tensor), f"{trial.name}: got {type(samples).__name__}.")
        shape = tuple(samples.shape)
        require(shape == (_BATCH_SIZE,), f"{trial.name}: shape {shape}.")
        require_in_domain(trial.field, samples)


def _impossible_classes_are_not_sampled(case: SamplingCase) -> None:
    """A class of probability 0 is never sampled."""
    for trial in case.trials:
        possible = _possible(trial.make(_ALL))
        if possible is not None:
            for seed in range(20):
                samples = case.result(trial, seed=seed)
                allowed = possible.gather(1, samples[:, None]).all()
                require(allowed, f"{trial.name}: sampled {samples.tolist()}.")


def _shape_is_kept(case: SamplingCase) -> None:
    """The result is a prediction for the same (B,) sequences, of classes or numbers as before."""
    for trial in case.trials:
        result = case.result(trial)
        is_prediction = hasattr(result, "mode") and hasattr(result, "log_weights")
        require(is_prediction, f"{trial.name}: got {type(result).__name__}, not a prediction.")
        shape = tuple(result.mode().shape)
        require(shape == (_BATCH_SIZE,), f"{trial.name}: shape {shape}.")
        before, after = _possible(trial.make(_ALL)), _possible(result)
        same = (None if x is None else x.shape for x in (before, after))
        require(len(set(same)) == 1, f"{trial.name}: other classes.")


def _a_class_stays_possible(case: SamplingCase) -> None:
    """At least one possible class of each sequence stays possible."""
    for trial in case.trials:
        possible = _possible(case.result(trial))
        if possible is not None:
            require(possible.any(-1).all(), f"{trial.name}: no class is left.")


def _impossible_stays_impossible(case: SamplingCase) -> None:
    """An impossible class stays impossible, and a value within the bounds of the field."""
    for trial in case.trials:
        result = case.result(trial)
        before, after = _possible(trial.make(_ALL)), _possible(result)
        if before is not None and after is not None:
            require(not (after & ~before).any(), f"{trial.name}: a class became possible.")
        else:
            require_in_domain(trial.field, result.sample(noise_like(result.mode())))


def _other_roles_are_unchanged(case: SamplingCase) -> None:
    """Predictions of fields of other roles are returned unchanged."""
    for trial in case.trials:
        if case.roles is not None and trial.field.role not in case.roles:
            _require_unchanged(trial, case.result(trial))


_Pitches: TypeAlias = Mapping[int, Sequence[int]]
"""The pitches that each part of the band has played."""

_PLAYED: Final[_Pitches] = {0: (60, 64, 60), 1: (36, 43, 36), 2: (38, 42, 38)}


def _band_context(instrument: int, pitches: _Pitches) -> SamplingContext:
    """A sequence of :data:`BAND` before a pitch of an instrument, with those that each played."""
    encoder = LogTimeEncoder(exact=True, parts=PartMap(parts=BAND))
    count = max(map(len, pitches.values()))
    pieces = [
        Notes(
            start=0.5 * np.arange(count),
            end=0.5 * np.arange(count) + 0.9,
            pitch=np.resize(played, count),
            program=BAND[k].program,
            drum=np.full(count, BAND[k].drum),
        )
        for k, played in pitches.items()
    ]
    tracker = RowTracker(encoder)
    tracker.extend(encoder.encode(Notes.merge(pieces)))
    return SamplingContext({"step": 20.0, "instrument": float(instrument)}, tracker)


def _band_contexts() -> list[SamplingContext]:
    """Sequences of :data:`BAND`, each before a pitch of another part or after another top note."""
    return [
        _band_context(i % len(BAND), {**_PLAYED, 0: (60, 64, 67 + i)}) for i in range(_BATCH_SIZE)
    ]


def _for_each_part(
    case: SamplingCase, changed: Callable[[int], _Pitches]
) -> Iterator[tuple[int, Trial, Tensor]]:
    """The result for a pitch of each part, and the part, if the case has instruments."""
    for k in range(len(BAND)) if case.instruments is not None else ():
        contexts = [_band_context(k, changed(k))] * _BATCH_SIZE
        for trial in case.trials:
            if trial.field.role == "pitch":
                noise = noise_like(torch.zeros(_BATCH_SIZE))
                result = case.apply(trial.field, trial.make(_ALL), noise, contexts)
                yield k, trial, as_numbers(result, trial.field)


def _other_instruments_are_unchanged(case: SamplingCase) -> None:
    """Pitches of an instrument that the processor does not act on, such as drums, are unchanged."""
    for k, trial, result in _for_each_part(case, lambda _: _PLAYED):
        if BAND[k].name not in (case.instruments or ()):
            same = torch.equal(result, as_numbers(trial.make(_ALL), trial.field))
            require(same, f"{trial.name}: pitches of {BAND[k].name} changed.")


def _other_instruments_have_no_effect(case: SamplingCase) -> None:
    """Pitches of an instrument do not depend on the notes of the others."""

    def others_changed(k: int) -> _Pitches:
        return {i: p if i == k else [pitch + 1 for pitch in p] for i, p in _PLAYED.items()}

    one, two = (_for_each_part(case, changed) for changed in (lambda _: _PLAYED, others_changed))
    for (k, trial, result), (_, _, other) in zip(one, two, strict=True):
        name = BAND[k].name
        same = torch.equal(result, other)
        require(same, f"{trial.name}: pitches of {name} depend on other instruments.")


SAMPLER_CLAUSES = (
    _inputs_are_unchanged,
    _samples_are_in_the_domain,
    _impossible_classes_are_not_sampled,
    _results_are_repeatable,
    _sequences_are_independent,
)

PROCESSOR_CLAUSES = (
    _inputs_are_unchanged,
    _shape_is_kept,
    _a_class_stays_possible,
    _impossible_stays_impossible,
    _other_roles_are_unchanged,
    _other_instruments_are_unchanged,
    _other_instruments_have_no_effect,
    _sequences_are_independent,
    _results_are_repeatable,
)
