"""``Recipe``: one choice of parts, and the way from pieces to a trained bundle."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np
import torch

from notelstm.bundle import Bundle, DataCard
from notelstm.data import Augmented, LaneBatches, SequenceDataset, WindowBatches
from notelstm.data.augmented import with_drums
from notelstm.data.dataset import Scored
from notelstm.data.packed import PackedRows
from notelstm.encoders.instruments import watch_instruments
from notelstm.errors import (
    ConfigError,
    DataError,
    EncodingError,
    FieldError,
    NotelstmError,
    PluginError,
    counted,
)
from notelstm.evaluation import fit_sigmas, fit_unigram
from notelstm.fields import Rows
from notelstm.losses import CompositeLoss
from notelstm.midi.policy import ReadPolicy
from notelstm.notes import Notes
from notelstm.plugins import describe, settings_of
from notelstm.protocols import Batches, InputTransform, NoteEncoder, NoteModel, Sampler, Transform
from notelstm.training import Callback, Playing, Trainer, TrainingConfig

__all__ = ["Recipe"]

_IN_MEMORY: Final = 1_000_000
"""Notes whose rows are kept in memory; those of more are on the disk."""

_REASONS: Final = 3
"""How many pieces a warning on refused ones names."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One choice of parts.

    Attributes:
        name: What it is called.
        encoder: Notes to rows.
        model: Builds the model, called with ``fields=``: a model's class, or a
            ``functools.partial`` of it with settings.
        loss: What to bring down; None for the likelihood of every field.
        policy: How MIDI files are read.
        window: T, rows that a batch shows of a piece at once.
        scored: ``"last"`` scores the row after each window, ``"every"`` each row.
        crossing: Whether windows may run from one piece into the next.
        lanes: Whether the state is carried from batch to batch; needs scored ``"every"``.
        batch: B, windows or lanes in a batch.
        shuffle: Whether each epoch has an order of its own.
        transforms: How training pieces are changed anew in each epoch, one after the other.
        training: Optimizer, epochs and the rest.
        sampler: How notes are chosen.
        context: Rows that generation and scoring look back on, None for everything.
        input_transform: The note loop's hook, or None.
    """

    name: str
    encoder: NoteEncoder
    model: Callable[..., NoteModel]
    sampler: Sampler
    loss: CompositeLoss | None = None
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    window: int = 25
    scored: Scored = "every"
    crossing: bool = False
    lanes: bool = False
    batch: int = 64
    shuffle: bool = True
    transforms: tuple[Transform, ...] = ()
    training: TrainingConfig = field(default_factory=TrainingConfig)
    context: int | None = None
    input_transform: InputTransform | None = None

    def __post_init__(self) -> None:
        """Check what no part checks by itself.

        Raises:
            ConfigError: If lanes are asked for without scoring every row, or context is below 1.
        """
        if self.lanes and self.scored != "every":
            raise ConfigError("lanes score every row", got=f"scored={self.scored!r}")
        if self.context is not None and self.context < 1:
            raise ConfigError("a context is at least 1 row, or none", got=f"{self.context}")

    def build_model(self) -> NoteModel:
        """An untrained model, initialised from the training seed.

        Raises:
            FieldError: If the model does not fit the encoder's fields.
            ConfigError: If the model refuses its settings.
        """
        torch.manual_seed(self.training.seed)
        try:
            return self.model(fields=self.encoder.fields)
        except NotelstmError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                "a model can be built from its settings",
                got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                where=f"{_described(self.model)}",
            ) from error

    def build_loss(self) -> CompositeLoss:
        """The loss.

        Raises:
            FieldError: If a term is of a field that the encoder does not have.
        """
        if self.loss is not None:
            names = [f.name for f in self.encoder.fields]
            unknown = [name for name in self.loss.terms if name not in names]
            if unknown:
                raise FieldError(
                    "a loss has terms of the encoder's fields",
                    got=f"{', '.join(unknown)}; the fields are {', '.join(names)}",
                    hint="give a loss of these fields, or none for the likelihood of each",
                )
            return self.loss
        return CompositeLoss.for_fields(self.encoder.fields)

    def encode(self, pieces: Sequence[Notes]) -> list[Rows]:
        """The rows of each piece, (N, F) each.

        Raises:
            EncodingError: If a piece is outside the encoder's domain: which one and why.
        """
        return list(self._encoded(pieces))

    def _encoded(
        self, pieces: Sequence[Notes], refused: list[EncodingError] | None = None
    ) -> Iterator[Rows]:
        """The rows of each piece; none of those that go to `refused`, if it is given."""
        names: Sequence[str] = getattr(pieces, "names", ())
        for i, piece in enumerate(watch_instruments(pieces, self.encoder)):
            try:
                yield self.encoder.encode(piece)
            except EncodingError as error:
                name = names[i] if i < len(names) else f"piece {i}"
                where = f"{name}, {error.where}" if error.where else name
                told = EncodingError(error.problem, got=error.got, where=where, hint=error.hint)
                if refused is None:
                    raise told from error
                refused.append(told)
                yield np.zeros((0, len(self.encoder.fields)), dtype=np.float32)

    def _rows(
        self, pieces: Sequence[Notes], folder: str | os.PathLike[str] | None
    ) -> Sequence[Rows]:
        """The rows of each piece: of few notes in memory, of many on the disk.

        A piece outside the encoder's domain has no rows, and a warning names the first ones.

        Raises:
            EncodingError: If all pieces are outside the encoder's domain.
        """
        refused: list[EncodingError] = []
        encoded = self._encoded(pieces, refused)
        rows: Sequence[Rows]
        if sum(map(len, pieces)) <= _IN_MEMORY:
            rows = list(encoded)
        else:
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
            rows = PackedRows.on_disk(encoded, folder)
        if len(refused) == len(pieces):
            raise refused[0]
        if refused:
            reasons = "; ".join(map(str, refused[:_REASONS]))
            left_out = counted(len(refused), "piece")
            _log.warning("left out: %s that the encoder refuses: %s", left_out, reasons)
        return rows

    def batches(
        self,
        rows: Sequence[Rows],
        *,
        held_out: bool = False,
        pieces: Sequence[Notes] | None = None,
    ) -> Batches:
        """Cut rows into batches as the recipe trains on them.

        Args:
            rows: Of each piece, (N, F).
            held_out: Whether to leave them as they are: neither shuffled nor transformed.
            pieces: The pieces that the rows encode, whose percussion is not to be transposed; None
                if there is none.

        Raises:
            DataError: If no piece is long enough for a window.
        """
        window = self.window
        if self.lanes:
            # Lanes take pieces of any length: a window longer than all of them is only padding.
            window = min(window, max(1, max(map(len, rows), default=0) - 1))
        drums = any(piece.drum is not None and piece.drum.any() for piece in pieces or ())
        drums = drums and bool(self.transforms) and not held_out
        if drums and pieces is not None:
            rows = with_drums(rows, pieces)
        dataset = SequenceDataset(rows, window=window, scored=self.scored, crossing=self.crossing)
        # Pieces that the encoder refused have no rows and are named before.
        short = dataset.short - sum(1 for row in rows if not len(row))
        if short > 0 and not self.lanes:
            _log.warning(
                "left out: %s of %d, shorter than a window of %d rows and one target",
                counted(short, "piece"),
                len(rows),
                self.window,
            )
        kind = LaneBatches if self.lanes else WindowBatches
        batches = kind(
            dataset=dataset,
            batch=self.batch,
            shuffle=self.shuffle and not held_out,
            seed=self.training.seed,
        )
        if held_out or not self.transforms:
            return batches
        return Augmented(
            batches=batches,
            fields=self.encoder.fields,
            transforms=self.transforms,
            seed=self.training.seed,
            drums=drums,
        )

    def train(
        self,
        pieces: Sequence[Notes],
        *,
        validation: Sequence[Notes] = (),
        folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
        data: DataCard | None = None,
        start: Bundle | None = None,
    ) -> Bundle:
        """Train a model on pieces.

        Args:
            pieces: Training pieces.
            validation: Held-out pieces whose loss is measured after each epoch.
            folder: The run folder; None to keep no checkpoints.
            resume: Go on with the run in `folder`.
            callbacks: What happens beside training.
            data: Name and licence of the pieces; counts and fingerprint are filled in here.
            start: A trained model to go on with, and the recipe is what
                :func:`~notelstm.recipes.fine_tuning` made of it; None to begin anew.

        Returns:
            The trained model with all its parts, ready to be saved.

        Raises:
            DataError: If no piece is long enough.
            EncodingError: If every piece is outside the encoder's domain; if some are, they are
                left out with a warning.
            ConfigError: If the recipe builds another model than `start` has.
            TrainingError: If the run cannot be resumed, or diverges.
            KeyboardInterrupt: After Ctrl-C, with a checkpoint written.
        """
        if not pieces:
            raise DataError("there are pieces to train on", got="none")
        rows = self._rows(pieces, folder)
        used = [k for k, row in enumerate(rows) if len(row)]
        model = self.build_model()
        card = replace(
            data or DataCard(),
            fingerprint=_fingerprint(pieces),
            pieces=len(used),
            notes=sum(len(pieces[k]) for k in used),
        )
        if start is not None:
            _take_over(model, start)
            card = card.after(start.data)
        bundle = self._bundle(model, card)
        self._check_saved(bundle)
        for callback in callbacks:
            if isinstance(callback, Playing):
                callback.play_with(bundle)
        # The trainer notes its own configuration, in which only `epochs` may change.
        record = self.to_json()
        trainer = Trainer(
            model,
            self.build_loss(),
            config=self.training,
            callbacks=callbacks,
            folder=folder,
            settings={k: v for k, v in record.items() if k != "training"} | {"data": asdict(card)},
        )
        held_out = (
            self.batches(self._rows(validation, folder), held_out=True) if validation else None
        )
        trainer.fit(self.batches(rows, pieces=pieces), held_out, resume=resume)
        cast(torch.nn.Module, model).to("cpu").eval()
        return replace(
            bundle,
            sigmas=fit_sigmas(bundle.player, rows),
            unigram=fit_unigram(pieces[k] for k in used).to_json(),
        )

    def _bundle(self, model: NoteModel, card: DataCard) -> Bundle:
        return Bundle(
            model=model,
            encoder=self.encoder,
            sampler=self.sampler,
            context=self.context,
            input_transform=self.input_transform,
            policy=self.policy,
            data=card,
            settings=self.to_json(),
        )

    def _check_saved(self, bundle: Bundle) -> None:
        """Say before the first step, not after the last, what a bundle cannot carry."""
        for name in ("model", "encoder", "sampler", "input_transform"):
            part = getattr(bundle, name)
            try:
                if part is not None:
                    describe(part)
            except PluginError as error:
                _log.warning(
                    "the %s cannot be rebuilt from a bundle (%s); pass it when you load: "
                    "load(path, %s=...)",
                    name,
                    error.got,
                    name,
                )

    def to_json(self) -> dict[str, Any]:
        """Every setting as JSON, for the record and for resuming."""
        return {
            "name": self.name,
            "encoder": _described(self.encoder),
            "model": _described(self.model),
            "loss": _described(self.loss),
            "sampler": _described(self.sampler),
            "input_transform": _described(self.input_transform),
            "policy": asdict(self.policy),
            "training": asdict(self.training),
            "window": self.window,
            "scored": self.scored,
            "crossing": self.crossing,
            "lanes": self.lanes,
            "batch": self.batch,
            "shuffle": self.shuffle,
            "transforms": _described(self.transforms),
            "context": self.context,
        }


def _take_over(model: NoteModel, start: Bundle) -> None:
    """Give an untrained model what another has learnt."""
    try:
        learnt = cast(torch.nn.Module, start.model).state_dict()
        cast(torch.nn.Module, model).load_state_dict(learnt)
    except RuntimeError as error:
        raise ConfigError(
            "the recipe builds the model that is gone on with",
            got=str(error).splitlines()[-1].strip(),
            hint="use notelstm.recipes.fine_tuning(bundle)",
        ) from error


def _described(part: object) -> Any:
    """A part as its name and settings, the same in each process; without an entry point, its class.

    A run is resumed with the settings it was started with, so no memory address may get in.
    """
    if isinstance(part, Mapping):
        return {str(key): _described(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_described(item) for item in part]
    if isinstance(part, float) and not math.isfinite(part):
        return repr(part)
    if part is None or isinstance(part, bool | int | float | str):
        return part
    try:
        saved = describe(part)
    except PluginError:
        return _told(part)
    return {"name": saved["name"], **saved["config"]}


def _told(part: object) -> dict[str, Any]:
    """What can be said of a part without an entry point."""
    target = part.func if isinstance(part, functools.partial) else part
    named = target if hasattr(target, "__qualname__") else type(target)
    try:
        settings = settings_of(part)
    except PluginError:
        settings = {}
    return {"name": f"{named.__module__}.{named.__qualname__}", **_described(settings)}


def _fingerprint(pieces: Sequence[Notes]) -> str:
    """SHA-256 over what the pieces say."""
    digest = hashlib.sha256()
    for piece in pieces:
        for column in (piece.start, piece.end, piece.pitch, piece.velocity):
            digest.update(column.tobytes())
        for name in ("program", "drum", "track"):
            column = getattr(piece, name)
            # Piano on one track is the same music whether its columns are there or not.
            if column is not None and column.any():
                digest.update(name.encode() + column.tobytes())
    return digest.hexdigest()
