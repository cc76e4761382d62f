"""Measure the original design: each of its faults alone, all of them, and none.

    python docs/measured/original.py MAESTRO_FOLDER

trains every variant for the same number of steps with three seeds, scores it in nats per note on
validation pieces, generates samples, and writes the figures to ``original.json`` beside this script
and the table to ``original.md``. ``--table`` rewrites the table without measuring.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.batch import Batch
from notelstm.bundle import Bundle
from notelstm.evaluation import fit_sigmas, nats_per_note
from notelstm.generation import generate_batch
from notelstm.midi import ReadPolicy, read_midi
from notelstm.notes import Notes
from notelstm.protocols import Batches
from notelstm.recipes import FAULTS, Recipe, reference
from notelstm.training import Trainer

RESULTS = Path(__file__).with_name("original.json")
TABLE = RESULTS.with_suffix(".md")
SAMPLES, SAMPLE_NOTES = 16, 128


def variants() -> dict[str, Recipe]:
    """The design as printed and with its bugs repaired, each fault alone, and none of them."""
    none = dict.fromkeys(FAULTS, False)
    alone = {f"only {name}": reference(**{**none, name: True}) for name in FAULTS}
    # All pairs of predictions and targets can be compared only for point estimates.
    alone["only broadcast, with point_estimates"] = reference(
        **{**none, "broadcast": True, "point_estimates": True}
    )
    del alone["only broadcast"]
    return {
        "as printed": reference(as_printed=True),
        "reference": reference(),
        **alone,
        "none": reference(**none),
    }


@dataclass(frozen=True)
class Exactly:
    """One epoch of exactly `num_batches` batches, repeated or cut off as needed."""

    batches: Batches
    num_batches: int
    stateful: bool = False

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:  # only one
        epochs = (self.batches.epoch(k) for k in itertools.count())
        return itertools.islice(itertools.chain.from_iterable(epochs), first, self.num_batches)


def files_of(folder: Path, split: str, count: int) -> list[Path]:
    """The first files of one part of MAESTRO's own split."""
    table = next(folder.glob("maestro-v*.csv"))
    with table.open(encoding="utf-8", newline="") as file:
        names = [row["midi_filename"] for row in csv.DictReader(file) if row["split"] == split]
    return [folder / name for name in sorted(names) if (folder / name).exists()][:count]


@functools.cache
def read(file: Path, policy: ReadPolicy) -> Notes:
    """A cached piece: each file is read once per policy, not once per run."""
    return read_midi(file, policy)


def frequencies(pitches: NDArray[np.int64]) -> NDArray[np.float64]:
    """(128,) the relative frequency of each pitch."""
    return np.bincount(pitches, minlength=128) / max(1, len(pitches))


def measure(
    recipe: Recipe, train: list[Path], valid: list[Notes], steps: int, seed: int
) -> dict[str, Any]:
    """Train one variant with one seed, score it, and measure its samples."""
    recipe = replace(recipe, training=replace(recipe.training, epochs=1, seed=seed))
    rows = recipe.encode([read(file, recipe.read_policy) for file in train])
    model = recipe.build_model()
    trainer = Trainer(model, recipe.build_loss(), config=recipe.training)
    began = time.perf_counter()
    trainer.fit(Exactly(recipe.batches(rows), steps))
    seconds = time.perf_counter() - began
    bundle = Bundle(
        model=model,
        encoder=recipe.encoder,
        sampler=recipe.sampler,
        context_length=recipe.context_length,
        input_transform=recipe.input_transform,
    )
    sigmas = fit_sigmas(bundle.generation_model, rows, limit=20_000)
    scores = nats_per_note(bundle.generation_model, bundle.encoder, valid, sigmas=sigmas)
    samples = generate_batch(bundle, SAMPLE_NOTES, batch_size=SAMPLES, prompt=valid[0], seed=seed)
    pitches = np.concatenate([piece.pitch for piece in samples])
    durations = np.concatenate([piece.duration for piece in samples])
    onsets = np.concatenate([piece.step[1:] for piece in samples])
    data = np.concatenate([piece.pitch for piece in valid])
    return {
        **scores.to_json(),
        "overlap": float(np.minimum(frequencies(pitches), frequencies(data)).sum()),
        "vanish": float((durations < 0.001).mean()),
        "chords": float((onsets < 0.001).mean()),
        "seconds": seconds,
    }


def mean_and_range(values: list[float]) -> str:
    spread = (max(values) - min(values)) / 2
    return f"{statistics.fmean(values):.2f} ± {spread:.2f}"


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown: mean over the seeds ± half the range."""
    columns = {
        "pitch": "pitch",
        "step": "step",
        "duration": "duration",
        "pitch_step_duration": "P+S+D",
    }
    shown = {"overlap": "pitch overlap", "chords": "chords", "vanish": "zero length"}
    lines = [
        "| faults | " + " | ".join([*columns.values(), *shown.values()]) + " |",
        "|---|" + "---|" * (len(columns) + len(shown)),
    ]
    for name, runs in results["variants"].items():
        figures = [mean_and_range([run[key] for run in runs]) for key in columns]
        rates = [f"{statistics.fmean([run[key] for run in runs]):.2f}" for key in shown]
        lines.append(f"| {name.replace('_', '-')} | " + " | ".join([*figures, *rates]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maestro", type=Path, nargs="?", help="the MAESTRO v2.0.0 folder")
    parser.add_argument("--train", type=int, default=60, help="training pieces")
    parser.add_argument("--validation", type=int, default=20, help="validation pieces")
    parser.add_argument("--notes", type=int, default=1000, help="notes of each validation piece")
    parser.add_argument("--steps", type=int, default=3000, help="training steps of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--table", action="store_true", help="rewrite the table and exit")
    args = parser.parse_args()
    if args.table:
        TABLE.write_text(table(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    if args.maestro is None:
        parser.error("the MAESTRO folder is needed")
    torch.set_num_threads(1)
    train = files_of(args.maestro, "train", args.train)
    valid = [
        read_midi(f)[: args.notes] for f in files_of(args.maestro, "validation", args.validation)
    ]
    results: dict[str, Any] = {
        "train": len(train),
        "validation": len(valid),
        "notes": args.notes,
        "steps": args.steps,
        "seeds": args.seeds,
        "variants": {},
    }
    for name, recipe in variants().items():
        runs = [measure(recipe, train, valid, args.steps, seed) for seed in range(args.seeds)]
        results["variants"][name] = runs
        print(
            name,
            [f"{run['pitch_step_duration']:.3f}" for run in runs],
            f"{runs[0]['seconds']:.0f} s",
            flush=True,
        )
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
