"""Measure the polyphonic benchmark: nats per frame on four sets of piano rolls.

    python docs/measured/polyphony.py FOLDER

trains the models of each set, on its training split, and scores them. FOLDER has the four ``.mat``
files of the sets; the package ``examples/frames_package`` must be installed. Every choice is made
on the validation split: the epoch of each model, and the settings of dynamic evaluation. A row of
the table is scored on the test split once, after its models are trained; a figure that is in
``polyphony.json`` beside this script is never measured again. Each model is kept in ``--models`` as
soon as it is trained, so that an interrupted run can be continued.

``--sets`` names the sets to measure, and ``--table`` rewrites the tables without measuring.
``--train N`` trains no more than the first N models of each set, 0 for none, and scores the rows of
those that are trained: the other rows stay open. The first models of all sets come before the
second ones, and dynamic evaluation comes last.
Several runs may measure different sets at the same time.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from notelstm_frames import FrameEncoder, FrameLSTM, MatRolls, frames
from torch import nn
from typing_extensions import override

from notelstm.adaptation import Adaptation
from notelstm.evaluation import RowScores, averaged, nats_per_row
from notelstm.fields import Rows
from notelstm.files import atomic_write
from notelstm.protocols import NoteModel
from notelstm.recipes import Recipe
from notelstm.training import BestCheckpoint, Callback

RESULTS = Path(__file__).with_name("polyphony.json")
TABLE = RESULTS.with_suffix(".md")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the models of one set are trained.

    Attributes:
        file: The name of the file.
        voices: The largest number of pitches in a frame of the training and validation splits.
        epochs: Passes over the training split.
        seeds: The number of models of each order of the pitches, which are averaged.
        hidden_size: The number of LSTM units.
        batch_size: Sequences of 32 frames in a batch.
        learning_rate: The highest learning rate.
        dropout: The dropout probability.
        input_dropout: That of the pitches that the LSTM reads.
        weight_dropout: That of the recurrent weights.
    """

    file: str
    voices: int
    epochs: int
    seeds: int = 1
    hidden_size: int = 256
    batch_size: int = 16
    learning_rate: float = 0.003
    dropout: float = 0.5
    input_dropout: float = 0.0
    weight_dropout: float = 0.0


SETTINGS: Mapping[str, Setting] = {
    "JSB": Setting(
        file="JSB_Chorales.mat",
        voices=4,
        epochs=100,
        seeds=2,
        hidden_size=512,
        batch_size=8,
        input_dropout=0.25,
        weight_dropout=0.5,
    ),
    "Piano-midi": Setting(
        file="Piano_midi.mat", voices=12, epochs=14, dropout=0.4, weight_dropout=0.3
    ),
    "Nottingham": Setting(file="Nottingham.mat", voices=9, epochs=20, dropout=0.35),
    "MuseData": Setting(file="MuseData.mat", voices=15, epochs=4, dropout=0.3),
}
ADAPTATIONS = (
    Adaptation(segment=32, learning_rate=1e-4),
    Adaptation(segment=32, learning_rate=3e-4),
    Adaptation(segment=32, learning_rate=1e-3),
)
"""The settings of dynamic evaluation, of which the best on the validation split is chosen."""
TUNING = 10_000
"""The number of validation frames, at least, on which dynamic evaluation is tuned."""
SPLITS = {"validation": "validdata", "test": "testdata"}


@dataclass(frozen=True)
class Kind:
    """What a model of a set is trained with.

    Attributes:
        seed: The seed.
        copied: Whether the rows have the copied frame.
        descending: Whether the highest pitch of a frame comes first.
    """

    seed: int
    copied: bool
    descending: bool

    def encoder(self, setting: Setting) -> FrameEncoder:
        """The encoder of the rows."""
        return FrameEncoder(voices=setting.voices, copied=self.copied, descending=self.descending)


def recipe_of(setting: Setting, kind: Kind) -> Recipe:
    """The recipe of one model."""
    recipe = frames(voices=setting.voices, copied=kind.copied, descending=kind.descending)
    model = functools.partial(
        FrameLSTM,
        hidden_size=setting.hidden_size,
        dropout=setting.dropout,
        input_dropout=setting.input_dropout,
        weight_dropout=setting.weight_dropout,
    )
    return replace(
        recipe,
        model=model,
        batch_size=setting.batch_size,
        training=replace(
            recipe.training,
            epochs=setting.epochs,
            learning_rate=setting.learning_rate,
            checkpoint_every=1,
            seed=kind.seed,
            device="cpu",
        ),
    )


def models_of(setting: Setting) -> dict[str, Kind]:
    """The kind of each model of a set by its key, in the order of training."""
    found = {}
    for seed in range(setting.seeds):
        found[f"ascending-{seed}"] = Kind(seed, copied=True, descending=False)
        found[f"descending-{seed}"] = Kind(seed, copied=True, descending=True)
        if not seed:
            found["plain-0"] = Kind(seed, copied=False, descending=False)
    return found


class CpuTime(Callback):
    """Measures the CPU time of a run, which may be interrupted and resumed."""

    def __init__(self) -> None:
        self._before, self._start = 0.0, time.process_time()

    @property
    def minutes(self) -> float:
        """Minutes so far."""
        return (self._before + time.process_time() - self._start) / 60

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"minutes": self.minutes}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._before, self._start = 60 * state["minutes"], time.process_time()


def train(name: str, key: str, *, folder: Path, models: Path) -> dict[str, Any]:
    """Train one model and keep it; its figures on the validation split."""
    setting = SETTINGS[name]
    kind = models_of(setting)[key]
    recipe = recipe_of(setting, kind)
    path = str(folder / setting.file)
    training, validation = (
        list(MatRolls(path=path, split=split).pieces()) for split in ("traindata", "validdata")
    )
    run, used = models / f"{name}-{key}", CpuTime()
    bundle = recipe.train(
        training,
        validation=validation,
        callbacks=[BestCheckpoint(), used],
        folder=run,
        resume=(run / "last.pt").exists(),
    )
    minutes = used.minutes
    model = cast(nn.Module, bundle.model)
    with atomic_write(models / f"{name}-{key}.pt") as beside:
        torch.save(model.state_dict(), beside)
    rows = rows_of(folder, setting, "validation", kind)
    scores = nats_per_row(bundle.model, recipe.encoder, rows)
    return {
        "validation": scores.per_row(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_minutes": minutes,
    }


def load(name: str, key: str, *, models: Path) -> NoteModel:
    """A model that has been trained."""
    setting = SETTINGS[name]
    model = recipe_of(setting, models_of(setting)[key]).build_model()
    module = cast(nn.Module, model)
    module.load_state_dict(torch.load(models / f"{name}-{key}.pt", weights_only=True))
    return model


def rows_of(folder: Path, setting: Setting, split: str, kind: Kind) -> list[Rows]:
    """The rows of the pieces of a split."""
    encoder = kind.encoder(setting)
    corpus = MatRolls(path=str(folder / setting.file), split=SPLITS[split])
    return [encoder.encode(notes) for _, notes in corpus.pieces()]


def figures(scores: RowScores) -> dict[str, float]:
    """The figures of scores in the three conventions."""
    return {
        "nats_per_frame": scores.per_row(),
        "without_first_frame": scores.per_row(skip=1),
        "mean_of_pieces": scores.per_piece(),
    }


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        label: Its name.
        keys: The models, which are averaged if there are several.
        adapt: Whether the models are evaluated dynamically.
    """

    label: str
    keys: Sequence[str]
    adapt: bool


def rows_of_table(name: str, trained: Mapping[str, Any]) -> list[Row]:
    """The rows of one set, of the models that are trained."""
    ascending, descending = "ascending-0", "descending-0"
    rows = []
    for label, key in (
        ("single model, without the copied frame", "plain-0"),
        ("single model", ascending),
        ("single model, from the highest pitch down", descending),
    ):
        if key in trained:
            rows.append(Row(label, [key], adapt=False))
    averages = []
    for count in range(1, SETTINGS[name].seeds + 1):
        keys = [f"{order}-{k}" for order in ("ascending", "descending") for k in range(count)]
        if all(key in trained for key in keys):
            averages.append((f"average of {len(keys)} models", keys))
    rows += [Row(label, keys, adapt=False) for label, keys in averages]
    adapted = averages[-1:]
    if ascending in trained:
        adapted.insert(0, ("single model", [ascending]))
    return rows + [Row(f"{label}, dynamic evaluation", keys, adapt=True) for label, keys in adapted]


@functools.cache
def model_scores(
    name: str,
    key: str,
    split: str,
    adapt: Adaptation | None,
    folder: Path,
    models: Path,
    *,
    part: bool = False,
) -> RowScores:
    """The scores of a model on a split, or on a part of it, of whole pieces."""
    setting = SETTINGS[name]
    kind = models_of(setting)[key]
    rows = rows_of(folder, setting, split, kind)
    if part:
        step = max(1, sum(map(len, rows)) // TUNING)
        rows = rows[::step]
    model = load(name, key, models=models)
    return nats_per_row(model, kind.encoder(setting), rows, adapt=adapt)


def score(
    name: str, row: Row, split: str, adapt: Adaptation | None, *, folder: Path, models: Path
) -> RowScores:
    """The scores of a row on a split.

    Models of one order of the pitches are averaged field by field, then both orders by whole rows.
    """
    kinds = models_of(SETTINGS[name])
    orders: dict[bool, list[RowScores]] = {}
    for key in row.keys:
        scores = model_scores(name, key, split, adapt, folder, models)
        orders.setdefault(kinds[key].descending, []).append(scores)
    means = [averaged(scores) for scores in orders.values()]
    return averaged([mean.whole_rows() for mean in means])


def adaptation_of(found: dict[str, Any], name: str, *, folder: Path, models: Path) -> Adaptation:
    """The settings of dynamic evaluation that are best for the single model, on validation."""
    tried = found.setdefault("adaptation", {})
    for adapt in ADAPTATIONS:
        key = f"{adapt.learning_rate:g}"
        if key not in tried:
            scores = model_scores(
                name, "ascending-0", "validation", adapt, folder, models, part=True
            )
            tried[key] = scores.per_row()
            write(name, found)
    best = min(tried, key=lambda key: float(tried[key]))
    return next(a for a in ADAPTATIONS if f"{a.learning_rate:g}" == best)


def measure(
    results: Mapping[str, dict[str, Any]], *, folder: Path, models: Path, most: int
) -> None:
    """Train up to `most` models of each set and score them, and write each result."""
    wanted = [(name, *model) for name in results for model in enumerate(models_of(SETTINGS[name]))]
    for name, number, key in sorted(wanted, key=lambda one: one[1]):
        trained = results[name].setdefault("models", {})
        if key not in trained and number < most:
            print(f"{name}: training {key}", flush=True)
            trained[key] = train(name, key, folder=folder, models=models)
            write(name, results[name])
    for adapted in (False, True):
        for name, found in results.items():
            score_rows(name, found, adapted=adapted, folder=folder, models=models)


def score_rows(
    name: str, found: dict[str, Any], *, adapted: bool, folder: Path, models: Path
) -> None:
    """Score the rows of one set, with or without dynamic evaluation."""
    trained, measured = found["models"], found.setdefault("rows", {})
    for row in rows_of_table(name, trained):
        if row.label in measured or row.adapt != adapted:
            continue
        adapt = adaptation_of(found, name, folder=folder, models=models) if row.adapt else None
        print(f"{name}: {row.label}", flush=True)
        scored = {
            split: figures(score(name, row, split, adapt, folder=folder, models=models))
            for split in SPLITS
        }
        parts = [trained[key] for key in row.keys]
        measured[row.label] = {
            **scored,
            "learning_rate": None if adapt is None else adapt.learning_rate,
            "parameters": sum(part["parameters"] for part in parts),
            "cpu_minutes": sum(part["cpu_minutes"] for part in parts),
        }
        write(name, found)


def load_results() -> dict[str, Any]:
    """All figures so far."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return results


def write(name: str, found: Mapping[str, Any]) -> None:
    """Write the figures of a set, and the tables."""
    results = load_results() | {name: found}
    results = {name: results[name] for name in SETTINGS if name in results}
    with atomic_write(RESULTS) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n")
    with atomic_write(TABLE) as beside:
        beside.write_text(table_of(results))


def table_of(results: Mapping[str, Any]) -> str:
    """The tables of our figures and of the seeds; rows that are not measured are marked as open."""
    lines = [
        "| set | model | test | first frame not counted | mean of pieces | validation | "
        "parameters | CPU minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in SETTINGS:
        found = results.get(name, {})
        measured = found.get("rows", {})
        if not measured:
            lines.append(f"| {name} | not measured yet | | | | | | |")
        labels = [row.label for row in rows_of_table(name, found.get("models", {}))]
        for label in (label for label in labels if label in measured):
            row = measured[label]
            test = row["test"]
            cells = [
                *(f"{test[figure]:.2f}" for figure in test),
                f"{row['validation']['nats_per_frame']:.2f}",
                f"{row['parameters'] / 1e6:.2f} M",
                f"{row['cpu_minutes']:.1f}",
            ]
            lines.append(f"| {name} | {label} | {' | '.join(cells)} |")
    head = "| set | validation of the single models, by seed | from the highest pitch down |"
    lines += ["", head, "|---|---|---|"]
    for name in SETTINGS:
        models = results.get(name, {}).get("models", {})
        orders = [
            ", ".join(
                f"{models[k]['validation']:.3f}" for k in sorted(models) if k.startswith(order)
            )
            for order in ("ascending", "descending")
        ]
        if any(orders):
            lines.append(f"| {name} | {' | '.join(orders)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", help="the folder of the .mat files")
    parser.add_argument("--sets", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--models", type=Path, default=Path(".cache/polyphony"))
    parser.add_argument("--train", type=int, default=99, help="models of each set, at most")
    parser.add_argument("--table", action="store_true", help="only rewrite the table")
    arguments = parser.parse_args()
    results = load_results()
    if arguments.table:
        TABLE.write_text(table_of(results))
        return
    if arguments.folder is None:
        parser.error("the folder is missing")
    arguments.models.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    measure(
        {name: results.get(name, {}) for name in arguments.sets},
        folder=arguments.folder,
        models=arguments.models,
        most=arguments.train,
    )


if __name__ == "__main__":
    main()
