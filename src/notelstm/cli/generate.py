"""``notelstm generate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.protocols import Sampler

__all__ = ["generate"]


def generate(
    model: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    prompt: Path | None = None,
    notes: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    sampler: str | None = None,
    program: str = "Acoustic Grand Piano",
    picture: Path | None = None,
) -> None:
    """Write new music as a MIDI file.

    Args:
        model: A model file that `notelstm train` wrote.
        output: The MIDI file to write: the prompt, if there is one, and what comes after it.
        prompt: A MIDI file to go on from.
        notes: How many new notes; 128 if --seconds is not given either.
        seconds: How many seconds of new music.
        seed: Another seed, other music.
        temperature: Above 1 more surprising, below 1 more predictable.
        sampler: In place of the model's own: a sampler's name (see `notelstm plugins`).
        program: The General MIDI instrument that plays.
        picture: Also draw a piano roll, .png or .svg.
    """
    from notelstm.bundle import load
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
    write_midi(whole, output, program=program, overlaps="trim")
    print(f"wrote {output}: {before} notes of the prompt, {len(new)} new, {whole.seconds:.1f} s")
    if picture is not None:
        from notelstm.listening.pianoroll import save_piano_roll

        save_piano_roll(whole, picture, prompt_notes=before)
        print(f"drew {picture}")


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
