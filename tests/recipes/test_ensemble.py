"""The recipe for several instruments: its part map is that of the training pieces."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import notelstm
from notelstm import Bundle, Notes
from notelstm.encoders.rows import part_map_of
from notelstm.errors import ConfigError, DataError, TrainingError
from notelstm.parts import Part, PartMap
from notelstm.recipes import Recipe, ensemble, expressive, with_settings

SMALL = {
    "model": {"hidden_size": 8, "embedding_dim": 4, "head_size": 8, "memory_window": 8},
    "training": {"epochs": 1},
    "batch_size": 4,
}


def song(seed: int, programs: tuple[int, ...] = (0, 33), drums: bool = True) -> Notes:
    """Sixty notes: some of each program, and drums."""
    generator = np.random.default_rng(seed)
    parts = [(program, False) for program in programs] + [(0, True)] * drums
    track = generator.integers(0, len(parts), 60)
    start = np.sort(generator.integers(0, 200, 60)) / 10
    return Notes(
        start=start,
        end=start + 0.2,
        pitch=generator.integers(35, 80, 60),
        program=[parts[k][0] for k in track],
        drum=[parts[k][1] for k in track],
        track=track,
        track_names=[f"Track of {program}" if not drum else "Kit" for program, drum in parts],
    )


SONGS = [song(seed) for seed in range(3)]


def small(**options: Any) -> Recipe:
    return with_settings(ensemble(**options), SMALL)


def weights(bundle: Bundle) -> dict[str, Tensor]:
    return cast(nn.Module, bundle.model).state_dict()


def parts_of(recipe: Recipe | Bundle) -> list[str]:
    part_map = part_map_of(recipe.encoder)
    assert part_map is not None
    return [part.name for part in part_map.classes]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"parts": "program"}, ["Acoustic Grand Piano", "Electric Bass (finger)", "Drums"]),
        ({"parts": "family"}, ["Piano", "Bass", "Drums"]),
        ({"parts": "name"}, ["Track of 0", "Track of 33", "Kit"]),
        ({"parts": "track"}, ["Track of 0", "Track of 33", "Kit"]),
        ({"parts": "auto"}, ["Track of 0", "Track of 33", "Kit"]),
        ({"parts": "family", "unknown": "other"}, ["Piano", "Bass", "Drums", "other"]),
    ],
)
def test_parts_are_found_in_the_pieces(options: dict[str, Any], names: list[str]) -> None:
    recipe = ensemble(**options)
    fitted = recipe.fitted(SONGS)
    assert parts_of(fitted) == names
    assert fitted == recipe.fitted(SONGS[::-1])
    assert Recipe.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    assert fitted.fitted([song(9, programs=(70,))]) is fitted
    assert recipe.encoder.fields == expressive().encoder.fields, "the recipe is not changed"


def test_trained_models_generate_the_parts_of_their_corpus(tmp_path: Path) -> None:
    path = tmp_path / "band.notelstm"
    small(parts="family").train(SONGS).save(path)
    bundle = notelstm.load(path)
    assert parts_of(bundle) == ["Piano", "Bass", "Drums"]
    assert bundle.read_policy.drums
    notes = notelstm.generate(bundle, num_notes=200, seed=1, prompt=SONGS[0][:10])
    assert notes.program is not None
    assert notes.drum is not None
    assert set(notes.program[~notes.drum].tolist()) == {0, 33}
    assert notes.drum.any()
    assert notes.track_names == ("Piano", "Bass", "Drums")


def test_the_same_as_a_recipe_with_the_part_map_itself() -> None:
    by_hand = with_settings(
        small(), {"encoder": {"parts": PartMap.from_pieces(SONGS, by="family").to_json()}}
    )
    one, other = small(parts="family").train(SONGS), by_hand.train(SONGS)
    assert all(torch.equal(a, weights(other)[name]) for name, a in weights(one).items())


def test_a_run_is_resumed_exactly(tmp_path: Path) -> None:
    recipe = small(parts="family")
    longer = with_settings(recipe, {"training": {"epochs": 2, "schedule": "constant"}})
    whole = longer.train(SONGS)
    shorter = with_settings(longer, {"training": {"epochs": 1}})
    shorter.train(SONGS, folder=tmp_path)
    resumed = longer.train(SONGS, folder=tmp_path, resume=True)
    assert all(torch.equal(a, weights(resumed)[name]) for name, a in weights(whole).items())
    with pytest.raises(TrainingError):
        longer.train([*SONGS, song(5, programs=(0, 33, 70))], folder=tmp_path, resume=True)


@pytest.mark.parametrize("way", ["the bundle's recipe", "another recipe"])
def test_fine_tuning_keeps_the_parts_of_the_model(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = small(parts="family").train(SONGS)
    recipe = bundle.recipe(epochs=1) if way == "the bundle's recipe" else small(parts="program")
    caplog.clear()
    new = [song(7, programs=(6, 70))]
    with caplog.at_level(logging.WARNING):
        tuned = recipe.train(new, init_from=bundle)
    assert parts_of(tuned) == ["Piano", "Bass", "Drums"]
    assert any(not torch.equal(a, weights(tuned)[name]) for name, a in weights(bundle).items())
    assert new[0].program is not None
    unknown = int((new[0].program == 70).sum())
    assert f"{unknown} of 60 notes are of instruments that are no part of the model" in caplog.text


def test_held_out_pieces_with_other_instruments_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        small(parts="family").train(SONGS, validation=[song(7, programs=(40,))])
    assert "are of instruments that are no part of the model" in caplog.text


def test_fine_tuning_cannot_add_instruments() -> None:
    piano = with_settings(expressive(), {**SMALL, "model": {"hidden_size": 8}}).train(SONGS[:1])
    with pytest.raises(ConfigError, match="another model"):
        small().train(SONGS, init_from=piano)


def test_settings_of_parts_are_checked_before_pieces_are_read() -> None:
    def pieces() -> Any:
        pytest.fail("a piece was read")
        yield

    with pytest.raises(ConfigError, match="device"):
        with_settings(small(), {"training": {"device": "nonsense"}}).train(pieces())
    with pytest.raises(ConfigError, match="hidden_size"):
        with_settings(small(), {"model": {"hidden_size": 0}}).train(pieces())


def test_encoders_without_parts_are_rejected() -> None:
    with pytest.raises(ConfigError, match="without instruments, StepDurationEncoder"):
        with_settings(ensemble(), {"encoder": {"name": "step-duration"}})
    with pytest.raises(ConfigError, match="parts is 'colour', not 'auto'"):
        ensemble(parts=cast(Any, "colour"))
    with pytest.raises(ConfigError, match="unknown_parts is 'colour'"):
        ensemble(unknown=cast(Any, "colour"))
    with pytest.raises(ConfigError, match=r"Call fitted\(pieces\) first"):
        ensemble().build_model()


@pytest.mark.parametrize("pieces", [[], [Notes.empty()]])
def test_without_notes_there_are_no_parts(pieces: list[Notes]) -> None:
    with pytest.raises(DataError, match=r"no notes|no pieces"):
        small().train(pieces)


def test_without_parts_the_encoder_stays_as_it_is() -> None:
    assert expressive().fitted(SONGS) == expressive()
    part_map = PartMap(parts=(Part(name="A"),))
    recipe = with_settings(ensemble(), {"encoder": {"parts": part_map.to_json()}})
    assert recipe.fitted(SONGS) is recipe
