"""Measure the ensemble recipe on a folder of songs, as a reader of the docs would train it.

    python docs/measured/ensemble.py FOLDER

reads every MIDI file of the folder, accounts for its notes, sets a tenth of the pieces aside by
their content, trains a small model with and without the field of the instrument, scores both beside
the baselines on the pieces set aside, and generates notes to count drum keys that the training
pieces do not have. The figures are added to ``ensemble.json`` beside this script under the name of
the folder, and the tables are written to ``ensemble.md``. ``--table`` rewrites them without
measuring.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import mido
import numpy as np
import torch
from torch import nn

from notelstm.bundle import Bundle
from notelstm.data import Corpus, split_by_keys
from notelstm.encoders import LogTimeEncoder
from notelstm.encoders.rows import part_map_of, snapped
from notelstm.evaluation import (
    FIGURES,
    Baseline,
    Scores,
    fit_ngrams,
    fit_unigram,
    nats_per_note,
    score_baseline,
    score_together,
)
from notelstm.generation import generate, generate_batch
from notelstm.notes import Notes
from notelstm.recipes import Recipe, ensemble, with_settings

RESULTS = Path(__file__).with_name("ensemble.json")
TABLE = RESULTS.with_suffix(".md")
HELD_OUT = 0.1
PROMPT = 64
PIECES, LENGTH = 16, 250  # of generation


def small(epochs: int) -> Recipe:
    """The ensemble recipe at a size that trains in minutes."""
    model = {"hidden_size": 256, "embedding_dim": 32, "head_size": 128, "memory_window": 256}
    training = {"epochs": epochs}
    return with_settings(ensemble(), {"model": model, "batch_size": 32, "training": training})


def without_instruments(recipe: Recipe) -> Recipe:
    """The same recipe without the field of the instrument."""
    order = ["step", "pitch", "velocity", "duration"]
    model = {"field_order": order}
    recipe = replace(recipe, encoder=LogTimeEncoder(exact=True), parts=None)
    return with_settings(recipe, {"model": model})


def trained(recipe: Recipe, pieces: Sequence[Notes]) -> tuple[Bundle, dict[str, Any]]:
    """Train; the size of the model and the time."""
    began = time.process_time()
    bundle = recipe.train(pieces)
    parameters = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    return bundle, {"parameters": parameters, "cpu_seconds": time.process_time() - began}


def note_ons(folder: Path) -> int:
    """The note-ons of all files, counted by another library."""
    files = [*folder.rglob("*.mid"), *folder.rglob("*.midi")]
    return sum(
        message.type == "note_on" and message.velocity > 0
        for path in files
        for track in mido.MidiFile(path).tracks
        for message in track
    )


def accounts(corpus: Corpus, folder: Path) -> dict[str, Any]:
    """What became of every note of the files."""
    left_out: Counter[str] = Counter()
    for file in corpus.report:
        left_out.update(file.left_out)
    return {
        "files": len(corpus.report),
        "pieces": len(corpus),
        "note_ons": note_ons(folder),
        "notes": int(corpus.lengths.sum()),
        "left_out": dict(left_out),
    }


def encoded(bundle: Bundle, pieces: Sequence[Notes]) -> dict[str, int]:
    """The notes of pieces that become rows, and those that do not, or as another instrument."""
    part_map = part_map_of(bundle.encoder)
    rows = sum(len(snapped(bundle.encoder, piece)) for piece in pieces)
    notes = sum(map(len, pieces))
    unknown = 0 if part_map is None else sum(map(part_map.count_unknown, pieces))
    return {"notes": notes, "rows": rows, "merged": notes - rows, "unknown": unknown}


def drum_keys(pieces: Sequence[Notes]) -> Counter[int]:
    """The number of notes of each drum key."""
    found: Counter[int] = Counter()
    for piece in pieces:
        if piece.drum is not None:
            found.update(piece.pitch[piece.drum].tolist())
    return found


def generated(bundle: Bundle, train: Sequence[Notes], held_out: Sequence[Notes]) -> dict[str, Any]:
    """Counts of generated notes: of each part, and of drum keys that no training piece has."""
    pieces = generate_batch(bundle, LENGTH, batch_size=PIECES, seed=0)
    longest = max(held_out, key=len)
    prompt = longest[:PROMPT]
    pieces.append(generate(bundle, LENGTH, prompt=prompt, seed=1))
    parts: Counter[str] = Counter()
    for piece in pieces:
        track = np.zeros(len(piece), int) if piece.track is None else piece.track
        names = piece.track_names or ("",)
        parts.update(names[k] for k in track.tolist())
    keys, known = drum_keys(pieces), drum_keys(train)
    return {
        "notes": sum(map(len, pieces)),
        "parts": dict(parts),
        "drum_notes": keys.total(),
        "unknown_drum_notes": sum(count for key, count in keys.items() if key not in known),
        "drum_keys": len(known),
    }


def figures(scores: Scores) -> dict[str, Any]:
    """The figures of one row, and the number of notes."""
    return {**{name: scores.of(name) for name in FIGURES}, "notes": scores.notes}


def measure(folder: Path, epochs: int) -> dict[str, Any]:
    """Everything, for one folder."""
    recipe = small(epochs)
    corpus = Corpus.open(folder, policy=recipe.read_policy)
    split = split_by_keys(corpus.content_keys, validation=HELD_OUT, test=0.0)
    train = [corpus[k] for k in split.train]
    held_out = [corpus[k] for k in split.validation]
    bundle, size = trained(recipe, train)
    part_map = part_map_of(bundle.encoder)
    assert part_map is not None
    found: dict[str, Any] = {
        **accounts(corpus, folder),
        "by": part_map.by,
        "parts": [part.name for part in part_map.parts],
        "epochs": epochs,
        "train": {"pieces": len(train), **encoded(bundle, train)},
        "held_out": {"pieces": len(held_out), **encoded(bundle, held_out)},
        "generated": generated(bundle, train, held_out),
    }
    print(json.dumps(found, indent=1), flush=True)
    encoder = bundle.encoder
    scores = nats_per_note(bundle.generation_model, encoder, held_out, sigmas=bundle.sigmas)
    baselines: dict[str, Baseline] = {
        "unigram": fit_unigram(train, encoder=encoder),
        "4-gram": fit_ngrams(train, order=4, encoder=encoder),
    }
    found["rows"] = {
        name: figures(score_baseline(baseline, held_out, encoder=encoder))
        for name, baseline in baselines.items()
    }
    found["rows"]["ensemble"] = {**figures(scores), **size}
    print(json.dumps(found["rows"], indent=1), flush=True)
    other, other_size = trained(without_instruments(recipe), train)
    both = score_together({"with": bundle, "without": other}, held_out)
    found["together"] = {
        "with instruments": {**figures(both.scores["with"]), **size},
        "without": {**figures(both.scores["without"]), **other_size},
        "merged": both.merged,
        "of": both.notes,
    }
    print(json.dumps(found["together"], indent=1), flush=True)
    return found


def account(found: dict[str, Any]) -> str:
    """The notes of one folder and of generation in words."""
    parts = found["train"], found["held_out"]
    merged, unknown = (sum(part[key] for part in parts) for key in ("merged", "unknown"))
    left_out = sum(found["left_out"].values())
    reasons = ", ".join(f"{count:,} {why}" for why, count in found["left_out"].items())
    made = found["generated"]
    text = (
        f"{found['files']:,} files with {found['note_ons']:,} notes: {left_out:,} left out"
        + (f" ({reasons.replace('_', ' ')})" if reasons else "")
        + f", {found['notes']:,} read; of these, {merged:,} merged by the encoder, {unknown:,} of "
        f"unknown instruments. {found['held_out']['pieces']} pieces are held out; "
        f"epochs: {found['epochs']}. Generated: {made['notes']:,} notes"
    )
    if made["drum_notes"]:
        text += (
            f", {made['unknown_drum_notes']:,} of them of drum keys other than the "
            f"{made['drum_keys']} of the training pieces"
        )
    return text + "."


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    shown = [name for name in FIGURES if name != "pitch_step_duration"]
    head = ["", *(name.replace("_", " ") for name in shown), "notes"]
    text = []
    for name, found in results.items():
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        together = {
            f"{label}, on the same notes": row
            for label, row in found["together"].items()
            if isinstance(row, dict)
        }
        for label, row in {**found["rows"], **together}.items():
            cells = ["" if row[key] is None else f"{row[key]:.2f}" for key in shown]
            lines.append("| " + " | ".join([label, *cells, f"{row['notes']:,}"]) + " |")
        text.append(f"**{name}**, parts by {found['by']}: {', '.join(found['parts'])}\n\n")
        text.append(f"{account(found)}\n\n")
        text.append("\n".join(lines) + "\n\n")
    return "".join(text).rstrip("\n") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a folder of songs")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of each training")
    parser.add_argument("--table", action="store_true", help="rewrite the tables and exit")
    args = parser.parse_args()
    found = {}
    if not args.table:
        if args.folder is None:
            parser.error("a folder is needed")
        torch.set_num_threads(1)
        found[args.folder.name] = measure(args.folder, args.epochs)
    # Two folders can be measured at the same time.
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results = {**before, **found}
    if found:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
