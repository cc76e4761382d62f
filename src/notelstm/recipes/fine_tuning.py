"""Fine-tuning: the recipe that a bundle records, ready to continue training its model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError
from notelstm.plugins import missing_parts, settings_of
from notelstm.recipes.model_spec import ModelSpec
from notelstm.recipes.recipe import Recipe

__all__ = ["recorded_recipe"]


def recorded_recipe(
    bundle: Bundle, *, epochs: int, lr_divisor: float, parts: Mapping[str, Any]
) -> Recipe:
    """The recipe of :meth:`Bundle.recipe <notelstm.bundle.Bundle.recipe>`.

    Args:
        bundle: The trained model.
        epochs: Passes over the training set.
        lr_divisor: Divides the recorded learning rate.
        parts: Settings of the recipe in place of the recorded ones.

    Raises:
        ConfigError: If the bundle does not record its recipe, or `lr_divisor` is not above 0.
        PluginError: If a recorded part cannot be rebuilt and is not in `parts`.
    """
    if not (lr_divisor > 0 and math.isfinite(lr_divisor)):
        raise ConfigError(f"lr_divisor is {lr_divisor}, not a number above 0")
    # A bundle's settings may hold more than the recipe, such as the share that was held out.
    names = {field.name for field in fields(Recipe)}
    record = {key: value for key, value in bundle.settings.items() if key in names}
    if not {"encoder", "model", "sampler", "training"} <= record.keys():
        raise ConfigError(
            "the bundle does not record how its model was trained",
            hint="build a Recipe of its parts, and pass init_from=bundle when you train",
        )
    own: dict[str, Any] = {
        "encoder": bundle.encoder,
        "sampler": bundle.sampler,
        "input_transform": bundle.input_transform,
        "policy": bundle.read_policy,
        "context": bundle.context_length,
    }
    if missing_parts(record["model"]):
        settings = {k: v for k, v in settings_of(bundle.model).items() if k != "fields"}
        own["model"] = ModelSpec(type(bundle.model), settings)
    recipe = Recipe.from_dict(record, **{**own, **parts})
    training = replace(
        recipe.training,
        epochs=epochs,
        learning_rate=recipe.training.learning_rate / lr_divisor,
        device="auto",
    )
    return recipe if "training" in parts else replace(recipe, training=training)
