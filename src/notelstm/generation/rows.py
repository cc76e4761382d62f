"""Sampling one row: its noise, and the loop over its fields.

Entries are represented in one of two ways: as floats, for one sequence with a numpy step, or as
tensors of B sequences. The loop is the same.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.encoders.rows import RowConstraints, TrackingEncoder
from notelstm.errors import FieldError, did_you_mean
from notelstm.fields import Field, Interval, Mask, Rows, by_name
from notelstm.generation.sequences import SamplingContexts, SomeSequences
from notelstm.labels import Given
from notelstm.models.inference import ModuleStep, NumpyStep, Step, repeat, select
from notelstm.protocols import (
    Allowed,
    HasLikelihood,
    NoteEncoder,
    Prediction,
    Sampler,
    SamplingContext,
)
from notelstm.sampling.masking import Constraints
from notelstm.sampling.samplers import HasNumpyChoice, check_chosen

__all__ = ["BatchNoise", "NoiseStream", "RowSampler", "Seed", "check_fixed", "check_given"]

_BLOCK: Final = 256


@final
class NoiseStream:
    """The uniforms of one sequence, two for each field of a row, even if the field is fixed.

    Args:
        seed: The seed of the batch.
        sequence: The number of the sequence; sequence 0 alone equals sequence 0 of a batch.
        fields: F, the number of fields.
    """

    def __init__(self, seed: int, sequence: int, fields: int) -> None:
        self._seed: Final = np.random.SeedSequence(seed, spawn_key=(sequence,))
        self._fields: Final = fields
        self._rng = np.random.default_rng(self._seed)
        self._next = 0

    def block(self, number: int, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """The uniforms of 256 rows, (256, F, 2) in [0, 1).

        Args:
            number: The number of the block, from 0.
            out: The array for the result; None for a new one.
        """
        shape = (_BLOCK, self._fields, 2)
        if number != self._next:
            # A uniform takes one step of the generator.
            bits = np.random.PCG64(self._seed).advance(number * int(np.prod(shape)))
            self._rng = np.random.Generator(bits)
        self._next = number + 1
        return self._rng.random(shape, out=out)


class Seed(NamedTuple):
    """The noise of one sequence: sequence `number` of a batch with the random seed `seed`."""

    seed: int
    number: int = 0


@final
class BatchNoise:
    """The uniforms of B sequences with F fields, row by row.

    Args:
        seeds: B, the noise of each sequence.
        fields: F, the number of fields.

    Attributes:
        seeds: The same.
    """

    def __init__(self, seeds: Sequence[Seed], fields: int) -> None:
        self.seeds: Final = tuple(seeds)
        self._streams: Final = [NoiseStream(seed, number, fields) for seed, number in seeds]
        self._at = [0] * len(seeds)
        # Of each sequence, the number of its block, the block, and the same as floats on demand.
        self._numbers: Final = [-1] * len(seeds)
        self._blocks: Final = np.empty((len(seeds), _BLOCK, fields, 2))
        self._floats: Final[dict[int, list[list[list[float]]]]] = {}

    @property
    def at(self) -> tuple[int, ...]:
        """The number of the next row of each of the B sequences; it can be set."""
        return tuple(self._at)

    @at.setter
    def at(self, at: Sequence[int]) -> None:
        self._at = list(at)

    def _next(self, sequence: int) -> int:
        """Advance a sequence by a row, and return the index of the row in its block."""
        number, row = divmod(self._at[sequence], _BLOCK)
        if number != self._numbers[sequence]:
            self._streams[sequence].block(number, out=self._blocks[sequence])
            self._numbers[sequence] = number
            self._floats.pop(sequence, None)
        self._at[sequence] += 1
        return row

    def next(self, sequences: Sequence[int]) -> NDArray[np.float64]:
        """(N, F, 2) uniforms of the next row of N sequences."""
        rows = [self._next(i) for i in sequences]  # this may replace blocks
        return self._blocks[list(sequences), rows]

    def next_floats(self, sequence: int) -> list[list[float]]:
        """(F, 2) uniforms of the next row of a sequence, as floats."""
        row = self._next(sequence)
        if sequence not in self._floats:
            self._floats[sequence] = self._blocks[sequence].tolist()
        return self._floats[sequence][row]


_LARGEST: Final = float(torch.finfo(torch.float32).max)
"""The greatest number that a row can hold."""


@final
class RowSampler:
    """Samples the next row of each of B sequences.

    Args:
        field_order: The names of the fields in the order of prediction.
        step: The model's step.
        sampler: The sampler.
        sequences: The sequences, of those of a session.
        encoder: The encoder. Its own tracker limits the entries of the next row, if it has one;
            otherwise its method ``allowed_classes`` and the bounds of the fields do.
        ends: Whether a row may be the last of a piece; otherwise fields of the role end are class
            0, unless they are fixed, and are not predicted.
        count_nats: Whether to add up :attr:`nats`.

    Attributes:
        nats: (B,) the sum of the nats of the entries sampled in the latest row, before processors;
            fields without a likelihood do not count.
        sequences: The sequences.
    """

    def __init__(
        self,
        field_order: Sequence[str],
        step: Step,
        sampler: Sampler,
        sequences: SomeSequences,
        encoder: NoteEncoder,
        *,
        ends: bool = False,
        count_nats: bool = False,
    ) -> None:
        self.sequences: Final = sequences
        self.nats: NDArray[np.float64] = np.zeros(len(sequences))
        self._count_nats: Final = count_nats
        has_tracker = isinstance(encoder, TrackingEncoder)
        self._constraints: Final = Constraints(encoder, field_order)
        self._constrained: Final = has_tracker or bool(self._constraints)
        fields = by_name(encoder.fields)
        self._fields: Final = fields
        self._given: Final = tuple(name for name, field in fields.items() if field.given)
        self._without_end: Final = {n for n, f in fields.items() if f.role == "end" and not ends}
        columns = list(fields)
        self._order: Final = [(name, fields[name], columns.index(name)) for name in field_order]
        constraints = None if has_tracker else self._constraints
        self._tensors: Final = _Tensors(fields, step, sampler, sequences, constraints)
        self._floats: _Floats | None = None
        is_numpy = len(sequences) == 1 and not isinstance(step, ModuleStep) and not count_nats
        if is_numpy and isinstance(sampler, HasNumpyChoice):
            limits = None if has_tracker else RowConstraints(encoder)
            self._floats = _Floats(fields, cast(NumpyStep, step), sampler, sequences, limits)

    def __call__(
        self,
        context: Any,
        noise: BatchNoise,
        fixed: Mapping[str, float],
        given: Sequence[Mapping[str, float]],
    ) -> Rows:
        """Sample (B, F) rows from the context (B, ...) of the model.

        Args:
            context: The context of the model, (B, ...).
            noise: The source of the uniforms.
            fixed: Entries of fields that are not given, which are not sampled, by field name, the
                same in each sequence.
            given: Entries of given fields of each sequence; the trackers derive those that are
                missing.

        Raises:
            FieldError: If a fixed entry is not allowed, or a given one is missing.
        """
        values: Any = self._tensors if fixed or self._floats is None else self._floats
        predict, choose, bounds = values.predict, values.choose, values.bounds
        uniforms = values.uniforms(noise)
        entries: dict[str, Any] = values.given(given, self._given) if self._given else {}
        held = self._tensors.full(fixed) if fixed else {}
        if self._count_nats:
            self.nats = np.zeros_like(self.nats)
        if self._constraints:
            # Together, before a field in front of them is left without a class.
            for name, entry in held.items():
                others = {other: held[other] for other in held if other != name}
                field = self._fields[name]
                allowed = self._tensors.allowed(field, {**entries, **others})
                _check_allowed(entry, field, allowed, self.sequences)
        for name, field, column in self._order:
            if name in held:
                entries[name] = held[name]
                if self._constrained:
                    allowed = self._tensors.allowed(field, entries)
                    _check_allowed(held[name], field, allowed, self.sequences)
                continue
            if name in self._without_end:
                entries[name] = values.no_end
                continue
            prediction = predict(name, context, entries)
            known = entries
            if held:
                prediction = self._reweighted(name, prediction, context, entries, held)
                known = {**entries, **held}
            allowed = values.allowed(field, known) if self._constrained else bounds[name]
            if allowed is not None:
                prediction = prediction.constrained(allowed)
            entries[name] = choose(field, prediction, uniforms[column], known)
            if self._count_nats and isinstance(prediction, HasLikelihood):
                self.nats += prediction.nll(entries[name]).double().cpu().numpy()
        rows: Rows = values.rows(entries)
        return rows

    def _reweighted(
        self,
        name: str,
        prediction: Prediction,
        context: Any,
        known: Mapping[str, Tensor],
        held: Mapping[str, Tensor],
    ) -> Prediction:
        """The prediction of a field, given the fixed entries of the fields right after it.

        p(entry) becomes proportional to p(entry) p(fixed | entry), which takes one prediction for
        all classes. Predictions of numbers do not change. Of B sequences, `known` has the entries
        of the earlier fields, `held` those of all fixed ones.
        """
        names = [earlier for earlier, *_ in self._order]
        after = list(itertools.takewhile(held.__contains__, names[names.index(name) + 1 :]))
        log_weights = prediction.log_weights()
        if log_weights is None or not after:
            return prediction
        costs = []
        batch_size, classes = log_weights.shape
        for i in range(batch_size):
            only = slice(i, i + 1)
            here = repeat(select(context, only), classes)
            before = {earlier: entries[only].expand(classes) for earlier, entries in known.items()}
            before[name] = torch.arange(classes, device=log_weights.device)
            cost = torch.zeros(classes, dtype=torch.float64, device=log_weights.device)
            for later in after:
                entries = held[later][only].expand(classes)
                later_prediction = self._tensors.predict(later, here, before)
                if self._constraints:
                    row = {**before, later: entries}
                    previous = self._tensors.previous[only].expand(classes, -1)
                    later_prediction = self._constraints.apply(
                        later, later_prediction, row, previous, keep_own=True
                    )
                if isinstance(later_prediction, HasLikelihood):
                    cost += later_prediction.nll(entries).double()
                before[later] = entries
            costs.append(cost - cost.min())
        return prediction.add_log_weights(-torch.stack(costs))  # (B, C)


@final
class _Floats:
    """Entries of one sequence as floats, predicted by the numpy step."""

    no_end: Final = 0.0

    def __init__(
        self,
        fields: Mapping[str, Field],
        step: NumpyStep,
        sampler: HasNumpyChoice,
        sequences: SomeSequences,
        constraints: RowConstraints | None,
    ) -> None:
        self._sequences: Final = sequences
        self._constraints: Final = constraints
        self._columns: Final = tuple(fields)
        self.predict: Final = step.predict_numpy
        self.choose: Final = sampler.numpy_choice(self._context)
        self.bounds: Final[dict[str, Interval | None]] = {
            name: None if field.is_categorical else field.interval for name, field in fields.items()
        }

    def _context(self, known: Mapping[str, float]) -> SamplingContext:
        return SamplingContext({**known}, self._sequences.trackers[0])

    def uniforms(self, noise: BatchNoise) -> Sequence[Sequence[float]]:
        """(F, 2) uniforms of the next row."""
        return noise.next_floats(self._sequences.numbers[0])

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The allowed entries of a field."""
        if self._constraints is None:
            mask = self._sequences.trackers[0].allowed(field, known)
        else:
            mask = self._constraints.allowed(field, known, self._sequences.previous[0])
        return self.bounds[field.name] if mask is None else mask

    def given(
        self, entries: Sequence[Mapping[str, float]], names: Sequence[str]
    ) -> dict[str, float]:
        """The entries of the given fields of these names."""
        (found,) = _given_entries(entries, names, self._sequences)
        return found

    def rows(self, entries: Mapping[str, float]) -> Rows:
        """(1, F) rows."""
        return np.array([[entries[name] for name in self._columns]], dtype=np.float32)


@final
class _Tensors:
    """Entries of B sequences as tensors (B,): class ids (int64) or values (float32)."""

    def __init__(
        self,
        fields: Mapping[str, Field],
        step: Step,
        sampler: Sampler,
        sequences: SomeSequences,
        constraints: Constraints | None,
    ) -> None:
        self._constraints: Final = constraints
        self._fields: Final = fields
        self._sampler: Final = sampler
        self._sequences: Final = sequences
        self._device: Final = step.device if isinstance(step, ModuleStep) else None
        self.no_end: Final = torch.zeros(len(sequences), dtype=torch.int64, device=self._device)
        self.predict: Final = step.predict
        self.bounds: Final[dict[str, Allowed | None]] = {
            name: None if field.is_categorical else self._ends([field.interval] * len(sequences))
            for name, field in fields.items()
        }

    def uniforms(self, noise: BatchNoise) -> Sequence[Tensor]:
        """F tensors (B, 2) with the uniforms of the next row."""
        return torch.from_numpy(noise.next(self._sequences.numbers)).to(self._device).unbind(1)

    def full(self, fixed: Mapping[str, float]) -> dict[str, Tensor]:
        """(B,) each fixed entry."""
        size = (len(self._sequences),)
        return {
            name: torch.full(size, entry, dtype=self._dtype(name), device=self._device)
            for name, entry in fixed.items()
        }

    def given(
        self, entries: Sequence[Mapping[str, float]], names: Sequence[str]
    ) -> dict[str, Tensor]:
        """(B,) each, the entries of the given fields of these names."""
        found = _given_entries(entries, names, self._sequences)
        return {
            name: torch.tensor(
                [one[name] for one in found], dtype=self._dtype(name), device=self._device
            )
            for name in names
        }

    def choose(
        self, field: Field, prediction: Prediction, noise: Tensor, known: Mapping[str, Tensor]
    ) -> Tensor:
        """(B,) entries chosen by the sampler."""
        contexts = SamplingContexts(self._sequences, known)
        chosen = self._sampler(field, prediction, noise, contexts)
        return check_chosen(chosen, field, len(contexts)).to(self._dtype(field.name))

    def allowed(self, field: Field, known: Mapping[str, Tensor]) -> Allowed | None:
        """The allowed entries of a field in all sequences."""
        if self._constraints is not None:
            if not field.is_categorical:
                return self.bounds[field.name]
            return self._constraints.allowed(field.name, known, self.previous)
        contexts = SamplingContexts(self._sequences, known)
        masks = [context.tracker.allowed(field, context.known) for context in contexts]
        if not field.is_categorical:
            return self._ends([field.interval if m is None else m for m in masks])
        if all(mask is None for mask in masks):
            return None
        all_allowed = np.ones(field.classes or 0, dtype=np.bool_)
        stacked = np.stack([all_allowed if m is None else np.asarray(m) for m in masks])
        return torch.from_numpy(stacked).to(self._device)

    @property
    def previous(self) -> Tensor:
        """(B, F) the latest row of each sequence."""
        return torch.from_numpy(self._sequences.previous).to(self._device)

    def rows(self, entries: Mapping[str, Tensor]) -> Rows:
        """(B, F) rows."""
        rows = np.empty((len(self._sequences), len(self._fields)), dtype=np.float32)
        for column, name in enumerate(self._fields):
            rows[:, column] = entries[name].cpu().numpy()
        return rows

    def _dtype(self, name: str) -> torch.dtype:
        return torch.int64 if self._fields[name].is_categorical else torch.float32

    def _ends(self, intervals: Sequence[Mask]) -> tuple[Tensor, Tensor]:
        ends = np.array(intervals, dtype=np.float32)
        low, high = torch.from_numpy(ends).to(self._device).unbind(1)
        return low, high


def _given_entries(
    entries: Sequence[Mapping[str, float]], names: Sequence[str], sequences: SomeSequences
) -> list[dict[str, float]]:
    """The entries of given fields in the next row of each sequence.

    Args:
        entries: The entries of each sequence that are settings, by name.
        names: The names of all given fields.
        sequences: The sequences, whose trackers derive the others.

    Raises:
        FieldError: If a tracker does not have one of the others.
    """
    found = []
    for i, settings in enumerate(entries):
        others = [name for name in names if name not in settings]
        own = sequences.trackers[i].given() if others else {}
        missing = [name for name in others if name not in own]
        if missing:
            raise FieldError(
                f"the given field {missing[0]!r} has no entry",
                where=sequences.name_of(i),
                hint=f"create the session with given={{{missing[0]!r}: ...}}, or give it to next()",
            )
        every = {**own, **settings}
        found.append({name: every[name] for name in names})
    return found


def check_fixed(fields: Mapping[str, Field], fixed: Given) -> None:
    """Check fixed entries.

    Raises:
        FieldError: If a field does not exist, or an entry is outside its range.
    """
    for name, entry in fixed.items():
        if name not in fields:
            raise FieldError(
                f"the encoder has no field {name!r}{did_you_mean(name, fields)}",
                hint=f"use {', '.join(fields)}",
            )
        field = fields[name]
        low, high = field.interval if field.classes is None else (0, field.classes - 1)
        valid = isinstance(entry, numbers.Real) and low <= entry <= high and abs(entry) <= _LARGEST
        if not valid or (field.is_categorical and entry != int(entry)):
            kind = "a class id" if field.is_categorical else "a finite number"
            raise FieldError(f"{name} {entry!r} is not {kind} from {low:g} to {high:g}")


_OF_NOTES: Final = ("origin", "step")
"""The roles of given fields that say which notes are given, and when."""


def check_given(fields: Mapping[str, Field], given: Given) -> None:
    """Check entries of given fields.

    Raises:
        FieldError: If a field does not exist, is not given or follows from notes, or an entry is
            outside its range.
    """
    free = [name for name, field in fields.items() if field.given and field.role not in _OF_NOTES]
    for name in given:
        if name not in fields:
            raise FieldError(
                f"the encoder has no field {name!r}{did_you_mean(name, free)}",
                hint=f"use {', '.join(free)}" if free else "leave it out: nothing can be given",
            )
        if not fields[name].given:
            raise FieldError(
                f"the field {name!r} is sampled, not given",
                hint="give its entry to the session's next()",
            )
        if name not in free:
            raise FieldError(
                f"the field {name!r} follows from the notes that are given",
                hint="leave it out: infill, accompany and vary are given notes",
            )
    check_fixed(fields, given)


def _check_allowed(
    entries: Tensor, field: Field, allowed: Allowed | None, sequences: SomeSequences
) -> None:
    """Check that (B,) fixed entries are allowed in every sequence.

    Raises:
        FieldError: If one is not.
    """
    if allowed is None:
        return
    if isinstance(allowed, Tensor):
        ok = allowed[torch.arange(len(entries), device=entries.device), entries]
    else:
        ok = (allowed[0] <= entries) & (entries <= allowed[1])
    if not bool(ok.all()):
        raise FieldError(
            f"{field.name} {float(entries[0]):g} is not allowed here",
            where=sequences.name_of(int((~ok).nonzero()[0])),
            hint="fix another entry, or the fields before it as well",
        )
