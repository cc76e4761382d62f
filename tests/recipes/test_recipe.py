"""A recipe as a whole: its record, and the way from MIDI bytes to a bundle that plays."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import notelstm
from notelstm import Ancestral, Notes, StepDurationEncoder
from notelstm.bundle import DataCard
from notelstm.data import Transpose
from notelstm.encoders import AnticipatingEncoder
from notelstm.errors import BundleError, ConfigError, DataError, EncodingError
from notelstm.fields import Field
from notelstm.midi import midi_bytes
from notelstm.models import ThreeHeadLSTM
from notelstm.protocols import Batches
from notelstm.recipes import FAULTS, Recipe, ensemble, expressive, reference, with_settings

GOLDEN = Path(__file__).parents[1] / "golden" / "study.mid"


def tiny(recipe: Recipe) -> Recipe:
    """The same choice of parts, trained in a second."""
    return with_settings(recipe, {"model": {"hidden_size": 8}, "training": {"epochs": 1}})


def piece(count: int, first: int = 60) -> Notes:
    """A scale, two notes at a time."""
    start = 0.25 * (np.arange(count) // 2)
    pitch = first + np.arange(count) % 12
    return Notes(start=start, end=start + 0.2, pitch=pitch, velocity=64)


@pytest.mark.parametrize("fault", [*FAULTS, "none"])
def test_any_fault_can_be_trained_from_midi_bytes(fault: str, tmp_path: Path) -> None:
    turned = {} if fault == "none" else {fault: not FAULTS[fault]}
    recipe = tiny(reference(**turned))
    data = GOLDEN.read_bytes()
    pieces = [
        notelstm.read_midi(data, recipe.read_policy),
        notelstm.read_midi(data, recipe.read_policy),
    ]
    bundle = recipe.train(pieces, data=DataCard(name="study", license="CC0"))
    assert (bundle.data.name, bundle.data.license) == ("study", "CC0")
    assert (bundle.data.pieces, bundle.data.notes) == (2, 2 * 768)
    assert (bundle.read_policy, bundle.context_length) == (recipe.read_policy, 25)
    assert set(bundle.sigmas) == (set() if fault == "point_estimates" else {"step", "duration"})
    bundle.save(tmp_path / "model.notelstm")
    loaded = notelstm.load(tmp_path / "model.notelstm")
    assert loaded.settings == json.loads(json.dumps(recipe.to_dict()))
    music = notelstm.generate(loaded, 30, prompt=pieces[0][:25], seed=2)
    assert len(music) == 30
    if fault != "zero_duration":
        assert music.duration.min() > 0
    back = notelstm.read_midi(midi_bytes(music, overlaps="trim", short="lengthen"))
    assert 0 < len(back) <= 30


def test_the_same_seed_gives_the_same_model() -> None:
    def weights(seed: int) -> torch.Tensor:
        recipe = with_settings(tiny(expressive()), {"training": {"seed": seed}, "batch_size": 4})
        model = recipe.train([piece(200), piece(150, 50)]).model
        assert isinstance(model, torch.nn.Module)
        return torch.cat([tensor.flatten() for tensor in model.state_dict().values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("make", [expressive, ensemble])
def test_likelihood_recipes_have_a_memory_unless_it_is_switched_off(make: Any) -> None:
    assert make().model.settings["memory_window"] == 4096
    assert make(memory_window=0).model.settings["memory_window"] == 0
    model = expressive(hidden_size=4).build_model()
    assert isinstance(model, notelstm.NoteLSTM)
    assert model.memory is not None
    assert model.memory.layout.window == 4096


@pytest.mark.parametrize("make", [reference, expressive])
def test_the_record_is_json_and_stable(make: Any) -> None:
    record = make().to_dict()
    text = json.dumps(record, allow_nan=False, sort_keys=True)
    assert text == json.dumps(make().to_dict(), sort_keys=True)
    assert "0x" not in text, "an address would make no two runs the same"
    assert set(record) == {f.name for f in Recipe.__dataclass_fields__.values()}


def test_every_setting_is_in_the_record() -> None:
    """What changes a recipe changes its record, or a run could be resumed as another."""
    changes: dict[str, Any] = {
        "name": "x",
        "encoder": {"cell": 0.02},
        "model": {"hidden_size": 3},
        "loss": {"pitch": 0.5},
        "sampler": {"name": "greedy"},
        "input_transform": {"name": "raw-pitch"},
        "read_policy": {"drums": True},
        "parts": "name",
        "unknown_parts": "other",
        "conditions": ["composer"],
        "given": {"variants": 3},
        "training": {"seed": 5},
        "sequence_length": 30,
        "targets": "last",
        "cross_piece_boundaries": True,
        "stateful": False,
        "batch_size": 3,
        "min_steps_per_epoch": 7,
        "shuffle": False,
        "transforms": ["velocity-shift"],
        "context_length": 4,
    }
    recipe = replace(expressive(), stateful=False)
    for key, value in changes.items():
        start = expressive() if key == "stateful" else recipe
        if key == "given":
            start = replace(recipe, encoder=AnticipatingEncoder(inner=recipe.encoder))
        changed = with_settings(start, {key: value}).to_dict()
        different = {name for name in changed if changed[name] != start.to_dict()[name]}
        # A batch that is given is kept as it is, and labels are dropped at random.
        implied = {"min_steps_per_epoch", *(["transforms"] if key == "conditions" else [])}
        assert different - implied == {key} - implied
    assert set(changes) == set(recipe.to_dict())


@dataclass(frozen=True, kw_only=True)
class Homemade:
    """An encoder without an entry point: the built-in one, but slower."""

    slowness: float = 2.0

    @property
    def fields(self) -> tuple[Field, ...]:
        return StepDurationEncoder().fields

    def encode(self, notes: Notes) -> NDArray[np.float32]:
        rows = StepDurationEncoder().encode(notes)
        rows[:, 1:] *= np.float32(self.slowness)
        return rows

    def decode(self, rows: NDArray[np.float32]) -> Notes:
        faster = rows.copy()
        faster[:, 1:] /= np.float32(self.slowness)
        return StepDurationEncoder().decode(faster)


def test_a_part_without_an_entry_point_is_reported_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(tiny(reference()), encoder=Homemade())
    with caplog.at_level(logging.WARNING):
        bundle = recipe.train([piece(100)])
    assert "the encoder cannot be rebuilt from a bundle" in caplog.text
    assert "load(path, encoder=...)" in caplog.text
    assert bundle.settings["encoder"]["config"] == {"slowness": 2.0}
    bundle.save(tmp_path / "m")
    with pytest.raises(
        BundleError, match=r"the encoder cannot be rebuilt: .*Homemade has no entry point"
    ):
        notelstm.load(tmp_path / "m")
    assert notelstm.load(tmp_path / "m", encoder=Homemade()).encoder == Homemade()


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="there are no pieces to train on"):
        reference().train([])
    with pytest.raises(DataError, match="no piece has more than 25 rows"):
        reference().train([piece(25)])


def test_short_pieces_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    tiny(reference()).train([piece(100), piece(10), piece(25)])
    assert "left out: 2 pieces of 3, shorter than a window of 25 rows" in caplog.text


@dataclass(frozen=True, kw_only=True)
class Picky:
    """An encoder that refuses pitches over 70."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return StepDurationEncoder().fields

    def encode(self, notes: Notes) -> NDArray[np.float32]:
        high = np.flatnonzero(notes.pitch > 70)
        if high.size:
            raise EncodingError("a pitch is above 70", where=f"note {high[0]}")
        return StepDurationEncoder().encode(notes)

    def decode(self, rows: NDArray[np.float32]) -> Notes:
        return StepDurationEncoder().decode(rows)


def test_a_piece_outside_the_domain_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    recipe = replace(tiny(reference()), encoder=Picky())
    low, high = piece(60, first=50), piece(60, first=60)
    with pytest.raises(EncodingError, match=r"\(piece 1, note 11\)"):
        recipe.encode([low, high])
    bundle = recipe.train([low, high], validation=[high, low])
    assert (bundle.data.pieces, bundle.data.notes) == (1, 60)
    assert bundle.unigram == recipe.train([low]).unigram
    assert "left out: 1 piece that the encoder rejects: " in caplog.text
    assert "(piece 1, note 11)" in caplog.text
    assert "shorter than a window" not in caplog.text
    with pytest.raises(EncodingError, match=r"\(piece 0, note 11\)"):
        recipe.train([high, high])


def test_validation_is_measured_and_in_order(tmp_path: Path) -> None:
    recipe = with_settings(tiny(reference(in_order=False)), {"training": {"epochs": 2}})
    from notelstm.training import JSONLogger

    recipe.train(
        [piece(100)], validation=[piece(60)], folder=tmp_path / "run", callbacks=[JSONLogger()]
    )
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(line["validation"] > 0 for line in lines)


def broken(*, fields: tuple[Field, ...], hidden: int = 8) -> notelstm.NoteLSTM:
    raise ValueError("there is no such thing\nas a model of this kind")


def test_a_model_that_cannot_be_built_is_an_error_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="the model cannot be built: there is no such thing"):
        replace(reference(), model=broken).build_model()


def test_a_recipe_of_functions_and_classes() -> None:
    """A model's class will do, without a partial; so will a function that makes one."""
    recipe = Recipe(
        name="mine",
        encoder=StepDurationEncoder(),
        model=functools.partial(notelstm.NoteLSTM, hidden_size=4),
        sampler=Ancestral(),
    )
    assert isinstance(recipe.build_model(), notelstm.NoteLSTM)
    assert replace(recipe, model=notelstm.NoteLSTM).to_dict()["model"]
    with pytest.raises(ConfigError, match="stateful with targets='last'"):
        replace(recipe, stateful=True, targets="last")


def test_training_pieces_are_transformed_and_held_out_ones_are_not() -> None:
    small = with_settings(expressive(), {"sequence_length": 8, "batch_size": 2})
    recipe = replace(small, transforms=(Transpose(low=-2, high=2),))
    rows = recipe.encode([piece(60)])
    column = [field.name for field in recipe.encoder.fields].index("pitch")

    def pitches(batches: Batches, number: int) -> Tensor:
        parts = [batch.rows[..., column][batch.target_mask] for batch in batches.epoch(number)]
        return torch.cat(parts)

    plain = replace(recipe, transforms=()).batches(rows)
    shifts = set()
    for number in range(12):
        shift = torch.unique(pitches(recipe.batches(rows), number) - pitches(plain, number))
        shifts.add(float(shift))
    assert shifts <= {-2, -1, 0, 1, 2}
    assert len(shifts) > 2
    held_out = recipe.batches(rows, held_out=True)
    assert all(torch.equal(pitches(held_out, k), pitches(plain, 0)) for k in range(4))


def test_the_data_card_counts_trained_pieces_only() -> None:
    long, short = piece(60, first=50), piece(20, first=50)
    bundle = tiny(reference()).train([long, short])
    assert (bundle.data.pieces, bundle.data.notes) == (1, 60)
    bundle = tiny(reference(crossing=True)).train([long, short])
    assert (bundle.data.pieces, bundle.data.notes) == (2, 80)


def test_a_recipe_of_numpy_numbers_is_saved(tmp_path: Path) -> None:
    recipe = replace(tiny(reference()), batch_size=np.int64(32), context_length=np.int64(25))  # type: ignore[arg-type]
    recipe.train([piece(60)], folder=tmp_path / "run").save(tmp_path / "a.notelstm")
    assert Recipe.from_dict(notelstm.load(tmp_path / "a.notelstm").settings) == recipe


def test_the_largest_seed_is_saved(tmp_path: Path) -> None:
    recipe = with_settings(tiny(reference()), {"training": {"seed": 2**63 - 1}})
    recipe.train([piece(60)]).save(tmp_path / "a.notelstm")
    assert notelstm.load(tmp_path / "a.notelstm").settings["training"]["seed"] == 2**63 - 1


def test_short_validation_pieces_are_named() -> None:
    with pytest.raises(DataError, match=r"the longest of 1 has 10 \(validation\)"):
        tiny(reference()).train([piece(60)], validation=[piece(10)])


def masked(*, fields: tuple[Field, ...], hidden_size: int) -> ThreeHeadLSTM:
    """A model with a mask among its tensors."""
    model = ThreeHeadLSTM(fields=fields, hidden_size=hidden_size)
    model.register_buffer("mask", torch.full((2, 2), -torch.inf))
    return model


def test_a_model_that_cannot_be_saved_is_reported_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(tiny(reference()), model=functools.partial(masked, hidden_size=8))
    bundle = recipe.train([piece(60)])
    assert "the model cannot be saved in a bundle: mask has numbers" in caplog.text
    with pytest.raises(BundleError, match=r"mask has numbers.*Register masks.*persistent=False"):
        bundle.save(tmp_path / "a.notelstm")
    assert not list(tmp_path.iterdir())
