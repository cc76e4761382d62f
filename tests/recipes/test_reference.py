"""The reference recipe: each fault is a switch, and each switch changes exactly its owner."""

from __future__ import annotations

from typing import Any

import pytest

from notelstm.losses import AllPairs, Likelihood, PositivePressure
from notelstm.models import ThreeHeadLSTM
from notelstm.recipes import FAULTS, ModelSpec, Recipe, reference
from notelstm.sampling import MinDuration, RawPitch, Weighted

OWNERS: dict[str, tuple[str, ...]] = {
    "sigmoid": ("model.sigmoid",),
    "last_only": ("targets",),
    # Points have no likelihood, so their loss goes with them.
    "point_estimates": ("model.point_estimates", "loss"),
    "in_order": ("shuffle",),
    "broadcast": ("loss",),
    "raw_feedback": ("input_transform",),
    "crossing": ("cross_piece_boundaries",),
    "chord_order": ("read_policy.simultaneous_order",),
    "first_instrument": ("read_policy.drums", "read_policy.tempos", "read_policy.tracks"),
    "zero_duration": ("sampler.processors",),
}


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every setting under its dotted name; the loss as one."""
    settings: dict[str, Any] = {}
    for key, value in recipe.to_dict().items():
        if isinstance(value, dict) and "config" in value and key != "loss":
            settings |= {f"{key}.{name}": inner for name, inner in value["config"].items()}
        elif isinstance(value, dict) and key != "loss":
            settings |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            settings[key] = value
    # An input transform has no settings: that it is there at all is what changes.
    settings["input_transform"] = recipe.input_transform
    return settings


def differences(a: Recipe, b: Recipe) -> set[str]:
    one, two = flat(a), flat(b)
    return {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_changes_one_part(fault: str) -> None:
    turned = reference(**{fault: not FAULTS[fault]})
    assert differences(reference(), turned) == set(OWNERS[fault])


def test_every_fault_is_in_the_table_of_parts() -> None:
    assert set(OWNERS) == set(FAULTS)


def test_the_defaults_are_the_table_of_faults() -> None:
    assert {name for name, on in FAULTS.items() if on} == {
        "sigmoid",
        "last_only",
        "point_estimates",
        "in_order",
    }
    assert not differences(reference(), reference(**FAULTS))


def settings_of_model(recipe: Recipe) -> dict[str, Any]:
    assert isinstance(recipe.model, ModelSpec)
    assert recipe.model.factory is ThreeHeadLSTM
    return dict(recipe.model.settings)


def test_as_printed_turns_every_fault_on() -> None:
    printed = reference(as_printed=True)
    assert not differences(printed, reference(**dict.fromkeys(FAULTS, True)))
    assert settings_of_model(printed) == {"sigmoid": True, "point_estimates": True}
    assert (printed.targets, printed.shuffle, printed.cross_piece_boundaries) == (
        "last",
        False,
        True,
    )
    assert printed.input_transform == RawPitch()
    assert printed.sampler == Weighted()
    assert (printed.read_policy.tracks, printed.read_policy.simultaneous_order) == (
        "first-instrument",
        "file",
    )
    assert printed.read_policy.drums
    terms = printed.build_loss().terms
    assert (terms["step"], terms["duration"]) == ((AllPairs(), 20.0), (AllPairs(), 1.0))


def test_as_printed_overrides_the_other_switches() -> None:
    assert not differences(reference(as_printed=True), reference(as_printed=True, sigmoid=False))


def test_without_any_fault_it_is_a_likelihood_model() -> None:
    whole = reference(**dict.fromkeys(FAULTS, False))
    assert settings_of_model(whole) == {"sigmoid": False, "point_estimates": False}
    assert set(whole.build_loss().terms.values()) == {(Likelihood(), 1.0)}
    assert (whole.targets, whole.shuffle, whole.cross_piece_boundaries) == ("every", True, False)


def test_the_settings_of_the_article() -> None:
    recipe = reference()
    assert (recipe.sequence_length, recipe.context_length, recipe.batch_size) == (25, 25, 64)
    assert recipe.training.epochs == 200
    assert (recipe.training.optimizer, recipe.training.learning_rate) == ("sgd", 0.005)
    assert recipe.build_loss().terms == {
        "pitch": (Likelihood(), 0.1),
        "step": (PositivePressure(), 20.0),
        "duration": (PositivePressure(), 1.0),
    }
    assert recipe.sampler == Weighted(processors=(MinDuration(),))
    model = recipe.build_model()
    assert isinstance(model, ThreeHeadLSTM)
    assert (model.lstm.input_size, model.lstm.hidden_size, model.lstm.num_layers) == (3, 128, 1)
