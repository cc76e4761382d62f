"""``notelstm generate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import tyro
from tyro.conf import arg

from notelstm.cli.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from notelstm.notes import Notes

__all__ = ["generate"]

_MOST_PIECES: Final = 10_000
_SUFFIXES: Final = (".mid", ".midi", ".kar")


def generate(
    model: Annotated[
        Path | None,
        tyro.conf.Positional,
        arg(metavar="[MODEL]", help_behavior_hint="(default: the one that comes with notelstm)"),
    ] = None,
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.mid")],
    prompt: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    notes: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 128)")] = None,
    seconds: Annotated[float | None, arg(metavar="S", help_behavior_hint="")] = None,
    seed: Annotated[int, arg(metavar="N")] = 0,
    batch: Annotated[int, arg(metavar="N")] = 1,
    best_of: Annotated[int, arg(metavar="N")] = 1,
    steering: Annotated[Steering, arg(name="")] = Steering(),  # noqa: B008 - it cannot change
    program: Annotated[str, arg(metavar="NAME")] = "Acoustic Grand Piano",
    picture: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    html: Annotated[Path | None, arg(metavar="PAGE", help_behavior_hint="")] = None,
) -> None:
    """Write new music as a MIDI file.

    Args:
        model: A model file that `notelstm train` wrote. The one that comes with notelstm plays the
            piano.
        output: The MIDI file to write: the prompt, if there is one, and what comes after it.
        prompt: A MIDI file to go on from; without one the music begins with nothing.
        notes: How many new notes.
        seconds: How many seconds of new music; with --notes, whichever is reached first.
        seed: What chance is made from: the same seed gives the same music.
        batch: Write so many pieces, each with chance of its own: OUT-1.mid, OUT-2.mid, ...
        best_of: Draw N for each piece and keep the one that the model finds likeliest.
        steering: How notes are chosen.
        program: The General MIDI instrument that plays, by name or number.
        picture: Also draw a piano roll, .png or .svg; needs the extra `plot`.
        html: Also write a page, .html, that shows and plays the music in any browser.
    """
    from notelstm.bundle import load
    from notelstm.cli.cards import card_of
    from notelstm.errors import ConfigError, DataError
    from notelstm.generation import generate_batch
    from notelstm.midi import read_midi

    if not 1 <= batch <= _MOST_PIECES:
        raise ConfigError(f"a batch has 1 to {_MOST_PIECES:,} pieces", got=f"{batch}")
    _check_outputs(output, picture, html, prompt)
    bundle = load(model)
    start = None if prompt is None else read_midi(prompt, bundle.policy)
    sampler = steering.steered(bundle)
    made = generate_batch(
        bundle,
        notes,
        batch_size=batch,
        seconds=seconds,
        prompt=start,
        sampler=sampler,
        seed=seed,
        best_of=best_of,
    )
    if not any(map(len, made)) and notes != 0 and seconds != 0:
        raise DataError(
            "a model plays notes",
            got="none",
            where="notelstm's own model" if model is None else str(model),
            hint="try another --seed or --temperature, or train it longer",
        )
    for number, new in enumerate(made, start=1):
        _write(new, start, _numbered(output, number, batch), program)
        if picture is not None:
            _draw(new, start, _numbered(picture, number, batch))
    if html is not None:
        drawn = {"seed": seed, **steering.told()}
        _write_page(made, start, html, output.stem, {"This music": drawn, **card_of(bundle)})


def _check_outputs(
    output: Path, picture: Path | None, html: Path | None, prompt: Path | None
) -> None:
    """Say before anything is drawn what cannot be written, or would be written over."""
    from notelstm.errors import ConfigError
    from notelstm.listening.page import check_page_path

    if output.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"music is written to a file that ends in {' or '.join(_SUFFIXES)}",
            got=str(output),
            hint="write that, then make what you want of it with notelstm render",
        )
    if prompt is not None and output.exists() and prompt.exists() and output.samefile(prompt):
        raise ConfigError("new music goes to a file of its own", got=f"the prompt, {prompt}")
    if html is not None:
        check_page_path(html)
    if picture is not None:
        from notelstm.listening.pianoroll import check_picture_path

        check_picture_path(picture)


def _numbered(path: Path, number: int, of: int) -> Path:
    """The path of one of several pieces."""
    return path if of == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _whole(new: Notes, start: Notes | None) -> tuple[Notes, int]:
    """The prompt and what comes after it, and how many notes the prompt has."""
    if start is None:
        return new, 0
    return type(new).merge([start, new.shifted(float(start.start[-1]))]), len(start)


def _write(new: Notes, start: Notes | None, path: Path, program: str) -> None:
    """Write one piece, and say what there is of it."""
    from notelstm.midi import write_midi

    whole, before = _whole(new, start)
    # What a model draws need not be what MIDI can hold; what it cannot is said, not refused.
    played_by = int(program) if program.isdecimal() else program
    write_midi(whole, path, program=played_by, short="lengthen")
    print(f"wrote {path}: {before} notes of the prompt, {len(new)} new, {whole.seconds:.1f} s")
    _say_what_is_lost(whole, path)


def _draw(new: Notes, start: Notes | None, path: Path) -> None:
    """Draw one piece."""
    from notelstm.listening.pianoroll import save_piano_roll

    whole, before = _whole(new, start)
    save_piano_roll(whole, path, prompt_notes=before)
    print(f"drew {path}")


def _write_page(
    made: Sequence[Notes],
    start: Notes | None,
    path: Path,
    title: str,
    details: Mapping[str, Mapping[str, object]],
) -> None:
    """Write the page on which all pieces can be seen and heard."""
    from notelstm.listening import Sample, save_page

    samples = []
    for number, new in enumerate(made, start=1):
        whole, before = _whole(new, start)
        name = title if len(made) == 1 else f"{title} {number}"
        samples.append(Sample(notes=whole, title=name, prompt_notes=before))
    save_page(samples, path, title=title, details=details)
    print(f"wrote {path}: open it in a browser")


def _say_what_is_lost(notes: Notes, path: Path) -> None:
    """Say how many notes MIDI could not hold as they were drawn."""
    from notelstm.midi import read_midi

    empty = int((notes.duration <= 0).sum())
    if empty:
        print(f"  {empty} notes had no length and last one tick in the file")
    lost = len(notes) - (len(read_midi(path)) if len(notes) else 0)
    if lost:
        print(f"  {lost} notes began together with another of their pitch and are not in the file")
