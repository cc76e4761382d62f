"""Training runs of the command line: recipe, callbacks, progress, the saved model and its card."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from tqdm.std import tqdm
from typing_extensions import override

from notelstm.bundle import Bundle, DataCard
from notelstm.cli.outputs import run_folder
from notelstm.data.corpus import Corpus
from notelstm.errors import counted
from notelstm.listening.card import num_parameters
from notelstm.notes import Notes
from notelstm.recipes import Recipe, from_toml, load_recipe, with_settings
from notelstm.recipes.overrides import parse_settings, part
from notelstm.training import (
    BestCheckpoint,
    Callback,
    DistributedGroup,
    JSONLogger,
    Profile,
    Progress,
    Report,
    Samples,
    TimeBudget,
    Trainer,
)
from notelstm.training.progress import progress_on_stderr

__all__ = [
    "EpochLines",
    "all_callbacks",
    "chosen_callbacks",
    "chosen_recipe",
    "peak_memory",
    "run_folder",
    "run_recipe",
    "size_of",
]


def chosen_recipe(
    name: str,
    settings: Sequence[str],
    epochs: int | None,
    seed: int | None,
    start: Bundle | None = None,
) -> Recipe:
    """The recipe with the settings of the command line; None for the recipe's own.

    Args:
        name: A recipe's name, or a TOML file; unused with `start`.
        settings: ``key=value`` of each setting that is changed.
        epochs: Number of epochs.
        seed: The random seed.
        start: The model to fine-tune by its own recipe; None to train from scratch.
    """
    tree = parse_settings(settings)
    if start is not None:
        recipe = with_settings(start.recipe(), tree)
    else:
        recipe = from_toml(name, tree) if name.endswith(".toml") else load_recipe(name, tree)
    training = {"epochs": epochs, "seed": seed}
    given = {name: value for name, value in training.items() if value is not None}
    return with_settings(recipe, {"training": given})


def all_callbacks(chosen: Sequence[Callback], *, validation: bool) -> list[Callback]:
    """The callbacks of every run, and those that the command line chose, which replace them."""
    usual: list[Callback] = [JSONLogger(), Progress(), *([BestCheckpoint()] if validation else [])]
    rest = list(chosen)
    for i, callback in enumerate(usual):
        same = [k for k, other in enumerate(rest) if type(other) is type(callback)]
        if same:
            usual[i] = rest.pop(same[0])
    return [*usual, *rest]


def run_recipe(
    recipe: Recipe,
    pieces: Sequence[Notes],
    output: Path,
    *,
    source: Corpus,
    validation: Sequence[Notes] = (),
    resume: bool = False,
    half_precision: bool = False,
    start: Bundle | None = None,
    record: Mapping[str, float] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Bundle:
    """Train, print the progress, and save the bundle.

    Args:
        recipe: The recipe.
        pieces: The training pieces.
        output: The model file to write; the run's folder is beside it.
        source: The corpus of the pieces, for the data card.
        validation: Held-out pieces.
        resume: Whether to continue an interrupted run.
        half_precision: Whether to save in half precision.
        start: A model to fine-tune.
        record: Settings to store in the bundle besides the recipe's.
        callbacks: Callbacks besides those of every run.
    """
    lines = EpochLines()
    card = DataCard(name=source.name, license=source.license)
    with progress_on_stderr(force=True):
        bundle = recipe.train(
            pieces,
            validation=validation,
            folder=run_folder(output),
            resume=resume,
            callbacks=[lines, *all_callbacks(callbacks, validation=bool(validation))],
            data=card,
            init_from=start,
        )
    bundle = replace(bundle, settings={**bundle.settings, **(record or {})})
    if DistributedGroup().is_main_process:
        bundle.save(output, half_precision=half_precision)
    print(f"trained {lines.summary()}")
    return bundle


def size_of(bundle: Bundle) -> str:
    """The number of a model's parameters, and of the notes that it was trained on."""
    size = counted(num_parameters(bundle), "parameter")
    return f"{size}, trained on {counted(bundle.data.notes, 'note')}"


def chosen_callbacks(
    named: Sequence[str],
    *,
    minutes: float | None = None,
    profile: bool = False,
    report: Path | None = None,
    title: str = "",
) -> list[Callback]:
    """Build the callbacks of the options, and those `named`: ``name:key=value,key=value``."""
    chosen: list[Callback] = []
    for text in named:
        name, _, settings = text.partition(":")
        chosen.append(part("callbacks", name, settings.split(",") if settings else ()))
    if minutes is not None:
        chosen.append(TimeBudget(minutes=minutes))
    if profile:
        chosen.append(Profile())
    if report is not None:
        if not any(isinstance(callback, Samples) for callback in chosen):
            chosen.append(Samples())
        # Last, to show the output of the others.
        chosen.append(Report(path=str(report), title=title))
    return chosen


@final
class EpochLines(Callback):
    """Writes a line for each epoch on standard error, also without a terminal."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._epochs = 0
        self._targets = 0.0
        self._seconds = 0.0
        self._precision = ""
        self._shares = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        self._precision = trainer.precision
        if trainer.stopped:
            tqdm.write(f"stopped: {trainer.stopped}", file=sys.stderr)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        speed, seconds = metrics["targets_per_second"], metrics["seconds"]
        self._epochs += 1
        self._targets += speed * seconds
        self._seconds += seconds
        for name in self._shares:
            self._shares[name] += metrics[f"seconds/{name}"]
        parts = [_losses(metrics, "loss"), _losses(metrics, "validation")]
        shown = ", ".join([*filter(None, parts), f"{speed:,.0f} targets/s", f"{seconds:.1f} s"])
        epoch, epochs = trainer.state.epoch, trainer.config.epochs
        number = f"{epoch}" if epochs is None else f"{epoch}/{epochs}"
        # Written around the progress bar, if there is one.
        tqdm.write(f"epoch {number}: {shown}", file=sys.stderr)

    def summary(self) -> str:
        """One line on the run: epochs, time, speed, shares of the time, memory."""
        parts = [f"{counted(self._epochs, 'epoch')} in {time.perf_counter() - self._began:.1f} s"]
        if self._seconds:
            shares = (f"{name} {s / self._seconds:.0%}" for name, s in self._shares.items())
            parts.append(f"{self._targets / self._seconds:,.0f} targets/s ({', '.join(shares)})")
        if self._precision:
            parts.append(self._precision)
        memory = peak_memory()
        if memory is not None:
            parts.append(f"peak memory {memory / 2**20:,.0f} MiB")
        return ", ".join(parts)


def _losses(values: Mapping[str, float], name: str) -> str:
    """``loss 4.1 (pitch 3.2, step 0.9)``, or "" without such a value."""
    if name not in values:
        return ""
    terms = [
        f"{key.partition('/')[2]} {value:.4g}"
        for key, value in values.items()
        if key.startswith(f"{name}/")
    ]
    return f"{name} {values[name]:.4g}" + (f" ({', '.join(terms)})" if terms else "")


def peak_memory() -> int | None:
    """The peak memory of this process in bytes; None if the system does not measure it."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
