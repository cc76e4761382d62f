"""``notelstm train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notelstm.bundle import Bundle
    from notelstm.notes import Notes

__all__ = ["train"]

_OF_THE_RECIPE: Final = "(default: the recipe's)"
_NO_LIMIT: Final = "(default: no limit)"


def train(  # noqa: PLR0913 - each is an option of the command
    folder: Annotated[str, tyro.conf.Positional, arg(metavar="FOLDER")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="MODEL")],
    recipe: Annotated[
        str | None, arg(metavar="NAME|FILE.toml", help_behavior_hint="(default: expressive)")
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
    report: Annotated[Path | None, arg(metavar="PAGE", help_behavior_hint="")] = None,
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
        recipe: A recipe's name, as `notelstm plugins` lists it, or a TOML file with a line
            `recipe = "expressive"` and the settings that differ from it. `reference` is the
            original design with its faults, for comparison.
        go_on_with: Go on with a trained model, by its own recipe and gently: fine-tuning. The
            licence of what it was trained on is carried on.
        set: Change settings of the recipe: window=50 training.learning_rate=0.01 model.hidden=64
            policy.tracks=all options.sigmoid=false sampler.name=greedy. More than one at once,
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
        report: Write a page, .html, that any browser shows, again after each epoch: curves, music
            from the model as it learns (the callback `samples`), settings.
        profile: Write to MODEL.run/profile.txt on which operations the time goes.
        resume: Go on with the run in MODEL.run; all else as it was, but --epochs may be more.
        half: Write the model's numbers in half precision, for a file of half the size.
    """
    from dataclasses import replace

    from notelstm.cli.callbacks import chosen_callbacks
    from notelstm.cli.runs import (
        all_callbacks,
        chosen_recipe,
        run_folder,
        run_recipe,
        size_of,
    )
    from notelstm.cli.sources import open_music
    from notelstm.errors import OutputError
    from notelstm.recipes.overrides import DEFAULT

    if output.is_dir():
        raise OutputError(
            "a model is a file", got="a folder", where=str(output), hint="name a file in it"
        )
    start = None if go_on_with is None else _start(go_on_with, recipe)
    settings = [pair for pairs in set for pair in pairs]
    chosen = chosen_recipe(recipe or DEFAULT, settings, epochs, seed, start)
    training: dict[str, Any] = {} if precision is None else {"precision": precision}
    if minutes is not None and epochs is None:
        training["epochs"] = None
    chosen = replace(chosen, training=replace(chosen.training, **training))
    callbacks = chosen_callbacks(
        callback, minutes=minutes, profile=profile, report=report, title=output.stem
    )
    # Before any file is read: a night's work must not end on a misspelt setting.
    chosen.check(
        callbacks=all_callbacks(callbacks, validation=validation > 0),
        folder=run_folder(output),
        validation=validation > 0,
        init_from=start,
    )
    music = open_music(folder, chosen.policy, share=validation, limit=max_files)
    pieces = music.side("train", max_files)
    held_out: Sequence[Notes] = ()
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
    if recipe is None and start is None:
        print(f"recipe: {DEFAULT}")
    sys.stdout.flush()
    try:
        bundle = run_recipe(
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
            callbacks=callbacks,
        )
    except KeyboardInterrupt:
        print(
            "notelstm: the same command with --resume continues the run",
            file=sys.stderr,
        )
        raise
    print(f"wrote {output}: {size_of(bundle)}")
    if report is not None:
        print(f"wrote {report}: open it in a browser")
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
