"""Measure the ablations: recipes and baselines trained on the same number of notes.

    python docs/measured/models.py MAESTRO_FOLDER --asap ASAP_FOLDER

trains each row of the table for one epoch of the same size, scores it in nats per note on the
beginnings of validation pieces, and writes the figures to ``models.json`` beside this script and
the table to ``models.md``. Each row is written as soon as it is measured, and rows that are already
in the file are not measured again, so an interrupted run can be continued. Without ``--asap``, the
row trained on both corpora is left out. ``--table`` rewrites the table without measuring.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from notelstm.bundle import Bundle, load
from notelstm.cli.music import open_corpus, open_music
from notelstm.data import TimeStretch, Transpose
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
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
PIECES = 20
BEGINNING = 2000
"""Scored are the first notes of some validation pieces."""
BOTH_CORPORA = "memory, trained on MAESTRO and ASAP"
PRETRAINED = "the pretrained model"
TRAINED, TUNED = "trained_notes", "tuned_notes"
"""The settings of the pretrained model that count the notes of its training and fine-tuning."""


def small(**model: Any) -> Recipe:
    """The expressive recipe at a size that trains in a minute, with other model settings."""
    size = {"hidden_size": 256, "embedding_dim": 32, "head_size": 128}
    settings = {**size, "memory_window": 0, **model}
    batches = {"sequence_length": 64, "batch_size": 16, "training": {"warmup_steps": 30}}
    return with_settings(expressive(), {"model": settings, "transforms": "none", **batches})


def recipes() -> dict[str, Recipe]:
    """The rows that are trained, by their names in the table."""
    notes = small()
    memory = functools.partial(small, memory_window=4096)
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
        "notes": notes,
        "notes, cells not exact": replace(notes, encoder=LogTimeEncoder()),
        "memory": memory(),
        "memory, window of 1,024": small(memory_window=1024),
        "memory, window of 512": small(memory_window=512),
        "memory, without sounding-note features": memory(sounding_features=False),
        "memory, hidden size 512": memory(hidden_size=512),
        "memory, hidden size 128": memory(hidden_size=128),
        BOTH_CORPORA: memory(),
        "memory, no dropout": memory(dropout=0.0),
        "memory, dropout 0.2": memory(dropout=0.2),
        "memory, transposed by up to 6 semitones": replace(
            memory(), transforms=(Transpose(low=-6, high=6),)
        ),
        "memory, stretched by up to 5 %": replace(memory(), transforms=(TimeStretch(),)),
        "memory, cells not exact": replace(memory(), encoder=LogTimeEncoder()),
        "notes, none of the features below": small(
            sounding_features=False,
            head_size=0,
            field_order=["step", "pitch", "duration", "velocity"],
        ),
        "notes, without sounding-note features": small(sounding_features=False),
        "notes, linear heads": small(head_size=0),
        "notes, velocity last": small(field_order=["step", "pitch", "duration", "velocity"]),
        "notes, pitch first": small(field_order=["pitch", "step", "velocity", "duration"]),
        "notes, 4 sequences of 256 rows": replace(notes, sequence_length=256, batch_size=4),
        "notes, 64 sequences of 16 rows": replace(notes, sequence_length=16, batch_size=64),
        "notes, mixture times": replace(notes, encoder=StepDurationEncoder(), model=mixtures),
        "events": replace(notes, encoder=PerformanceEventEncoder(), model=events),
        "original, as printed": reference(as_printed=True),
        "original, repaired": reference(**dict.fromkeys(FAULTS, False)),
    }


def trained(recipe: Recipe, train: Sequence[Notes], valid: Sequence[Notes]) -> dict[str, Any]:
    """Train for one epoch, then score."""
    recipe = replace(recipe, training=replace(recipe.training, epochs=1))
    began = time.process_time()
    bundle = recipe.train(train)
    seconds = time.process_time() - began
    return {**scored(bundle, valid), "trained": sum(map(len, train)), "seconds": seconds}


def scored(bundle: Bundle, valid: Sequence[Notes]) -> dict[str, Any]:
    """The scores and the size of a model."""
    parameters = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    scores = nats_per_note(bundle.generation_model, bundle.encoder, valid, sigmas=bundle.sigmas)
    return {**scores.to_json(), "parameters": parameters}


def pretrained(valid: Sequence[Notes]) -> dict[str, Any]:
    """The pretrained model."""
    bundle = load()
    trained = sum(bundle.settings.get(name, 0) for name in (TRAINED, TUNED))
    return {**scored(bundle, valid), "trained": trained, "seconds": None}


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


def sample_of(pieces: Sequence[Notes], notes: int) -> list[Notes]:
    """Randomly chosen pieces of so many notes in all; the last one is cut."""
    order = list(range(len(pieces)))
    random.Random(0).shuffle(order)
    chosen: list[Notes] = []
    for number in order:
        chosen.append(pieces[number][:notes])
        notes -= len(chosen[-1])
        if not notes:
            return chosen
    raise SystemExit(f"the pieces have {notes:,} notes too few")


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
    parser.add_argument("--asap", type=Path, help="the folder of ASAP")
    parser.add_argument("--notes", type=int, default=300_000, help="notes that a row is trained on")
    parser.add_argument("--table", action="store_true", help="rewrite the table and exit")
    args = parser.parse_args()
    if args.table:
        TABLE.write_text(table(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    if args.maestro is None:
        parser.error("the MAESTRO folder is needed")
    torch.set_num_threads(1)
    music = open_music(str(args.maestro), expressive().read_policy)
    train = sample_of(music.side("train"), args.notes)
    held_out = music.side("validation")
    valid = [held_out[k * len(held_out) // PIECES][:BEGINNING] for k in range(PIECES)]
    setting = {"training notes": args.notes, "validation notes": sum(map(len, valid))}
    results: dict[str, Any] = {**setting, "rows": {}}
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text(encoding="utf-8"))
        if {key: before.get(key) for key in setting} == setting:
            results = before
    rows: dict[str, Any] = results["rows"]
    # The pretrained model may be another than that of the last run.
    rows.pop(PRETRAINED, None)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        name: functools.partial(counted, make, valid) for name, make in baselines(train).items()
    }
    measure |= {n: functools.partial(trained, r, train, valid) for n, r in recipes().items()}
    if args.asap is not None:
        both = [*music.side("train"), *open_corpus(str(args.asap), expressive().read_policy)]
        mixed = sample_of(both, args.notes)
        measure[BOTH_CORPORA] = functools.partial(trained, recipes()[BOTH_CORPORA], mixed, valid)
    elif BOTH_CORPORA not in rows:
        del measure[BOTH_CORPORA]
    measure[PRETRAINED] = functools.partial(pretrained, valid)
    for name, figures in measure.items():
        if name not in rows:
            rows[name] = row = figures()
            print(name, {k: v for k, v in row.items() if isinstance(v, float)}, flush=True)
        results["rows"] = {n: rows[n] for n in measure if n in rows}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        TABLE.write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
