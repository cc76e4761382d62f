"""``notelstm train`` and ``notelstm demo``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.data.corpus import Corpus
    from notelstm.notes import Notes
    from notelstm.recipes import Recipe
    from notelstm.training import Callback

__all__ = ["demo", "train"]

_SMALL: Final = ("options.hidden=256", "window=64", "batch=32")
"""What makes the expressive recipe learn a handful of chorales in a minute."""

_OF_THE_RECIPE: Final = "(default: the recipe's)"
_NO_LIMIT: Final = "(default: no limit)"


def train(  # noqa: PLR0913 - each is an option of the command
    folder: Annotated[str, tyro.conf.Positional, arg(metavar="FOLDER")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="MODEL")],
    recipe: Annotated[
        str | None, arg(metavar="NAME|FILE.toml", help_behavior_hint="(default: reference)")
    ] = None,
    go_on_with: Annotated[
        tuple[Path, ...] | None,
        arg(
            name="from",
            metavar="[MODEL]",
            help_behavior_hint="(default: nothing; notelstm's own model if no MODEL is given)",
        ),
    ] = None,
    set: Annotated[  # noqa: A002 - the option is --set
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        arg(metavar="KEY=VALUE", help_behavior_hint=""),
    ] = (),
    epochs: Annotated[int | None, arg(metavar="N", help_behavior_hint=_OF_THE_RECIPE)] = None,
    max_files: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None,
    validation: Annotated[float, arg(metavar="SHARE")] = 0.0,
    minutes: Annotated[float | None, arg(metavar="N", help_behavior_hint=_NO_LIMIT)] = None,
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint=_OF_THE_RECIPE)] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"] | None, arg(help_behavior_hint=_OF_THE_RECIPE)
    ] = None,
    callback: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, arg(metavar="NAME", help_behavior_hint="")
    ] = (),
    profile: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
    half: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """Train a model on MIDI files.

    The run's checkpoints and log are kept beside the model, in MODEL.run. Ctrl-C saves a
    checkpoint, and --resume goes on from it as if the run had never stopped.

    Args:
        folder: A folder of MIDI files, a single file, or the name of a corpus such as `bach`.
        output: The model file to write, such as my.notelstm.
        recipe: A recipe's name, as `notelstm plugins` lists it, or a TOML file: a line
            `recipe = "reference"`, then what --set can say.
        go_on_with: Go on with a trained model, by its own recipe and gently: fine-tuning. The
            licence of what it was trained on is carried on.
        set: Change settings of the recipe: window=50 training.learning_rate=0.01 model.hidden=64
            policy.tracks=all options.sigmoid=false encoder.name=log-time. More than one at once,
            or --set again.
        epochs: How often every target is seen.
        max_files: Read at most so many files.
        validation: Share of the pieces, 0 to 1, to set aside and measure after each epoch; copies
            and transpositions of a piece stay together. Of MAESTRO, whose own table says what is
            for training, so many of its validation pieces.
        minutes: Train for so long, whatever the number of epochs if --epochs is not given; a
            falling learning rate is at its lowest by then.
        seed: What initialisation and order are made from; the same seed gives the same model.
        precision: In what matrix products are computed; auto tries which is faster here.
        callback: Add a callback, as `notelstm plugins` lists them: samples, tensorboard,
            divergence-guard. NAME:KEY=VALUE,KEY=VALUE gives it settings.
        profile: Write to MODEL.run/profile.txt on which operations the time goes.
        resume: Go on with the run in MODEL.run; all else as it was, but --epochs may be more.
        half: Write the model's numbers in half precision, for a file of half the size.
    """
    from dataclasses import replace

    from notelstm.cli.callbacks import chosen_callbacks
    from notelstm.cli.sources import open_music
    from notelstm.errors import OutputError

    if output.is_dir():
        raise OutputError(
            "a model is a file", got="a folder", where=str(output), fix="name a file in it"
        )
    start = None if go_on_with is None else _start(go_on_with, recipe)
    settings = [pair for pairs in set for pair in pairs]
    chosen = _recipe(recipe or "reference", settings, epochs, seed, start)
    training: dict[str, Any] = {} if precision is None else {"precision": precision}
    if minutes is not None and epochs is None:
        training["epochs"] = None
    chosen = replace(chosen, training=replace(chosen.training, **training))
    music = open_music(folder, chosen.policy, share=validation, limit=max_files)
    pieces = music.side("train", max_files)
    held_out: list[Notes] = []
    if validation > 0 and music.split.validation:
        most = max(1, round(validation * len(pieces))) if music.by_table else None
        held_out = music.side("validation", most)
    print(f"{music.corpus.name}: {len(pieces)} pieces, {sum(map(len, pieces)):,} notes")
    if music.corpus.licence:
        print(f"licence of the music: {music.corpus.licence}")
    if held_out:
        print(f"{len(held_out)} more pieces are set aside for validation")
    elif validation > 0:
        print("none is set aside for validation: it goes by what is in each, and they are few")
    sys.stdout.flush()
    bundle = _run(
        chosen,
        pieces,
        output,
        source=music.corpus,
        validation=held_out,
        resume=resume,
        half=half,
        start=start,
        # What was held out is part of the record, so that `evaluate --split` finds it again.
        record={"held_out": validation},
        callbacks=chosen_callbacks(callback, minutes=minutes, profile=profile),
    )
    print(f"wrote {output}: {_size(bundle)}")
    print(f"next: notelstm generate {output} -o out.mid")


def _start(model: tuple[Path, ...], recipe: str | None) -> Bundle:
    """The model to go on with."""
    from notelstm.bundle import load
    from notelstm.errors import ConfigError

    if recipe is not None:
        raise ConfigError("a model is gone on with by its own recipe", got=f"--recipe {recipe}")
    if len(model) > 1:
        given = " ".join(map(str, model))
        raise ConfigError("--from takes one model, or none for notelstm's own", got=given)
    return load(*model)


def _recipe(
    name: str,
    settings: Sequence[str],
    epochs: int | None,
    seed: int | None,
    start: Bundle | None = None,
) -> Recipe:
    """The recipe of that name or file, or of a model, with what the command line changes."""
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


def _run(
    recipe: Recipe,
    pieces: list[Notes],
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
    """Train, say how it goes, and save the bundle."""
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
        folder=output.with_name(output.name + ".run"),
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


def _size(bundle: Bundle) -> str:
    from typing import cast

    from torch import nn

    count = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    return f"{count:,} parameters, trained on {bundle.data.notes:,} notes"


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("demo"),
    chorales: Annotated[int, arg(metavar="N")] = 200,
    epochs: Annotated[int, arg(metavar="N")] = 24,
    seed: Annotated[int, arg(metavar="N")] = 0,
) -> None:
    """Train on Bach chorales for about a minute, then write music and a picture of it.

    Needs the extras `bach` and `plot`; nothing is downloaded.

    Args:
        output: The folder to write to.
        chorales: How many chorales to train on; there are about 360.
        epochs: How often each is seen.
        seed: Another seed, other music.
    """
    import shutil

    from notelstm.cli.sources import open_corpus
    from notelstm.errors import ConfigError
    from notelstm.generation import generate
    from notelstm.listening.pianoroll import save_piano_roll
    from notelstm.midi import ReadPolicy, write_midi
    from notelstm.sampling import Ancestral, Temperature

    if chorales < 1:
        raise ConfigError("a demo trains on at least 1 chorale", got=f"{chorales}")
    recipe = _recipe("expressive", _SMALL, epochs, seed)
    print("reading Bach chorales from the music21 package")
    corpus = open_corpus("bach", ReadPolicy())
    pieces = corpus[: chorales + 1]
    prompt = pieces.pop()[:48]
    print(f"training on {len(pieces)} chorales, {sum(map(len, pieces)):,} notes")
    model = output / "demo.notelstm"
    shutil.rmtree(model.with_name(model.name + ".run"), ignore_errors=True)
    bundle = _run(recipe, pieces, model, source=corpus)
    sampler = Ancestral(processors=(Temperature(temperature=0.9),))
    free = generate(bundle, 200, sampler=sampler, seed=seed)
    write_midi(free, output / "demo.mid")
    continued = generate(bundle, 200, prompt=prompt, sampler=sampler, seed=seed)
    whole = type(prompt).merge([prompt, continued.shifted(float(prompt.start[-1]))])
    write_midi(whole, output / "demo-continued.mid")
    save_piano_roll(whole, output / "demo.png", prompt_notes=len(prompt))
    print(f"""
listen:   {output / "demo.mid"}  ({len(free)} notes from nothing)
          {output / "demo-continued.mid"}  (an unheard chorale's beginning, gone on with)
look:     {output / "demo.png"}
model:    {model}

next:     notelstm generate {model} -o more.mid --seed 1
          notelstm train YOUR_FOLDER_OF_MIDI_FILES --recipe expressive -o mine.notelstm""")
