"""Measure conditions and endings: what labels are worth, and where a model ends pieces.

    python docs/measured/conditions.py MAESTRO_FOLDER GROOVE_FOLDER

trains a small model of the ends and composers of MAESTRO's shorter pieces, and one of the styles
and tempos of the Groove MIDI Dataset, scores both on the validation pieces of these corpora, and
writes the figures to ``conditions.json`` beside this script and the tables to ``conditions.md``. It
takes some minutes on one core. ``--piano MODEL`` measures a model of ends and composers that is
already trained on MAESTRO. Corpora that are already in the file are not measured again, so an
interrupted run can be continued. ``--table`` rewrites the tables without measuring, and ``--quick``
trains on a few pieces, to try the script.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.batch import columns
from notelstm.bundle import Bundle, load
from notelstm.data import Corpus, DropLabels, MaestroCorpus, Transpose
from notelstm.encoders import LogTimeEncoder
from notelstm.encoders.rows import label_map_of, snapped
from notelstm.evaluation import nats_per_note
from notelstm.evaluation.nats import contexts
from notelstm.generation import generate_batch
from notelstm.midi import ReadPolicy
from notelstm.models.inference import in_use
from notelstm.notes import Notes
from notelstm.recipes import Recipe, expressive, with_settings

RESULTS: Final = Path(__file__).with_name("conditions.json")
TABLE: Final = RESULTS.with_suffix(".md")
LONGEST: Final = 2000
"""Notes of the longest pieces of MAESTRO that are used: longer ones have few ends."""
PASSAGE: Final = 300
"""Notes from which the composer is told, and of each sample."""
COMPOSERS: Final = 6
"""The composers whose music is told apart: those with the most training pieces."""
SAMPLES: Final = 12
"""Samples of each composer."""
ENDINGS: Final = 24
"""Pieces that are generated until they end."""
HAZARDS: Final = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)
"""Borders of the predicted probabilities of an end in the table."""

Vector = NDArray[np.float64]


def small(conditions: tuple[str, ...], *, ends: bool, epochs: int, seed: int = 0) -> Recipe:
    """The expressive recipe with a small model and no memory."""
    recipe = expressive(memory_window=0)
    encoder = replace(cast(LogTimeEncoder, recipe.encoder), ends=ends)
    sizes = {"hidden_size": 160, "embedding_dim": 24, "head_size": 96, "dropout": 0.0}
    return with_settings(
        replace(
            recipe,
            encoder=encoder,
            conditions=conditions,
            transforms=(Transpose(low=-2, high=2), DropLabels(probability=0.2)),
        ),
        {
            "model": sizes,
            "sequence_length": 128,
            "batch_size": 16,
            "training": {"epochs": epochs, "seed": seed, "warmup_steps": 30},
        },
    )


def trained(recipe: Recipe, pieces: Sequence[Notes]) -> tuple[Bundle, dict[str, Any]]:
    """The model, and the size and time of its training."""
    began = time.process_time()
    bundle = recipe.train(pieces)
    label_map = label_map_of(bundle.encoder)
    return bundle, {
        "pieces": len(pieces),
        "notes": sum(map(len, pieces)),
        "epochs": recipe.training.epochs,
        "values": {one.name: len(one.values) for one in label_map.labels} if label_map else {},
        "cpu_seconds": time.process_time() - began,
    }


# What labels are worth.


def with_other(label: str) -> Callable[[Sequence[Notes], Bundle], list[Notes]]:
    """Pieces with another value of the label, one that the model was trained with."""

    def changed(pieces: Sequence[Notes], bundle: Bundle) -> list[Notes]:
        rng, label_map, found = np.random.default_rng(0), label_map_of(bundle.encoder), []
        assert label_map is not None
        known = next(one for one in label_map.labels if one.name == label)
        for piece in pieces:
            own = known.class_of(piece.labels[label])
            others = [value for value in known.values if known.class_of(value) != own]
            value = others[int(rng.integers(len(others)))]
            found.append(replace(piece, labels={**piece.labels, label: value}))
        return found

    return changed


def without(*labels: str) -> Callable[[Sequence[Notes], Bundle], list[Notes]]:
    """Pieces without some labels."""

    def changed(pieces: Sequence[Notes], bundle: Bundle) -> list[Notes]:
        return [
            replace(p, labels={k: v for k, v in p.labels.items() if k not in labels})
            for p in pieces
        ]

    return changed


def gains(
    bundle: Bundle,
    pieces: Sequence[Notes],
    changes: Mapping[str, Callable[[Sequence[Notes], Bundle], list[Notes]]],
) -> dict[str, Any]:
    """Nats per note of the pieces, and how much worse they are with changed labels.

    The interval is two standard errors of the mean over the pieces, weighted by their notes.
    """
    model = bundle.generation_model
    right = nats_per_note(model, bundle.encoder, pieces)
    found: dict[str, Any] = {
        "pieces": len(right.pieces),
        "notes": right.notes,
        "nats": {name: right.of(name) for name in ("pitch", "step", "duration", "velocity")},
        "total": right.total,
        "rows": {},
    }
    before = right.nats("total")
    for name, change in changes.items():
        other = nats_per_note(model, bundle.encoder, change(pieces, bundle))
        after = other.nats("total")
        assert before is not None
        assert after is not None
        notes = np.array([piece.notes for piece in right.pieces])
        worse = float((after - before).sum() / notes.sum())
        spread = (after - before) - worse * notes
        error = float(np.sqrt((spread**2).sum()) / notes.sum())
        found["rows"][name] = {
            "total": other.total,
            "worse": worse,
            "two_standard_errors": 2 * error,
            "pieces_worse": int((after > before).sum()),
        }
    return found


# Where pieces end.


def hazards(bundle: Bundle, piece: Notes) -> Vector:
    """(N,) the predicted probability that each note of a piece is the last, given those before."""
    encoder, model = bundle.encoder, bundle.generation_model
    rows = torch.from_numpy(encoder.encode(snapped(encoder, piece)))
    found = []
    with in_use(model):
        for here, context in contexts(model, rows):
            known = columns(rows[here], encoder.fields)
            log_weights = model.predict("end", context, known).log_weights()
            assert log_weights is not None
            found.append(log_weights.double().softmax(-1)[:, 1].numpy())
    return np.concatenate(found)


def endings(bundle: Bundle, pieces: Sequence[Notes], constant: float) -> dict[str, Any]:
    """The calibration of the ends of pieces, beside a constant probability."""
    each = [hazards(bundle, piece) for piece in pieces]
    joined = np.concatenate(each)
    ends = np.zeros(len(joined), dtype=np.bool_)
    ends[np.cumsum([len(h) for h in each]) - 1] = True
    expected = np.array([h.sum() for h in each])

    def nats(h: Vector) -> float:
        return float(-np.log(np.where(ends, h, 1 - h)).sum() / len(each))

    table = []
    for low, high in itertools.pairwise(HAZARDS):
        here = (joined >= low) & ((joined < high) | (high == 1))
        if here.any():
            table.append(
                {
                    "from": low,
                    "to": high,
                    "notes": int(here.sum()),
                    "predicted": float(joined[here].mean()),
                    "observed": float(ends[here].mean()),
                    "ends": int(ends[here].sum()),
                }
            )
    at_end = joined[ends]
    return {
        "pieces": len(each),
        "notes": len(joined),
        "expected_ends_per_piece": float(expected.mean()),
        "two_standard_errors": float(2 * expected.std(ddof=1) / np.sqrt(len(each))),
        "nats_per_piece": nats(joined),
        "nats_per_piece_constant": nats(np.full(len(joined), constant)),
        "constant": constant,
        "median_at_the_end": float(np.median(at_end)),
        "in_the_last_ten_notes": float(sum(h[-10:].sum() for h in each) / joined.sum()),
        "table": table,
    }


def generated_endings(bundle: Bundle, pieces: Sequence[Notes], count: int) -> dict[str, Any]:
    """The lengths of pieces that are generated until they end, beside those of real ones."""
    made = generate_batch(bundle, LONGEST, batch_size=count, until="end", seed=0)
    timed = generate_batch(bundle, batch_size=count, end_at=60.0, seed=0)
    lengths = [len(piece) for piece in made]
    return {
        "pieces": len(made),
        "ended": sum(not piece.truncated for piece in made),
        "median_notes": float(np.median(lengths)),
        "quartiles": np.percentile(lengths, (25, 75)).tolist(),
        "real_median_notes": float(np.median([len(piece) for piece in pieces])),
        "real_quartiles": np.percentile([len(p) for p in pieces], (25, 75)).tolist(),
        "last_onsets_at_60_s": np.percentile(
            [piece.start[-1] for piece in timed], (0, 25, 50, 75, 100)
        ).tolist(),
        "forced": sum(float(piece.start[-1]) >= 64 for piece in timed),
    }


# How well composers are told apart.


def features(piece: Notes) -> Vector:
    """(D,) root shares of pitch classes, intervals, pitches, durations, steps and velocities."""
    intervals = np.diff(piece.pitch).clip(-18, 18) + 18
    times = [
        (8 + 2 * np.log2(np.maximum(column, 0.01) / 0.5)).clip(0, 15).astype(int)
        for column in (piece.duration, piece.step[1:])
    ]
    counts = (
        np.bincount(piece.pitch % 12, minlength=12),
        np.bincount(intervals, minlength=37),
        np.bincount(piece.pitch // 6, minlength=22),
        *(np.bincount(column, minlength=16) for column in times),
        np.bincount(piece.velocity // 8, minlength=16),
    )
    return np.concatenate([np.sqrt(c / max(1, c.sum())) for c in counts])


class Classifier:
    """Multinomial logistic regression with a quadratic penalty."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.int64], classes: int) -> None:
        self._mean, self._scale = x.mean(0), x.std(0) + 0.05
        inputs = torch.tensor(self._inputs(x))
        targets = torch.tensor(y)
        # Each composer counts the same.
        weights = 1 / torch.bincount(targets, minlength=classes).double()
        self._w = torch.zeros(inputs.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)
        step = torch.optim.LBFGS([self._w], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Any:
            step.zero_grad()
            nats = torch.nn.functional.cross_entropy(self._logits(inputs), targets, weights)
            total = nats + 0.01 * (self._w[:-1] ** 2).sum()
            total.backward()
            return total

        step.step(loss)

    def _inputs(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (x - self._mean) / self._scale
        return scaled

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs @ self._w[:-1] + self._w[-1]

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class of each row."""
        with torch.no_grad():
            found: NDArray[np.int64] = self._logits(torch.tensor(self._inputs(x))).argmax(1).numpy()
        return found


def balanced(y: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """The mean over the classes of the share that is found."""
    return float(np.mean([(found[y == k] == k).mean() for k in np.unique(y)]))


def told_apart(
    bundle: Bundle, train: Sequence[Notes], held_out: Sequence[Notes], samples: int
) -> dict[str, Any]:
    """How well a classifier of real pieces tells the composers of real pieces and samples."""
    counts = Counter(piece.labels["composer"] for piece in train if len(piece) >= PASSAGE)
    names = sorted(name for name, _ in counts.most_common(COMPOSERS))

    def table(pieces: Sequence[Notes]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        own = [p for p in pieces if p.labels.get("composer") in names and len(p) >= PASSAGE]
        return (
            np.stack([features(p[:PASSAGE]) for p in own]),
            np.array([names.index(p.labels["composer"]) for p in own]),
        )

    x, y = table(train)
    fold = np.random.default_rng(0).permutation(len(y)) % 5
    found = np.zeros_like(y)
    for k in range(5):
        found[fold == k] = Classifier(x[fold != k], y[fold != k], len(names))(x[fold == k])
    whole = Classifier(x, y, len(names))
    real_x, real_y = table(held_out)
    given = [{"composer": name} for name in names for _ in range(samples)]
    made = generate_batch(bundle, PASSAGE, given=given, seed=[*range(len(given))])
    made_y = np.repeat(np.arange(len(names)), samples)
    made_found = whole(np.stack([features(piece) for piece in made]))
    free = generate_batch(bundle, PASSAGE, batch_size=len(given), seed=1)
    free_found = whole(np.stack([features(piece) for piece in free]))
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (made_y, made_found), 1)
    accuracy = balanced(made_y, made_found)
    return {
        "composers": names,
        "training_pieces": [int((y == k).sum()) for k in range(len(names))],
        "chance": 1 / len(names),
        "real_cross_validated": balanced(y, found),
        "real_held_out": balanced(real_y, whole(real_x)),
        "real_held_out_pieces": len(real_y),
        "samples": accuracy,
        "samples_two_standard_errors": float(2 * np.sqrt(accuracy * (1 - accuracy) / len(made_y))),
        "samples_each": samples,
        "confusion": confusion.tolist(),
        "without_label": np.bincount(free_found, minlength=len(names)).tolist(),
    }


# The corpora.


def maestro(folder: Path, *, quick: bool) -> tuple[list[Notes], list[Notes], list[Notes]]:
    """The shorter training and validation pieces, and all training pieces."""
    corpus = Corpus.open(MaestroCorpus(path=folder))
    short = [k for k, length in enumerate(corpus.lengths) if length <= LONGEST]
    sides: dict[str, list[Notes]] = {"train": [], "validation": []}
    every = []
    for k in range(len(corpus)):
        piece = corpus[k]
        side = piece.labels["split"]
        if side == "train":
            every.append(piece[:PASSAGE])
        if side in sides and k in short:
            sides[side].append(piece)
    if quick:
        return sides["train"][::4], sides["validation"][::4], every[::6]
    return sides["train"], sides["validation"], every


def groove(folder: Path, *, quick: bool) -> tuple[list[Notes], list[Notes]]:
    """The training and validation performances, by the first word of their style."""
    corpus = Corpus.open(folder, policy=ReadPolicy(tracks="all", drums=True))
    sides: dict[str, list[Notes]] = {"train": [], "validation": []}
    for piece in corpus:
        if piece.labels["split"] in sides:
            labels = {**piece.labels, "style": piece.labels["style"].split("/")[0]}
            plain = replace(piece, labels=labels, program=None, drum=None, track=None)
            sides[piece.labels["split"]].append(plain)
    held_out = [piece for piece in sides["validation"] if len(piece) > 25]
    return (sides["train"][::20], held_out[::10]) if quick else (sides["train"], held_out)


def measure_maestro(folder: Path, *, model: Path | None, quick: bool) -> dict[str, Any]:
    """The figures of composers and ends; `model` is one of both, None to train a small one."""
    train, held_out, every = maestro(folder, quick=quick)
    if model is None:
        recipe = small(("composer",), ends=True, epochs=1 if quick else 8)
        bundle, about = trained(recipe, train)
    else:
        bundle = load(model)
        about = {"model": model.name, "pieces": bundle.data.pieces, "notes": bundle.data.notes}
    known = label_map_of(bundle.encoder)
    assert known is not None
    own = [piece for piece in held_out if known.classes_of(piece)[0]]
    changes = {"no composer": without("composer"), "another composer": with_other("composer")}
    return {
        **about,
        "composer": gains(bundle, own, changes),
        "endings": endings(bundle, held_out, len(train) / sum(map(len, train))),
        "generated": generated_endings(bundle, held_out, 2 if quick else ENDINGS),
        "told_apart": told_apart(bundle, every, held_out, 1 if quick else SAMPLES),
    }


def measure_groove(folder: Path, *, quick: bool) -> dict[str, Any]:
    """The figures of styles and tempos."""
    drums, held_out = groove(folder, quick=quick)
    # A transposed drum is another drum.
    recipe = replace(
        small(("style", "bpm"), ends=False, epochs=1 if quick else 6),
        transforms=(DropLabels(probability=0.2),),
    )
    bundle, about = trained(recipe, drums)
    known = label_map_of(bundle.encoder)
    assert known is not None
    own = [piece for piece in held_out if all(known.classes_of(piece))]
    changes = {
        "no style": without("style"),
        "another style": with_other("style"),
        "no tempo": without("bpm"),
        "another tempo": with_other("bpm"),
        "neither": without("style", "bpm"),
    }
    return {**about, "labels": gains(bundle, own, changes)}


# The tables.


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def tables(results: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    piano, drums = results["maestro"], results["groove"]
    rows = []
    for corpus, found, right in (
        ("MAESTRO", piano["composer"], "the composer"),
        ("Groove", drums["labels"], "style and tempo"),
    ):
        rows.append([corpus, right, f"{found['total']:.3f}", "", f"{found['pieces']}"])
        for name, row in found["rows"].items():
            worse = f"{row['worse']:+.3f} ± {row['two_standard_errors']:.3f}"
            share = f"{row['pieces_worse']} of {found['pieces']}"
            rows.append([corpus, name, f"{row['total']:.3f}", worse, share])
    parts = [
        "\n".join(
            _lines(
                (
                    "corpus",
                    "labels given",
                    "nats per note",
                    "more than with the right ones",
                    "pieces, or those that are worse",
                ),
                rows,
            )
        )
    ]
    told = piano["told_apart"]
    names = [name.split()[-1] for name in told["composers"]]
    accuracy = [
        ["real pieces, cross-validated", f"{told['real_cross_validated']:.0%}"],
        [f"real held-out pieces ({told['real_held_out_pieces']})", f"{told['real_held_out']:.0%}"],
        [
            f"samples given a composer ({told['samples_each']} each)",
            f"{told['samples']:.0%} ± {told['samples_two_standard_errors']:.0%}",
        ],
        ["chance", f"{told['chance']:.0%}"],
    ]
    parts.append("\n".join(_lines(("music", "composer found"), accuracy)))
    confusion = [
        [f"given {name}", *map(str, row)]
        for name, row in zip(names, told["confusion"], strict=True)
    ]
    confusion.append(["without a label", *map(str, told["without_label"])])
    parts.append("\n".join(_lines(("samples", *(f"as {n}" for n in names)), confusion)))
    ends = piano["endings"]
    summary = [
        [
            "ends expected per piece, 1 if calibrated",
            f"{ends['expected_ends_per_piece']:.2f} ± {ends['two_standard_errors']:.2f}",
        ],
        ["nats per piece", f"{ends['nats_per_piece']:.2f}"],
        ["nats per piece of a constant probability", f"{ends['nats_per_piece_constant']:.2f}"],
        ["median probability at the true last note", f"{ends['median_at_the_end']:.3f}"],
        ["share of the probability in the last ten notes", f"{ends['in_the_last_ten_notes']:.0%}"],
    ]
    parts.append(
        "\n".join(
            _lines((f"{ends['pieces']} held-out pieces, {ends['notes']:,} notes", ""), summary)
        )
    )
    bins = [
        [
            f"{b['from']:g} to {b['to']:g}",
            f"{b['notes']:,}",
            f"{b['predicted']:.2g}",
            f"{b['observed']:.2g}",
            str(b["ends"]),
        ]
        for b in ends["table"]
    ]
    head = ("predicted probability of an end", "notes", "mean prediction", "share of ends", "ends")
    parts.append("\n".join(_lines(head, bins)))
    made = piano["generated"]
    low, high = made["quartiles"]
    real_low, real_high = made["real_quartiles"]
    least, _, median, _, most = made["last_onsets_at_60_s"]
    parts.append(
        f'Of {made["pieces"]} pieces generated with `until="end"` and at most {LONGEST:,} notes, '
        f"{made['ended']} ended, with a median of {made['median_notes']:,.0f} notes (quartiles "
        f"{low:,.0f} and {high:,.0f}); held-out pieces of at most {LONGEST:,} notes have "
        f"{made['real_median_notes']:,.0f} ({real_low:,.0f} and {real_high:,.0f}). With "
        f"`end_at=60`, last notes began between {least:.1f} and {most:.1f} s, with a median of "
        f"{median:.1f} s; {made['forced']} of {made['pieces']} ends were forced after 64 s."
    )
    sizes = [
        f"{name}: {about['pieces']:,} pieces, {about['notes']:,} notes"
        + (
            f", {about['epochs']} epochs, {about['cpu_seconds']:.0f} CPU seconds"
            if "epochs" in about
            else f" (the model `{about['model']}`)"
        )
        for name, about in (("MAESTRO", piano), ("Groove", drums))
    ]
    parts.append(f"Trained on {'; '.join(sizes)}.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("maestro", type=Path, nargs="?")
    parser.add_argument("groove", type=Path, nargs="?")
    parser.add_argument("--piano", type=Path, help="a trained model of ends and composers")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", type=Path, help="write to this folder")
    given = parser.parse_args()
    results_file = RESULTS if given.quick is None else given.quick / RESULTS.name
    results = {}
    if results_file.exists():
        results = json.loads(results_file.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    quick = given.quick is not None
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "maestro": lambda: measure_maestro(given.maestro, model=given.piano, quick=quick),
        "groove": lambda: measure_groove(given.groove, quick=quick),
    }
    for name, part in parts.items():
        # A part that was measured before an interruption is kept.
        if not given.table and name not in results:
            results[name] = part()
            results_file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    results_file.with_suffix(".md").write_text(tables(results), encoding="utf-8")


if __name__ == "__main__":
    main()
