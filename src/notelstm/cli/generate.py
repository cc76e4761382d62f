"""``notelstm generate``."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import tyro
from tyro.conf import arg

from notelstm.cli.generation_options import Prompting, Steering, given_labels
from notelstm.cli.options import Flag, shown
from notelstm.cli.outputs import check_outputs
from notelstm.cli.pieces import SEEDS, check_music, numbered, write_music
from notelstm.cli.reading_options import Reading
from notelstm.errors import ConfigError, DataError, counted
from notelstm.listening import Sample, save_page, trim_opening
from notelstm.listening.pianoroll import save_piano_roll
from notelstm.midi import program_number
from notelstm.midi.writing import instruments_of
from notelstm.notes import Notes
from notelstm.programs import PROGRAMS

__all__ = ["generate"]

_MOST_PIECES: Final = 10_000
_LONGEST_SILENCE: Final = 2.0
"""Seconds at the beginning of a piece that are removed without a message."""


def generate(  # noqa: PLR0913 - each is an option of the command
    model: Annotated[
        Path | None,
        tyro.conf.Positional,
        shown("[MODEL]", "the pretrained model"),
    ] = None,
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.mid")],
    prompting: Annotated[Prompting, arg(name="")] = Prompting(),  # noqa: B008 - it cannot change
    notes: Annotated[int | None, shown("N", "128")] = None,
    seconds: Annotated[float | None, shown("S")] = None,
    until_end: Flag = False,
    end_at: Annotated[float | None, shown("S")] = None,
    seed: Annotated[int | None, shown("N", "another one each time")] = None,
    batch: Annotated[int, arg(metavar="N")] = 1,
    best_of: Annotated[int, arg(metavar="N")] = 1,
    given: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, shown("LABEL=TEXT", "the prompt's, or none")
    ] = (),
    steering: Annotated[Steering, arg(name="")] = Steering(),  # noqa: B008 - it cannot change
    program: Annotated[str | None, shown("NAME", "the prompt's, or Acoustic Grand Piano")] = None,
    picture: Annotated[Path | None, shown("FILE")] = None,
    html: Annotated[Path | None, shown("PAGE")] = None,
    overwrite: Flag = False,
    reading: Annotated[Reading, arg(name="")] = Reading(),  # noqa: B008 - it cannot change
) -> None:
    """Write new music as a MIDI file.

    Args:
        model: A model file that `notelstm train` wrote. The pretrained model plays the piano.
        output: The MIDI file to write: the prompt, if there is one, and its continuation, with the
            prompt's tempo, time signatures and instruments. Without a prompt, silence before the
            first note is removed.
        prompting: The music to continue.
        notes: Number of new notes.
        seconds: Seconds of new music; with --notes, whichever is reached first.
        until_end: Stop where the model ends the piece, if it was trained with encoder.ends=true;
            after 10,000 notes at the latest, unless --notes or --seconds is given.
        end_at: Like --until-end, but the piece ends after about S seconds of new music.
        seed: Random seed: the same seed and options give the same music. It is printed, and kept
            in the MIDI file and on the page.
        batch: Write N pieces, or N for each prompt, each with its own random numbers: OUT-1.mid,
            OUT-2.mid, ...
        best_of: Generate N pieces for each one and keep the most likely of them.
        given: A label of the music, such as composer=Chopin, if the model was trained with labels;
            `notelstm inspect MODEL` lists them. Can be repeated.
        steering: Sampler, temperature, truncation and constraints.
        program: General MIDI instrument of all notes but percussion, by name or number.
        picture: Also draw a piano roll, .png or .svg; needs the extra `plot`.
        html: Also write a page, .html, that shows and plays the music in any browser.
        overwrite: Replace outputs that exist.
        reading: How the prompt is read; settings that are not given are the model's own.
    """
    from notelstm.bundle import load
    from notelstm.generation import generate_batch
    from notelstm.listening.card import card_of, music_details

    if not 1 <= batch <= _MOST_PIECES:
        raise ConfigError(f"--batch {batch} is not 1 to {_MOST_PIECES:,} pieces")
    prompting.check()
    labels = given_labels(given)
    count = batch * max(1, len(prompting.prompt))
    outputs = [numbered(output, k, count) for k in range(1, count + 1)]
    for path in outputs:
        for source in prompting.prompt or (None,):
            check_music(path, picture, html, source, "the prompt")
    pictures = [] if picture is None else [numbered(picture, k + 1, count) for k in range(count)]
    check_outputs([*outputs, *pictures, html], overwrite=overwrite)
    number = None
    if program is not None:
        number = program_number(int(program) if program.isdecimal() else program)
    bundle = load(model)
    prompts = prompting.read(reading.policy(bundle.read_policy))
    each: Sequence[Notes | None] = prompts or [None]
    starts = [prompt for prompt in each for _ in range(batch)]
    sampler = steering.sampler_for(bundle)
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    made = generate_batch(
        bundle,
        notes,
        batch_size=count,
        seconds=seconds,
        prompt=starts,
        sampler=sampler,
        seed=seed,
        best_of=best_of,
        given=labels,
        until="end" if until_end else None,
        end_at=end_at,
    )
    if not any(map(len, made)) and notes != 0 and seconds != 0:
        raise DataError(
            "the model generated no notes",
            where="the pretrained model" if model is None else str(model),
            hint="try another --seed or --temperature, or train it longer",
        )
    if not prompts:
        made = [_without_silence(new, path) for new, path in zip(made, outputs, strict=True)]
    ending = {"until": "end"} if until_end else {}
    if end_at is not None:
        ending = {"end_at": f"{end_at:g}"}
    drawn = {"seed": seed, **labels, **ending, **steering.changed_settings()}
    titles = [output.stem if count == 1 else f"{output.stem} {k}" for k in range(1, count + 1)]
    pieces = [
        _piece(new, start, number, title, only_new=prompting.only_new)
        for new, start, title in zip(made, starts, titles, strict=True)
    ]
    origin = {"model": "pretrained" if model is None else model.name, **drawn}
    for k, (piece, path) in enumerate(zip(pieces, outputs, strict=True)):
        about = origin if count == 1 else {**origin, "piece": f"{k + 1} of {count}"}
        end = _ending(piece) if ending else ""
        write_music(piece.notes, path, about, _counts(piece), end)
        if pictures:
            save_piano_roll(piece.notes, pictures[k], prompt_notes=piece.prompt_notes)
            print(f"drew {pictures[k]}")
    if html is not None:
        details = {"This music": music_details(drawn), **card_of(bundle)}
        save_page(pieces, html, title=output.stem, details=details)
        print(f"wrote {html}: open it in a browser")
    for k, prompt in enumerate(prompts):
        if made[k * batch].program is None:
            _print_instrument(pieces[k * batch], prompt)
    print(
        f"seed {seed}: --seed {seed} makes {'this piece' if count == 1 else 'these pieces'} again"
    )


def _piece(
    new: Notes, start: Notes | None, program: int | None, title: str, *, only_new: bool
) -> Sample:
    """The prompt and its continuation, or the continuation alone, played by a program."""
    whole, before = (new, 0) if start is None else (start.continued(new), len(start))
    if start is not None and only_new:
        whole, before = whole[before:].shifted(-float(start.start[-1])), 0
    if program is not None:
        drums = np.zeros(len(whole), np.bool_) if whole.drum is None else whole.drum
        own = np.zeros(len(whole), np.int64) if whole.program is None else whole.program
        whole = replace(whole, program=np.where(drums, own, program))
    return Sample(notes=whole, title=title, prompt_notes=before)


def _without_silence(new: Notes, path: Path) -> Notes:
    """The notes of an unconditional piece, the first at 0 s."""
    silence = float(new.start[0]) if len(new) else 0.0
    if silence > _LONGEST_SILENCE:
        print(f"removed {silence:.1f} s of silence before the first note of {path}")
    # No wait is too long, so no note is removed.
    return trim_opening(new, max_wait=float("inf"))


def _counts(piece: Sample) -> str:
    """The numbers of the notes of a piece."""
    counts = counted(len(piece.notes) - piece.prompt_notes, "new note")
    if piece.prompt_notes:
        counts = f"{counted(piece.prompt_notes, 'note')} of the prompt, {counts}"
    return counts


def _ending(piece: Sample) -> str:
    """Whether a piece has come to its end."""
    return ", stopped before its end" if piece.notes.truncated else ", to its end"


def _print_instrument(piece: Sample, start: Notes) -> None:
    """Print which of several instruments of the prompt plays the new notes."""
    new = piece.notes[piece.prompt_notes :]
    if len(instruments_of(start, None)) > 1 and len(new):
        number, drum, *_ = instruments_of(new[-1:], None)[0]
        name = "percussion" if drum else PROGRAMS[number]
        print(f"the new notes are given to {name}, which plays most of the prompt's")
