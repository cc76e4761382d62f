"""Measure the pretrained model and write its model card.

    python docs/measured/pretrained.py MAESTRO_FOLDER

scores it on the whole validation split of MAESTRO beside the baselines, generates samples
unconditionally, at several temperatures, and as continuations of validation pieces, searches them
for repetition and for passages of the training pieces, and writes the figures to
``pretrained.json`` beside this script and the card, ``CARD.md``, beside the model. Scores and
samples are measured in two processes side by side. ``--card`` rewrites the card without measuring.
``--earlier MODEL`` searches as many samples of an earlier model for passages, to compare.

    python docs/measured/pretrained.py MAESTRO_FOLDER --train MODEL --asap ASAP_FOLDER

trains it in four runs: two on MAESTRO without a memory, and two on MAESTRO and ASAP with a memory
and exact cells. It takes many hours; an interrupted run continues with the same command, bit for
bit. ``--from MODEL`` starts from the result of the first two, or, if the model has a memory, of the
first three, and ``--minutes N`` ends each of the others by the clock. CUDA is used if it is there.

    python docs/measured/pretrained.py --sampler MODEL

replaces the sampler of a model file by that of the pretrained model, which training saves with it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from notelstm.bundle import PRETRAINED, Bundle, DataCard, load
from notelstm.cli import main as notelstm
from notelstm.cli.music import Music, Pieces, open_music
from notelstm.cli.runs import EpochLines, run_folder
from notelstm.data import Corpus
from notelstm.data.leaks import find_shared
from notelstm.encoders.rows import label_map_of
from notelstm.evaluation import evaluate, evaluate_samples
from notelstm.evaluation.memorisation import SHORTEST as SHORTEST_COPY
from notelstm.evaluation.memorisation import longest_shared
from notelstm.evaluation.repetition import DISTANT, SHORTEST
from notelstm.generation import generate, generate_batch
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.plugins import describe
from notelstm.protocols import Processor, Sampler
from notelstm.recipes.overrides import with_settings
from notelstm.recipes.pieces import fingerprint
from notelstm.sampling import Ancestral, PitchRange, Recall, Temperature
from notelstm.training import JSONLogger, TimeBudget

RESULTS = Path(__file__).with_name("pretrained.json")
LOG = RESULTS.with_suffix(".jsonl")
"""The log of the last run, a line per epoch, copied from its folder."""
CARD = PRETRAINED.with_name("CARD.md")
FIGURES = ("pitch", "step", "duration", "pitch_step_duration", "velocity", "total")
SAMPLES = 60
NOTES = 1000
PROMPT_NOTES = 100
SAMPLER = Ancestral(processors=(PitchRange(low="A0", high="C8"), Recall()))
"""The sampler of the pretrained model: on the keys of a piano, with passages that return."""
SHIPPED = "as shipped"
UNCHANGED = "temperature 1"
SAMPLING: dict[str, tuple[Processor, ...]] = {
    SHIPPED: SAMPLER.processors,
    "temperature 0.9": (Temperature(temperature=0.9),),
    UNCHANGED: (),
    "temperature 1.1": (Temperature(temperature=1.1),),
    "temperature 0.9 of pitches": (Temperature(temperature=0.9, roles=("pitch",)),),
    "temperature 0.8 of pitches": (Temperature(temperature=0.8, roles=("pitch",)),),
}
"""The processors with which samples are drawn to compare their repetition."""
FIRST_RUNS = (
    (
        6,
        (
            "--recipe",
            "expressive",
            "--set",
            "options.memory_window=0",
            "sequence_length=256",
            "batch_size=16",
        ),
    ),
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
LAST_RUNS: tuple[dict[str, Any], ...] = (
    {
        "encoder": {"exact": True},
        "model": {"memory_window": 4096, "dropout": 0.2},
        "transforms": [{"name": "transpose", "low": -6, "high": 6}],
        "sequence_length": 128,
        "batch_size": 32,
        "training": {
            "epochs": 12,
            "learning_rate": 0.001,
            "weight_decay": 0.05,
            "precision": "bfloat16",
        },
    },
    {
        "model": {"dropout": 0.25},
        "transforms": [{"name": "transpose", "low": -6, "high": 6}, {"name": "time-stretch"}],
        "training": {"epochs": 12, "learning_rate": 0.0008, "seed": 1},
    },
)
"""Settings of the third and the fourth run that differ from those of the run before."""
HELD_OUT = 0.02
"""The number of validation pieces in training, as a share of the training pieces."""


def train_first(folder: Path, output: Path) -> Path:
    """Train on MAESTRO in two runs; each resumes where it was interrupted."""
    init: list[str] = []
    model = output
    for number, (epochs, changes) in enumerate(FIRST_RUNS, 1):
        model = output.with_name(f"{output.stem}-{number}{output.suffix}")
        resume = ["--resume"] if run_folder(model).exists() else []
        command = ["train", str(folder), "-o", str(model), "--validation", str(HELD_OUT)]
        if notelstm([*command, "--epochs", str(epochs), *changes, *init, *resume]):
            raise SystemExit("notelstm train failed")
        init = ["--from", str(model)]
    return model


def train(
    folder: Path, asap: Path, output: Path, start: Path | None, minutes: float | None
) -> None:
    """Train the model; each run resumes where it was interrupted."""
    bundle = load(train_first(folder, output) if start is None else start)
    if cast(NoteLSTM, bundle.model).memory is not None:
        train_last(folder, asap, output, bundle, LAST_RUNS[1], minutes)
        return
    third = output.with_name(f"{output.stem}-3{output.suffix}")
    train_last(folder, asap, third, bundle, LAST_RUNS[0], minutes)
    train_last(folder, asap, output, load(third), LAST_RUNS[1], minutes)


def train_last(
    folder: Path,
    asap: Path,
    output: Path,
    bundle: Bundle,
    changes: dict[str, Any],
    minutes: float | None,
) -> None:
    """Train on MAESTRO and ASAP."""
    if output.exists():
        return
    if minutes is not None:
        changes = {**changes, "training": {**changes["training"], "epochs": None}}
    recipe = with_settings(bundle.recipe(), changes)
    maestro = open_music(str(folder), recipe.read_policy)
    more = Corpus.open(asap, policy=recipe.read_policy)
    validation = maestro.side("validation")
    # The folder may lack the test split.
    test = [maestro.side("test")] if maestro.split.test else []
    kept = without_leaks(more, [validation, *test])
    pieces = [*maestro.side("train"), *kept]
    print(f"{len(pieces)} pieces, {sum(map(len, pieces)):,} notes", flush=True)
    trained = recipe.train(
        pieces,
        validation=validation[: round(HELD_OUT * len(maestro.split.train))],
        folder=run_folder(output),
        resume=run_folder(output).exists(),
        callbacks=[
            JSONLogger(),
            EpochLines(),
            *([] if minutes is None else [TimeBudget(minutes=minutes)]),
        ],
        init_from=bundle,
    )
    data = DataCard(
        name="the training split of MAESTRO v2.0.0, and ASAP",
        license=maestro.corpus.license,
        fingerprint=fingerprint(pieces),
        pieces=len(pieces),
        notes=sum(map(len, pieces)),
    )
    before = bundle.settings.get(TRAINED) or sum(map(num_targets, first_runs(output)))
    notes = before + num_targets(run_folder(output))
    record = {**trained.settings, "held_out": HELD_OUT, TRAINED: notes}
    save(replace(trained, data=data, settings=record), output)


def save(bundle: Bundle, output: Path) -> None:
    """Write a model file in half precision, with the sampler of the pretrained model."""
    settings = {**bundle.settings, "sampler": describe(SAMPLER)}
    replace(bundle, sampler=SAMPLER, settings=settings).save(output, half_precision=True)


def without_leaks(
    corpus: Corpus, held_out: Sequence[Pieces], limit: int | None = None
) -> list[Notes]:
    """The pieces, or the first of them up to a limit, that share no music with those held out."""
    named = [
        (name, piece) for side in held_out for name, piece in zip(side.names, side, strict=True)
    ]
    some = list(corpus.pieces())[:limit]
    shared = {leak.left for leak in find_shared(some, named)}
    print(f"{corpus.name}: {len(shared)} of {len(some)} pieces share music with those held out")
    return [piece for name, piece in some if name not in shared]


EARLIER = "earlier"
TRAINED = "trained_notes"
"""The setting of the model that counts the notes that it was trained on, with repetitions."""
TUNED = "tuned_notes"
"""The setting that counts those of its fine-tuning by ``writing.py``, which are among them."""


def first_runs(output: Path) -> list[Path]:
    """The folders of the runs on MAESTRO, if they are there."""
    stems = (f"{output.stem.removesuffix('-3')}-{n}" for n in range(1, len(FIRST_RUNS) + 1))
    folders = [run_folder(output.with_name(f"{stem}{output.suffix}")) for stem in stems]
    return [folder for folder in folders if folder.exists()]


def logged(run: Path) -> list[dict[str, float]]:
    """The metrics of each epoch of a run."""
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def num_targets(run: Path) -> int:
    """The number of notes that a run was trained on."""
    return round(sum(line["seconds"] * line["targets_per_second"] for line in logged(run)))


def pieces_of(bundle: Bundle, folder: Path) -> Music:
    """MAESTRO, read as it was for the model."""
    return open_music(str(folder), bundle.read_policy)


def scored(folder: Path) -> dict[str, Any]:
    """The scores beside the baselines', without those of single pieces."""
    bundle = load()
    music = pieces_of(bundle, folder)
    pieces = music.side("validation")
    figures = evaluate(bundle, pieces, names=pieces.names, training=music.side("train")).to_json()
    del figures["pieces"]
    figures["calibration"] = {k: {"error": v["error"]} for k, v in figures["calibration"].items()}
    return figures


def sampled(folder: Path) -> dict[str, Any]:
    """The properties of samples, without those of single ones."""
    bundle = load()
    music = pieces_of(bundle, folder)
    real, known = music.side("validation"), music.side("train")
    drawn = {
        name: generate_batch(
            bundle, NOTES, batch_size=SAMPLES, sampler=Ancestral(processors=processors)
        )
        for name, processors in SAMPLING.items()
    }
    continued = continuations(bundle, real, SAMPLER)
    found = {}
    for name, samples in {**drawn, "continued": continued}.items():
        # Copies take the most time, and are searched for in samples of the model's own sampler.
        searched = zip(known.names, known, strict=True) if name in (SHIPPED, "continued") else None
        found[name] = figures = evaluate_samples(samples, real, searched).to_json()
        if searched is not None:
            passages = figures["memorisation"].pop("samples")
            shared = sorted((made["notes"] for made in passages if made is not None), reverse=True)
            figures["memorisation"] |= {"shared": shared}
            del figures["memorisation"]["real"]
        for kind in ("samples", "real"):
            del figures["repetition"][kind]
        print(f"samples, {name}: done", flush=True)
    return {
        "samples": found[SHIPPED],
        "continued": found["continued"],
        "sampling": {name: found[name] for name in drawn},
    }


def continuations(bundle: Bundle, real: Pieces, sampler: Sampler) -> list[Notes]:
    """Continuations of the beginnings of pieces."""
    long = real.longer_than(PROMPT_NOTES)
    prompts = [long[k * len(long) // SAMPLES][:PROMPT_NOTES] for k in range(SAMPLES)]
    return [
        generate(bundle, NOTES, prompt=prompt, sampler=sampler, seed=seed)
        for seed, prompt in enumerate(prompts)
    ]


def earlier_passages(model: Path, folder: Path) -> dict[str, Any]:
    """The longest passages that as many samples of an earlier model share with training pieces.

    Returns:
        The numbers of notes, the longest first, of the samples that share one; and the window of
        the model's memory.
    """
    bundle = load(model)
    music = pieces_of(load(), folder)
    real, known = music.side("validation"), music.side("train")
    drawn = {
        "samples": generate_batch(bundle, NOTES, batch_size=SAMPLES),
        "continued": continuations(bundle, real, bundle.sampler),
    }
    found: dict[str, Any] = {"memory": cast(NoteLSTM, bundle.model).config["memory_window"]}
    for name, samples in drawn.items():
        passages = longest_shared(samples, zip(known.names, known, strict=True))
        found[name] = sorted((made.notes for made in passages if made is not None), reverse=True)
    return found


def measured(folder: Path) -> dict[str, Any]:
    """All figures."""
    # The first to open the corpus writes its cache, which both read.
    open_music(str(folder), load().read_policy)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        samples = pool.submit(sampled, folder)
        scores = pool.submit(scored, folder)
        return {**scores.result(), **samples.result()}


REPETITION = {
    "same_key": "same key",
    "transposed": "transposed",
    "distant": f"{DISTANT:.0f} s later",
}
"""The shares of repetition, by their names in the table."""


def row(name: str, figures: dict[str, Any]) -> str:
    """A row of the table of scores."""
    numbers = ["" if figures[key] is None else f"{figures[key]:.2f}" for key in FIGURES]
    return "| " + " | ".join([name, *numbers]) + " |"


def sample_row(name: str, found: dict[str, Any]) -> str:
    """A row of the table of samples."""
    flagged = len(found["health"]["flagged"])
    return f"| {name} | {found['similarity']['overlap']:.2f} | {flagged} of {SAMPLES} |"


def repetition_rows(figures: dict[str, Any]) -> list[str]:
    """The rows of the table of repetition: samples by how they are drawn, then real pieces."""
    found = {**figures["sampling"], f"continuations of {PROMPT_NOTES} notes": figures["continued"]}
    rows = []
    for name, samples in found.items():
        shares = samples["repetition"]
        means = [f"{shares[key]['mean']:.1%}" for key in REPETITION]
        outside = f"{shares['same_key']['less']}, {shares['same_key']['more']}"
        others = f"{samples['similarity']['overlap']:.2f} | {len(samples['health']['flagged'])}"
        rows.append("| " + " | ".join([name, *means, outside, others]) + " |")
    real = figures["samples"]["repetition"]
    means = [f"{real[key]['real']:.1%}" for key in REPETITION]
    return [*rows, "| " + " | ".join(["**real pieces**", *means, "", "", ""]) + " |"]


def longest_passage(found: dict[str, Any]) -> str:
    """A sentence on the longest passage that samples share with the training pieces."""
    passage, usual = found["memorisation"]["longest"], found["memorisation"]["usual"]
    if passage is None:
        return f"none of {SHORTEST_COPY} notes; held-out pieces share up to {usual}"
    return (
        f"{passage['notes']} notes, transposed by {passage['semitones']:+d} semitones, from "
        f"`{passage['piece']}`; held-out pieces share up to {usual}"
    )


def earlier_lines(figures: dict[str, Any]) -> list[str]:
    """A table of the longest passages beside those of the model before, if they are known."""
    if EARLIER not in figures:
        return []
    kinds = ("samples", "continued")
    rows = {
        "this model": {kind: figures[kind]["memorisation"]["shared"] for kind in kinds},
        "the earlier one": figures[EARLIER],
    }
    lines = [
        "The longest passages of as many samples of this model and of an earlier one with"
        + ("" if figures[EARLIER]["memory"] else "out"),
        f"a memory: of samples that share {SHORTEST_COPY} notes or more, the longest first.",
        "",
        "| | unconditional | continuations |",
        "|---|---|---|",
    ]
    for name, found in rows.items():
        cells = (", ".join(map(str, found[kind])) or "none" for kind in kinds)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def card(bundle: Bundle, figures: dict[str, Any]) -> str:
    """The text of the model card."""
    data = bundle.data
    size = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    low, high = figures["intervals"]["total"]
    samples, continued = figures["samples"], figures["continued"]
    trained = bundle.settings[TRAINED]
    label_map = label_map_of(bundle.encoder)
    assert label_map is not None
    composers = next(label.values for label in label_map.labels if label.name == "composer")
    usual_low, usual_high = samples["repetition"]["same_key"]["usual"]
    *_, before, last = [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]
    lines = [
        "# Model card: `maestro.notelstm`",
        "",
        "A model of piano music. It predicts step, pitch, velocity and duration of each note in",
        "turn, and whether the piece ends with it, each given all earlier notes and the fields",
        "before it. It also writes between notes that are given. `load()`, `notelstm generate`,",
        "`notelstm write` and `notelstm evaluate` use it unless you name another model.",
        "",
        f"- **Model**: `{type(bundle.model).__name__}`, {size:,} parameters, half precision,",
        f"  {PRETRAINED.stat().st_size / 2**20:.1f} MiB.",
        f"- **Training data**: {data.name}, {data.pieces} pieces,",
        f"  {data.notes:,} notes, {trained / data.notes:.1f} times, transposed by up to six "
        "semitones.",
        "- **Stopping criterion**: the validation loss had nearly stopped falling. In the last",
        "  epoch before the fine-tuning, the loss on 19 held-out pieces fell from",
        f"  {before['validation']:.3f} to {last['validation']:.3f} nats per note,",
        f"  the training loss from {before['loss']:.2f} to {last['loss']:.2f}.",
        f"- **Fine-tuning**: {bundle.settings[TUNED] / 1e6:.1f} million notes with parts of the "
        "pieces given, with",
        f"  the names of {len(composers)} composers, which `notelstm inspect` lists, and with the "
        "ends of the pieces.",
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
        f"{SAMPLES} samples of 1,000 notes, compared with excerpts of real pieces of the same",
        "length. An overlap of 1 means that no compared feature distinguishes them.",
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
        *earlier_lines(figures),
        "## Repetition",
        "",
        "The share of notes that repeat an earlier passage of the same piece of at least",
        f"{SHORTEST} notes, in {NOTES:,} notes from its beginning: at the same pitches,",
        f"transposed, and at the same pitches at least {DISTANT:.0f} seconds later. A sample",
        "should have as much of it as a real piece, neither more nor less. The first row and the",
        "continuations are of the model's own sampler; in the other rows, the sampler has no",
        "processor but the temperature. The fourth column has",
        f"the samples, of {SAMPLES}, with less and with more in the same key than the middle 90 %",
        f"of real pieces ({usual_low:.1%} to {usual_high:.1%}); of real pieces, one in 20 has less",
        "and one in 20 more.",
        "",
        "| | " + " | ".join(REPETITION.values()) + " | less, more | overlap | degenerate |",
        "|---|---|---|---|---|---|---|",
        *repetition_rows(figures),
        "",
        "## Reproducing",
        "",
        "```console",
        "$ python docs/measured/pretrained.py MAESTRO_FOLDER --asap ASAP_FOLDER "
        "--train maestro.notelstm",
        "$ python docs/measured/writing.py --maestro MAESTRO_FOLDER --asap ASAP_FOLDER "
        "--train piano --start maestro.notelstm --output writing.notelstm",
        "```",
        "",
        "With the result in the place of the model, this measures it and writes the card:",
        "",
        "```console",
        "$ python docs/measured/pretrained.py MAESTRO_FOLDER",
        "```",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maestro", type=Path, nargs="?", help="the MAESTRO v2.0.0 folder")
    parser.add_argument("--card", action="store_true", help="rewrite the card and exit")
    parser.add_argument("--train", type=Path, metavar="MODEL", help="train the model and exit")
    parser.add_argument("--asap", type=Path, help="the folder of ASAP, to train")
    parser.add_argument("--from", type=Path, dest="start", metavar="MODEL", help="begin with it")
    parser.add_argument("--sampler", type=Path, metavar="MODEL", help="set its sampler and exit")
    parser.add_argument("--minutes", type=float, help="the time of the last run")
    parser.add_argument("--earlier", type=Path, metavar="MODEL", help="only compare its passages")
    args = parser.parse_args()
    if args.sampler is not None:
        save(load(args.sampler), args.sampler)
        return
    if args.maestro is None and not args.card:
        parser.error("the MAESTRO folder is needed")
    if args.train is not None:
        if args.asap is None:
            parser.error("the folder of ASAP is needed to train")
        train(args.maestro, args.asap, args.train, args.start, args.minutes)
        return
    if not args.card:
        old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        if args.earlier is not None:
            figures = {**old, EARLIER: earlier_passages(args.earlier, args.maestro)}
        else:
            figures = measured(args.maestro) | {k: old[k] for k in [EARLIER] if k in old}
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    text = card(load(), json.loads(RESULTS.read_text(encoding="utf-8")))
    CARD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
