"""Callbacks that write to the run folder: samples, a report, TensorBoard curves, a profile."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast, final

import torch
from torch import nn
from typing_extensions import override

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, MissingExtraError
from notelstm.files import atomic_write
from notelstm.generation import generate
from notelstm.listening.page import check_page_path
from notelstm.listening.run_report import save_report
from notelstm.midi import write_midi
from notelstm.protocols import NoteModel
from notelstm.training.callbacks import JSONLogger
from notelstm.training.config import check_least
from notelstm.training.trainer import Callback, Trainer

__all__ = ["Profile", "Report", "Samples", "TensorBoard"]

_log = logging.getLogger(__name__)

_PROFILE_ROWS: Final = 25
"""Operations in the table of a profile."""


def _check_folder(trainer: Trainer, output: str) -> None:
    if trainer.folder is None:
        raise ConfigError(f"there is no run folder {output}", hint="train with folder=...")


@final
@dataclass(kw_only=True)
class Samples(Callback):
    """Writes ``samples/epoch-0001.mid`` and so on into the run folder; training is unaffected.

    Attributes:
        every: Epochs between two samples.
        notes: Number of notes.
        seed: Random seed, the same for each sample.
    """

    every: int = 1
    notes: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, every=1, notes=1, seed=0)
        self._bundle: Bundle | None = None

    @override
    def on_bundle_ready(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @override
    def check(self, trainer: Trainer) -> None:
        _check_folder(trainer, "to write samples to")
        if self._bundle is None:
            raise ConfigError(
                "samples need a model with its encoder and sampler",
                hint="train with Recipe.train, or call on_bundle_ready(bundle) first",
            )

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        epoch = trainer.state.epoch
        if epoch % self.every == 0:
            bundle = cast(Bundle, self._bundle)
            # A copy on the CPU, since models on Apple's devices cannot generate.
            model = copy.deepcopy(cast(nn.Module, bundle.model)).to("cpu")
            music = generate(
                replace(bundle, model=cast(NoteModel, model)), self.notes, seed=self.seed
            )
            path = cast(Path, trainer.folder) / "samples" / f"epoch-{epoch:04d}.mid"
            # Notes of an early epoch may be shorter than a tick of MIDI.
            write_midi(music, path, short="lengthen")


@final
@dataclass(kw_only=True)
class Report(Callback):
    """Writes a page at the start, after each epoch and at the end: curves, samples, settings.

    It reads files of callbacks before it: the log of :class:`~notelstm.training.JSONLogger`, which
    it needs, and the music of :class:`~notelstm.training.Samples`.

    Attributes:
        path: The page to write, ``.html`` or ``.htm``.
        title: The heading; "" for the name of the run folder.
    """

    path: str
    title: str = ""

    def __post_init__(self) -> None:
        check_page_path(self.path)

    @override
    def check(self, trainer: Trainer) -> None:
        _check_folder(trainer, "to report on")
        before = trainer.callbacks[: trainer.callbacks.index(self)]
        if not any(isinstance(callback, JSONLogger) for callback in before):
            raise ConfigError(
                "the report has no log to read", hint="add the callback JSONLogger() before it"
            )

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        self._write(trainer, running=True)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self._write(trainer, running=True)

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        self._write(trainer, running=False)

    def _write(self, trainer: Trainer, *, running: bool) -> None:
        folder = cast(Path, trainer.folder)
        save_report(folder, self.path, title=self.title, running=running)


@final
class TensorBoard(Callback):
    """Writes all metrics of each epoch to ``tensorboard/`` in the run folder.

    Needs the extra ``tensorboard``; view them with ``tensorboard --logdir FOLDER``.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {}
        self._writer: Any = None

    @override
    def check(self, trainer: Trainer) -> None:
        _check_folder(trainer, "to write curves to")
        _writer_class()

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        """Open the curves; epochs that are repeated are removed from them."""
        self._close()
        folder = str(trainer.folder / "tensorboard") if trainer.folder else ""
        self._writer = _writer_class()(folder, purge_step=trainer.state.epoch + 1)

    @override
    def on_rollback(self, trainer: Trainer) -> None:
        self.on_train_start(trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, trainer.state.epoch)
        self._writer.flush()

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            f"TensorBoard is not installed: {error}",
            hint="run pip install 'notelstm[tensorboard]'",
        ) from error
    return SummaryWriter


@final
@dataclass(kw_only=True)
class Profile(Callback):
    """Profiles some steps with torch's profiler and writes a table, ``profile.txt``.

    Profiled steps take longer than others; those before and after do not.

    Attributes:
        after: Steps before the first profiled one, for warm-up.
        steps: Number of profiled steps, at most; all are of one epoch.
    """

    after: int = 5
    steps: int = 20

    def __post_init__(self) -> None:
        check_least(self, after=1, steps=1)
        self._profiler: Any = None
        self._seen = self._first = 0
        self._done = False

    @override
    def check(self, trainer: Trainer) -> None:
        self._seen, self._done = 0, False
        _check_folder(trainer, "to write a profile to")

    @override
    def on_step_end(self, trainer: Trainer) -> None:
        self._seen += 1
        ends = trainer.state.steps % trainer.steps_per_epoch == 0
        if self._profiler is None and self._seen >= self.after and not (ends or self._done):
            self._profiler = torch.profiler.profile()
            self._profiler.start()
            self._first = self._seen
        # The end of an epoch is not profiled.
        elif self._profiler is not None and (ends or self._seen - self._first == self.steps):
            self._write(cast(Path, trainer.folder))

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        """Write the table if the run ended before it was due."""
        if self._profiler is not None:
            self._write(cast(Path, trainer.folder))
        elif not self._done:
            _log.warning(
                "no profile: no epoch had a step after the first %d of the run and before its last",
                self.after,
            )

    def _write(self, folder: Path) -> None:
        self._profiler.stop()
        profiler, self._profiler, self._done = self._profiler, None, True
        with atomic_write(folder / "profile.txt") as beside:
            beside.write_text(_table(profiler, self._seen - self._first), encoding="utf-8")


def _table(profiler: Any, steps: int) -> str:
    """The slowest operations, by the time without their callees."""
    averages = profiler.key_averages()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = averages.table(sort_by=f"self_{device}_time_total", row_limit=_PROFILE_ROWS)
    return f"{steps} steps\n{table}\n"
