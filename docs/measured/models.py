"""Measure the ablations: recipes and baselines trained on the same notes.

    python docs/measured/models.py MAESTRO_FOLDER

trains every row of the table for one epoch on the same pieces, scores it in nats per note on the
validation split, and writes the figures to ``models.json`` beside this script and the table to
``models.md``. Rows that are already in the file are not measured again, so an interrupted run can
be continued. ``--table`` rewrites the table without measuring.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from notelstm.bundle import load
from notelstm.data import Corpus
from notelstm.encoders import PerformanceEventEncoder, StepDurationEncoder
from notelstm.evaluation import (
    Baseline,
    RepeatLast,
    Uniform,
    fit_ngrams,
    fit_unigram,
    nats_per_note,
    score_baseline,
)
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.recipes import FAULTS, Recipe, expressive, reference, with_settings

RESULTS = Path(__file__).with_name("models.json")
TABLE = RESULTS.with_suffix(".md")
FIGURES = {
    "pitch": "pitch",
    "step": "step",
    "duration": "duration",
    "pitch_step_duration": "P+S+D",
}
MORE = {"velocity": "velocity", "total": "total"}


def small(**model: Any) -> Recipe:
    """The expressive recipe at a size that trains in minutes, with other model settings."""
    settings = {"hidden_size": 256, "embedding_dim": 32, "head_size": 128, **model}
    batches = {"sequence_length": 256, "batch_size": 16}
    return with_settings(expressive(), {"model": settings, "transforms": "none", **batches})


def recipes() -> dict[str, Recipe]:
    """The rows that are trained, by their names in the table."""
    full = small()
    events = functools.partial(NoteLSTM, hidden_size=256, embedding_dim=64, head_size=128)
    mixtures = functools.partial(
        NoteLSTM,
        field_order=("step", "pitch", "duration"),
        hidden_size=256,
        head_size=128,
        sounding_features=True,
        time_distribution="mixture",
    )
    return {
        "original, as printed": reference(as_printed=True),
        "original, repaired": reference(**dict.fromkeys(FAULTS, False)),
        "events": replace(full, encoder=PerformanceEventEncoder(), model=events),
        "notes, mixture times": replace(full, encoder=StepDurationEncoder(), model=mixtures),
        "notes": full,
        "notes, none of the features below": small(
            sounding_features=False,
            head_size=0,
            field_order=["step", "pitch", "duration", "velocity"],
        ),
        "notes, without sounding-note features": small(sounding_features=False),
        "notes, linear heads": small(head_size=0),
        "notes, velocity last": small(field_order=["step", "pitch", "duration", "velocity"]),
        "notes, pitch first": small(field_order=["pitch", "step", "velocity", "duration"]),
        "notes, 128 sequences of 32 rows": replace(full, sequence_length=32, batch_size=128),
        "notes, transposed by up to 3 semitones": replace(full, transforms=expressive().transforms),
    }


def trained(recipe: Recipe, train: Sequence[Notes], valid: Sequence[Notes]) -> dict[str, Any]:
    """Train for one epoch, then score."""
    recipe = replace(recipe, training=replace(recipe.training, epochs=1))
    began = time.process_time()
    bundle = recipe.train(train)
    seconds = time.process_time() - began
    parameters = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    scores = nats_per_note(bundle.generation_model, bundle.encoder, valid, sigmas=bundle.sigmas)
    return {
        **scores.to_json(),
        "parameters": parameters,
        "trained": sum(map(len, train)),
        "seconds": seconds,
    }


def baselines(train: Sequence[Notes]) -> dict[str, Callable[[], Baseline]]:
    """The baselines, by their names in the table."""
    return {
        "uniform": Uniform,
        "repeat-last": lambda: RepeatLast(unigram=fit_unigram(train)),
        "unigram": lambda: fit_unigram(train),
        "bigram": lambda: fit_ngrams(train, order=2),
        "4-gram": lambda: fit_ngrams(train, order=4),
    }


def counted(make: Callable[[], Baseline], valid: Sequence[Notes]) -> dict[str, Any]:
    """Fit a baseline, then score it."""
    began = time.process_time()
    baseline = make()
    seconds = time.process_time() - began
    figures = score_baseline(baseline, valid).to_json()
    return {**figures, "parameters": None, "trained": None, "seconds": seconds}


def pieces_of(folder: Path, split: str) -> list[Notes]:
    """The pieces of one part of MAESTRO's own split, in the order of their names."""
    table = next(folder.glob("maestro-v*.csv"))
    with table.open(encoding="utf-8", newline="") as file:
        named = {row["midi_filename"] for row in csv.DictReader(file) if row["split"] == split}
    return [notes for name, notes in Corpus.open(folder).pieces() if name in named]


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    counts = {"parameters": "parameters", "trained": "notes trained on", "seconds": "CPU seconds"}
    names = ["", *FIGURES.values(), *MORE.values(), *counts.values()]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for name, row in results["rows"].items():
        figures = ["" if row[key] is None else f"{row[key]:.2f}" for key in (*FIGURES, *MORE)]
        figures += ["" if row[key] is None else f"{row[key]:,.0f}" for key in counts]
        lines.append("| " + " | ".join([name, *figures]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maestro", type=Path, nargs="?", help="the MAESTRO v2.0.0 folder")
    parser.add_argument("--train", type=int, default=330, help="training pieces")
    parser.add_argument("--validation", type=int, help="validation pieces (default: all)")
    parser.add_argument("--table", action="store_true", help="rewrite the table and exit")
    args = parser.parse_args()
    if args.table:
        TABLE.write_text(table(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    if args.maestro is None:
        parser.error("the MAESTRO folder is needed")
    torch.set_num_threads(1)
    train = pieces_of(args.maestro, "train")[:: max(1, 967 // args.train)][: args.train]
    valid = pieces_of(args.maestro, "validation")[: args.validation]
    setting = {
        "train": len(train),
        "training notes": sum(map(len, train)),
        "validation": len(valid),
        "validation notes": sum(map(len, valid)),
    }
    results: dict[str, Any] = {**setting, "rows": {}}
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text(encoding="utf-8"))
        if {key: before.get(key) for key in setting} == setting:
            results = before
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        name: functools.partial(counted, make, valid) for name, make in baselines(train).items()
    }
    measure |= {n: functools.partial(trained, r, train, valid) for n, r in recipes().items()}
    measure["the pretrained model"] = pretrained
    for name, figures in measure.items():
        if name not in results["rows"]:
            results["rows"][name] = row = figures()
            print(name, {k: v for k, v in row.items() if isinstance(v, float)}, flush=True)
        results["rows"] = {n: results["rows"][n] for n in measure if n in results["rows"]}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(results), encoding="utf-8")


def pretrained() -> dict[str, Any]:
    """The pretrained model, as measured by ``pretrained.py`` on the same split."""
    scores = json.loads(RESULTS.with_name("pretrained.json").read_text(encoding="utf-8"))
    parameters = sum(p.numel() for p in cast(nn.Module, load().model).parameters())
    figures = {key: scores[key] for key in (*FIGURES, *MORE, "notes", "trained")}
    return {**figures, "parameters": parameters, "seconds": None}


if __name__ == "__main__":
    main()
