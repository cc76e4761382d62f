"""``notelstm evaluate``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from notelstm.cli.sources import Side

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, tyro.conf.Positional, arg(metavar="MODEL")],
    folder: Annotated[str, tyro.conf.Positional, arg(metavar="FOLDER")],
    /,
    *,
    split: Annotated[Side | None, arg(help_behavior_hint="(default: see above)")] = None,
    max_files: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """Measure a model on held-out music, in nats per note on a 10 ms grid.

    Lower is better; a uniform guess at 128 pitches costs 4.85. The figures do not depend on how a
    model writes notes down, so any model can be compared with any other. Scored is each note from
    the 26th of a piece on. `psd` is pitch, step and duration together, `total` velocity too.

    Args:
        model: A model file that `notelstm train` wrote.
        folder: MIDI files that the model was not trained on: a folder, a single file, or the name
            of a corpus such as `bach`.
        split: Which of its pieces. Of MAESTRO its own table says what is train, validation and
            test, and validation is the default. Of other sources, validation is what
            `notelstm train --validation` set aside for this model, and all is the default.
        max_files: Measure at most so many pieces.
        json: Print one line of JSON; a figure that the model does not have is null.
    """
    from notelstm.bundle import load
    from notelstm.cli.sources import open_music
    from notelstm.evaluation import nats_per_note

    bundle = load(model)
    share = float(bundle.settings.get("held_out", 0.0))
    music = open_music(folder, bundle.policy, share=share)
    side: Side = split or ("validation" if music.by_table else "all")
    pieces = music.side(side, max_files)
    scores = nats_per_note(bundle.player, bundle.encoder, pieces, sigmas=bundle.sigmas)
    figures = scores.to_json()
    if json:
        print(json_format.dumps(figures))
        return
    print(f"{len(scores.pieces)} pieces, {figures['notes']:,} notes; nats per note:")
    for name in ("pitch", "step", "duration", "psd", "velocity", "total"):
        value = figures[name]
        print(f"  {name:<9} {'-' if value is None else f'{value:6.3f}'}")
