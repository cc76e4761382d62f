"""A memory of the notes so far: earlier passages like the present one vote for the next note.

Music repeats itself, and an LSTM forgets a theme after some seconds. The memory compares the latest
notes with every earlier place of the piece by local alignment, and the places that fit best vote
with the notes that followed them.

**Alignment.** Let ``S[j]`` be the score of the best alignment of a passage that ends with the
latest note, number i, with a passage that ends with note j, as T. F. Smith and M. S. Waterman
define it ("Identification of common molecular subsequences", Journal of Molecular Biology 147,
1981). An alignment pairs notes, and leaves out single notes of either passage. The scores after
note i follow from those after note i - 1::

    d    = max(S[j - 1], S[j - 2] - GAP) + (MATCH + SAME_CHORD or -MISMATCH)
    S[j] = min(CAP, max(0, d, S_before[j] - GAP))

Both terms of the first maximum are scores after note i - 1: note i is paired with note j, and note
j - 1 is left out in the second. In the last line, note i itself is left out. So one row of scores
is enough, and a note costs a few operations on ``window`` whole numbers. The cap bounds the time
that a long repetition influences the scores after it has ended. Scores are whole tenths: sums are
exact, and a batch has the same scores as its sequences alone.

**Shift instead of ring.** The last entry of each array of the state is the latest note, so that the
arrays shift by one place a note. The score of place j - 1 before the shift is then at the index of
place j after it, which makes the recurrence one of neighbouring entries.

**Votes.** The ``VOTERS`` places with the highest scores vote, the later of equal ones first,
if their score is at least ``MATCH`` and within ``RANGE`` of the best. A vote weighs
``exp((S[j] - best) / 10) * (1 + exp(-(i - j) / RECENT)) / 2``. The voted entry of a field is that
of the next note; once the pitch of the new note is known, that of the first note of the same pitch
among the next ``REACH``. While the step is known and the pitch is not, a vote counts a fifth if
only one of the voted and the new note joins a chord.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, Rows, by_name
from notelstm.models.anticipated import Begun, Merged
from notelstm.models.inference import Array
from notelstm.tree import join, map_tree

__all__ = ["Memory", "MemoryContext", "MemoryState", "NumpyMemory", "Votes", "WithMemory"]

MATCH: Final = 10
"""Tenths for a pair of notes of one pitch (and instrument)."""
SAME_CHORD: Final = 3
"""Tenths more if both or neither of them joins a chord."""
MISMATCH: Final = 8
"""Tenths that a pair of other notes costs."""
GAP: Final = 7
"""Tenths that a note costs which is left out."""
CAP: Final = 160
"""The highest score, tenths."""
RANGE: Final = 60
"""Tenths below the best score within which places vote."""
VOTERS: Final = 32
"""K, the number of places that vote at most."""
REACH: Final = 3
"""Notes after a place among which a note of the new note's pitch is searched."""
RECENT: Final = 1500.0
"""Notes after which the weight of a vote for its recency has fallen by a factor of e."""
OTHER_CHORD: Final = 0.2
"""The factor of votes for a note that joins a chord when the new one does not, or conversely."""
TOGETHER: Final = 0.0405
"""The greatest step of a note that joins a chord, in the unit of the step: 40 ms, rounded."""
FLOOR: Final = 0.01
"""Added to the share of each class, so that its logarithm is finite."""

_CHORD: Final = SAME_CHORD
"""The bits of a code in which notes that join a chord differ from others."""
_PITCH: Final = 5
"""The number of bits of a code below the pitch."""
_WORST: Final = MATCH + SAME_CHORD + MISMATCH
_LEAST_WINDOW: Final = 2
_TINY: Final = 1e-9
"""Less than the weight of any vote: it stands for a sum of no votes in a denominator."""
_AHEAD: Final = np.arange(1, REACH + 1, dtype=np.int32)
_SMOOTHED: Final = ("step", "duration", "velocity")
"""The roles whose neighbouring classes are alike."""

T = TypeVar("T", Tensor, NDArray[Any])


class MemoryState(NamedTuple):
    """The last W notes of a piece, the latest at the end, and how well each place fits.

    Attributes:
        scores: (B, W) int16, the score of the alignment that ends at each place, tenths.
        codes: (B, W) pitch, instrument and whether each note joins a chord; before the first note,
            a number that no note has.
        entries: (B, W, D) class ids of the categorical fields; -1 before the first note.
    """

    scores: Tensor
    codes: Tensor
    entries: Tensor


class MemoryContext(NamedTuple):
    """The votes for the note to come, of K places.

    Attributes:
        weights: (B, T, K) float32 weights of the votes, the sum of which is 1; all 0 without votes.
        chord: (B, T, K) 1 if the note after a place joins a chord, otherwise 0.
        entries: (B, T, K, R, D) class ids of the R notes after each place; -1 for none.
        features: (B, T, 2) float32: the best score as a share of the cap, and the number of votes
            on a logarithmic scale.
    """

    weights: Tensor
    chord: Tensor
    entries: Tensor
    features: Tensor


class WithMemory(NamedTuple):
    """The context or the state of a model beside that of its memory.

    Attributes:
        model: Of the model.
        memory: Of the memory.
    """

    model: Any
    memory: Any


class Votes(NamedTuple):
    """The votes for one field.

    Attributes:
        log_shares: (..., C) the logarithm of the share of each class, after the addition of
            ``FLOOR``; None for a continuous field.
        features: (..., 2) the features of the context, or (..., 3) for a field after the pitch,
            with the share of the votes that found its pitch.
    """

    log_shares: Any
    features: Any


def _aligned(scores: T, codes: T, code: T) -> T:
    """The scores after a new note.

    The score of a pair is ``MATCH + SAME_CHORD`` less the exclusive or of its codes, which is 0 for
    equal codes, ``SAME_CHORD`` for codes that differ in the bits of the chord alone, and
    clipped to give ``-MISMATCH`` for others: bits of the pitch are worth 32 and more.

    Args:
        scores: (B, W) the scores before the note.
        codes: (B, W) the codes of the last W notes, with the new one at the end.
        code: (B, 1) the code of the new note.
    """
    skipped = scores - GAP
    best = scores + (MATCH + SAME_CHORD)
    best[:, 1:] = best[:, 1:].clip(min=skipped[:, :-1] + (MATCH + SAME_CHORD))
    best -= (codes ^ code).clip(max=_WORST)
    best[:, :-1] = best[:, :-1].clip(min=skipped[:, 1:])
    best = best.clip(0, CAP)
    best[:, -1] = 0  # the new note itself
    return best


@final
class Memory(nn.Module):
    """Finds the earlier passages of a piece that are like the present one, and their votes.

    It has no parameters, and works for the rows of an encoder with one row per note, on any device.
    Two notes are alike if they have the same pitch and, where there is such a field, the same
    instrument. Transposing a piece changes no score. Only categorical fields have votes.

    Args:
        fields: The fields, exactly one of which is a pitch in classes.
        field_order: The names of the fields in the order of prediction.
        window: W, the number of notes that are kept, at least 2.

    Raises:
        FieldError: If there is not exactly one pitch in classes, or there are events.
    """

    def __init__(self, fields: Sequence[Field], field_order: Sequence[str], window: int) -> None:
        super().__init__()
        self.layout: Final = _Layout(fields, field_order, window)
        self._recency: Tensor
        self._joins: Tensor
        for name, table in (("_recency", self.layout.recency), ("_joins", self.layout.joins)):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def has_votes(self, field: str) -> bool:
        """Whether there are votes for a field."""
        return self.layout.chains[field].column is not None

    def num_features(self, field: str) -> int:
        """The number of features of the votes for a field."""
        return 2 + self.layout.chains[field].after_pitch

    def initial_state(self, batch_size: int) -> tuple[MemoryContext, MemoryState]:
        """The context without votes, and the state without notes."""
        layout, device = self.layout, self._recency.device
        places = (batch_size, layout.window)
        # Made on the device: a copy from the CPU would wait for a GPU.
        state = MemoryState(
            torch.zeros(places, dtype=torch.int16, device=device),
            torch.full(places, layout.nothing, dtype=layout.code_type, device=device),
            torch.full((*places, len(layout.columns)), -1, dtype=layout.entry_type, device=device),
        )
        shape = (batch_size, 1, layout.voters)
        context = MemoryContext(
            torch.zeros(shape, device=device),
            state.codes.new_zeros(shape),
            state.entries.new_full((*shape, REACH, len(layout.columns)), -1),
            torch.zeros(*shape[:2], 2, device=device),
        )
        return context, state

    @override
    @torch.no_grad()
    def forward(self, rows: Tensor, state: MemoryState) -> tuple[MemoryContext, MemoryState]:
        """Read (B, T, F) rows."""
        return self._read(rows, rows, state, None)

    @torch.no_grad()
    def read_merged(self, merged: Merged, state: MemoryState) -> tuple[MemoryContext, MemoryState]:
        """Read given and written notes when they begin.

        The steps of votes are those from the last written note, as the step to come is.

        Returns:
            The votes at each of the rows to which the notes belong, (B, T, ...), and the state.
        """
        layout = self.layout
        keys = _best_places(state.scores, layout).unsqueeze(1).long()
        context = self._context(
            keys >> layout.bits, keys & layout.mask, state.codes, state.entries, first=0
        )
        if merged.rows.shape[1]:
            later, state = self._read(merged.rows, merged.entries, state, merged.counts)
            context = join([context, later], axis=1)  # (B, 1 + N, ...)
        sequence = torch.arange(len(merged.rows), device=keys.device).unsqueeze(1)
        return map_tree(lambda part: part[sequence, merged.latest], context), state

    def _read(
        self, rows: Tensor, voted: Tensor, state: MemoryState, counts: Tensor | None
    ) -> tuple[MemoryContext, MemoryState]:
        """Read (B, T, F) rows, and keep the entries of others for the votes.

        With (B,) `counts`, the state is that after the first rows of each sequence.
        """
        layout, length = self.layout, rows.shape[1]
        new = torch.stack([voted[..., i] for i in layout.columns], -1).to(state.entries.dtype)
        codes = torch.cat([state.codes, self._codes(rows).to(state.codes.dtype)], 1)  # (B, W + T)
        entries = torch.cat([state.entries, new], 1)
        unused = self._unused(state, length)
        size = layout.window - unused
        scores, best = state.scores[:, unused:], []
        for t in range(length):
            window_codes = codes[:, unused + t + 1 : unused + t + 1 + size]
            aligned = _aligned(scores, window_codes, window_codes[:, -1:])
            best.append(_best_places(aligned, layout))
            if counts is None:
                scores = aligned
            else:
                scores = torch.where((t < counts).unsqueeze(1), aligned, scores)
        keys = torch.stack(best, dim=1).long()  # (B, T, K)
        places = (keys & layout.mask) + unused
        context = self._context(keys >> layout.bits, places, codes, entries)
        if counts is None:
            after = codes[:, length:], entries[:, length:]
        else:
            at = counts.unsqueeze(1) + torch.arange(layout.window, device=rows.device)
            sequence = torch.arange(len(rows), device=rows.device).unsqueeze(1)
            after = codes[sequence, at], entries[sequence, at]
        scores = functional.pad(scores, (unused, 0))
        return context, MemoryState(scores, *(part.contiguous() for part in after))

    def _unused(self, state: MemoryState, length: int) -> int:
        """The number of places that have no note before nor after `length` more rows.

        They are the first ones of the window, and their scores are and remain 0: with them, the
        training of pieces much shorter than the window would take several times as long.
        """
        if state.codes.device.type != "cpu":  # a GPU would have to be waited for
            return 0
        used = int((state.codes != self.layout.nothing).any(0).sum())
        return max(0, self.layout.window - max(used + length, self.layout.voters))

    def _codes(self, rows: Tensor) -> Tensor:
        """(B, T) the codes of rows (B, T, F)."""
        layout = self.layout
        codes = rows[..., layout.pitch].long() << _PITCH
        if layout.instrument is not None:
            codes += rows[..., layout.instrument].long() * (layout.pitches << _PITCH)
        if layout.step is not None:
            codes += self._joins_chord(rows[..., layout.step]) * _CHORD
        return codes

    def _joins_chord(self, step: Tensor) -> Tensor:
        """(...) whether notes with (...) steps join a chord."""
        return self._joins[step.long()] if len(self._joins) else step <= TOGETHER

    def _context(
        self, scores: Tensor, places: Tensor, codes: Tensor, entries: Tensor, first: int = 1
    ) -> MemoryContext:
        """The votes of places.

        Args:
            scores: (B, T, K).
            places: (B, T, K) indices in the window of each of the T notes.
            codes: (B, L) the codes of the notes of all windows.
            entries: (B, L, D) their entries.
            first: The place of all notes with which the window of the first note begins.
        """
        layout = self.layout
        top = scores.amax(-1, keepdim=True)
        votes = scores >= (top - RANGE).clamp_min(MATCH)
        weights = torch.exp((scores - top) / 10) * self._recency[places] * votes
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(_TINY)
        count = votes.sum(-1)
        features = torch.stack(
            [top.squeeze(-1) * (count > 0) / CAP, torch.log1p(count.float()) / 3], dim=-1
        )
        batch_size, length = scores.shape[:2]
        # The window of note t begins with place t + 1 of all; the note itself is its last.
        begin = torch.arange(first, first + length, device=places.device)[:, None, None]
        ahead = places.unsqueeze(-1) + torch.arange(1, REACH + 1, device=places.device)
        exists = ahead < layout.window  # (B, T, K, R)
        at = torch.where(exists, begin + ahead, 0)
        at += torch.arange(batch_size, device=places.device).view(-1, 1, 1, 1) * codes.shape[1]
        after = entries.flatten(0, 1)[at].masked_fill(~exists.unsqueeze(-1), -1)
        chord = codes.flatten()[at[..., 0]] & 1
        if layout.written is not None:
            origin, step = layout.written
            nearest = (after[..., origin] == 0).to(torch.uint8).argmax(-1, keepdim=True)
            voted = after[..., step].gather(-1, nearest).squeeze(-1)
            chord = self._joins_chord(voted.clamp_min(0)).to(chord)
        return MemoryContext(weights, chord, after, features)

    def votes(self, field: str, context: MemoryContext, known: Mapping[str, Tensor]) -> Votes:
        """The votes for one field, given those before it in the order.

        Args:
            field: The name of the field.
            context: With any leading shape (...).
            known: The entries (...) of the earlier fields.
        """
        layout = self.layout
        chain = layout.chains[field]
        weights, entries, features = context.weights, context.entries, context.features
        if not chain.after_pitch and layout.written is None:
            entries = entries[..., :1, :]
        same = torch.ones_like(entries[..., 0], dtype=torch.bool)
        for name, column in chain.equal:
            same = same & (entries[..., column] == known[name].long()[..., None, None])
        weights = weights * same.any(-1)
        if chain.step is not None:
            joins = self._joins_chord(known[chain.step]).unsqueeze(-1)
            weights = weights * torch.where(context.chord == joins, 1.0, OTHER_CHORD)
        total = weights.sum(-1, keepdim=True)
        if chain.after_pitch:
            features = torch.cat([features, total], dim=-1)
        if chain.column is None:
            return Votes(None, features)
        first = same.to(torch.uint8).argmax(-1, keepdim=True)
        voted = entries[..., chain.column].gather(-1, first).squeeze(-1).long()
        shares = weights.new_zeros(*weights.shape[:-1], chain.classes)
        shares = shares.scatter_add(-1, voted.clamp_min(0), weights) / total.clamp_min(_TINY)
        if chain.smooth:
            sides = torch.cat([shares[..., :1], shares, shares[..., -1:]], dim=-1)
            shares = shares / 2 + (sides[..., :-2] + sides[..., 2:]) / 4
        return Votes(torch.log(shares + FLOOR), features)


def _best_places(scores: Tensor, layout: _Layout) -> Tensor:
    """(B, K) the keys of the best places, in no order."""
    if scores.device.type == "cpu":  # numpy selects several times faster than torch
        return torch.from_numpy(layout.best_places(scores.numpy()))
    keys = (scores.int() << layout.bits) | torch.arange(scores.shape[1], device=scores.device)
    return keys.topk(layout.voters, sorted=False).values


class _Chain(NamedTuple):
    """How the votes for one field depend on the earlier fields of its note.

    Attributes:
        column: The column of the field among the entries; None if it is continuous.
        classes: C, its number of classes; 0 if it is continuous.
        smooth: Whether half of a vote is for the neighbouring classes.
        equal: Names and columns of the earlier fields that a voted note has in common.
        after_pitch: Whether the pitch is one of them.
        step: The name of the step, if it comes earlier and the pitch does not.
    """

    column: int | None
    classes: int
    smooth: bool
    equal: tuple[tuple[str, int], ...]
    after_pitch: bool
    step: str | None


@final
class _Layout:
    """The columns of a memory, and its tables."""

    def __init__(self, fields: Sequence[Field], field_order: Sequence[str], window: int) -> None:
        if window < _LEAST_WINDOW:
            raise ConfigError(f"memory_window {window} is less than {_LEAST_WINDOW}")
        pitch = _only(fields, "pitch")
        if pitch is None or not fields[pitch].is_categorical or _with_role(fields, "event"):
            raise FieldError(
                "a memory needs rows of one note each, with exactly one pitch in classes",
                hint="use an encoder with one row per note, or memory_window=0",
            )
        self.pitch: Final = pitch
        self.step: Final = _only(fields, "step")
        instrument = _only(fields, "instrument")
        if instrument is not None and not fields[instrument].is_categorical:
            instrument = None
        self.instrument: Final = instrument
        self.window: Final = window
        self.voters: Final = min(VOTERS, window)
        self.bits: Final = (window - 1).bit_length()
        self.mask: Final = (1 << self.bits) - 1
        # An earlier passage did not end the piece.
        self.columns: Final = [
            i for i, field in enumerate(fields) if field.is_categorical and field.role != "end"
        ]
        self.written: Final = self._written(fields)
        self.pitches: Final = fields[pitch].classes or 0
        sounds = self.pitches * (1 if instrument is None else fields[instrument].classes or 0)
        self.nothing: Final = 1 << (sounds << _PITCH).bit_length()
        self.code_type: Final = _integers(self.nothing)
        self.entry_type: Final = _integers(max(fields[i].classes or 0 for i in self.columns))
        age = np.arange(window - 1, -1, -1, dtype=np.float32)
        self.recency: Final[Array] = (1 + np.exp(-age / np.float32(RECENT))) / 2
        values = () if self.step is None else fields[self.step].values
        self.joins: Final = np.array(values, dtype=np.float64) <= TOGETHER
        self._places: Final = np.arange(window, dtype=np.int32)
        self.chains: Final = {
            name: self._chain(fields, field_order[:i], name) for i, name in enumerate(field_order)
        }

    def _written(self, fields: Sequence[Field]) -> tuple[int, int] | None:
        """The columns of the origin and of the step among the entries; None without an origin."""
        origin = [i for i, field in enumerate(fields) if field.role == "origin"]
        if not origin or self.step not in self.columns:
            return None
        return self.columns.index(origin[0]), self.columns.index(self.step)

    def _chain(self, fields: Sequence[Field], earlier: Sequence[str], name: str) -> _Chain:
        field = by_name(fields)[name]
        column = {fields[i].name: k for k, i in enumerate(self.columns)}
        alike = [self.pitch] if self.instrument is None else [self.pitch, self.instrument]
        equal = [fields[i].name for i in alike if fields[i].name in earlier]
        # Given notes are read, and only written ones vote.
        equal += [f.name for f in fields if f.role == "origin" and f.is_categorical]
        after_pitch = fields[self.pitch].name in earlier
        step = None if self.step is None else fields[self.step].name
        return _Chain(
            column.get(name),
            field.classes or 0,
            field.role in _SMOOTHED,
            tuple((known, column[known]) for known in equal),
            after_pitch,
            step if step in earlier and not after_pitch else None,
        )

    def best_places(self, scores: NDArray[np.int16]) -> NDArray[np.int32]:
        """(B, K) the keys of the best places, in no order, given the scores of the last places.

        A key is a score followed by the place in :attr:`bits` bits, so that no two are equal.
        """
        places = scores.shape[1]
        keys = scores.astype(np.int32)
        keys <<= self.bits
        keys |= self._places[:places]
        first = places - self.voters
        keys.partition(first, axis=1)
        return keys[:, first:]


def _only(fields: Sequence[Field], role: str) -> int | None:
    """The column of a role; None if none or several have it."""
    columns = _with_role(fields, role)
    return columns[0] if len(columns) == 1 else None


def _with_role(fields: Sequence[Field], role: str) -> list[int]:
    return [i for i, field in enumerate(fields) if field.role == role and not field.given]


def _integers(greatest: int) -> torch.dtype:
    """The smaller of two types that can have a number."""
    return torch.int16 if greatest <= torch.iinfo(torch.int16).max else torch.int32


@final
class NumpyMemory:
    """A memory row by row, in numpy; its results agree with those of the module to 1e-6.

    Args:
        memory: The module.
    """

    def __init__(self, memory: Memory) -> None:
        self._layout: Final = memory.layout
        self._decay: Final = np.exp(-np.arange(CAP + 1, dtype=np.float32) / 10)

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row of each sequence, (B, F)."""
        notes = self._read(rows, rows, state)
        return self._votes(notes), notes

    def step_begun(self, begun: Sequence[Begun], state: Any) -> tuple[Any, Any]:
        """Read notes that begin, one after another, in those sequences where they do."""
        for note in begun:
            if not note.there.any():
                continue
            parts = zip(self._read(note.rows, note.entries, state), state, strict=True)
            there = note.there
            state = MemoryState(
                *(
                    np.where(there.reshape(-1, *[1] * (old.ndim - 1)), new, old)
                    for new, old in parts
                )
            )
        return self._votes(state), state

    def _votes(self, notes: Any) -> Any:
        return self._context(self._layout.best_places(notes.scores), notes.codes, notes.entries)

    def _read(self, rows: Rows, voted: Rows, state: Any) -> Any:
        """The state after rows (B, F), with the entries of others for the votes."""
        layout = self._layout
        new = voted[:, layout.columns].astype(state.entries.dtype)
        code = (rows[:, layout.pitch].astype(np.int32)) << _PITCH
        if layout.instrument is not None:
            code += rows[:, layout.instrument].astype(np.int32) * (layout.pitches << _PITCH)
        if layout.step is not None:
            code += self._joins_chord(rows[:, layout.step]) * _CHORD
        codes = _shifted(state.codes, code.astype(state.codes.dtype))
        entries = _shifted(state.entries, new)
        scores = _aligned(state.scores, codes, codes[:, -1:])
        return MemoryState(scores, codes, entries)  # type: ignore[arg-type]

    def _joins_chord(self, step: NDArray[Any]) -> NDArray[np.bool_]:
        joins = self._layout.joins
        return joins[step.astype(np.intp)] if len(joins) else step <= TOGETHER

    def _context(self, keys: NDArray[np.int32], codes: Any, entries: Any) -> Any:
        """The votes of the best places, (B, K) keys."""
        layout = self._layout
        scores, places = keys >> layout.bits, keys & layout.mask
        top = scores.max(axis=1, keepdims=True)
        votes = scores >= np.maximum(top - RANGE, MATCH)
        weights = self._decay[top - scores] * layout.recency[places] * votes
        weights /= np.maximum(np.add.reduce(weights, axis=1, keepdims=True), _TINY)
        features = np.empty((len(keys), 2), dtype=np.float32)
        features[:, 0] = top[:, 0] * votes.any(axis=1) / CAP
        features[:, 1] = np.log1p(np.add.reduce(votes, axis=1)) / 3
        ahead = places[:, :, None] + _AHEAD
        sequence = np.arange(len(keys))[:, None]
        at = np.minimum(ahead, layout.window - 1)
        after = entries[sequence[:, :, None], at]  # (B, K, R, D)
        after[ahead != at] = -1
        chord = codes[sequence, at[:, :, 0]] & 1
        if layout.written is not None:
            origin, step = layout.written
            nearest = (after[..., origin] == 0).argmax(axis=2)[:, :, None]
            voted = np.take_along_axis(after[..., step], nearest, axis=2)[:, :, 0]
            chord = self._joins_chord(np.maximum(voted, 0)).astype(chord.dtype)
        return MemoryContext(weights, chord, after, features)  # type: ignore[arg-type]

    def votes(self, field: str, context: Any, known: Mapping[str, NDArray[Any]]) -> Votes:
        """The votes for one field, given (B,) entries of those before it in the order."""
        chain = self._layout.chains[field]
        weights, entries, features = context.weights, context.entries, context.features
        first: Any = 0
        if chain.equal:
            if not chain.after_pitch and self._layout.written is None:
                entries = entries[:, :, :1]
            same: Any = True
            for name, column in chain.equal:
                same = same & (entries[..., column] == known[name][:, None, None])
            weights = weights * same.any(axis=2)
            first = same.argmax(axis=2)
        if chain.step is not None:
            joins = self._joins_chord(known[chain.step])[:, None]
            weights = np.where(context.chord == joins, weights, weights * np.float32(OTHER_CHORD))
        total = weights.sum(axis=1, keepdims=True)
        if chain.after_pitch:
            features = np.concatenate([features, total], axis=1)
        if chain.column is None:
            return Votes(None, features)
        batch_size = len(weights)
        sequence = np.arange(batch_size)[:, None]
        voted = entries[sequence, np.arange(weights.shape[1]), first, chain.column]
        at = np.maximum(voted, 0) + sequence * chain.classes
        size = batch_size * chain.classes
        weights = weights / np.maximum(total, _TINY)
        shares = np.bincount(at.ravel(), weights.ravel(), size).reshape(batch_size, chain.classes)
        if chain.smooth:
            sides = np.concatenate([shares[:, :1], shares, shares[:, -1:]], axis=1)
            shares = shares / 2 + (sides[:, :-2] + sides[:, 2:]) / 4
        return Votes(np.log(shares + FLOOR, dtype=np.float32, casting="same_kind"), features)


def _shifted(past: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """(B, W, ...) the past without its first entry, and with a new one (B, ...) at the end."""
    shifted = np.empty_like(past)
    shifted[:, :-1] = past[:, 1:]
    shifted[:, -1] = new
    return shifted
