"""Write the headline figures of the README from the other scripts' results.

    python docs/measured/headline.py

replaces the table between its two marks in ``README.md``, which the first page of the site shows as
well. A test compares the table with the results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peers

from notelstm.errors import counted

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
START, STOP = "<!-- figures: start -->\n", "<!-- figures: end -->\n"


def results(name: str) -> dict[str, Any]:
    """The results of a script."""
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return found


def rows() -> dict[str, str]:
    """The figures by their labels."""
    pretrained, models = results("pretrained"), results("models")["rows"]
    figures = {name: result["figures"] for name, result in results("benchmarks").items()}
    ngram = pretrained["baselines"]["4-gram"]
    compared = ngram["difference"]
    original, small = models["original, as printed"], models["notes"]
    same = "the original model and a small `NoteLSTM`, each trained once on the same notes"
    corpus = figures["corpus"]
    compared_with = results("peers_two_cores")
    nats = {key: peers.at_end(compared_with, key) for key, _ in peers.measured(compared_with)}
    best_notochord = min(nats[key] for key in nats if key.startswith("notochord"))
    protocol = compared_with["protocol"]
    rolls = {
        name: found["rows"]["single model"]["test"]["nats_per_frame"]
        for name, found in results("polyphony").items()
    }
    effort = f"{protocol['minutes']:g} minutes on {counted(protocol['threads'], 'core')}"
    latency = "a note of the pretrained model, {} wall time, ms"
    return {
        "Nats per note on MAESTRO's validation split, lower is better: "
        "the pretrained model and the best n-gram": (
            f"{pretrained['total']:.1f} and {ngram['total']:.1f}"
        ),
        "Pieces of that split on which the pretrained model is better than the n-gram": (
            f"{compared['better']['total']} of {compared['pieces']}"
        ),
        f"The same measure without velocity: {same}": (
            f"{original['pitch_step_duration']:.1f} and {small['pitch_step_duration']:.1f}"
        ),
        f"Nats per note after training on the same {protocol['pieces']} pieces, {effort}: "
        "`expressive`; MidiTok with a small GPT-2, notochord, both without impossible events": (
            f"{nats['expressive']:.1f}; {nats['miditok']:.1f}, {best_notochord:.1f}"
        ),
        f"Nats per frame on the polyphonic benchmark, single models: {', '.join(rolls)}": (
            ", ".join(f"{of:.2f}" for of in rolls.values())
        ),
        "Reading MIDI files, compared with pretty_midi (the same notes)": (
            f"{figures['reading']['ratio, over all']:.0f} times as fast"
        ),
        f"Reading MAESTRO for the first time ({corpus['MAESTRO: build, files']:,} files, "
        f"{corpus['MAESTRO: build, notes'] / 1e6:.1f} million notes)": (
            f"{corpus['MAESTRO: build, s']:.1f} s"
        ),
        "Training targets per second, compared with the original training loop": (
            f"{figures['targets']['ratio']:.0f} times as many"
        ),
        "Time of a training step, compared with bare PyTorch: `reference`, `expressive`": (
            f"{figures['trainer']['trainer / bare step']:.2f}, "
            f"{figures['expressive']['trainer / bare step']:.2f}"
        ),
        "Generating a note with the pretrained model on one core: median, 99th percentile": (
            f"{figures['generation'][latency.format('median')]:.2f} ms, "
            f"{figures['generation'][latency.format('99th percentile of')]:.2f} ms"
        ),
    }


def table() -> str:
    """The figures as Markdown."""
    lines = [f"| {label} | {figure} |" for label, figure in rows().items()]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def main() -> None:
    """Replace the table of the README."""
    before, rest = README.read_text(encoding="utf-8").split(START)
    text = before + START + table() + STOP + rest.split(STOP)[1]
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
