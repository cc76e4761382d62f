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

__all__ = ["chosen_recipe", "run_folder", "run_recipe", "size_of"]


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
    from notelstm.recipes import fine_tuning, from_toml
    from notelstm.recipes.overrides import named, override, parse_settings

    tree = parse_settings(settings)
    if start is not None:
        recipe = override(fine_tuning(start), tree)
    else:
        recipe = from_toml(name, tree) if name.endswith(".toml") else named(name, tree)
    training: dict[str, Any] = {}
    if epochs is not None:
        training["epochs"] = epochs
    if seed is not None:
        training["seed"] = seed
    return override(recipe, {"training": training})


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
    from notelstm.training import BestKept, JsonLog, Processes, Progress

    lines = EpochLines()
    best = [BestKept()] if validation else []
    card = DataCard(name=source.name, licence=source.licence)
    bundle = recipe.train(
        pieces,
        validation=validation,
        folder=run_folder(output),
        resume=resume,
        callbacks=[JsonLog(), lines, Progress(), *best, *callbacks],
        data=card,
        start=start,
    )
    bundle = replace(bundle, settings={**bundle.settings, **(record or {})})
    if Processes().first:
        save(bundle, output, half=half)
    print(f"trained {lines.summary()}")
    return bundle


def size_of(bundle: Bundle) -> str:
    """The number of a model's parameters and of the notes that it was trained on."""
    from typing import cast

    from torch import nn

    from notelstm.errors import counted

    count = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    return f"{counted(count, 'parameter')}, trained on {counted(bundle.data.notes, 'note')}"
