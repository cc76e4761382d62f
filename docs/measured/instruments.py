"""Measure how a model reads instruments: its sounding-note features, and the order of its fields.

    python docs/measured/instruments.py SONGS DRUMS

lays a drum performance of the folder DRUMS under each song of the folder SONGS, whose tracks are
told apart by name, trains every row of the table on the same songs, and scores it in nats per note
on others; rows near the best one are repeated with two more seeds. The figures are in
``instruments.json`` beside this script, the table of their means in ``instruments.md``. Rows that
are already in the file are not measured again, so an interrupted run can be continued.
``--table`` rewrites the table without measuring.

The row *same instrument, others, drums* is of sounding-note features with the drums as a group of
their own. They made no difference and are no longer in the library, so the row is kept as it was
measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder
from notelstm.evaluation import fit_ngrams, score_baseline, score_together
from notelstm.fields import Field
from notelstm.midi import ReadPolicy, read_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.parts import PartMap
from notelstm.recipes import ModelSpec, Recipe, expressive, with_settings

RESULTS = Path(__file__).with_name("instruments.json")
TABLE = RESULTS.with_suffix(".md")
FIGURES = {
    "step": "step",
    "instrument": "instrument",
    "pitch": "pitch",
    "velocity": "velocity",
    "duration": "duration",
    "total": "total",
    "without_instrument": "without instrument",
}
SEEDS = (0, 1, 2)
CLOSE = 0.2
"""Nats by which a row may be worse than the best one to be repeated with the other seeds."""
ORDER = ("step", "instrument", "pitch", "velocity", "duration")


def together(*, fields: Sequence[Field], **settings: Any) -> NoteLSTM:
    """A model whose sounding-note features are those of all instruments together."""
    changed = [replace(f, role="other") if f.role == "instrument" else f for f in fields]
    model = NoteLSTM(fields=changed, **settings)
    object.__setattr__(model, "fields", tuple(fields))
    return model


def recipes(parts: PartMap, seed: int) -> dict[str, Recipe]:
    """The rows that are trained, by their names in the table."""

    def small(order: Sequence[str], encoder: LogTimeEncoder) -> Recipe:
        settings = {"hidden_size": 128, "embedding_dim": 24, "head_size": 96, "dropout": 0.0}
        return with_settings(
            replace(expressive(memory_window=0), encoder=encoder),
            {
                "model": {**settings, "field_order": list(order)},
                "transforms": "none",
                "sequence_length": 128,
                "batch_size": 8,
                "training": {"warmup_steps": 20, "epochs": 1, "seed": seed},
            },
        )

    encoder = LogTimeEncoder(exact=True, parts=parts)
    full = small(ORDER, encoder)

    spec = cast(ModelSpec, full.model)
    return {
        "same instrument, others": full,
        "all instruments together": replace(full, model=ModelSpec(together, spec.settings)),
        "order: instrument, step, pitch": small(
            ("instrument", "step", "pitch", "velocity", "duration"), encoder
        ),
        "order: step, pitch, instrument": small(
            ("step", "pitch", "instrument", "velocity", "duration"), encoder
        ),
        "without instruments": small(
            ("step", "pitch", "velocity", "duration"), LogTimeEncoder(exact=True)
        ),
    }


def songs_of(songs: Path, drums: Path, count: int) -> list[Notes]:
    """The first songs, each with a drum performance, which begins again until the song ends."""
    policy = ReadPolicy(tracks="all", drums=True)
    played = filter(lambda notes: len(notes) > 200, _read(drums, policy))
    made = []
    for song, performance in zip(islice(_read(songs, policy), count), played, strict=False):
        loop = replace(performance, tempo_map=None)
        times = int(np.ceil(song.end_time / loop.end_time))
        beats = Notes.concatenate([loop] * times)
        beats = beats[beats.start < song.end_time]
        made.append(Notes.merge([replace(song, tempo_map=None), beats]))
    return made


def _read(folder: Path, policy: ReadPolicy) -> Iterator[Notes]:
    """The pieces of a folder, in the order of their paths."""
    return (read_midi(path, policy=policy) for path in sorted(folder.rglob("*.mid")))


def trained(recipe: Recipe, train: Sequence[Notes]) -> tuple[Bundle, dict[str, Any]]:
    """Train for one epoch."""
    began = time.process_time()
    bundle = recipe.train(train)
    seconds = time.process_time() - began
    parameters = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    return bundle, {"parameters": parameters, "seconds": seconds}


def table(results: dict[str, Any]) -> str:
    """The means of the figures over the seeds as Markdown, and the range of the total."""
    counts = {"parameters": "parameters", "seconds": "CPU seconds"}
    names = ["", *FIGURES.values(), "range of the total", *counts.values()]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for name, rows in results["rows"].items():
        means = {
            key: None if rows[0].get(key) is None else sum(row[key] for row in rows) / len(rows)
            for key in (*FIGURES, *counts)
        }
        totals = [row["total"] for row in rows]
        cells = ["" if means[key] is None else f"{means[key]:.3f}" for key in FIGURES]
        cells.append(f"{max(totals) - min(totals):.3f}" if len(rows) > 1 else "")
        cells += ["" if means[key] is None else f"{means[key]:,.0f}" for key in counts]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", type=Path, nargs="?", help="a folder of songs")
    parser.add_argument("drums", type=Path, nargs="?", help="a folder of drum performances")
    parser.add_argument("--train", type=int, default=48, help="training songs")
    parser.add_argument("--validation", type=int, default=6, help="songs that are scored")
    parser.add_argument("--table", action="store_true", help="rewrite the table and exit")
    args = parser.parse_args()
    if args.table:
        TABLE.write_text(table(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    if args.songs is None or args.drums is None:
        parser.error("the folders of songs and drums are needed")
    torch.set_num_threads(1)
    songs = songs_of(args.songs, args.drums, args.train + args.validation)
    train, valid = songs[: args.train], songs[args.train :]
    parts = PartMap.from_pieces(train, by="name")
    print([part.name for part in parts.parts], sum(map(len, train)), sum(map(len, valid)))
    # All rows are scored on the notes that an encoder without instruments keeps apart.
    plain = LogTimeEncoder(exact=True)
    distinct = [plain.snapped(song) or song for song in valid]
    results: dict[str, Any] = {
        "train": len(train),
        "training notes": sum(map(len, train)),
        "validation": len(valid),
        "validation notes": sum(map(len, distinct)),
        "merged": sum(map(len, valid)) - sum(map(len, distinct)),
        "rows": {},
    }
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text(encoding="utf-8"))
        if {**before, "rows": {}} == results:
            results = before

    def finish(name: str, row: dict[str, Any]) -> None:
        results["rows"].setdefault(name, []).append(row)
        print(name, {k: v for k, v in row.items() if isinstance(v, float)}, flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        TABLE.write_text(table(results), encoding="utf-8")

    encoder = LogTimeEncoder(exact=True, parts=parts)
    if "4-gram" not in results["rows"]:
        ngrams = fit_ngrams(train, encoder=encoder)
        for name, baseline in (("unigram", ngrams.unigram), ("4-gram", ngrams)):
            finish(name, score_baseline(baseline, distinct, encoder=encoder).to_json())
    close = 0.0
    for number, seed in enumerate(SEEDS):
        for name, recipe in recipes(parts, seed).items():
            rows = results["rows"].get(name, [])
            if len(rows) == number and (not rows or rows[0]["total"] < close):
                bundle, row = trained(recipe, train)
                scores = score_together({name: bundle}, distinct).scores[name]
                finish(name, {**scores.to_json(), **row})
        close = min(rows[0]["total"] for rows in results["rows"].values()) + CLOSE


if __name__ == "__main__":
    main()
