"""Going on with a trained model: its own recipe, what it has learnt, and its licence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import notelstm
from notelstm import Bundle, Notes
from notelstm.bundle import DataCard
from notelstm.errors import ConfigError
from notelstm.recipes import FAULTS, Recipe, expressive, fine_tuning, override, reference
from notelstm.training import Event
from notelstm.training.callbacks import Run

SETTINGS = {"model": {"hidden": 8}, "training": {"epochs": 1}, "batch": 4}


def tune(first: int, step: float) -> Notes:
    start = step * np.arange(80)
    pitch = first + np.arange(80) % 7
    return Notes(start=start, end=start + step / 2, pitch=pitch, velocity=64)


def weights(bundle: Bundle) -> dict[str, Tensor]:
    return cast(nn.Module, bundle.model).state_dict()


def trained(recipe: Recipe, folder: Path) -> Bundle:
    """Trained, written and read again."""
    bundle = recipe.train([tune(60, 0.25)], data=DataCard(name="old", licence="A"))
    notelstm.save(bundle, folder / "model")
    return notelstm.load(folder / "model")


@pytest.mark.parametrize(
    "recipe",
    [*(reference(**{name: not FAULTS[name]}) for name in FAULTS), expressive()],
    ids=[*FAULTS, "expressive"],
)
def test_the_recipe_is_the_model_s_own(recipe: Recipe, tmp_path: Path) -> None:
    recipe = override(recipe, SETTINGS)
    tuned = fine_tuning(trained(recipe, tmp_path), epochs=3)
    assert tuned.training.learning_rate == recipe.training.learning_rate / 20
    assert tuned.training.epochs == 3
    assert tuned.build_loss() == recipe.build_loss()
    same = replace(tuned, training=recipe.training).to_json()
    before = recipe.to_json()
    # The model is told in full, not by what differs from its defaults.
    assert before.pop("model").items() <= same.pop("model").items()
    assert same == before


class Losses:
    """The loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def handle(self, event: Event, run: Run) -> None:
        if event.name == "epoch":
            self.seen.append(event.values["loss"])


def test_it_begins_with_what_was_learnt(tmp_path: Path) -> None:
    learnt = override(expressive(), {**SETTINGS, "training": {"epochs": 30}})
    old = trained(learnt, tmp_path)
    before = {name: tensor.clone() for name, tensor in weights(old).items()}
    unchanged = fine_tuning(old, epochs=0).train([tune(62, 0.25)], start=old)
    assert all(torch.equal(weights(unchanged)[name], before[name]) for name in before)
    tuned, anew = Losses(), Losses()
    fine_tuning(old, epochs=1).train([tune(62, 0.25)], start=old, callbacks=[tuned])
    fine_tuning(old, epochs=1).train([tune(62, 0.25)], callbacks=[anew])
    assert tuned.seen[0] < 0.8 * anew.seen[0]
    assert all(torch.equal(weights(old)[name], before[name]) for name in before), "taken, not bent"


def test_the_licence_is_carried_on(tmp_path: Path) -> None:
    old = trained(override(reference(), SETTINGS), tmp_path)
    recipe = fine_tuning(old, epochs=0)
    new = recipe.train([tune(62, 0.5)], start=old, data=DataCard(name="new", licence="B")).data
    assert (new.name, new.licence) == ("old, then new", "A; B")
    assert (new.pieces, new.notes) == (2, 160)
    assert new.fingerprint != old.data.fingerprint
    again = recipe.train([tune(62, 0.5)], start=old, data=DataCard(licence="A")).data
    assert (again.name, again.licence) == ("old", "A")


def test_the_same_music_again_is_no_more_music(tmp_path: Path) -> None:
    old = trained(override(reference(), SETTINGS), tmp_path)
    again = fine_tuning(old, epochs=0).train([tune(60, 0.25)], start=old, data=old.data)
    assert again.data == old.data


def test_what_cannot_be_gone_on_with(tmp_path: Path) -> None:
    old = trained(override(reference(), SETTINGS), tmp_path)
    with pytest.raises(ConfigError, match="gentler is above 0; got 0"):
        fine_tuning(old, gentler=0)
    with pytest.raises(ConfigError, match="by the recipe that trained it; got 'gone'"):
        fine_tuning(replace(old, settings={"name": "gone"}))
    with pytest.raises(ConfigError, match="the recipe builds the model that is gone on with"):
        override(reference(), {"model": {"hidden": 9}}).train([tune(60, 0.25)], start=old)
