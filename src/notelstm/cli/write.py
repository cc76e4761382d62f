"""``notelstm write``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import tyro
from tyro.conf import arg

from notelstm.cli.generation_options import Steering, given_labels
from notelstm.cli.options import Flag, shown
from notelstm.cli.outputs import check_outputs
from notelstm.cli.pieces import SEEDS, check_music, numbered, write_music
from notelstm.cli.reading_options import Reading, left_out_of_file
from notelstm.errors import ConfigError, counted
from notelstm.listening import Sample, save_page
from notelstm.listening.pianoroll import save_piano_roll
from notelstm.midi import read_midi_with_report
from notelstm.midi.writing import instrument_labels, instruments_of

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.generation.writing import WritingTask, Written
    from notelstm.notes import Notes

__all__ = ["write"]

_MOST_PIECES: Final = 1000


def write(  # noqa: PLR0913 - each is an option of the command
    what: Annotated[tuple[Path, ...], tyro.conf.Positional, arg(metavar="[MODEL] FILE.mid")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.mid")],
    gap: Annotated[tuple[float, float] | None, shown("START END")] = None,
    vary: Annotated[tuple[float, float] | None, shown("START END")] = None,
    parts: Annotated[tuple[str, ...] | None, shown("NAME [NAME ...]")] = None,
    notes: Annotated[int | None, shown("N", "100 for each second")] = None,
    seed: Annotated[int | None, shown("N", "another one each time")] = None,
    batch: Annotated[int, arg(metavar="N")] = 1,
    best_of: Annotated[int, arg(metavar="N")] = 1,
    given: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, shown("LABEL=TEXT", "the file's, or none")
    ] = (),
    steering: Annotated[Steering, arg(name="")] = Steering(),  # noqa: B008 - it cannot change
    picture: Annotated[Path | None, shown("FILE")] = None,
    html: Annotated[Path | None, shown("PAGE")] = None,
    overwrite: Flag = False,
    reading: Annotated[Reading, arg(name="")] = Reading(),  # noqa: B008 - it cannot change
) -> None:
    """Write new notes between those of a MIDI file.

    With --gap a gap is filled, with --vary a span is written anew, and with neither of them parts
    are written that the file does not have: a bass, or the lower voices of a chorale. The notes of
    the file that are kept are given to the model, also those that follow, and none of them changes.
    The model must have been trained for this, as the pretrained one and those of the recipe
    `chorales` are.

    Args:
        what: A model file that `notelstm train` wrote (default: the pretrained model), and a MIDI
            file.
        output: The MIDI file to write: the notes that are kept and the new ones, with the tempo,
            time signatures and tracks of the file.
        gap: Fill this gap, in seconds. Notes that begin in it stay.
        vary: Write this span anew, in seconds. Notes that begin in it are left out.
        parts: Write only these parts, by the names that `notelstm inspect MODEL` shows; all others
            are given. Without --gap and --vary, notes of these parts are left out of the whole
            file, and the default is all parts of the model that the file does not have.
        notes: The most new notes.
        seed: Random seed: the same seed and options give the same music. It is printed, and kept
            in the MIDI file and on the page.
        batch: Write N pieces, each with its own random numbers: OUT-1.mid, OUT-2.mid, ...
        best_of: Write N pieces for each one and keep the one with the most likely new notes.
        given: A label of the music, such as composer=Chopin, if the model was trained with labels;
            `notelstm inspect MODEL` lists them. Can be repeated.
        steering: Sampler, temperature, truncation and constraints.
        picture: Also draw a piano roll, .png or .svg; needs the extra `plot`.
        html: Also write a page, .html, that shows and plays the music in any browser, without and
            with the new notes.
        overwrite: Replace outputs that exist.
        reading: How the file is read; settings that are not given are the model's own.
    """
    from notelstm.bundle import load
    from notelstm.generation.writing import write_batch
    from notelstm.listening.card import card_of, music_details

    if not 1 <= len(what) <= 2:
        problem = "no MIDI file is given" if not what else f"{len(what)} names are given"
        raise ConfigError(problem, hint="run notelstm write [MODEL] FILE.mid -o OUT.mid")
    if gap is not None and vary is not None:
        raise ConfigError("--gap and --vary contradict each other", hint="leave one of them out")
    if not 1 <= batch <= _MOST_PIECES:
        raise ConfigError(f"--batch {batch} is not 1 to {_MOST_PIECES:,} pieces")
    labels = given_labels(given)
    *model, file = what
    outputs = [numbered(output, k, batch) for k in range(1, batch + 1)]
    for path in outputs:
        check_music(path, picture, html, file, "the file that is read")
    pictures = [] if picture is None else [numbered(picture, k + 1, batch) for k in range(batch)]
    check_outputs([*outputs, *pictures, html], overwrite=overwrite)
    bundle = load(*model)
    piece, report = read_midi_with_report(file, reading.policy(bundle.read_policy))
    if left_out := left_out_of_file(piece, report):
        print(f"{file}: {left_out}")
    task = _task(bundle, piece, gap, vary, parts)
    sampler = steering.sampler_for(bundle)
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    made = write_batch(
        bundle,
        [task] * batch,
        num_notes=notes,
        sampler=sampler,
        seed=seed,
        best_of=best_of,
        given=labels,
    )
    drawn = {"seed": seed, **labels, **steering.changed_settings()}
    origin = {"model": model[0].name if model else "pretrained", **drawn}
    kept = made[0].notes[~made[0].new]
    print(f"{counted(len(kept), 'note')} given, {_left_out(piece, kept)}")
    samples = [Sample(notes=kept, title="given")] if len(kept) else []
    for k, written in enumerate(made):
        title = output.stem if batch == 1 else f"{output.stem} {k + 1}"
        about = origin if batch == 1 else {**origin, "piece": f"{k + 1} of {batch}"}
        write_music(written.notes, outputs[k], about, _counts(written, task))
        samples.append(Sample(notes=written.notes, title=title))
        if pictures:
            save_piano_roll(written.notes, pictures[k])
            print(f"drew {pictures[k]}")
    if html is not None:
        details = {"This music": music_details(drawn), **card_of(bundle)}
        save_page(samples, html, title=output.stem, details=details)
        print(f"wrote {html}: open it in a browser")
    these = "this piece" if batch == 1 else "these pieces"
    print(f"seed {seed}: --seed {seed} makes {these} again")


def _task(
    bundle: Bundle,
    piece: Notes,
    gap: tuple[float, float] | None,
    vary: tuple[float, float] | None,
    parts: tuple[str, ...] | None,
) -> WritingTask:
    from notelstm.generation.writing import WritingTask, accompaniment

    span = gap or vary
    if span is None:
        return accompaniment(bundle, piece, parts)
    start, end = span
    return WritingTask(notes=piece, start=start, end=end, parts=parts, replace=gap is None)


def _left_out(piece: Notes, kept: Notes) -> str:
    """The number of notes of the file that are replaced, in words."""
    count = len(piece) - len(kept)
    return f"{counted(count, 'note')} left out" if count else "none left out"


def _counts(written: Written, task: WritingTask) -> str:
    """The new notes of a piece, and their parts, in words."""
    new = written.notes[written.new]
    text = f"{counted(len(new), 'new note')} from {task.start:.1f} to {task.end:.1f} s"
    groups = instruments_of(new, None)
    labels = instrument_labels(groups)
    each = (f"{len(one.notes)} {label}" for label, one in zip(labels, groups, strict=True))
    return f"{text} ({', '.join(each)})" if groups else text
