"""``Recall``: the return of earlier passages of the same piece.

Where a real piece repeats a passage, a model gives each of its notes a probability far above that
of other notes, but far below 1. So sampled music leaves nearly every repetition after a few notes.
:class:`Recall` compares the latest notes with every earlier place of the piece. If they agree with
the notes before one of them, it makes the note that followed there more likely.

**Runs.** The lag of a place is the number of notes from it to the latest note. The run of a lag is
the number of latest notes that agree with as many notes before the place: notes of the same
instruments, all transposed by the same interval, with steps that differ by at most ``SLACK``
seconds and ``TOLERANCE`` of the earlier step. A new note lengthens the run of a lag by one, or
begins a new one with itself, so that all runs take a few operations on arrays a note.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import check_number, check_whole
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["Recall"]

SLACK: Final = 0.01
"""Seconds by which steps that agree may differ, whatever their length."""
TOLERANCE: Final = 0.1
"""The share of the earlier step by which a step that agrees may differ beyond that."""
TOGETHER: Final = 0.0405
"""The greatest step within a chord: 40 ms, rounded."""
FIGURE: Final = 8
"""The minimum run at the same pitches of a figure that goes on; no passage returns in it."""
LOOP: Final = 16
"""The minimum run at the same pitches of a loop."""
LEAVE: Final = 20.0
"""The factor by which the odds of the next pitch of a loop are reduced."""
RECENT: Final = 256
"""The latest notes of which at most `MOST` may repeat a passage at the same pitches when another
begins. Otherwise music that has few pitches, whose notes often agree by chance, returns to the same
passages again and again, and keeps to these pitches."""
MOST: Final = 1 / 3

OCTAVE: Final = 12
"""The greatest transposition, semitones."""

_ROLES: Final = ("step", "instrument", "pitch")
_RISE: Final = 3
"""Notes in which the greatest factor of the odds rises from its first to its last value."""
_OTHER_KEY: Final = 2.0
"""The divisor of the first greatest factor for transposed passages. Intervals agree by chance more
often than pitches, but in real pieces a passage returns more often in the same key."""
_LONGEST_LAG: Final = MAX_HISTORY - RECENT - FIGURE
"""The limit of the lags of passages that count for `MOST`: of longer ones, not all notes are among
those that a copy of a tracker lists."""
_ROUNDING: Final = 1e-6


class _Passage(NamedTuple):
    """The note that followed an earlier passage.

    Attributes:
        step: Seconds since the last note of the passage.
        instrument: The class id of its instrument.
        pitch: Its pitch, transposed like the latest notes.
        run: The number of latest notes that agree.
        transposed: Whether they are at other pitches.
        loops: Whether the passage is to be left instead of continued.
    """

    step: float
    instrument: int
    pitch: int
    run: int
    transposed: bool = False
    loops: bool = False

    def classes(self, field: Field, seconds_per_unit: float) -> NDArray[np.bool_]:
        """(C,) the classes of a field that agree with the note."""
        values = np.arange(field.classes or 0) if field.role == "instrument" else field.values
        return np.asarray(self._agree(field, np.array(values), seconds_per_unit))

    def is_open(self, context: SamplingContext) -> bool:
        """Whether the fixed entries of the row agree with the note."""
        tracker = context.tracker
        for field in tracker.fields:
            known = not field.given and field.name in context.known
            if known and field.role in self._roles:
                entry = context.known[field.name]
                value = entry if field.role == "instrument" else field.value_of(entry)
                if not self._agree(field, value, tracker.seconds_per_unit):
                    return False
        return True

    @property
    def _roles(self) -> Sequence[str]:
        # A loop of pitches is one in any rhythm.
        return ("instrument", "pitch") if self.loops else _ROLES

    def _agree(self, field: Field, value: Any, seconds_per_unit: float) -> Any:
        if field.role == "step":
            return _steps_agree(value * seconds_per_unit, self.step)
        return value == (self.pitch if field.role == "pitch" else self.instrument)


def _steps_agree(step: Any, earlier: Any) -> Any:
    """Whether steps agree with earlier ones, seconds."""
    return np.abs(step - earlier) <= SLACK + TOLERANCE * earlier + _ROUNDING


@final
class _Runs:
    """The latest notes of one sequence, and the run of each lag; :meth:`after` does not change it.

    The arrays are (..., ``MAX_HISTORY``), and index 0 is the latest note, so that the index of a
    place is its lag.

    Args:
        transposed: Whether the notes of a run may be transposed.
    """

    def __init__(self, *, transposed: bool) -> None:
        self._transposed: Final = transposed
        self._num_notes = 0
        # Onset, step, pitch and instrument.
        self._notes = np.zeros((4, MAX_HISTORY))
        self._notes[3] = -1
        # Of each lag: the run, the number of its steps from chord to chord, its transposition, and
        # the run at the same pitches in any rhythm.
        self._run = np.zeros(MAX_HISTORY, dtype=np.int64)
        self._chords = np.zeros(MAX_HISTORY, dtype=np.int64)
        self._shift = np.zeros(MAX_HISTORY)
        self._same = np.zeros(MAX_HISTORY, dtype=np.int64)
        # Whether each note is in a passage of `FIGURE` notes that repeats an earlier one at equal
        # pitches.
        self._repeats = np.zeros(MAX_HISTORY, dtype=np.bool_)
        # The passages of the latest note, by minimum run and lag: each field of a row asks for one.
        self._found: dict[tuple[int, int], _Passage | None] = {}

    def after(self, tracker: Tracker) -> _Runs:
        """The runs after the notes that have begun since."""
        new = tracker.num_notes - self._num_notes
        if not new:
            return self
        other = copy.copy(self)
        other._notes, other._repeats, other._found = self._notes.copy(), self._repeats.copy(), {}
        for onset, tone in tracker.latest_written(min(new, MAX_HISTORY)):
            other._add(onset, tone)
        other._num_notes = tracker.num_notes
        return other

    def _add(self, onset: float, tone: Tone) -> None:
        notes = self._notes
        step = onset - notes.item(0)
        notes[:, 1:] = notes[:, :-1]
        notes[:, 0] = onset, step, tone.pitch, tone.instrument
        _, steps, pitches, instruments = notes
        shift = tone.pitch - pitches
        agrees = instruments == tone.instrument
        same = agrees & (shift == 0)
        self._same = (self._same + 1) * same
        if not self._transposed:
            agrees = same
        # Both passages grow by a note, so that the lag remains the same.
        grows = agrees & (self._run > 0) & (shift == self._shift) & _steps_agree(step, steps)
        self._chords = (self._chords + (step > TOGETHER)) * grows
        self._run = self._run * grows + agrees
        self._shift = shift
        self._repeats[1:] = self._repeats[:-1]
        long = (self._run >= FIGURE) & (shift == 0)
        # A passage does not overlap the one that it repeats.
        self._repeats[0] = long[FIGURE:_LONGEST_LAG].any()
        if self._repeats[0]:
            self._repeats[:FIGURE] = True

    def passage(self, least: int, apart: int) -> _Passage | None:
        """The passage with the longest run, or a loop.

        Of passages with equal runs, one at the same pitches comes first, then the latest.

        Args:
            least: The minimum run.
            apart: The minimum lag.
        """
        if (least, apart) not in self._found:
            self._found[least, apart] = self._search(least, apart)
        return self._found[least, apart]

    def _search(self, least: int, apart: int) -> _Passage | None:
        count = min(self._num_notes, MAX_HISTORY)
        if count <= apart:
            return None
        lags = np.arange(count)
        # Without this limit, runs would depend on notes that a copy of the tracker no longer lists.
        run, same = (np.minimum(r[:count], count - lags) for r in (self._run, self._same))
        run[0] = same[0] = 0
        loops = np.flatnonzero(same >= np.maximum(lags, LOOP))
        if len(loops):
            lag = int(loops[0])
            return self._following(lag, int(same[lag]), shift=0)._replace(loops=True)
        whole = (same >= np.maximum(lags, FIGURE)) | (run >= np.maximum(lags, least))
        if whole.any():
            return None
        # Chords alone agree by chance.
        run[self._chords[:count] == 0] = 0
        run[:apart] = 0
        # Transposition must not lead out of the register of the piece.
        pitch, shift = self._notes[2, :count], self._shift[:count]
        target = pitch[:-1] + shift[1:]
        run[1:][(target < pitch.min()) | (target > pitch.max()) | (abs(shift[1:]) > OCTAVE)] = 0
        lag = int(np.argmax(2 * run + (self._shift[:count] == 0)))
        if run[lag] < least:
            return None
        begins = run[lag] < least + _RISE and self._shift[lag] == 0
        if begins and self._repeats[:RECENT].mean() > MOST:
            return None
        return self._following(lag, int(run[lag]), int(self._shift[lag]))

    def _following(self, lag: int, run: int, shift: int) -> _Passage:
        """The note after a place, transposed by `shift`."""
        _, step, pitch, instrument = self._notes[:, lag - 1].tolist()
        return _Passage(
            step=step,
            instrument=int(instrument),
            pitch=int(pitch) + shift,
            run=run,
            transposed=shift != 0,
        )


_RUNS: Final = "notelstm.recall"
"""The name of the runs in the memo of a tracker, so that a note is compared once. They follow from
the notes that it lists, and a tracker only gets longer: undo and snapshots make copies of it."""


def _runs_of(tracker: Tracker) -> _Runs:
    before: _Runs = tracker.memo.get(_RUNS) or _Runs(transposed=len(tracker.parts) == 1)
    runs = before.after(tracker)
    if runs is not before:
        tracker.memo = {**tracker.memo, _RUNS: runs}
    return runs


@final
@dataclass(frozen=True, kw_only=True)
class Recall:
    """Lets earlier passages of the piece return, as often as in real music.

    If the latest notes agree with those of an earlier passage, the step, the instrument and the
    pitch of the note that followed it become more likely: up to `probability` each, but with odds
    at most `odds` times as high. So a passage that does not fit the music according to the model
    ends, and any other ends after some time. At the beginning of a passage, the odds become at most
    `first_odds` times as high. So `first_odds` determines how often passages return, and
    `probability` how long they are.

    Passages agree if they have about the same tempo and the same notes, in any key. Of several
    instruments, they agree at the same pitches only. A transposition is at most an octave and stays
    in the register of the piece. Passages that began less than `apart` notes
    ago do not count, nor does any while a figure goes on or a passage has returned as a whole. If
    more than a third of the latest 256 notes repeat earlier ones at the same pitches, a passage
    begins at other pitches only. If 16 notes repeat those before them, in a loop, the next pitch of
    the loop becomes less likely. The latest 1,024 notes are compared.

    Notes that are given to the model are not compared: each step is counted from a written note.

    Velocities and durations do not change, nor do steps that are numbers. Encoders of events are
    not supported: their predictions do not change.

    Attributes:
        notes: The number of notes that agree before a passage returns, from 1 to 64.
        probability: The probability up to which an entry is raised, above 0 and below 1.
        odds: The greatest factor of its odds, from 1 to 1e9.
        first_odds: The same at the beginning of a passage, at most `odds`; transposed passages
            begin with half of it.
        apart: The minimum number of notes from a passage to its return, from 2 to 1000.
    """

    notes: int = 2
    probability: float = 0.99
    odds: float = 1000.0
    first_odds: float = 100.0
    apart: int = 64

    def __post_init__(self) -> None:
        check_whole("notes", self.notes, 1, 64)
        if not 0 < self.probability < 1:
            raise ConfigError(f"probability {self.probability} is not above 0 and below 1")
        check_number("odds", self.odds, 1, 1e9)
        check_number("first_odds", self.first_odds, 1, self.odds)
        check_whole("apart", self.apart, 2, 1000)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Make the next note of an earlier passage more likely, that of a loop less."""
        if field.role not in _ROLES:
            return prediction
        found = {
            i: passage
            for i, context in enumerate(contexts)
            if (passage := _runs_of(context.tracker).passage(self.notes, self.apart)) is not None
            and passage.is_open(context)
        }
        log_weights = prediction.log_weights() if found else None
        if log_weights is None:
            return prediction
        # Numpy takes a fraction of the time of torch for so few numbers.
        added = np.zeros(tuple(log_weights.shape))
        for i, passage in found.items():
            chosen = passage.classes(field, contexts[i].tracker.seconds_per_unit)
            most = self._most(passage, field)
            if most > 0 and chosen.any():
                most = min(most, max(0.0, self._missing(log_weights[i], chosen)))
            added[i, chosen] = most
        if not added.any():
            return prediction
        return prediction.add_log_weights(torch.from_numpy(added).to(log_weights))

    def _missing(self, log_weights: Tensor, chosen: NDArray[np.bool_]) -> float:
        """The log-odds by which classes are less likely than `probability` together.

        Args:
            log_weights: (C,) the log-weights of all classes.
            chosen: (C,) the classes.
        """
        weights = log_weights.double().cpu().numpy()
        weights = np.exp(weights - weights.max())
        share, others = weights[chosen].sum(), weights[~chosen].sum()
        if not share or not others:
            return math.inf if others else -math.inf
        return math.log(self.probability / (1 - self.probability)) - math.log(share / others)

    def _most(self, passage: _Passage, field: Field) -> float:
        """The greatest change of the log-odds of an entry, negative to leave a loop."""
        if passage.loops:
            return -math.log(LEAVE) if field.role == "pitch" else 0.0
        first, last = math.log(self.first_odds), math.log(self.odds)
        rise = (passage.run - self.notes) / _RISE
        if rise >= 1:
            return last
        begin = math.log(_OTHER_KEY) if passage.transposed else 0.0
        return max(0.0, first + rise * (last - first) - begin)
