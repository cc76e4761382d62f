"""Measure the model that comes with the library, and write its card.

    python docs/measured/pretrained.py MAESTRO_FOLDER

scores it on the whole validation split of MAESTRO beside the baselines, lets it write samples from
nothing and after the beginnings of validation pieces, searches them for passages of the training
pieces, puts all figures into ``pretrained.json`` beside this script and the model's card,
``CARD.md``, beside the model. ``--card`` writes the card again without measuring.

    python docs/measured/pretrained.py MAESTRO_FOLDER --train MODEL

trains it: several hours, in two runs that can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path
from typing import Any, cast

from torch import nn

from notelstm.bundle import PRETRAINED, Bundle, load
from notelstm.cli import main as notelstm

RESULTS = Path(__file__).with_name("pretrained.json")
LOG = RESULTS.with_suffix(".jsonl")
"""What the last run wrote of its passes."""
CARD = PRETRAINED.with_name("CARD.md")
FIGURES = ("pitch", "step", "duration", "psd", "velocity", "total")
SAMPLES = ("--samples", "20", "--notes", "1000")
PROMPT_NOTES = 100
RUNS = (
    (6, ("--recipe", "expressive", "--set", "sequence_length=256", "batch_size=16")),
    (
        3,
        (
            "--set",
            "model.dropout=0.0",
            "training.learning_rate=0.0012",
            "sequence_length=64",
            "batch_size=64",
        ),
    ),
)
"""The passes of the run from nothing and of the one that goes on from it, and what they change."""


def train(folder: Path, output: Path) -> None:
    """Train the model: two runs, each of which goes on where it was stopped."""
    began = output.with_name(f"{output.stem}-begun{output.suffix}")
    start: list[str] = []
    for model, (epochs, changes) in zip((began, output), RUNS, strict=True):
        resume = ["--resume"] if model.with_name(f"{model.name}.run").exists() else []
        command = ["train", str(folder), "-o", str(model), "--validation", "0.02", "--half"]
        if notelstm([*command, "--epochs", str(epochs), *changes, *start, *resume]):
            raise SystemExit("notelstm train failed")
        start = ["--from", str(model)]


def logged() -> list[dict[str, float]]:
    """What the last run wrote of each pass."""
    return [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]


def passes() -> float:
    """How often the model has read each note; the last pass may have been cut short."""
    first, *_, last = logged()
    return RUNS[0][0] + last["step"] / first["step"]


def told(*command: str) -> dict[str, Any]:
    """What the command line says as JSON."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if notelstm([*command, "--json"]):
            raise SystemExit(f"notelstm {command[0]} failed")
    figures: dict[str, Any] = json.loads(printed.getvalue())
    return figures


def measured(folder: Path) -> dict[str, Any]:
    """What the command line says, without the lines of single pieces."""
    command = ["evaluate", str(folder), "--split", "validation", "--train", str(folder), *SAMPLES]
    figures = told(*command)
    figures["continued"] = told(*command, "--prompt-notes", str(PROMPT_NOTES))["samples"]
    figures["trained"] = round(load().data.notes * passes())
    del figures["pieces"]
    for samples in (figures["samples"], figures["continued"]):
        for kind in ("samples", "real"):
            del samples["memorisation"][kind]
    figures["calibration"] = {k: {"error": v["error"]} for k, v in figures["calibration"].items()}
    return figures


def row(name: str, figures: dict[str, Any]) -> str:
    """One line of the table."""
    numbers = ["" if figures[key] is None else f"{figures[key]:.2f}" for key in FIGURES]
    return "| " + " | ".join([name, *numbers]) + " |"


def sample_row(name: str, found: dict[str, Any]) -> str:
    """One line of the table of samples."""
    ill = len(found["health"]["ill"])
    return f"| {name} | {found['similarity']['overlap']:.2f} | {ill} of 20 |"


def card(bundle: Bundle, figures: dict[str, Any]) -> str:
    """The model's card."""
    data = bundle.data
    size = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    low, high = figures["intervals"]["total"]
    samples, continued = figures["samples"], figures["continued"]
    *_, before, last = logged()
    lines = [
        "# Card of the model `maestro.notelstm`",
        "",
        "Piano music, note by note: step, pitch, velocity and duration, each drawn from what is",
        "predicted of it given all before. It comes with notelstm, and is what `load()`,",
        "`notelstm generate` and `notelstm evaluate` use where no model is named.",
        "",
        f"- **Model**: `{type(bundle.model).__name__}`, {size:,} parameters, half precision,",
        f"  {PRETRAINED.stat().st_size / 2**20:.1f} MiB.",
        f"- **Trained on**: the training split of MAESTRO v2.0.0, {data.pieces} pieces,",
        f"  {data.notes:,} notes, {passes():.1f} times, in seven keys.",
        "- **Until**: it hardly improved any more. The last pass brought 19 pieces set aside from",
        f"  {before['validation']:.3f} to {last['validation']:.3f} nats a note, "
        f"the training pieces from {before['loss']:.2f} to {last['loss']:.2f}.",
        "- **Licence**: CC BY-NC-SA 4.0, as the data's; see `LICENSE` beside it.",
        "- **For**: continuing and improvising piano music, teaching, research; not for passing",
        "  its music off as somebody's. It knows performances of classical piano music, no other;",
        "  without a prompt it wanders, since nothing plans a form.",
        "",
        "## Figures",
        "",
        "Nats per note on the validation split, whole pieces, "
        f"{figures['notes']:,} notes; lower is better.",
        f"The model's total is {low:.2f} to {high:.2f} with a confidence of 95 %.",
        "",
        "| | pitch | step | duration | P+S+D | velocity | total |",
        "|---|---|---|---|---|---|---|",
        row("**this model**", figures),
        *(row(name, scores) for name, scores in reversed(figures["baselines"].items())),
        "",
        f"The likeliest pitch is right {figures['pitch_top1']:.0%} of the time, the right one is",
        f"among five {figures['pitch_top5']:.0%} of the time;",
        f"{figures['bits_per_second']:.0f} bits for a second of music.",
        "",
        "20 samples of 1,000 notes beside as much of real pieces; an overlap of 1 is: cannot be",
        "told apart.",
        "",
        "| | overlap | with a symptom of collapse |",
        "|---|---|---|",
        sample_row("begun with nothing", samples),
        sample_row(f"after {PROMPT_NOTES} notes of a validation piece", continued),
        "",
        f"Begun with nothing: {samples['memorisation']['sentence']}.",
        "",
        f"After a piece's beginning: {continued['memorisation']['sentence']}.",
        "",
        "## Made again",
        "",
        "```console",
        "$ python docs/measured/pretrained.py MAESTRO_FOLDER --train maestro.notelstm",
        "$ python docs/measured/pretrained.py MAESTRO_FOLDER",
        "```",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maestro", type=Path, nargs="?", help="the MAESTRO v2.0.0 folder")
    parser.add_argument("--card", action="store_true", help="write the card again and stop")
    parser.add_argument("--train", type=Path, metavar="MODEL", help="train it and stop")
    args = parser.parse_args()
    if args.maestro is None and not args.card:
        parser.error("the MAESTRO folder is needed")
    if args.train is not None:
        train(args.maestro, args.train)
        return
    if not args.card:
        figures = measured(args.maestro)
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    text = card(load(), json.loads(RESULTS.read_text(encoding="utf-8")))
    CARD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
