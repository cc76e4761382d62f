"""Labels of pieces as conditions: their classes, training with them, and music given a label."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from notelstm import Notes, Session, generate, generate_batch, load, stream, write_midi
from notelstm.bundle import Bundle
from notelstm.cli import main
from notelstm.data import Augmented, Corpus, DropLabels, Transpose, encode_corpus
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.encoders.rows import label_map_of
from notelstm.errors import ConfigError, FieldError, TrainingError
from notelstm.evaluation import nats_per_note
from notelstm.labels import Label, LabelMap
from notelstm.models import NoteLSTM
from notelstm.recipes import Recipe, expressive
from notelstm.sampling import Ancestral
from notelstm.training import TrainingConfig

MOODS = ("high", "low")


def piece(mood: str | None, rng: np.random.Generator, count: int = 40) -> Notes:
    """Notes of the upper or the lower half of the piano, by the label `mood`."""
    start = 0.25 * np.arange(count)
    pitch = rng.integers(0, 12, count) + (72 if mood == "high" else 36)
    labels = {} if mood is None else {"mood": mood, "title": f"no. {rng.integers(10**9)}"}
    return Notes(start=start, end=start + 0.2, pitch=pitch, labels=labels)


def pieces(count: int, seed: int = 0) -> list[Notes]:
    rng = np.random.default_rng(seed)
    return [piece(MOODS[k % 2], rng) for k in range(count)]


def recipe(**settings: Any) -> Recipe:
    given: dict[str, Any] = {
        "name": "moods",
        "encoder": LogTimeEncoder(exact=True),
        "model": functools.partial(
            NoteLSTM,
            hidden_size=16,
            embedding_dim=8,
            field_order=("step", "pitch", "velocity", "duration"),
        ),
        "sampler": Ancestral(),
        "conditions": ("mood",),
        "sequence_length": 20,
        "stateful": True,
        "batch_size": 8,
        "training": TrainingConfig(epochs=25, optimizer="adamw", learning_rate=0.02),
    }
    return Recipe(**{**given, **settings})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return recipe(transforms=(DropLabels(probability=0.3),)).train(pieces(32))


def is_high(notes: Notes) -> bool:
    return float(np.median(notes.pitch)) > 60


def test_the_map_is_that_of_the_training_pieces(bundle: Bundle) -> None:
    assert label_map_of(bundle.encoder) == LabelMap(labels=(Label(name="mood", values=MOODS),))
    assert bundle.settings["conditions"] == ["mood"]
    fitted = recipe().fitted(pieces(4))
    assert fitted.fitted(pieces(2)) is fitted
    assert Recipe.from_dict(fitted.to_dict()) == fitted
    assert recipe().fitted([], init_from=bundle).encoder == bundle.encoder
    with pytest.raises(ConfigError, match="no training piece has the label 'mod': did you mean"):
        recipe(conditions=("mod",)).fitted(pieces(4))
    with pytest.raises(ConfigError, match="no value of the label 'title' occurs in 2"):
        recipe(conditions=("title",)).fitted(pieces(4))
    with pytest.raises(ConfigError, match="with an encoder without labels"):
        recipe(encoder=StepDurationEncoder())
    with pytest.raises(ConfigError, match="the labels of this recipe are those of its training"):
        recipe().build_model()


def test_a_run_is_not_resumed_with_other_labels(tmp_path: Path) -> None:
    once = recipe(training=TrainingConfig(epochs=1, device="cpu"))
    twice = replace(once, training=replace(once.training, epochs=2))
    first = pieces(4)
    once.train(first, validation=first[:2], folder=tmp_path)
    swapped = [replace(one, labels=first[k - 1].labels) for k, one in enumerate(first)]
    for changed, held_out in ((swapped, first[:2]), (first, swapped[:2])):
        with pytest.raises(TrainingError, match=r"other settings: data\.(validation_)?rows: '"):
            twice.train(changed, validation=held_out, folder=tmp_path, resume=True)
    twice.train(first, validation=first[:2], folder=tmp_path, resume=True)


def test_music_is_that_of_the_label(bundle: Bundle) -> None:
    for seed in range(3):
        assert is_high(generate(bundle, 40, given={"mood": "high"}, seed=seed))
        assert not is_high(generate(bundle, 40, given={"mood": "low"}, seed=seed))
    high = generate(bundle, 40, given={"mood": "HIGH"}, seed=3)
    assert [n.pitch for n in stream(bundle, num_notes=40, given={"mood": "high"}, seed=3)] == [
        *high.pitch
    ]
    assert high.labels == {"mood": "high"}
    both = generate_batch(
        bundle, 40, given=[{"mood": "low"}, {"mood": "high"}, None], seed=[1, 3, 3]
    )
    assert [is_high(notes) for notes in both[:2]] == [False, True]
    assert both[1] == high
    assert both[2] == generate(bundle, 40, seed=3)
    assert both[2].labels == {}
    assert generate(bundle, 40, given={"mood": 1}, seed=3) == high


def test_a_model_works_without_labels(bundle: Bundle) -> None:
    """Without a label, pieces are of either mood, and are as good as one without labels can be."""
    found = {is_high(generate(bundle, 20, seed=seed)) for seed in range(12)}
    assert found == {True, False}
    held_out = pieces(8, seed=1)
    scores = {
        name: nats_per_note(bundle.model, bundle.encoder, labelled).of("pitch")
        for name, labelled in (
            ("right", held_out),
            ("none", [replace(one, labels={}) for one in held_out]),
            (
                "wrong",
                [
                    replace(one, labels={"mood": MOODS[MOODS.index(one.labels["mood"]) - 1]})
                    for one in held_out
                ],
            ),
        )
    }
    assert all(score is not None for score in scores.values())
    right, none, wrong = (float(scores[name] or 0) for name in ("right", "none", "wrong"))
    # Scores count from note 25 on, where the notes before show the mood.
    assert abs(right - np.log(12)) < 0.25
    assert none < right + 0.25
    assert wrong > right


def test_sessions_map_the_texts(bundle: Bundle) -> None:
    session = Session(bundle.model, bundle.encoder, Ancestral(), given={"mood": "low"})
    column = [field.name for field in bundle.encoder.fields].index("mood")
    assert session.given == {"mood": "low"}
    assert session.next()[0, column] == 2
    assert session.next(mood="high")[0, column] == 1
    session.given = {}
    assert session.next()[0, column] == 0
    session.given = {"mood": "high"}
    session.feed(Notes(start=[5, 6], end=7, pitch=[60, 62]))  # notes get the label of the session
    assert session.trackers[0].previous[column] == 1


def test_a_prompt_keeps_its_label(bundle: Bundle) -> None:
    rng = np.random.default_rng(5)
    for mood in MOODS:
        prompt = piece(mood, rng, 4)
        new = generate(bundle, 10, prompt=prompt)
        assert new.labels == {"mood": mood}
        assert prompt.continued(new).labels == prompt.labels
    seen: set[float] = set()

    def watching(field: Any, prediction: Any, noise: Any, contexts: Any) -> Any:
        seen.add(contexts[0].known["mood"])
        return prediction.mode()

    generate(bundle, 4, prompt=piece("low", rng, 4), given={"mood": "high"}, sampler=watching)
    assert seen == {1.0}


def test_unknown_labels(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        unknown = generate(bundle, 20, given={"mood": "sad"}, seed=2)
    assert "not trained with the mood 'sad'" in caplog.text
    assert unknown == generate(bundle, 20, seed=2)
    with pytest.raises(FieldError, match="no field 'moods'"):
        generate(bundle, 20, given={"moods": "high"})
    with pytest.raises(FieldError, match="'pitch' is sampled, not given"):
        generate(bundle, 20, given={"pitch": "high"})


def test_a_bundle_keeps_the_map(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "m.notelstm")
    again = load(tmp_path / "m.notelstm")
    assert again.encoder == bundle.encoder
    options: Any = {"given": {"mood": "low"}, "seed": 1}
    assert generate(again, 20, **options) == generate(bundle, 20, **options)


def test_labels_are_left_out_at_random() -> None:
    maps = LabelMap(labels=tuple(Label(name=name, values=("x", "y")) for name in ("a", "b")))
    fields = LogTimeEncoder(exact=True, conditions=maps).fields
    low = np.zeros((4000, len(fields)), np.float32)
    rng = np.random.default_rng(0)
    chosen = DropLabels(probability=0.2).sample_params(fields, low, low, rng)
    share = {k: float((chosen == k).mean()) for k in range(4)}
    assert share[3] == pytest.approx(0.2 + 0.8 * 0.04, abs=0.02)
    assert share[1] == pytest.approx(0.8 * 0.16, abs=0.02)
    rows = torch.ones(4, 3, len(fields))
    changed = DropLabels().apply(fields, rows, torch.tensor([0, 1, 2, 3]))
    assert changed[:, 0, 4:6].tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    assert bool((changed[..., :4] == 1).all())
    assert bool((rows == 1).all())
    never = DropLabels(probability=0.0).sample_params(fields, low, low, rng)
    assert not never.any()
    only = LogTimeEncoder(exact=True, conditions=replace(maps, labels=maps.labels[:1])).fields
    one = DropLabels(probability=0.2).sample_params(only, low[:, :5], low[:, :5], rng)
    assert float(one.mean()) == pytest.approx(0.2, abs=0.02)
    with pytest.raises(ConfigError, match="probability"):
        DropLabels(probability=1.5)
    with pytest.raises(FieldError, match="rows with 0 labels"):
        DropLabels().apply(LogTimeEncoder().fields, rows[..., :4], torch.tensor([0] * 4))


def test_conditions_bring_the_transform() -> None:
    assert recipe().transforms == (DropLabels(),)
    own = (Transpose(), DropLabels(probability=0.5))
    assert recipe(transforms=own).transforms == own
    assert recipe(conditions=()).transforms == ()
    batches = recipe().fitted(pieces(8)).batches(recipe().fitted(pieces(8)).encode(pieces(8)))
    assert isinstance(batches, Augmented)


def test_the_expressive_recipe_takes_conditions_and_ends() -> None:
    full = expressive(hidden_size=8, memory_window=16)
    full = replace(full, conditions=("mood",), encoder=replace(full.encoder, ends=True))  # type: ignore[type-var]
    model = full.fitted(pieces(4)).build_model()
    assert model.field_order == ("step", "pitch", "velocity", "duration", "end")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MIDI files of two moods, and their table."""
    path = tmp_path / "music"
    path.mkdir()
    lines = ["Mood,file,canonical_title"]
    for k, one in enumerate(pieces(6)):
        write_midi(one, path / f"{k}.mid")
        lines.append(f"{one.labels['mood']},{k}.mid,Piece {k}")
    (path / "info.csv").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_from_a_table_to_music_on_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "m.notelstm", tmp_path / "new.mid"
    settings = [
        "--set",
        "conditions=mood",
        "model.hidden_size=8",
        "model.head_size=8",
        "model.memory_window=0",
    ]
    assert main(["train", str(folder), "-o", str(model), "--epochs", "1", *settings]) == 0
    assert "labels: mood (2 values)" in capsys.readouterr().out
    assert main(["inspect", str(model)]) == 0
    assert "label mood: high, low" in capsys.readouterr().out
    command = ["generate", str(model), "-o", str(out), "--notes", "10", "--overwrite"]
    assert main([*command, "--given", "mood=low"]) == 0
    assert main([*command, "--given", "mod=low"]) == 1
    assert "no field 'mod'" in capsys.readouterr().err
    assert main([*command, "--given", "low"]) == 1
    assert "'low' is no label" in capsys.readouterr().err


def test_encoded_rows_are_cached_by_their_labels(folder: Path, tmp_path: Path) -> None:
    encoder = LogTimeEncoder(
        exact=True, conditions=LabelMap(labels=(Label(name="mood", values=MOODS),))
    )
    cache = tmp_path / "cache"
    for text in ("high", "low"):
        table = (folder / "info.csv").read_text(encoding="utf-8")
        (folder / "info.csv").write_text(table.replace("high,", f"{text},"), encoding="utf-8")
        corpus = Corpus.open(folder, cache=cache, workers=0, progress=False)
        rows = encode_corpus(corpus, encoder, cache=cache, progress=False).rows
        assert {float(own[0, 4]) for own in rows} == ({1.0, 2.0} if text == "high" else {2.0})
