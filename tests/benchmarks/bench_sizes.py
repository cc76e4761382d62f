"""Training targets per second for corpora of 1 to 1,000 pieces.

The pieces lie in a file that is mapped into memory. Corpora take turns in one process, a few steps
each, so that whatever else the machine does falls on all; the figures are medians of ratios to the
smallest one. Run it as a file, or with pytest's ``-s``.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from notelstm.batch import Batch
from notelstm.data.dataset import PackedRows
from notelstm.protocols import Batches
from notelstm.recipes import Recipe, expressive, reference, with_settings
from notelstm.testing.makers import random_rows
from notelstm.training import Trainer

SIZES: Final = (1, 10, 100, 1000)
NOTES: Final = 2 * 64 * 64 + 1
"""Of each piece, somewhat more than in MAESTRO; a single one fills the batches of two steps."""

TURNS: Final = 25
STEPS: Final = {"reference": 20, "expressive": 1}
AIM: Final = 0.1
"""How far the speed on any corpus may be from that on the smallest."""


class Corpus:
    """A run on a corpus, some steps at a time; to the trainer, a turn is an epoch."""

    def __init__(self, recipe: Recipe, rows: PackedRows, steps: int) -> None:
        self.model, self.loss = recipe.build_model(), recipe.build_loss()
        self.config = replace(recipe.training, epochs=1, device="cpu")
        self.all: Batches = recipe.batches(rows)
        self.stateful, self.num_batches = self.all.stateful, steps
        self.stream = itertools.chain.from_iterable(map(self.all.epoch, itertools.count()))

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The next batches."""
        return itertools.islice(self.stream, self.num_batches)

    def notes_per_second(self) -> float:
        history = Trainer(self.model, self.loss, config=self.config).fit(self)
        return history.epochs[0]["targets_per_second"]


def corpora(recipe: Recipe, folder: Path) -> list[Corpus]:
    """One of each size, the smaller ones the first pieces of the largest."""
    generator = np.random.default_rng(0)
    piece = random_rows(recipe.encoder.fields, (NOTES,), generator)
    file = folder / f"{recipe.name}.npy"
    np.save(file, np.tile(piece, (SIZES[-1], 1)))
    begins = NOTES * np.arange(SIZES[-1])
    packed = PackedRows(file, begins, np.full(SIZES[-1], NOTES))
    return [Corpus(recipe, packed[:size], STEPS[recipe.name]) for size in SIZES]


def measure(recipe: Recipe) -> list[list[float]]:
    """Notes a second of each corpus, turn by turn."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        made = corpora(recipe, Path(folder))
        turns = [[corpus.notes_per_second() for corpus in made] for _ in range(TURNS)]
    # The first turn warms up.
    return turns[1:]


def figures() -> dict[str, float]:
    """Targets a second on each size of corpus."""
    small = with_settings(expressive(hidden_size=128), {"sequence_length": 128, "batch_size": 64})
    return {
        f"{recipe.name}: {size:,} pieces, targets/s": float(speed)
        for recipe in (with_settings(reference(), {"shuffle": True}), small)
        for size, speed in zip(SIZES, np.median(measure(recipe), axis=0), strict=True)
    }


def test_a_larger_corpus_is_not_slower() -> None:
    small = with_settings(expressive(hidden_size=128), {"sequence_length": 128, "batch_size": 64})
    for recipe in (with_settings(reference(), {"shuffle": True}), small):
        speeds = np.array(measure(recipe))
        ratios = np.median(speeds / speeds[:, :1], axis=0)
        shown = ", ".join(
            f"{size:,} pieces {speed:,.0f} ({ratio:.2f})"
            for size, speed, ratio in zip(SIZES, np.median(speeds, axis=0), ratios, strict=True)
        )
        print(f"\n{recipe.name}, targets/s (and to 1 piece): {shown}; aim within {AIM}")
        assert np.abs(ratios - 1).max() <= AIM


if __name__ == "__main__":
    test_a_larger_corpus_is_not_slower()
