"""What all tools of the comparison share: the pieces, the budget and the form of scores."""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from notelstm.evaluation.grid import CELL, FIRST, UNIFORM_MIXIN, quantize
from notelstm.notes import Notes
from notelstm.training import TrainingConfig

Clock: TypeAlias = Literal["cpu", "wall"]
Nats: TypeAlias = dict[str, float]
"""The nats of one piece by figure, summed over its scored notes: those of a role of a note, or
``"event"`` and ``"legal"`` of an encoding of events, with and without impossible ones."""

TRANSPOSED = 3
"""Training pieces are transposed by up to so many semitones, except where a recipe does not."""


def prepared(piece: Notes) -> Notes:
    """A piece on the grid, from its first onset, without notes of one pitch that overlap.

    A note ends where the next of its pitch begins, and of several in one cell the longest is kept,
    so that encodings of notes and of events represent the same notes.
    """
    grid = quantize(piece)
    onset = np.rint(grid.start / CELL).astype(np.int64)
    length = np.rint(grid.duration / CELL).astype(np.int64)
    order = np.lexsort((-length, onset, grid.pitch))
    onset, length, pitch = onset[order], length[order], grid.pitch[order]
    velocity = grid.velocity[order]
    kept = np.ones(len(onset), bool)
    kept[1:] = (np.diff(onset) != 0) | (np.diff(pitch) != 0)
    onset, length, pitch, velocity = onset[kept], length[kept], pitch[kept], velocity[kept]
    following = np.flatnonzero(np.diff(pitch) == 0)
    length[following] = np.minimum(length[following], np.diff(onset)[following])
    start = (onset - onset.min(initial=np.iinfo(np.int64).max)) * CELL
    return Notes(start=start, end=start + length * CELL, pitch=pitch, velocity=velocity).by_pitch()


@dataclass(frozen=True, eq=False)
class Events:
    """A piece as events, in the order of time; ends come before onsets, low pitches first.

    Attributes:
        cell: (M,) the time of each event in cells.
        pitch: (M,) its pitch.
        velocity: (M,) its velocity, 0 for the end of a note.
        note: (M,) the number of its note.
    """

    cell: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    note: NDArray[np.int64]

    @classmethod
    def of(cls, notes: Notes) -> Events:
        """The events of a prepared piece."""
        onset, end = (np.rint(t / CELL).astype(np.int64) for t in (notes.start, notes.end))
        number = np.arange(len(notes))
        cell = np.concatenate([end, onset])
        pitch = np.concatenate([notes.pitch, notes.pitch])
        velocity = np.concatenate([np.zeros_like(notes.velocity), notes.velocity])
        order = np.lexsort((pitch, velocity > 0, cell))
        note = np.concatenate([number, number])
        return cls(cell[order], pitch[order], velocity[order], note[order])

    @property
    def step(self) -> NDArray[np.int64]:
        """(M,) the cells from the event before to each; 0 for the first."""
        return np.diff(self.cell, prepend=self.cell[:1])

    @property
    def sounding(self) -> NDArray[np.bool_]:
        """(M, 128) the pitches that sound before each event."""
        change = np.zeros((len(self.cell) + 1, 128), np.int8)
        change[np.arange(1, len(self.cell) + 1), self.pitch] = np.where(self.velocity > 0, 1, -1)
        return change.cumsum(axis=0, dtype=np.int8)[:-1] > 0


def nats_of(probability: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """-ln P, where every P has a small share of the uniform distribution."""
    return -np.log((1 - UNIFORM_MIXIN) * probability + UNIFORM_MIXIN / classes)


def scored_notes(piece: Notes) -> int:
    """The number of notes of a piece that are scored."""
    return len(piece) - FIRST


class Budget:
    """The time of a run, which stands still while the model is scored.

    Args:
        seconds: The time.
        clock: Whether it is the time of this process on its cores, or on the wall.
        marks: Fractions of the time, in order; the last is 1.
        at_mark: Called as each is reached, with the fraction.
    """

    def __init__(
        self,
        seconds: float,
        clock: Clock,
        marks: Sequence[float],
        at_mark: Callable[[float], None],
    ) -> None:
        self.now = time.process_time if clock == "cpu" else time.perf_counter
        self._seconds, self._marks, self._at_mark = seconds, list(marks), at_mark
        self._began = self.now()

    def start(self) -> None:
        """Start the clock: what came before is not counted."""
        self._began = self.now()

    @property
    def used(self) -> float:
        """Seconds so far."""
        return self.now() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        stopped = self.now()
        yield
        self._began += self.now() - stopped

    def stepped(self) -> float:
        """The fraction that is used after a step, 1 at the end; marks are called."""
        fraction = self.used / self._seconds
        while self._marks and fraction >= self._marks[0]:
            with self.paused():
                self._at_mark(self._marks.pop(0))
        return min(1.0, fraction)


class Tool(ABC):
    """A tool that is trained and scored; each run has one of its own.

    Args:
        cache: A folder for what is the same in all runs.

    Attributes:
        name: Its name in the table.
        imports: The statement that a program begins with, whose time is measured.
        distributions: The packages that are installed by name.
        program: The file in ``programs`` of what a user writes.
        rates: Three learning rates: the default of the tool, and others beside it.
        batches: Two batch sizes.
        trial: The share of the time that a trial takes.
        threads: The number of threads beyond which it is no faster.
        seen: The number of notes that it was trained on.
    """

    name: str
    imports: str = ""
    distributions: tuple[str, ...] = ()
    program: str = ""
    rates: tuple[float, float, float]
    batches: tuple[int, int]
    trial: float = 1 / 8
    threads: int = sys.maxsize
    seen: int = 0

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    @abstractmethod
    def train(
        self, pieces: Sequence[Notes], *, rate: float, batch: int, seed: int, budget: Budget
    ) -> None:
        """Train until the budget is used."""

    @abstractmethod
    def score(self, pieces: Sequence[Notes]) -> list[Nats]:
        """The nats of each piece."""

    @abstractmethod
    def generate(self, prompt: Notes, count: int) -> int:
        """Generate at least so many notes after a prompt; the number of notes."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The number of trained numbers."""


def count_parameters(model: nn.Module) -> int:
    """The number of trained numbers of a module."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def fit(
    model: nn.Module, loss: Callable[[], torch.Tensor], *, rate: float, seed: int, budget: Budget
) -> None:
    """A plain training loop, with the optimizer and the schedule of the expressive recipe.

    Args:
        model: The model.
        loss: The loss of the next batch.
        rate: The highest learning rate.
        seed: Seed of the dropout.
        budget: The time.
    """
    config = TrainingConfig(
        epochs=None,
        optimizer="adamw",
        learning_rate=rate,
        schedule="cosine",
        warmup_steps=200,
        weight_decay=0.01,
    )
    torch.manual_seed(seed)
    optimizer = config.build_optimizer(model.parameters())
    step, fraction = 0, 0.0
    budget.start()
    while fraction < 1:
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step, None, fraction)
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        fraction = budget.stepped()
