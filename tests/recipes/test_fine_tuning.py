"""Going on with a trained model: its own recipe, what it has learnt, and its license."""

from __future__ import annotations

import functools
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import notelstm
from notelstm import Bundle, Notes
from notelstm.bundle import DataCard
from notelstm.data import TimeStretch, Transpose, VelocityShift
from notelstm.data.transforms import DropLabels
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError, PluginError
from notelstm.losses import CompositeLoss, Likelihood
from notelstm.midi.policy import ReadPolicy
from notelstm.models import NoteLSTM
from notelstm.protocols import Prediction
from notelstm.recipes import FAULTS, Recipe, expressive, reference, with_settings
from notelstm.sampling import Greedy, RawPitch, Temperature, TopK
from notelstm.training import Callback, Trainer, TrainingConfig

SETTINGS = {"model": {"hidden_size": 8}, "training": {"epochs": 1}, "batch_size": 4}


def tune(first: int, step: float) -> Notes:
    start = step * np.arange(80)
    pitch = first + np.arange(80) % 7
    return Notes(start=start, end=start + step / 2, pitch=pitch, velocity=64)


def weights(bundle: Bundle) -> dict[str, Tensor]:
    return cast(nn.Module, bundle.model).state_dict()


def trained(recipe: Recipe, folder: Path) -> Bundle:
    """Trained, written and read again."""
    bundle = recipe.train([tune(60, 0.25)], data=DataCard(name="old", license="A"))
    bundle.save(folder / "model")
    return notelstm.load(folder / "model")


@pytest.mark.parametrize(
    "recipe",
    [*(reference(**{name: not FAULTS[name]}) for name in FAULTS), expressive()],
    ids=[*FAULTS, "expressive"],
)
def test_bundle_recipe_is_the_recorded_one(recipe: Recipe, tmp_path: Path) -> None:
    recipe = with_settings(recipe, SETTINGS)
    tuned = trained(recipe, tmp_path).recipe(epochs=3)
    assert tuned.training.learning_rate == recipe.training.learning_rate / 20
    assert tuned.training.epochs == 3
    assert replace(tuned, training=recipe.training) == recipe


UNLIKE_ANY_DEFAULT = Recipe(
    name="mine",
    encoder=LogTimeEncoder(cell=0.02, growth=1.1),
    model=functools.partial(NoteLSTM, hidden_size=8, embedding_dim=4, head_size=6, num_layers=2),
    loss=CompositeLoss(terms={"pitch": (Likelihood(), 0.5), "step": (Likelihood(), 3.0)}),
    sampler=Greedy(processors=(Temperature(temperature=0.5), TopK(k=7))),
    input_transform=RawPitch(),
    read_policy=ReadPolicy(tracks="all", drums=True, pedal="extend"),
    sequence_length=9,
    targets="every",
    cross_piece_boundaries=True,
    batch_size=3,
    min_steps_per_epoch=2,
    shuffle=False,
    transforms=(Transpose(low=-1, high=2), VelocityShift(amounts=(-5, 5))),
    training=TrainingConfig(
        epochs=1,
        optimizer="adamw",
        learning_rate=0.04,
        schedule="cosine",
        warmup_steps=3,
        accumulate_grad_batches=2,
        weight_decay=0.3,
        max_grad_norm=0.7,
        checkpoint_every=4,
        seed=11,
        device="cpu",
    ),
    context_length=13,
)


def test_all_recorded_settings_are_used(tmp_path: Path) -> None:
    """Without the recipe's name being installed, and with nothing left at a default."""
    defaults = Recipe(
        name="", encoder=LogTimeEncoder(), model=NoteLSTM, sampler=Greedy(processors=())
    )
    for field in fields(Recipe):
        own, default = (getattr(r, field.name) for r in (UNLIKE_ANY_DEFAULT, defaults))
        # Parts need a model with instruments, conditions labels, and given notes their encoder.
        excepted = ("targets", "stateful", "parts", "unknown_parts", "conditions", "given")
        assert own != default or field.name in excepted, field.name
    tuned = trained(UNLIKE_ANY_DEFAULT, tmp_path).recipe(epochs=7, lr_divisor=4)
    wanted = replace(UNLIKE_ANY_DEFAULT.training, epochs=7, learning_rate=0.01, device="auto")
    assert tuned == replace(UNLIKE_ANY_DEFAULT, training=wanted)


def test_parts_without_an_entry_point_are_passed(tmp_path: Path) -> None:
    def homemade(prediction: Prediction, target: Tensor) -> Tensor:
        return Likelihood()(prediction, target) * 2

    terms = dict.fromkeys(("pitch", "step", "duration", "velocity"), (homemade, 1.0))
    recipe = replace(with_settings(expressive(), SETTINGS), loss=CompositeLoss(terms=terms))
    old = trained(recipe, tmp_path)
    with pytest.raises(PluginError, match=r"homemade has no entry point.*or pass loss=\.\.\."):
        old.recipe()
    assert old.recipe(loss=recipe.loss).loss == recipe.loss


def test_the_pretrained_model_has_its_recipe() -> None:
    recipe = notelstm.load().recipe(epochs=2)
    assert (recipe.name, recipe.stateful, recipe.sequence_length) == ("expressive", True, 128)
    assert recipe.training.learning_rate == pytest.approx(0.0008 / 20)
    assert recipe.training.optimizer == "adamw"
    assert recipe.transforms == (Transpose(low=-6, high=6), TimeStretch(), DropLabels())
    bundle = notelstm.load()
    assert isinstance(bundle.model, NoteLSTM)
    built = recipe.build_model()
    assert isinstance(built, NoteLSTM)
    assert dict(built.config) == dict(bundle.model.config)


class Losses(Callback):
    """The loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self.seen.append(metrics["loss"])


def test_fine_tuning_starts_from_the_weights(tmp_path: Path) -> None:
    learnt = with_settings(expressive(), {**SETTINGS, "training": {"epochs": 30}})
    old = trained(learnt, tmp_path)
    before = {name: tensor.clone() for name, tensor in weights(old).items()}
    unchanged = old.recipe(epochs=0).train([tune(62, 0.25)], init_from=old)
    assert all(torch.equal(weights(unchanged)[name], before[name]) for name in before)
    tuned, anew = Losses(), Losses()
    old.recipe(epochs=1).train([tune(62, 0.25)], init_from=old, callbacks=[tuned])
    old.recipe(epochs=1).train([tune(62, 0.25)], callbacks=[anew])
    assert tuned.seen[0] < 0.8 * anew.seen[0]
    assert all(torch.equal(weights(old)[name], before[name]) for name in before), "taken, not bent"


def test_the_license_is_kept(tmp_path: Path) -> None:
    old = trained(with_settings(reference(), SETTINGS), tmp_path)
    recipe = old.recipe(epochs=0)
    new = recipe.train([tune(62, 0.5)], init_from=old, data=DataCard(name="new", license="B")).data
    assert (new.name, new.license) == ("old, then new", "A; B")
    assert (new.pieces, new.notes) == (2, 160)
    assert new.fingerprint != old.data.fingerprint
    again = recipe.train([tune(62, 0.5)], init_from=old, data=DataCard(license="A")).data
    assert (again.name, again.license) == ("old", "A")


def test_training_data_is_counted_once(tmp_path: Path) -> None:
    old = trained(with_settings(reference(), SETTINGS), tmp_path)
    again = old.recipe(epochs=0).train([tune(60, 0.25)], init_from=old, data=old.data)
    assert again.data == old.data


def test_a_bundle_that_cannot_be_fine_tuned(tmp_path: Path) -> None:
    old = trained(with_settings(reference(), SETTINGS), tmp_path)
    for bad in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"lr_divisor is .*, not a number above 0"):
            old.recipe(lr_divisor=bad)
    with pytest.raises(ConfigError, match="does not record how its model was trained"):
        replace(old, settings={"name": "gone"}).recipe()
    with pytest.raises(ConfigError, match="builds another model than the bundle has"):
        with_settings(reference(), {"model": {"hidden_size": 9}}).train(
            [tune(60, 0.25)], init_from=old
        )
