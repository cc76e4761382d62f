"""``notelstm evaluate``."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import arg

from notelstm.cli.sources import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notelstm.bundle import Bundle
    from notelstm.cli.sources import Music
    from notelstm.notes import Notes

__all__ = ["evaluate"]


def evaluate(
    what: Annotated[tuple[str, ...], tyro.conf.Positional, arg(metavar="[MODEL] FOLDER")],
    /,
    *,
    split: Annotated[Side | None, arg(help_behavior_hint="(default: see above)")] = None,
    train: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    max_files: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None,
    samples: Annotated[
        tuple[int, ...] | None,
        arg(metavar="[N]", help_behavior_hint="(default: none; 20 if given)"),
    ] = None,
    samples_from: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    notes: Annotated[int, arg(metavar="N")] = 1000,
    prompt_notes: Annotated[int, arg(metavar="N", help_behavior_hint="(default: 0)")] = 0,
    seed: Annotated[int, arg(metavar="N")] = 0,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """Measure a model on held-out music, in nats per note on a 10 ms grid.

    Lower is better; a uniform guess at 128 pitches costs 4.85. The figures do not depend on how a
    model writes notes down, so any model can be compared with any other. Scored is each note from
    the 26th of a piece on. `psd` is pitch, step and duration together, `total` velocity too. Beside
    the model stand baselines, and how well each figure is known from so many pieces. With --samples
    the model also writes music, which is compared with the same pieces: is it like them, has it
    collapsed, and with --train, is it copied?

    Args:
        what: A model file that `notelstm train` wrote (default: the one that comes with notelstm),
            and MIDI files that it was not trained on: a folder, a single file, or the name of a
            corpus such as `bach`.
        split: Which of its pieces. Of MAESTRO its own table says what is train, validation and
            test, and validation is the default. Of other sources, validation is what
            `notelstm train --validation` set aside for this model, and all is the default.
        train: What the model was trained on, a folder, file or corpus: n-grams are counted in it,
            and samples are searched for its passages. Of what has a split, only the training side
            is read.
        max_files: Measure at most so many pieces.
        samples: Let the model write so many pieces.
        samples_from: MIDI files to look at in place of what the model writes.
        notes: How many notes the model writes for each sample.
        prompt_notes: Let each sample go on from the first so many notes of another of the pieces;
            what is looked at is what comes after them.
        seed: What chance the samples are made from.
        json: Print one line of JSON; a figure that the model does not have is null.
    """
    from notelstm.bundle import load
    from notelstm.cli.sources import open_corpus
    from notelstm.cli.tables import report_lines, sample_lines
    from notelstm.errors import ConfigError
    from notelstm.evaluation import evaluate as measure
    from notelstm.evaluation import evaluate_samples
    from notelstm.generation import generate_batch

    if not 1 <= len(what) <= 2:
        raise ConfigError(
            "a model, or none, and a folder are measured",
            got=f"{len(what)} names",
            hint="notelstm evaluate [MODEL] FOLDER",
        )
    *model, folder = what
    bundle = load(*model)
    count = _count(samples, samples_from)
    music = _music(folder, bundle)
    names, pieces = music.named(split or ("validation" if music.by_table else "all"), max_files)
    if samples_from is not None:
        written = list(open_corpus(samples_from, bundle.policy))
    elif count and prompt_notes:
        written = _continued(bundle, pieces, count, prompt_notes, notes, seed)
    else:
        written = generate_batch(bundle, notes, batch_size=count, seed=seed) if count else []
    known = None if train is None else _music(train, bundle).named("train")
    # First, since it is quick: what cannot be looked at is said before the long work.
    training = known and zip(*known, strict=True)
    found = evaluate_samples(written, pieces, training) if written else None
    report = measure(bundle, pieces, names=names, training=known and known[1])
    if json:
        more = {} if found is None else {"samples": found.to_json()}
        print(json_format.dumps({**report.to_json(), **more}, allow_nan=False))
        return
    print("\n".join(report_lines(report)))
    if found is not None:
        print("\n".join(["", *sample_lines(found)]))


def _count(samples: tuple[int, ...] | None, folder: str | None) -> int:
    """How many samples the model writes.

    Raises:
        ConfigError: If there are fewer than two samples to write, or two ways to come by them.
    """
    from notelstm.errors import ConfigError

    if samples is None:
        return 0
    if folder is not None:
        raise ConfigError("samples are written or read", got="--samples and --samples-from")
    wanted = samples or (20,)
    if len(wanted) > 1 or wanted[0] < 2:
        given = " ".join(map(str, wanted))
        raise ConfigError("--samples takes a number of at least 2, or none", got=given)
    return wanted[0]


def _continued(
    bundle: Bundle, pieces: Sequence[Notes], count: int, prompt: int, notes: int, seed: int
) -> list[Notes]:
    """What the model writes after the beginnings of pieces, spread over all of them.

    Raises:
        ConfigError: If the beginnings have no notes.
        DataError: If no piece is longer than its beginning.
    """
    from notelstm.errors import ConfigError, DataError
    from notelstm.generation import generate

    if prompt < 0:
        raise ConfigError("--prompt-notes is at least 0", got=f"{prompt}")
    long = [piece for piece in pieces if len(piece) > prompt]
    if not long:
        raise DataError(
            f"a piece to go on from has more than {prompt} notes",
            got=f"{max(map(len, pieces), default=0)} in the longest",
            hint="lower --prompt-notes",
        )
    begun = [long[k * len(long) // count][:prompt] for k in range(count)]
    return [
        generate(bundle, notes, prompt=beginning, seed=seed + k)
        for k, beginning in enumerate(begun)
    ]


def _music(where: str, bundle: Bundle) -> Music:
    """A source of music, read and split as it was for this model."""
    from notelstm.cli.sources import open_music

    return open_music(where, bundle.policy, share=float(bundle.settings.get("held_out", 0.0)))
