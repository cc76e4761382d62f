"""A training run of the command line: recipe, callbacks, saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.data.corpus import Corpus
    from notelstm.notes import Notes
    from notelstm.recipes import Recipe
    from notelstm.training import Callback

__all__ = ["all_callbacks", "chosen_recipe", "run_folder", "run_recipe", "size_of"]


def chosen_recipe(
    name: str,
    settings: Sequence[str],
    epochs: int | None,
    seed: int | None,
    start: Bundle | None = None,
) -> Recipe:
    """The recipe of that name or file, or of a model, with the settings of the command line.

    Args:
        name: A recipe's name, or a TOML file.
        settings: ``key=value`` of each setting that is changed.
        epochs: Number of epochs; None for the recipe's.
        seed: The seed; None for the recipe's.
        start: The model to fine-tune by its own recipe; None to train from scratch.

    Raises:
        PluginError: If there is no such recipe.
        ConfigError: If a setting does not exist or cannot have that value.
    """
    from notelstm.recipes import from_toml, load_recipe, with_settings
    from notelstm.recipes.overrides import parse_settings

    tree = parse_settings(settings)
    if start is not None:
        recipe = with_settings(start.recipe(), tree)
    else:
        recipe = from_toml(name, tree) if name.endswith(".toml") else load_recipe(name, tree)
    training: dict[str, Any] = {}
    if epochs is not None:
        training["epochs"] = epochs
    if seed is not None:
        training["seed"] = seed
    return with_settings(recipe, {"training": training})


def all_callbacks(chosen: Sequence[Callback], *, validation: bool) -> list[Callback]:
    """The callbacks of every run, and those that the command line chose.

    Args:
        chosen: The latter.
        validation: Whether there is a validation set.
    """
    from notelstm.training import BestCheckpoint, JSONLogger, Progress

    best = [BestCheckpoint()] if validation else []
    return [JSONLogger(), Progress(), *best, *chosen]


def run_folder(output: Path) -> Path:
    """The folder of the run that writes a model file, beside it.

    Args:
        output: The model file.
    """
    return output.with_name(output.name + ".run")


def run_recipe(
    recipe: Recipe,
    pieces: Sequence[Notes],
    output: Path,
    *,
    source: Corpus,
    validation: Sequence[Notes] = (),
    resume: bool = False,
    half: bool = False,
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
        half: Whether to save in half precision.
        start: A model to fine-tune.
        record: Settings to store in the bundle besides the recipe's.
        callbacks: Callbacks besides the log and the progress.

    Raises:
        NotelstmError: If the run cannot be done; see
            :meth:`~notelstm.recipes.recipe.Recipe.train`.
    """
    from dataclasses import replace

    from notelstm.bundle import DataCard, save
    from notelstm.cli.progress import EpochLines
    from notelstm.training import DistributedGroup
    from notelstm.training.progress import progress_on_stderr

    lines = EpochLines()
    card = DataCard(name=source.name, license=source.licence)
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
        save(bundle, output, half_precision=half)
    print(f"trained {lines.summary()}")
    return bundle


def size_of(bundle: Bundle) -> str:
    """The number of a model's parameters and of the notes that it was trained on."""
    from typing import cast

    from torch import nn

    from notelstm.errors import counted

    count = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    return f"{counted(count, 'parameter')}, trained on {counted(bundle.data.notes, 'note')}"
