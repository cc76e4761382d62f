"""The options of ``notelstm generate`` for the prompt, and for sampling."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, final

import tyro
from tyro.conf import arg

from notelstm.cli.options import Flag, shown
from notelstm.cli.reading_options import left_out_of_file
from notelstm.errors import ConfigError, DataError
from notelstm.midi import ReadPolicy, read_midi_with_report
from notelstm.notes import Notes
from notelstm.plugins import build, settings_of
from notelstm.protocols import NoteEncoder, Processor, Sampler

if TYPE_CHECKING:
    from notelstm.bundle import Bundle

__all__ = ["Prompting", "Steering", "given_labels"]


@final
@dataclass(frozen=True, kw_only=True)
class Prompting:
    """The music to continue.

    Attributes:
        prompt: A MIDI file to continue; without one, generation is unconditional. Can be repeated:
            each is continued in a file of its own, OUT-1.mid, OUT-2.mid, ...
        prompt_notes: Use only the first N notes of the prompt.
        prompt_seconds: Use only the first S seconds of the prompt.
        prompt_bars: Use only the first N bars of the prompt.
        only_new: Write the new notes without the prompt.
    """

    prompt: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, shown("FILE")] = ()
    prompt_notes: Annotated[int | None, shown("N")] = None
    prompt_seconds: Annotated[float | None, shown("S")] = None
    prompt_bars: Annotated[int | None, shown("N")] = None
    only_new: Flag = False

    def check(self) -> None:
        """Raise ConfigError for an option without effect, or with an invalid value."""
        for name in ("prompt_notes", "prompt_seconds", "prompt_bars", "only_new"):
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if value is None or value is False:
                continue
            if not self.prompt:
                raise ConfigError(
                    f"{option} is given without a prompt", hint="name a MIDI file with --prompt"
                )
            if not 0 < value < float("inf"):
                raise ConfigError(f"{option} {value} is not above 0")

    def read(self, policy: ReadPolicy) -> list[Notes]:
        """The part of each prompt that is used."""
        return [self._read(path, policy) for path in self.prompt]

    def _read(self, path: Path, policy: ReadPolicy) -> Notes:
        whole, report = read_midi_with_report(path, policy)
        left_out = left_out_of_file(whole, report)
        if left_out:
            print(f"{path}: {left_out}")
        used = whole.first(
            notes=self.prompt_notes, seconds=self.prompt_seconds, bars=self.prompt_bars
        )
        if not len(used):
            raise DataError(
                f"the prompt has no notes before {whole.start[0]:.2f} s",
                where=str(path),
                hint="use more of it with --prompt-seconds or --prompt-bars",
            )
        return used


_ABOUT: Final = {
    "pitch": ("scale", "pitch_range", "no_repeat_ngram"),
    "step": ("max_polyphony", "max_chord_size", "density", "grid"),
    "instrument": ("instruments", "max_instruments"),
}
"""The role of the field that each option needs; events serve as well, but have no instruments."""

_Whole: TypeAlias = Annotated[int | None, shown("N")]
_Share: TypeAlias = Annotated[float | None, shown("P")]


@final
@dataclass(frozen=True, kw_only=True)
class Steering:
    """Sampler, temperature, truncation and constraints.

    Attributes:
        sampler: Another sampler, such as `greedy`; `notelstm plugins` lists them.
        temperature: Above 1 more random, below 1 more predictable; 1 as trained.
        top_k: Sample from the N most likely values only.
        top_p: Sample from the most likely values only, whose probabilities add up to P.
        min_p: Sample only from values at least P times as likely as the most likely one.
        instruments: Only these instruments play: names of parts, as `notelstm inspect MODEL` shows
            them, with commas between: "piano,bass,drums".
        max_instruments: The most different instruments that play at one time, without percussion.
        scale: Only notes of a scale: "D dorian", "F# minor", "A blues", "C major pentatonic".
        pitch_range: Lowest and highest note: names or MIDI note numbers, such as C2 C6.
        max_polyphony: The most pitches of an instrument that sound at one time; 1 for a melody.
        max_chord_size: The most notes of an instrument that begin together.
        no_repeat_ngram: No run of N pitches of an instrument occurs twice.
        density: Approximate number of notes per second of each instrument.
        grid: Onsets on a grid of S seconds; of S beats for a model whose times are in beats.
        processor: Add a processor, as `notelstm plugins` lists them. NAME:KEY=VALUE,KEY=VALUE gives
            it settings: 'pitch-range:low=C1,high=G2,instruments=Bass', or for several instruments
            instruments=["Bass","Cello"]. Can be repeated. Scale, range, density and the like act on
            each instrument but percussion, unless instruments or drums=true is given.
    """

    sampler: Annotated[str | None, shown("NAME", "the model's own")] = None
    temperature: Annotated[float, arg(metavar="T")] = 1.0
    top_k: _Whole = None
    top_p: _Share = None
    min_p: _Share = None
    instruments: Annotated[str | None, shown("NAMES")] = None
    max_instruments: _Whole = None
    scale: Annotated[str | None, shown("NAME")] = None
    pitch_range: Annotated[tuple[str, str] | None, shown("LOW HIGH")] = None
    max_polyphony: _Whole = None
    max_chord_size: _Whole = None
    no_repeat_ngram: _Whole = None
    density: Annotated[float | None, shown("RATE")] = None
    grid: Annotated[float | None, shown("S")] = None
    processor: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, shown("NAME")] = ()

    def changed_settings(self) -> dict[str, object]:
        """The options that differ from their defaults, by name."""
        given = dataclasses.asdict(self)
        plain = dataclasses.asdict(Steering())
        return {name: value for name, value in given.items() if value != plain[name]}

    def sampler_for(self, bundle: Bundle) -> Sampler:
        """The bundle's sampler or the named one, with the processors of the options.

        The order is: temperature, the processors of the model's own sampler, constraints,
        truncation. Truncation comes last so that it ranks only values that are allowed.
        """
        from notelstm.sampling.samplers import Greedy, with_processors

        sampler: Sampler = bundle.sampler
        if self.sampler is not None:
            own = settings_of(sampler).get("processors", ())
            sampler = with_processors(build({"kind": "samplers", "name": self.sampler}), own)
        self._check_fields(bundle.encoder)
        truncation = self._truncation()
        if isinstance(sampler, Greedy) and (truncation or self.temperature != 1):
            raise ConfigError(
                "--temperature, --top-k, --top-p and --min-p do nothing with a greedy sampler",
                hint="leave them out",
            )
        more = (*self._constraints(bundle.encoder), *truncation)
        return with_processors(sampler, more, temperature=self.temperature)

    def _check_fields(self, encoder: NoteEncoder) -> None:
        """Raise ConfigError for an option that the model has no field for."""
        roles = {field.role for field in encoder.fields}
        for role, options in _ABOUT.items():
            for option in options:
                fitting = {role} if role == "instrument" else {role, "event"}
                if getattr(self, option) is not None and not roles & fitting:
                    raise ConfigError(
                        f"--{option.replace('_', '-')} would do nothing: the model has no field of "
                        f"{role}, but of {', '.join(sorted(roles))}",
                        hint="leave it out",
                    )

    def _constraints(self, encoder: NoteEncoder) -> Sequence[Processor]:
        """The processors that constrain the music."""
        from notelstm import sampling

        beats = any(field.role == "step" and field.unit == "beat" for field in encoder.fields)
        grid = functools.partial(sampling.GridSnap, unit="beat" if beats else "s")
        made: list[Processor] = []
        if self.instruments is not None:
            names = filter(None, map(str.strip, self.instruments.split(",")))
            made.append(sampling.Instruments(allowed=tuple(names)))
        if self.pitch_range is not None:
            low, high = (int(p) if p.isdecimal() else p for p in self.pitch_range)
            made.append(sampling.PitchRange(low=low, high=high))
        for setting, kind, name in (
            (self.max_instruments, sampling.MaxInstruments, "count"),
            (self.scale, sampling.Scale, "name"),
            (self.max_polyphony, sampling.MaxPolyphony, "notes"),
            (self.max_chord_size, sampling.MaxChordSize, "notes"),
            (self.grid, grid, "grid"),
            (self.density, sampling.NoteDensity, "notes_per_second"),
            (self.no_repeat_ngram, sampling.NoRepeatNGram, "ngram_size"),
        ):
            made += _if_given(setting, kind, name)
        return [*made, *map(_named_processor, self.processor)]

    def _truncation(self) -> Sequence[Processor]:
        """The processors that exclude unlikely values."""
        from notelstm import sampling

        return [
            *_if_given(self.top_k, sampling.TopK, "k"),
            *_if_given(self.top_p, sampling.TopP, "p"),
            *_if_given(self.min_p, sampling.MinP, "ratio"),
        ]


def given_labels(texts: Sequence[str]) -> dict[str, float | str]:
    """The labels of ``name=text`` each.

    Raises:
        ConfigError: If a text has no name, or a label is given twice.
    """
    given: dict[str, float | str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{text!r} is no label", hint="write --given composer=Chopin")
        if name in given:
            raise ConfigError(f"the label {name!r} is given twice", hint="leave one out")
        given[name] = value
    return given


def _named_processor(text: str) -> Processor:
    """The processor of ``name:key=value,key=value``."""
    from notelstm.recipes.overrides import part

    name, _, settings = text.partition(":")
    # Commas in a list separate its values.
    pairs = re.findall(r"(?:\[[^\]]*\]|[^,])+", settings)
    processor: Processor = part("processors", name, pairs)
    return processor


def _if_given(setting: float | str | None, kind: Any, name: str) -> list[Processor]:
    return [] if setting is None else [kind(**{name: setting})]
