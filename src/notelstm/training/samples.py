"""``Samples``: music from a model that is still learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError
from notelstm.generation import generate
from notelstm.midi import write_midi
from notelstm.training.callbacks import Event, Run

__all__ = ["Playing", "Samples"]


@runtime_checkable
class Playing(Protocol):
    """A callback that plays the model; a recipe gives it what that takes, before the run starts."""

    def play_with(self, bundle: Bundle) -> None:
        """Take the model that is trained, with its parts."""
        ...


@final
@dataclass(kw_only=True)
class Samples:
    """Writes ``samples/epoch-0001.mid`` and so on into the run folder; the training is unchanged.

    Attributes:
        every: Epochs between two samples.
        notes: How many notes.
        seed: Each sample is made from the same noise, so that only the model differs.
    """

    every: int = 1
    notes: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value, least in (
            ("every", self.every, 1),
            ("notes", self.notes, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} is at least {least}", got=f"{value}")
        self._bundle: Bundle | None = None

    def play_with(self, bundle: Bundle) -> None:
        """Take the model that is trained, with its parts."""
        self._bundle = bundle

    def handle(self, event: Event, run: Run) -> None:
        """Write a sample after each so many epochs."""
        if self._bundle is None or run.folder is None:
            raise ConfigError(
                "samples are of a recipe's model, and have a run folder to be written to",
                got="no folder" if run.folder is None else "no recipe",
                hint="train with Recipe.train(folder=...), or call play_with(bundle)",
            )
        if event.name == "epoch" and event.epoch % self.every == 0:
            music = generate(self._bundle, self.notes, seed=self.seed)
            path = run.folder / "samples" / f"epoch-{event.epoch:04d}.mid"
            # What is drawn early on need not be what MIDI can hold.
            write_midi(music, path, short="lengthen")
