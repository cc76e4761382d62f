"""``Samples``: music from the model while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

from typing_extensions import override

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError
from notelstm.generation import generate
from notelstm.midi import write_midi
from notelstm.training.callbacks import Callback

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["Samples"]


@final
@dataclass(kw_only=True)
class Samples(Callback):
    """Writes ``samples/epoch-0001.mid`` and so on into the run folder; training is unaffected.

    Attributes:
        every: Epochs between two samples.
        notes: Number of notes.
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
                raise ConfigError(f"{name} is {value}, below {least}")
        self._bundle: Bundle | None = None

    @override
    def on_bundle_ready(self, bundle: Bundle) -> None:
        """Take the model that is trained, with its parts."""
        self._bundle = bundle

    @override
    def check(self, trainer: Trainer) -> None:
        """Check that there are a model to generate with and a run folder."""
        if trainer.folder is None:
            raise ConfigError(
                "there is no run folder to write samples to", hint="train with folder=..."
            )
        if self._bundle is None:
            raise ConfigError(
                "samples need a model with its encoder and sampler",
                hint="train with Recipe.train, or call on_bundle_ready(bundle) first",
            )

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Write a sample."""
        epoch = trainer.state.epoch
        if epoch % self.every == 0:
            music = generate(cast(Bundle, self._bundle), self.notes, seed=self.seed)
            path = cast(Path, trainer.folder) / "samples" / f"epoch-{epoch:04d}.mid"
            # Notes of an early epoch may be shorter than MIDI can hold.
            write_midi(music, path, short="lengthen")
