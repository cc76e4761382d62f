"""Each fault of the original is a switch that changes its owner and nothing else."""

import functools
import json
from typing import Any

import pytest

from notelstm.losses import AllPairs, Likelihood, PositivePressure
from notelstm.recipes import FAULTS, Recipe, expressive, reference
from notelstm.sampling import RawPitch, ShortestDuration

OWNERS = {
    "sigmoid": {"model"},
    "last_only": {"scored"},
    # Distributions are trained by likelihood, so the loss goes with the model.
    "point_times": {"model", "loss"},
    "in_order": {"shuffle"},
    "broadcast": {"loss"},
    "raw_feedback": {"feedback"},
    "crossing": {"crossing"},
    "chord_order": {"policy"},
    "first_instrument": {"policy"},
    "zero_duration": {"sampler"},
}


def changed(a: Recipe, b: Recipe) -> set[str]:
    left, right = a.to_json(), b.to_json()
    return {key for key in left if left[key] != right[key]}


def test_every_fault_has_an_owner() -> None:
    assert set(OWNERS) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_switch_changes_its_owner_and_nothing_else(fault: str) -> None:
    flipped: dict[str, Any] = {fault: not FAULTS[fault]}
    assert changed(reference(), reference(**flipped)) == OWNERS[fault]


def test_the_defaults_are_the_design_with_its_bugs_repaired() -> None:
    recipe = reference()
    assert isinstance(recipe.model, functools.partial)
    assert recipe.model.keywords == {"sigmoid": True, "point_times": True}
    assert recipe.loss is not None
    assert recipe.loss.weights == {"pitch": 0.1, "step": 20.0, "duration": 1.0}
    assert isinstance(recipe.loss.terms["step"][0], PositivePressure)
    assert (recipe.window, recipe.scored, recipe.batch, recipe.shuffle) == (25, "last", 64, False)
    assert (recipe.training.optimizer, recipe.training.learning_rate) == ("sgd", 0.005)
    assert (recipe.training.epochs, recipe.training.checkpoint_every) == (200, 10)
    assert (recipe.policy.tracks, recipe.policy.drums, recipe.policy.ties) == (
        "first",
        False,
        "pitch",
    )
    assert recipe.context == 25
    assert recipe.feedback is None


def test_as_printed_turns_every_fault_on() -> None:
    recipe = reference(as_printed=True)
    assert changed(recipe, reference(**dict.fromkeys(FAULTS, True))) == set()
    assert recipe.loss is not None
    assert isinstance(recipe.loss.terms["duration"][0], AllPairs)
    assert recipe.policy.tracks == "instrument-0"
    assert recipe.policy.drums
    assert recipe.policy.ties == "file"
    assert recipe.crossing
    assert recipe.feedback == RawPitch()
    assert ShortestDuration() not in recipe.sampler.processors  # type: ignore[attr-defined]


def test_times_with_a_spread_are_trained_by_likelihood() -> None:
    loss = reference(point_times=False).build_loss()
    assert {type(term) for term, _ in loss.terms.values()} == {Likelihood}


@pytest.mark.parametrize("recipe", [reference(), reference(as_printed=True), expressive()])
def test_a_recipe_says_all_it_is_in_json(recipe: Recipe) -> None:
    said = json.dumps(recipe.to_json(), allow_nan=False)
    assert json.loads(said)["name"] == recipe.name
    assert "0x" not in said, "an address would make no two runs the same"
