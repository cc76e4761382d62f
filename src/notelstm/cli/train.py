"""``notelstm train``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import tyro
from tyro.conf import arg

from notelstm.cli.music import open_music
from notelstm.cli.options import Flag, shown
from notelstm.cli.outputs import check_outputs, check_run, remove_run
from notelstm.cli.reading_options import Reading, left_out_of_corpus
from notelstm.data.corpus import Corpus
from notelstm.errors import ConfigError, counted
from notelstm.notes import Notes
from notelstm.parts import PartMap, PartsBy

if TYPE_CHECKING:
    from notelstm.bundle import Bundle

__all__ = ["train"]

_OF_THE_RECIPE: Final = "the recipe's"

_SHOWN: Final = 20
"""The number of instruments that are printed; `notelstm inspect` shows all of a model."""


def train(  # noqa: PLR0913 - each is an option of the command
    folder: Annotated[str, tyro.conf.Positional, arg(metavar="FOLDER")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="MODEL")],
    recipe: Annotated[str | None, shown("NAME|FILE.toml", "expressive")] = None,
    init_from: Annotated[
        tuple[Path, ...] | None,
        arg(
            name="from",
            metavar="[MODEL]",
            help_behavior_hint="(without MODEL: the pretrained model)",
        ),
    ] = None,
    parts: Annotated[PartsBy | None, shown("|".join(get_args(PartsBy)), _OF_THE_RECIPE)] = None,
    set: Annotated[  # noqa: A002 - the option is --set
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, shown("KEY=VALUE")
    ] = (),
    epochs: Annotated[int | None, shown("N", _OF_THE_RECIPE)] = None,
    max_files: Annotated[int | None, shown("N", "all")] = None,
    validation: Annotated[float, arg(metavar="SHARE")] = 0.0,
    minutes: Annotated[float | None, shown("N", "no limit")] = None,
    seed: Annotated[int | None, shown("N", _OF_THE_RECIPE)] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"] | None,
        shown("float32|bfloat16|auto", _OF_THE_RECIPE),
    ] = None,
    callback: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, shown("NAME")] = (),
    report: Annotated[Path | None, shown("PAGE")] = None,
    profile: Flag = False,
    resume: Flag = False,
    half: Flag = False,
    overwrite: Flag = False,
    reading: Annotated[Reading, arg(name="")] = Reading(),  # noqa: B008 - it cannot change
) -> None:
    """Train a model on MIDI files.

    Checkpoints and the log of the run are written to the folder MODEL.run beside the model. Ctrl-C
    saves a checkpoint; --resume continues from it, with the same result as an uninterrupted run.

    Args:
        folder: A folder of MIDI files, a single file, or the name of a corpus such as `bach`.
        output: The model file to write, such as my.notelstm.
        recipe: The name of a recipe, as `notelstm plugins` lists them, or a TOML file: a line
            `recipe = "expressive"`, then any setting that --set can change. `reference` is the
            original design with its faults, for comparison; `expressive` makes better music for one
            instrument; `ensemble` is for several instruments and drums.
        init_from: Fine-tune a trained model, by its own recipe at a low learning rate. The license
            of its training data is carried over.
        parts: How a recipe with instruments, such as `ensemble`, tells those of the pieces apart:
            by General MIDI program, by family of programs, by the name of the track, or by its
            number. auto is by name if the pieces name their tracks alike, otherwise by family.
        set: Change settings of the recipe: sequence_length=50 training.learning_rate=0.01
            model.hidden_size=64 options.sigmoid=false sampler.name=greedy. encoder.ends=true also
            predicts where a piece ends, and conditions=composer makes a column of the table of the
            files, or `folder`, an input of the model. Takes several settings, and can be repeated.
        epochs: Number of passes over the training pieces.
        max_files: Read at most N files.
        validation: Share of the pieces, 0 to 1, that is set aside and measured after each epoch;
            copies and transpositions of a piece stay together. For MAESTRO, whose own table
            defines the split, the number of its validation pieces in proportion.
        minutes: Train for N minutes, without a limit on epochs unless --epochs is given; a decaying
            learning rate reaches its minimum at the end.
        seed: Random seed of initialisation and order; the same seed gives the same model.
        precision: Compute precision of matrix products; auto measures which is faster.
        callback: Add a callback, as `notelstm plugins` lists them: samples, tensorboard,
            divergence-guard. NAME:KEY=VALUE,KEY=VALUE gives it settings. Can be repeated.
        report: Write an HTML page on the run, updated after each epoch: loss curves, samples of the
            model (the callback `samples`), settings.
        profile: Write a profile of the operations to MODEL.run/profile.txt.
        resume: Continue the run in MODEL.run with the same settings; only --epochs may be larger.
        half: Write the weights in half precision, which halves the size of the file.
        overwrite: Replace MODEL, its run folder and the report if they exist.
        reading: How files are read; settings that are not given are the recipe's, or with --from
            the model's.
    """
    from notelstm.cli.runs import (
        all_callbacks,
        chosen_callbacks,
        chosen_recipe,
        run_folder,
        run_recipe,
        size_of,
    )
    from notelstm.encoders.rows import label_map_of, part_map_of
    from notelstm.recipes.overrides import DEFAULT
    from notelstm.training import DistributedGroup, Report

    # A resumed run replaces its own outputs.
    check_outputs([output, report], overwrite=overwrite or resume)
    check_run(run_folder(output), overwrite=overwrite or resume)
    start = None if init_from is None else _start(init_from, recipe, parts)
    settings = [pair for pairs in set for pair in pairs]
    chosen = chosen_recipe(recipe or DEFAULT, settings, epochs, seed, start)
    training: dict[str, Any] = {} if precision is None else {"precision": precision}
    if minutes is not None and epochs is None:
        training["epochs"] = None
    if parts is not None and chosen.parts is None:
        raise ConfigError(
            f"--parts {parts} with a recipe without instruments, {chosen.name}",
            hint="give --recipe ensemble",
        )
    chosen = replace(
        chosen if parts is None else chosen.by_parts(parts),
        training=replace(chosen.training, **training),
        read_policy=reading.policy(chosen.read_policy),
    )
    callbacks = chosen_callbacks(
        callback, minutes=minutes, profile=profile, report=report, title=output.stem
    )
    pages = [Path(callback.path) for callback in callbacks if isinstance(callback, Report)]
    check_outputs(pages, overwrite=overwrite or resume)
    # Before any file is read, so that a misspelt setting fails at the start.
    chosen.check(
        callbacks=all_callbacks(callbacks, validation=validation > 0),
        folder=run_folder(output),
        validation=validation > 0,
        init_from=start,
    )
    music = open_music(folder, chosen.read_policy, share=validation, limit=max_files)
    pieces = music.side("train", max_files)
    held_out: Sequence[Notes] = ()
    if validation > 0 and music.split.validation:
        most = max(1, round(validation * len(pieces))) if music.by_table else None
        held_out = music.side("validation", most)
    _print_pieces(music.corpus, pieces, held_out, validation)
    if recipe is None and start is None:
        print(f"recipe: {DEFAULT}")
    chosen = chosen.fitted(pieces, init_from=start)
    if part_map := part_map_of(chosen.encoder):
        print(_instruments(part_map))
    if label_map := label_map_of(chosen.encoder):
        counts = [f"{one.name} ({counted(len(one.values), 'value')})" for one in label_map.labels]
        print(f"labels: {', '.join(counts)}")
    sys.stdout.flush()
    if overwrite and not resume and DistributedGroup().is_main_process:
        remove_run(run_folder(output))
    try:
        bundle = run_recipe(
            chosen,
            pieces,
            output,
            source=music.corpus,
            validation=held_out,
            resume=resume,
            half_precision=half,
            start=start,
            # The share is recorded so that `evaluate --split` finds the same pieces again.
            record={"held_out": validation},
            callbacks=callbacks,
        )
    except KeyboardInterrupt:
        print("notelstm: the same command with --resume continues the run", file=sys.stderr)
        raise
    print(f"wrote {output}: {size_of(bundle)}")
    if report is not None:
        print(f"wrote {report}: open it in a browser")
    print(f"next: notelstm generate {output} -o out.mid")


def _print_pieces(
    corpus: Corpus, pieces: Sequence[Notes], held_out: Sequence[Notes], share: float
) -> None:
    """Print the pieces, the notes that are left out of them, and their license."""
    notes = counted(sum(map(len, pieces)), "note")
    print(f"{corpus.name}: {counted(len(pieces), 'piece')}, {notes}")
    left_out = left_out_of_corpus(corpus.report)
    if left_out:
        print(left_out)
    if corpus.license:
        print(f"license of the music: {corpus.license}")
    if held_out:
        print(f"{counted(len(held_out), 'more piece')} set aside for validation")
    elif share > 0:
        print("no piece is set aside for validation: there are too few to split")


def _instruments(part_map: PartMap) -> str:
    """A line on the instruments of the model."""
    names = [part.name for part in part_map.classes]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"instruments by {part_map.by}: {', '.join(names[:_SHOWN])}{more}"


def _start(model: tuple[Path, ...], recipe: str | None, parts: str | None) -> Bundle:
    """The model to fine-tune."""
    from notelstm.bundle import load

    for option, value in (("recipe", recipe), ("parts", parts)):
        if value is not None:
            raise ConfigError(
                f"--from and --{option} {value} contradict each other: "
                "a model keeps its own recipe and instruments",
                hint=f"leave out --{option}",
            )
    if len(model) > 1:
        given = " ".join(map(str, model))
        raise ConfigError(
            f"--from is given several models: {given}",
            hint="give one, or none for the pretrained model",
        )
    return load(*model)
