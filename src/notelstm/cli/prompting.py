"""The options of ``notelstm generate`` that name the music to continue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    from notelstm.midi import ReadPolicy
    from notelstm.notes import Notes

__all__ = ["Prompting"]


@final
@dataclass(frozen=True, kw_only=True)
class Prompting:
    """The music to continue.

    Attributes:
        prompt: A MIDI file to continue; without one, generation is unconditional.
        prompt_notes: Use only the first N notes of the prompt.
        prompt_seconds: Use only the first S seconds of the prompt.
        prompt_bars: Use only the first N bars of the prompt.
        only_new: Write the new notes without the prompt.
    """

    prompt: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    prompt_notes: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    prompt_seconds: Annotated[float | None, arg(metavar="S", help_behavior_hint="")] = None
    prompt_bars: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    only_new: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False

    def check(self) -> None:
        """Refuse options that do nothing, or cannot have that value.

        Raises:
            ConfigError: If there is such an option.
        """
        from notelstm.errors import ConfigError

        for name in ("prompt_notes", "prompt_seconds", "prompt_bars", "only_new"):
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if value is None or value is False:
                continue
            if self.prompt is None:
                raise ConfigError(
                    f"{option} is given without a prompt", hint="name a MIDI file with --prompt"
                )
            if not 0 < value < float("inf"):
                raise ConfigError(f"{option} {value} is not above 0")

    def read(self, policy: ReadPolicy) -> Notes | None:
        """The part of the prompt that is used, None without a prompt.

        Args:
            policy: How to read the file.

        Raises:
            MidiError: If it cannot be read.
            DataError: If that part has no notes.
        """
        from notelstm.cli.reading import left_out_of_file
        from notelstm.errors import DataError
        from notelstm.midi import read_midi_with_report

        if self.prompt is None:
            return None
        whole, report = read_midi_with_report(self.prompt, policy)
        left_out = left_out_of_file(whole, report)
        if left_out:
            print(f"{self.prompt}: {left_out}")
        used = whole.first(
            notes=self.prompt_notes, seconds=self.prompt_seconds, bars=self.prompt_bars
        )
        if not len(used):
            raise DataError(
                f"the prompt has no notes before {whole.start[0]:.2f} s",
                where=str(self.prompt),
                hint="use more of it with --prompt-seconds or --prompt-bars",
            )
        return used
