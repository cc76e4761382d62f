"""``notelstm generate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.notes import Notes
    from notelstm.protocols import Sampler

__all__ = ["generate"]


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
    temperature: Annotated[float, arg(metavar="T")] = 1.0,
    sampler: Annotated[
        str | None, arg(metavar="NAME", help_behavior_hint="(default: the model's own)")
    ] = None,
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
        temperature: Above 1 more surprising, below 1 more predictable; 1 as the model learnt it.
        sampler: Another way of choosing notes, such as `greedy`; `notelstm plugins` lists them.
        program: The General MIDI instrument that plays, by name or number.
        picture: Also draw a piano roll, .png or .svg; needs the extra `plot`.
        html: Also write a page, .html, that shows and plays the music in any browser.
    """
    from notelstm.bundle import load
    from notelstm.errors import DataError
    from notelstm.generation import generate as write_music
    from notelstm.midi import read_midi, write_midi
    from notelstm.notes import Notes

    bundle = load(model)
    start = None if prompt is None else read_midi(prompt, bundle.policy)
    new = write_music(
        bundle,
        notes,
        seconds=seconds,
        prompt=start,
        sampler=_sampler(bundle, sampler, temperature),
        seed=seed,
    )
    whole, before = new, 0
    if start is not None:
        before = len(start)
        whole = Notes.merge([start, new.shifted(float(start.start[-1]))])
    if not len(new) and notes != 0 and seconds != 0:
        raise DataError(
            "a model plays notes",
            got="none",
            where="notelstm's own model" if model is None else str(model),
            fix="try another --seed or --temperature, or train it longer",
        )
    # What a model draws need not be what MIDI can hold; what it cannot is said, not refused.
    played_by = int(program) if program.isdecimal() else program
    write_midi(whole, output, program=played_by, short="lengthen")
    print(f"wrote {output}: {before} notes of the prompt, {len(new)} new, {whole.seconds:.1f} s")
    _say_what_is_lost(whole, output)
    if picture is not None:
        from notelstm.listening.pianoroll import save_piano_roll

        save_piano_roll(whole, picture, prompt_notes=before)
        print(f"drew {picture}")
    if html is not None:
        from notelstm.cli.cards import card_of
        from notelstm.listening import Sample, save_page

        drawn = {"seed": seed, "temperature": temperature, "sampler": sampler or "the model's own"}
        details = {"This music": drawn, **card_of(bundle)}
        sample = Sample(notes=whole, title=output.stem, prompt_notes=before)
        save_page([sample], html, title=output.stem, details=details)
        print(f"wrote {html}: open it in a browser")


def _say_what_is_lost(notes: Notes, path: Path) -> None:
    """Say how many notes MIDI could not hold as they were drawn."""
    from notelstm.midi import read_midi

    empty = int((notes.duration <= 0).sum())
    if empty:
        print(f"  {empty} notes had no length and last one tick in the file")
    lost = len(notes) - (len(read_midi(path)) if len(notes) else 0)
    if lost:
        print(f"  {lost} notes began together with another of their pitch and are not in the file")


def _sampler(bundle: Bundle, name: str | None, temperature: float) -> Sampler:
    """The bundle's sampler or the named one, with a temperature in front of its processors."""
    from notelstm.errors import ConfigError
    from notelstm.plugins import build, settings_of
    from notelstm.sampling import Temperature

    sampler: Sampler = bundle.sampler
    if name is not None:
        old = settings_of(sampler).get("processors", ())
        sampler = build({"kind": "samplers", "name": name})
        if "processors" in settings_of(sampler):
            sampler = dataclasses.replace(sampler, processors=old)  # type: ignore[type-var]
    if temperature == 1:
        return sampler
    warm = Temperature(temperature=temperature)
    settings = settings_of(sampler)
    if "processors" not in settings:
        raise ConfigError(
            "a sampler that takes processors can have a temperature", got=type(sampler).__name__
        )
    processors = (warm, *settings["processors"])
    return dataclasses.replace(sampler, processors=processors)  # type: ignore[type-var]
