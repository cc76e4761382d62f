"""Going on with a trained model on other pieces."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, PluginError
from notelstm.losses import CompositeLoss
from notelstm.plugins import build, find, settings_of
from notelstm.recipes.recipe import Recipe

__all__ = ["fine_tuning"]

_KEPT = ("window", "scored", "crossing", "lanes", "batch", "shuffle")


def fine_tuning(bundle: Bundle, *, epochs: int = 5, gentler: float = 20.0) -> Recipe:
    """The recipe that a model was trained by, made to go on with it.

    Encoder, model, loss, policy, sampler and batches are the model's own; the learning rate is
    lower, so that what it knows is bent, not broken.

    Args:
        bundle: The trained model; give it to `Recipe.train` as `start`, too.
        epochs: How often every target is seen.
        gentler: By what the recipe's learning rate is divided, above 0.

    Raises:
        ConfigError: If the recipe is not installed, or `gentler` is not above 0.
    """
    record = bundle.settings
    if not gentler > 0:
        raise ConfigError("gentler is above 0", got=f"{gentler}")
    try:
        base: Recipe = find("recipes", str(record.get("name"))).load()()
    except PluginError as error:
        raise ConfigError(
            "a model is gone on with by the recipe that trained it",
            got=f"{record.get('name')!r}, which is not installed",
            hint="install its package, or build a Recipe of the model's parts and train that",
        ) from error
    settings = {k: v for k, v in settings_of(bundle.model).items() if k != "fields"}
    return replace(
        base,
        encoder=bundle.encoder,
        model=functools.partial(type(bundle.model), **settings),
        loss=_loss(record.get("loss")),
        policy=bundle.policy,
        sampler=bundle.sampler,
        context=bundle.context,
        input_transform=bundle.input_transform,
        training=replace(
            base.training, epochs=epochs, learning_rate=base.training.learning_rate / gentler
        ),
        **{key: record[key] for key in _KEPT if key in record},
    )


def _loss(told: Mapping[str, Any] | None) -> CompositeLoss | None:
    """A loss as :meth:`Recipe.to_json` tells it."""
    if told is None:
        return None
    settings = {key: value for key, value in told.items() if key != "name"}
    loss: CompositeLoss = build({"kind": "losses", "name": told["name"], "config": settings})
    return loss
