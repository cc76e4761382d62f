"""Measure the pretrained model and write its model card.

    python docs/measured/pretrained.py MAESTRO_FOLDER

scores it on the whole validation split of MAESTRO beside the baselines, generates samples
unconditionally and as continuations of validation pieces, searches them for passages of the
training pieces, and writes the figures to ``pretrained.json`` beside this script and the card,
``CARD.md``, beside the model. ``--card`` rewrites the card without measuring.

    python docs/measured/pretrained.py MAESTRO_FOLDER --train MODEL

trains it: several hours, in two runs that can be interrupted and resumed.
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
"""The log of the last run, a line per epoch."""
CARD = PRETRAINED.with_name("CARD.md")
FIGURES = ("pitch", "step", "duration", "pitch_step_duration", "velocity", "total")
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
"""Epochs and settings of the first run and of the second, which starts from the first."""


def train(folder: Path, output: Path) -> None:
    """Train the model in two runs; each resumes where it was interrupted."""
    first = output.with_name(f"{output.stem}-first{output.suffix}")
    init: list[str] = []
    for model, (epochs, changes) in zip((first, output), RUNS, strict=True):
        resume = ["--resume"] if model.with_name(f"{model.name}.run").exists() else []
        command = ["train", str(folder), "-o", str(model), "--validation", "0.02", "--half"]
        if notelstm([*command, "--epochs", str(epochs), *changes, *init, *resume]):
            raise SystemExit("notelstm train failed")
        init = ["--from", str(model)]


def logged() -> list[dict[str, float]]:
    """The metrics of each epoch of the last run."""
    return [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]


def num_epochs() -> float:
    """How often each note was trained on; the last epoch may have been cut short."""
    first, *_, last = logged()
    return RUNS[0][0] + last["step"] / first["step"]


def results_of(*command: str) -> dict[str, Any]:
    """The results that a command prints as JSON."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if notelstm([*command, "--json"]):
            raise SystemExit(f"notelstm {command[0]} failed")
    figures: dict[str, Any] = json.loads(printed.getvalue())
    return figures


def measured(folder: Path) -> dict[str, Any]:
    """The results of ``notelstm evaluate``, without those of single pieces."""
    command = ["evaluate", str(folder), "--split", "validation", "--train", str(folder), *SAMPLES]
    figures = results_of(*command)
    figures["continued"] = results_of(*command, "--prompt-notes", str(PROMPT_NOTES))["samples"]
    figures["trained"] = round(load().data.notes * num_epochs())
    del figures["pieces"]
    for samples in (figures["samples"], figures["continued"]):
        for kind in ("samples", "real"):
            del samples["memorisation"][kind]
    figures["calibration"] = {k: {"error": v["error"]} for k, v in figures["calibration"].items()}
    return figures


def row(name: str, figures: dict[str, Any]) -> str:
    """A row of the table of scores."""
    numbers = ["" if figures[key] is None else f"{figures[key]:.2f}" for key in FIGURES]
    return "| " + " | ".join([name, *numbers]) + " |"


def sample_row(name: str, found: dict[str, Any]) -> str:
    """A row of the table of samples."""
    flagged = len(found["health"]["flagged"])
    return f"| {name} | {found['similarity']['overlap']:.2f} | {flagged} of 20 |"


def longest_passage(found: dict[str, Any]) -> str:
    """A sentence on the longest passage that samples share with the training pieces."""
    passage, usual = found["memorisation"]["longest"], found["memorisation"]["usual"]
    return (
        f"{passage['notes']} notes, transposed by {passage['semitones']:+d} semitones, from "
        f"`{passage['piece']}`; held-out pieces share up to {usual}"
    )


def card(bundle: Bundle, figures: dict[str, Any]) -> str:
    """The text of the model card."""
    data = bundle.data
    size = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    low, high = figures["intervals"]["total"]
    samples, continued = figures["samples"], figures["continued"]
    *_, before, last = logged()
    lines = [
        "# Model card: `maestro.notelstm`",
        "",
        "A model of piano music. It predicts step, pitch, velocity and duration of each note in",
        "turn, each given all earlier notes and the fields before it. `load()`,",
        "`notelstm generate` and `notelstm evaluate` use it unless you name another model.",
        "",
        f"- **Model**: `{type(bundle.model).__name__}`, {size:,} parameters, half precision,",
        f"  {PRETRAINED.stat().st_size / 2**20:.1f} MiB.",
        f"- **Training data**: the training split of MAESTRO v2.0.0, {data.pieces} pieces,",
        f"  {data.notes:,} notes, {num_epochs():.1f} times, in seven keys.",
        "- **Stopping criterion**: the validation loss had nearly stopped falling. In the last",
        f"  epoch, the loss on 19 held-out pieces fell from {before['validation']:.3f} to "
        f"{last['validation']:.3f} nats per note,",
        f"  the training loss from {before['loss']:.2f} to {last['loss']:.2f}.",
        "- **License**: CC BY-NC-SA 4.0, like the data; see `LICENSE` beside the model.",
        "- **Intended use**: continuing and improvising piano music, teaching and research. Do not",
        "  present its output as the work of a person.",
        "- **Limits**: it is trained on performances of classical piano music only. Without a",
        "  prompt the music has no overall form.",
        "",
        "## Scores",
        "",
        f"Nats per note on the validation split, whole pieces, {figures['notes']:,} notes; lower",
        f"is better. The 95 % confidence interval of the model's total is {low:.2f} to {high:.2f}.",
        "",
        "| | pitch | step | duration | P+S+D | velocity | total |",
        "|---|---|---|---|---|---|---|",
        row("**this model**", figures),
        *(row(name, scores) for name, scores in reversed(figures["baselines"].items())),
        "",
        f"The most likely pitch is the right one for {figures['pitch_top1']:.0%} of the notes, and "
        "the right one is",
        f"among the five most likely for {figures['pitch_top5']:.0%}. A second of music takes "
        f"{figures['bits_per_second']:.0f} bits.",
        "",
        "## Samples",
        "",
        "20 samples of 1,000 notes, compared with excerpts of real pieces of the same length. An",
        "overlap of 1 means that no compared feature distinguishes samples from real pieces.",
        "",
        "| | overlap | degenerate |",
        "|---|---|---|",
        sample_row("unconditional", samples),
        sample_row(f"continuations of {PROMPT_NOTES} notes of a validation piece", continued),
        "",
        "The longest passage that a sample shares with a training piece, in any key and tempo:",
        "",
        f"- unconditional: {longest_passage(samples)};",
        f"- continuations: {longest_passage(continued)}.",
        "",
        "## Reproducing",
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
    parser.add_argument("--card", action="store_true", help="rewrite the card and exit")
    parser.add_argument("--train", type=Path, metavar="MODEL", help="train the model and exit")
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
