"""``Recipe``: one choice of parts, which trains a bundle on pieces."""

from __future__ import annotations

import functools
import itertools
import logging
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Final, Protocol, cast, final, get_args, runtime_checkable

import torch
from typing_extensions import override

from notelstm.bundle import Bundle, DataCard, check_tensors
from notelstm.data import (
    Augmented,
    DropLabels,
    GivenMixture,
    SequenceDataset,
    StatefulBatches,
    WindowBatches,
)
from notelstm.data.dataset import Targets
from notelstm.data.transforms import Transform, with_drums
from notelstm.encoders.rows import label_map_of, part_map_of, snapped
from notelstm.errors import (
    BundleError,
    ConfigError,
    DataError,
    FieldError,
    NotelstmError,
    PluginError,
    counted,
)
from notelstm.evaluation import fit_sigmas, fit_unigram
from notelstm.evaluation.loss_baselines import loss_baselines
from notelstm.fields import Field, Rows
from notelstm.labels import Label, LabelMap
from notelstm.losses import CompositeLoss
from notelstm.midi.policy import ReadPolicy
from notelstm.notes import Notes
from notelstm.parts import ONE_PART, PartMap, PartsBy, Unknown
from notelstm.plugins import build, describe, missing_parts, settings_of
from notelstm.protocols import (
    AnticipatesNotes,
    Batches,
    InputTransform,
    NoteEncoder,
    NoteModel,
    Sampler,
)
from notelstm.recipes.pieces import as_pieces, digest, encode_pieces, fingerprint, rows_of
from notelstm.recipes.values import checked, checked_settings, constructed, settings_taken
from notelstm.training import Callback, Progress, Trainer, TrainingConfig
from notelstm.training.progress import progress_on_stderr

__all__ = ["ModelSpec", "Recipe"]

_log = logging.getLogger(__name__)

_VALUES: Final = {"read_policy": ReadPolicy, "training": TrainingConfig, "given": GivenMixture}
"""Settings of a recipe that are plain values, not parts."""

_KINDS: Final = ("encoder", "model", "sampler", "loss", "input_transform")
"""Settings of a recipe that are a part."""


@final
@dataclass(frozen=True)
class ModelSpec:
    """A model that is not built yet: its class, or a function, and settings.

    ``Recipe(model=NoteLSTM)`` and ``Recipe(model=functools.partial(NoteLSTM, hidden_size=64))`` are
    turned into one.

    Attributes:
        factory: The class or function, called with ``fields=`` and the settings.
        settings: Keyword arguments; lists are stored as tuples.

    Example:
        >>> from notelstm.models import NoteLSTM
        >>> ModelSpec.of(functools.partial(NoteLSTM, hidden_size=64))
        ModelSpec(NoteLSTM, hidden_size=64)
    """

    factory: Callable[..., NoteModel]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise ConfigError(
                f"{self.factory!r} does not build a model",
                hint="give a model's class, or functools.partial(<class>, <settings>)",
            )
        settings = {key: _as_tuples(value) for key, value in self.settings.items()}
        object.__setattr__(self, "settings", settings)

    @classmethod
    def of(cls, model: Callable[..., NoteModel]) -> ModelSpec:
        """A specification from a class, a function, a ``functools.partial`` or a specification.

        Raises:
            ConfigError: If it cannot be called.
            PluginError: If a partial has settings without names.
        """
        if isinstance(model, ModelSpec):
            return model
        if isinstance(model, functools.partial):
            return cls(model.func, settings_of(model))
        return cls(model)

    def __call__(self, *, fields: tuple[Field, ...]) -> NoteModel:
        """Build the model for an encoder's fields."""
        return self.factory(fields=fields, **self.settings)

    @override
    def __repr__(self) -> str:
        name = getattr(self.factory, "__qualname__", repr(self.factory))
        return f"ModelSpec({', '.join([name, *(f'{k}={v!r}' for k, v in self.settings.items())])})"


def _as_tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_as_tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _as_tuples(item) for key, item in value.items()}
    return value


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One choice of parts, from reading MIDI files to sampling notes.

    Attributes:
        name: The recipe's name, for the record.
        encoder: Encodes notes as rows.
        model: The model: its class, or a ``functools.partial`` of it with settings, called with
            ``fields=``; stored as a :class:`~notelstm.recipes.ModelSpec`.
        loss: The loss; None for the likelihood of every field.
        read_policy: How MIDI files are read.
        parts: The property that tells the instruments of the training pieces apart: :meth:`fitted`
            gives an encoder without a part map that of the pieces,
            :meth:`PartMap.from_pieces <notelstm.parts.PartMap.from_pieces>`. None to leave the
            encoder as it is.
        unknown_parts: The rule of that part map for notes of no part.
        conditions: The names of the labels of the pieces that are given to the model:
            :meth:`fitted` gives an encoder without a label map that of the pieces,
            :meth:`LabelMap.from_pieces <notelstm.labels.LabelMap.from_pieces>`. Labels are left out
            at random in training, by :class:`~notelstm.data.DropLabels`, so that the model also
            works without them; it is added to `transforms` if it is not there. Transposition and
            stretching do not change labels of keys and tempos: leave them out with those.
        given: The notes of the training and validation pieces that are given to the model, for an
            encoder of given notes, an :class:`~notelstm.encoders.AnticipatingEncoder`; None for
            none.
        sequence_length: T, rows of a sequence in a batch.
        targets: ``"last"`` for the row after each window, ``"every"`` for each row.
        cross_piece_boundaries: Whether windows may run from one piece into the next.
        stateful: Whether the state is carried from batch to batch; needs targets ``"every"``.
        batch_size: B, sequences in a batch.
        min_steps_per_epoch: Steps below which an epoch of few pieces gets a smaller batch, with a
            warning; 0 to keep `batch_size`.
        shuffle: Whether each epoch has another order.
        transforms: Augmentations of the training pieces, sampled anew in each epoch.
        training: Optimizer, schedule, epochs and the like.
        sampler: Samples the fields of a note.
        context_length: Rows that generation and scoring look back on, None for all.
        input_transform: Transforms sampled rows before they are fed back, or None.

    Raises:
        ConfigError: If a setting is out of range, a stateful recipe has targets ``"last"``, or the
            encoder cannot have the `parts` or the `conditions`.
    """

    name: str
    encoder: NoteEncoder
    model: Callable[..., NoteModel]
    sampler: Sampler
    loss: CompositeLoss | None = None
    read_policy: ReadPolicy = field(default_factory=ReadPolicy)
    parts: PartsBy | None = None
    unknown_parts: Unknown = "nearest"
    conditions: tuple[str, ...] = ()
    given: GivenMixture | None = None
    sequence_length: int = 25
    targets: Targets = "every"
    cross_piece_boundaries: bool = False
    stateful: bool = False
    batch_size: int = 64
    min_steps_per_epoch: int = 0
    shuffle: bool = True
    transforms: tuple[Transform, ...] = ()
    training: TrainingConfig = field(default_factory=TrainingConfig)
    context_length: int | None = None
    input_transform: InputTransform | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", ModelSpec.of(self.model))
        transforms = tuple(self.transforms)
        if self.conditions and not any(isinstance(part, DropLabels) for part in transforms):
            transforms = (*transforms, DropLabels())
        object.__setattr__(self, "transforms", transforms)
        object.__setattr__(self, "conditions", tuple(self.conditions))
        for name in ("sequence_length", "batch_size", "context_length", "min_steps_per_epoch"):
            value, least = getattr(self, name), 0 if name == "min_steps_per_epoch" else 1
            if name == "context_length" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise ConfigError(f"{name} is {value!r}, not a whole number")
            if value < least:
                raise ConfigError(f"{name} is {value}, below {least}")
            object.__setattr__(self, name, int(value))  # numpy's numbers are not JSON
        if self.targets not in ("last", "every"):
            raise ConfigError(f"targets is {self.targets!r}, not 'last' or 'every'")
        if self.stateful and self.targets != "every":
            raise ConfigError(
                f"stateful with targets={self.targets!r}",
                hint="set targets to 'every', or stateful to false",
            )
        for name, choices in (
            ("parts", (*get_args(PartsBy), None)),
            ("unknown_parts", get_args(Unknown)),
        ):
            if getattr(self, name) not in choices:
                known = " or ".join(map(repr, choices))
                raise ConfigError(f"{name} is {getattr(self, name)!r}, not {known}")
        for name, what in (("parts", "instruments"), ("conditions", "labels")):
            if getattr(self, name) and not _takes(self.encoder, name):
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} with an encoder without {what}, "
                    f"{type(self.encoder).__name__}",
                    hint=f"choose an encoder with a setting {name!r}, or leave {name} out",
                )
        if self.given is not None and not isinstance(self.encoder, AnticipatesNotes):
            raise ConfigError(
                f"given notes with an encoder without them, {type(self.encoder).__name__}",
                hint="choose AnticipatingEncoder, or set given to none",
            )

    @property
    def _lacks_parts(self) -> bool:
        """Whether the encoder still has to get the part map of the training pieces."""
        return self.parts is not None and part_map_of(self.encoder) is None

    @property
    def _lacks_labels(self) -> bool:
        """Whether the encoder still has to get the label map of the training pieces."""
        return bool(self.conditions) and label_map_of(self.encoder) is None

    def _with_maps(self, **maps: PartMap | LabelMap) -> Recipe:
        """The recipe with an encoder that has a part map or a label map."""
        return replace(self, encoder=_with_settings(self.encoder, maps))

    def by_parts(self, parts: PartsBy) -> Recipe:
        """The recipe for the instruments of its training pieces, told apart by a property.

        A part map that the encoder has, such as that of four voices, is left out.

        Args:
            parts: The property: see
                :meth:`PartMap.from_pieces <notelstm.parts.PartMap.from_pieces>`.

        Raises:
            ConfigError: If the encoder has no instruments.
        """
        recipe = replace(self, parts=parts)
        return replace(recipe, encoder=_with_settings(recipe.encoder, {"parts": None}))

    def fitted(self, pieces: Iterable[Notes], *, init_from: Bundle | None = None) -> Recipe:
        """The recipe with an encoder for the instruments and labels of the training pieces.

        :meth:`train` does this by itself.

        Args:
            pieces: The training pieces; their order does not matter.
            init_from: The trained model to start from, whose part map and label map are taken if
                it has them.

        Returns:
            The recipe itself, unless `parts` or `conditions` is set and its encoder has no such
            map.

        Raises:
            DataError: If the pieces have no notes.
            ConfigError: If they have more than 1,024 parts, or lack a label.

        Example:
            >>> from notelstm.recipes import ensemble
            >>> band = Notes(start=[0, 0], end=1, pitch=[60, 36], program=[0, 33])
            >>> [part.name for part in ensemble().fitted([band]).encoder.parts.parts]
            ['Piano', 'Bass']
        """
        if not (self._lacks_parts or self._lacks_labels):
            return self
        pieces, maps = as_pieces(pieces), dict[str, PartMap | LabelMap]()
        if self.parts is not None and self._lacks_parts:
            found = None if init_from is None else part_map_of(init_from.encoder)
            if found is None:
                if not any(map(len, pieces)):
                    raise DataError("the pieces have no notes", hint="check the folder or the list")
                found = PartMap.from_pieces(pieces, by=self.parts, unknown=self.unknown_parts)
            maps["parts"] = found
        if self._lacks_labels:
            labels = None if init_from is None else label_map_of(init_from.encoder)
            maps["conditions"] = labels or LabelMap.from_pieces(pieces, self.conditions)
        return self._with_maps(**maps)

    def build_model(self) -> NoteModel:
        """An untrained model, initialised from the training seed.

        Raises:
            FieldError: If the model does not fit the encoder's fields.
            ConfigError: If the model refuses its settings, or depends on the training pieces.
        """
        if self._lacks_parts or self._lacks_labels:
            what = "instruments" if self._lacks_parts else "labels"
            raise ConfigError(
                f"the {what} of this recipe are those of its training pieces",
                hint="call fitted(pieces) first",
            )
        torch.manual_seed(self.training.seed)
        try:
            return self.model(fields=self.encoder.fields)
        except NotelstmError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"the model cannot be built: {why}", where=f"{self.model}") from error

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
                    f"the loss has terms of fields that the encoder lacks: {', '.join(unknown)}",
                    hint=f"give terms of {', '.join(names)}, or no loss for the likelihood of each",
                )
            return self.loss
        return CompositeLoss.for_fields(self.encoder.fields)

    def encode(self, pieces: Iterable[Notes]) -> list[Rows]:
        """The rows of each piece, (N, F) each.

        Raises:
            EncodingError: If a piece is outside the encoder's domain.
        """
        return list(encode_pieces(self.encoder, pieces))

    def batches(
        self,
        rows: Sequence[Rows],
        *,
        held_out: bool = False,
        pieces: Sequence[Notes] | None = None,
    ) -> Batches:
        """Cut rows into batches as the recipe trains on them.

        Where an epoch would have fewer steps than `min_steps_per_epoch`, the batches are smaller
        than `batch_size`, with a warning.

        Args:
            rows: The rows (N, F) of each piece.
            held_out: Whether they are validation data, neither shuffled nor transformed.
            pieces: The pieces of the rows, whose percussion is not transposed; None without
                percussion. There may be several copies of the rows of all pieces.

        Raises:
            DataError: If no piece is long enough for a window.
        """
        window = self.sequence_length
        if self.stateful:
            # Stateful batches take pieces of any length and would only pad longer sequences.
            window = min(window, max(1, max(map(len, rows), default=0) - 1))
        augmented = bool(self.transforms) and not held_out
        drums = augmented and any(p.drum is not None and p.drum.any() for p in pieces or ())
        if drums and pieces is not None:
            copies = len(rows) // len(pieces)
            every = itertools.chain.from_iterable(itertools.repeat(pieces, copies))
            rows = with_drums(rows, (snapped(self.encoder, piece) for piece in every))
        dataset = SequenceDataset(
            rows,
            sequence_length=window,
            targets=self.targets,
            cross_piece_boundaries=self.cross_piece_boundaries,
        )
        # A warning has named the pieces that the encoder rejects, which have no rows.
        short = dataset.short - sum(1 for row in rows if not len(row))
        if short > 0 and not self.stateful:
            _log.warning(
                "left out: %s of %d, shorter than a window of %d rows and one target",
                counted(short, "piece"),
                len(rows),
                self.sequence_length,
            )
        if held_out:
            return self._cut(dataset, self.batch_size, shuffle=False)
        batches = self._cut(dataset, self._batch_size(dataset), shuffle=self.shuffle)
        if not self.transforms:
            return batches
        return Augmented(
            batches=batches,
            fields=self.encoder.fields,
            transforms=self.transforms,
            seed=self.training.seed,
            drums=drums,
        )

    def _cut(
        self, dataset: SequenceDataset, batch: int, *, shuffle: bool
    ) -> StatefulBatches | WindowBatches:
        kind = StatefulBatches if self.stateful else WindowBatches
        return kind(dataset=dataset, batch_size=batch, shuffle=shuffle, seed=self.training.seed)

    def _batch_size(self, dataset: SequenceDataset) -> int:
        """`batch_size`, or the largest half, quarter ... of it that gives an epoch enough steps."""

        def steps(size: int) -> int:
            num_batches = self._cut(dataset, size, shuffle=False).num_batches
            return -(-num_batches // self.training.accumulate_grad_batches)

        size = self.batch_size
        while size > 1 and steps(size) < self.min_steps_per_epoch:
            size //= 2
        if size < self.batch_size:
            _log.warning(
                "too few steps per epoch: %d with batch %d; "
                "training with batch %d (steps per epoch: %d)",
                steps(self.batch_size),
                self.batch_size,
                size,
                steps(size),
            )
        return size

    def train(
        self,
        pieces: Iterable[Notes] | Iterable[tuple[str, Notes]],
        *,
        validation: Iterable[Notes] | Iterable[tuple[str, Notes]] = (),
        folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
        data: DataCard | None = None,
        init_from: Bundle | None = None,
    ) -> Bundle:
        """Train a model on pieces.

        Progress is shown as a bar in a terminal or notebook, otherwise logged every 10 seconds, to
        the error stream unless the program has configured logging. A callback
        :class:`~notelstm.training.Progress` changes that.

        Args:
            pieces: Training pieces, or pairs of a name and a piece: a list, a
                :class:`~notelstm.data.Corpus`, ``Folder(...).pieces()`` or any other iterable.
            validation: Held-out pieces, in the same forms, whose loss is measured after each epoch.
            folder: The run folder; None to keep no checkpoints. After Ctrl-C it also has
                ``interrupted.notelstm``, the model after the last step, or of the best epoch with
                :class:`~notelstm.training.BestCheckpoint`.
            resume: Continue the run in `folder`.
            callbacks: Callbacks of the trainer.
            data: Name and license of the pieces; counts and fingerprint are added.
            init_from: A trained model whose weights are the initial ones, for a recipe of
                :meth:`Bundle.recipe <notelstm.bundle.Bundle.recipe>`; None to train from scratch.

        Returns:
            The trained model with all its parts, ready to be saved.

        Raises:
            DataError: If there are no pieces, or none is long enough.
            EncodingError: If all pieces are outside the encoder's domain; a few are left out with a
                warning.
            ConfigError: If the recipe builds another model than `init_from` has, or a callback
                cannot work in this run; before any piece is read.
            TrainingError: If the run cannot be resumed, or diverges.
            KeyboardInterrupt: After Ctrl-C, with a checkpoint written.
        """
        has_validation = not (isinstance(validation, Sized) and len(validation) == 0)
        if self._lacks_parts or self._lacks_labels:
            self.check(
                callbacks=callbacks, folder=folder, validation=has_validation, init_from=init_from
            )
            with progress_on_stderr():
                pieces = as_pieces(pieces)
                recipe = self.fitted(pieces, init_from=init_from)
            return recipe.train(
                pieces,
                validation=validation,
                folder=folder,
                resume=resume,
                callbacks=callbacks,
                data=data,
                init_from=init_from,
            )
        trainer, bundle = self._prepared(callbacks, folder, init_from)
        trainer.check(validation=has_validation)
        self._warn_of_missing_parts()
        _warn_of_tensors(bundle.model)
        with progress_on_stderr():
            pieces = as_pieces(pieces)
            if not len(pieces):
                raise DataError(
                    "there are no pieces to train on", hint="check the folder or the list"
                )
            encode = functools.partial(
                rows_of,
                encoder=self.encoder,
                folder=folder,
                given=self.given,
                seed=self.training.seed,
            )
            rows = encode(pieces)
            whole = self.stateful or self.cross_piece_boundaries  # pieces of any length are used
            least = 1 if whole else self.sequence_length + 1
            # There may be several copies of the pieces.
            used = [k for k, row in enumerate(rows[: len(pieces)]) if len(row) >= least]
            card = replace(
                data or DataCard(),
                fingerprint=fingerprint(pieces),
                pieces=len(used),
                notes=sum(len(pieces[k]) for k in used),
            )
            held_out = as_pieces(validation) if has_validation else ()
            held_out_rows = encode(held_out) if len(held_out) else ()
            held_out_batches = None
            if len(held_out):
                try:
                    held_out_batches = self.batches(held_out_rows, held_out=True)
                except DataError as error:
                    error.where = error.where or "validation"
                    raise
            if trainer.folder is not None:
                trainer.baselines = loss_baselines(
                    self.build_loss(),
                    self.encoder.fields,
                    [row for row in rows if len(row) >= least],
                    held_out_rows or rows,
                    skip=0 if self.targets == "every" else self.sequence_length,
                )
            try:
                batches = self.batches(rows, pieces=pieces)
                # Of the same notes, the labels or the time signatures may have changed.
                digests = {"rows": digest(rows), "validation_rows": digest(held_out_rows)}
                trainer.fit(batches, held_out_batches, resume=resume, data=asdict(card) | digests)
            except KeyboardInterrupt:
                if not trainer.interrupted:  # it was not deferred
                    raise
        cast(torch.nn.Module, bundle.model).to("cpu").eval()
        bundle = replace(
            bundle,
            data=card if init_from is None else card.after(init_from.data),
            sigmas=fit_sigmas(bundle.generation_model, rows),
            unigram=fit_unigram((pieces[k] for k in used), encoder=self.encoder).to_json(),
        )
        if trainer.folder is not None:
            path = trainer.folder / "interrupted.notelstm"
            if trainer.interrupted:
                bundle.save(path)
                _log.warning("the model so far is in %s", path)
            else:
                path.unlink(missing_ok=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        return bundle

    def check(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        folder: str | os.PathLike[str] | None = None,
        validation: bool = False,
        init_from: Bundle | None = None,
    ) -> None:
        """Check the recipe as :meth:`train` does before it reads a piece.

        `validation` is whether there is a validation set; the others are arguments of `train`.

        Raises:
            ConfigError: If the model cannot be built, the device does not exist, or a callback
                cannot work in this run.
            FieldError: If model, loss and encoder do not fit each other.
        """
        recipe = self
        # Any map will do; that of the pieces is not known yet.
        if self._lacks_parts:
            found = None if init_from is None else part_map_of(init_from.encoder)
            recipe = recipe._with_maps(parts=found or PartMap(parts=ONE_PART))
        if self._lacks_labels:
            labels = None if init_from is None else label_map_of(init_from.encoder)
            some = tuple(Label(name=name, values=("any",)) for name in self.conditions)
            recipe = recipe._with_maps(conditions=labels or LabelMap(labels=some))
        recipe._prepared(callbacks, folder, init_from)[0].check(validation=validation)

    def _prepared(
        self,
        callbacks: Sequence[Callback],
        folder: str | os.PathLike[str] | None,
        init_from: Bundle | None,
    ) -> tuple[Trainer, Bundle]:
        """The trainer, and the untrained bundle."""
        if not any(isinstance(callback, Progress) for callback in callbacks):
            callbacks = [*callbacks, Progress()]
        model = self.build_model()
        if init_from is not None:
            _initialize(model, init_from)
        trainer = Trainer(
            model,
            self.build_loss(),
            config=self.training,
            callbacks=callbacks,
            folder=folder,
            settings=self.to_dict(),
            encoder=self.encoder,
        )
        bundle = Bundle(
            model=model,
            encoder=self.encoder,
            sampler=self.sampler,
            context_length=self.context_length,
            input_transform=self.input_transform,
            read_policy=self.read_policy,
            settings=self.to_dict(),
        )
        for callback in trainer.callbacks:
            callback.on_bundle_ready(bundle)
        return trainer, bundle

    def _warn_of_missing_parts(self) -> None:
        """Warn of parts that cannot be rebuilt from a bundle."""
        for name, saved in self.to_dict().items():
            for missing in missing_parts(saved):
                loaded = name in ("model", "encoder", "sampler", "input_transform")
                _log.warning(
                    "the %s cannot be rebuilt from a bundle: %s has no entry point; pass it to %s",
                    name,
                    missing,
                    f"load(path, {name}=...)" if loaded else f"bundle.recipe({name}=...)",
                )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values, for bundles and run folders; :meth:`from_dict` inverts it.

        A part without an entry point is recorded by its qualified name and its settings only.
        """
        record: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, ModelSpec):
                value = functools.partial(value.factory, **value.settings)
            if item.name in _VALUES and value is not None:
                plain = asdict(value).items()
                record[item.name] = {k: list(v) if isinstance(v, tuple) else v for k, v in plain}
            elif item.name == "transforms":
                record[item.name] = [describe(part, lenient=True) for part in value]
            elif item.name in _KINDS and value is not None:
                record[item.name] = describe(value, lenient=True)
            else:
                record[item.name] = list(value) if isinstance(value, tuple) else value
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], **parts: Any) -> Recipe:
        """The recipe that :meth:`to_dict` recorded.

        Args:
            record: Its record.
            **parts: Settings of the recipe in place of the recorded ones; needed for parts that
                have no entry point.

        Raises:
            ConfigError: If a setting does not exist, is missing, or cannot have its value.
            PluginError: If a part cannot be rebuilt and is not in `parts`.

        Example:
            >>> from notelstm.recipes import expressive
            >>> recipe = expressive(hidden_size=32)
            >>> Recipe.from_dict(recipe.to_dict()) == recipe
            True
        """
        known = settings_taken(cls)
        checked_settings("", dict.fromkeys(known, object), {**record, **parts})
        settings = {
            name: _from_record(name, value, known[name])
            for name, value in record.items()
            if name not in parts
        }
        recipe: Recipe = constructed("recipe", cls, {**settings, **parts})
        return recipe


def _warn_of_tensors(model: NoteModel) -> None:
    """Warn of tensors that a bundle cannot hold, before the training."""
    try:
        check_tensors(
            cast(torch.nn.Module, model).state_dict(),
            hint="register masks and the like with persistent=False",
        )
    except BundleError as error:
        _log.warning("the model cannot be saved in a bundle: %s", error)


def _from_record(name: str, value: Any, hint: Any) -> Any:
    """One setting of a recipe from its record."""
    try:
        if name in _VALUES and value is not None:
            return constructed(name, _VALUES[name], value)
        if name == "transforms":
            return tuple(build(part) for part in value)
        if name == "model":
            return ModelSpec.of(build(value, unbuilt=True))
        if name in _KINDS:
            optional = name in ("loss", "input_transform")
            return None if value is None and optional else build(value)
    except PluginError as error:
        error.hint = f"{error.hint}; or pass {name}=..." if error.hint else f"pass {name}=..."
        raise
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"the record of the {name} is damaged: {error!r}") from error
    return checked(name, hint, value)


def _takes(encoder: NoteEncoder, setting: str) -> bool:
    """Whether an encoder, or the one that it wraps, has a setting."""
    settings: dict[str, Any] = settings_of(encoder) if is_dataclass(encoder) else {}
    return setting in settings or ("inner" in settings and _takes(settings["inner"], setting))


def _with_settings(encoder: NoteEncoder, settings: Mapping[str, Any]) -> NoteEncoder:
    """An encoder with other settings of its own, or of the one that it wraps."""
    own = {name: value for name, value in settings.items() if name in settings_of(encoder)}
    rest = {name: value for name, value in settings.items() if name not in own}
    if rest:
        inner = settings_of(encoder)["inner"]
        own["inner"] = _with_settings(inner, rest)
    # Not every encoder is a dataclass; one with these settings is.
    changed: NoteEncoder = replace(encoder, **own)  # type: ignore[type-var]
    return changed


@runtime_checkable
class _CanGrow(Protocol):
    """A model that can start from the weights of a smaller one."""

    def grow_from(self, model: NoteModel) -> None:
        """Copy the weights of `model`; the others keep their initial values.

        Raises:
            RuntimeError: If the weights do not fit.
        """


def _initialize(model: NoteModel, bundle: Bundle) -> None:
    """Copy the weights of a trained model into an untrained one."""
    try:
        if isinstance(model, _CanGrow):
            model.grow_from(bundle.model)
        else:
            weights = cast(torch.nn.Module, bundle.model).state_dict()
            cast(torch.nn.Module, model).load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            "the recipe builds another model than the bundle has: "
            + str(error).splitlines()[-1].strip(),
            hint="use the recipe of bundle.recipe()",
        ) from error
