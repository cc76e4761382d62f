"""Measure the model that comes with the library, and write its card.

    python docs/measured/pretrained.py MAESTRO_FOLDER

scores it on the whole validation split of MAESTRO beside the baselines, lets it write samples,
searches them for passages of the training pieces, puts all figures into ``pretrained.json`` beside
this script and the model's card, ``CARD.md``, beside the model. ``--card`` writes the card again
without measuring.
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
CARD = PRETRAINED.with_name("CARD.md")
FIGURES = ("pitch", "step", "duration", "psd", "velocity", "total")


def measured(folder: Path) -> dict[str, Any]:
    """What the command line says, without the lines of single pieces."""
    printed = io.StringIO()
    command = ["evaluate", str(folder), "--split", "validation", "--train", str(folder)]
    with contextlib.redirect_stdout(printed):
        if notelstm([*command, "--samples", "20", "--notes", "1000", "--json"]):
            raise SystemExit("notelstm evaluate failed")
    figures: dict[str, Any] = json.loads(printed.getvalue())
    del figures["pieces"]
    for kind in ("samples", "real"):
        del figures["samples"]["memorisation"][kind]
    figures["calibration"] = {k: {"error": v["error"]} for k, v in figures["calibration"].items()}
    return figures


def row(name: str, figures: dict[str, Any]) -> str:
    """One line of the table."""
    numbers = ["" if figures[key] is None else f"{figures[key]:.2f}" for key in FIGURES]
    return "| " + " | ".join([name, *numbers]) + " |"


def card(bundle: Bundle, figures: dict[str, Any]) -> str:
    """The model's card."""
    training, data = bundle.settings["training"], bundle.data
    size = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    low, high = figures["intervals"]["total"]
    samples = figures["samples"]
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
        f"  {data.notes:,} notes, {training['epochs']} times, in seven keys.",
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
        "Of 20 samples of 1,000 notes, begun with nothing: "
        f"overlap with real pieces {samples['similarity']['overlap']:.2f}",
        f"(1 is: cannot be told apart). {samples['memorisation']['sentence']}",
        "",
        "## Made again",
        "",
        "```console",
        f"$ notelstm train maestro --recipe expressive --epochs {training['epochs']} "
        "--validation 0.02 --half \\",
        f"    --set training.precision={training['precision']} -o maestro.notelstm",
        "$ python docs/measured/pretrained.py MAESTRO_FOLDER",
        "```",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maestro", type=Path, nargs="?", help="the MAESTRO v2.0.0 folder")
    parser.add_argument("--card", action="store_true", help="write the card again and stop")
    args = parser.parse_args()
    if not args.card:
        if args.maestro is None:
            parser.error("the MAESTRO folder is needed")
        figures = measured(args.maestro)
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    text = card(load(), json.loads(RESULTS.read_text(encoding="utf-8")))
    CARD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
