"""``notelstm evaluate``."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import arg

from notelstm.cli.sources import Side

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.cli.sources import Music

__all__ = ["evaluate"]


def evaluate(
    what: Annotated[tuple[str, ...], tyro.conf.Positional, arg(metavar="[MODEL] FOLDER")],
    /,
    *,
    split: Annotated[Side | None, arg(help_behavior_hint="(default: see above)")] = None,
    train: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    max_files: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """Measure a model on held-out music, in nats per note on a 10 ms grid.

    Lower is better; a uniform guess at 128 pitches costs 4.85. The figures do not depend on how a
    model writes notes down, so any model can be compared with any other. Scored is each note from
    the 26th of a piece on. `psd` is pitch, step and duration together, `total` velocity too. Beside
    the model stand baselines, and how well each figure is known from so many pieces.

    Args:
        what: A model file that `notelstm train` wrote (default: the one that comes with notelstm),
            and MIDI files that it was not trained on: a folder, a single file, or the name of a
            corpus such as `bach`.
        split: Which of its pieces. Of MAESTRO its own table says what is train, validation and
            test, and validation is the default. Of other sources, validation is what
            `notelstm train --validation` set aside for this model, and all is the default.
        train: What the model was trained on, a folder, file or corpus: n-grams are counted in it,
            too. Of what has a split, only the training side is read.
        max_files: Measure at most so many pieces.
        json: Print one line of JSON; a figure that the model does not have is null.
    """
    from notelstm.bundle import load
    from notelstm.cli.tables import report_lines
    from notelstm.errors import ConfigError
    from notelstm.evaluation import evaluate as measure

    if not 1 <= len(what) <= 2:
        raise ConfigError(
            "a model, or none, and a folder are measured",
            got=f"{len(what)} names",
            fix="notelstm evaluate [MODEL] FOLDER",
        )
    *model, folder = what
    bundle = load(*model)
    music = _music(folder, bundle)
    names, pieces = music.named(split or ("validation" if music.by_table else "all"), max_files)
    training = None if train is None else _music(train, bundle).side("train")
    report = measure(bundle, pieces, names=names, training=training)
    if json:
        print(json_format.dumps(report.to_json(), allow_nan=False))
        return
    print("\n".join(report_lines(report)))


def _music(where: str, bundle: Bundle) -> Music:
    """A source of music, read and split as it was for this model."""
    from notelstm.cli.sources import open_music

    return open_music(where, bundle.policy, share=float(bundle.settings.get("held_out", 0.0)))
