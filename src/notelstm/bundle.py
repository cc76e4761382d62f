"""``Bundle``: a trained model in one self-describing file.

The file is a safetensors file: the model's tensors, and one JSON text under the metadata key
``notelstm`` that names every part and how to build it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from typing_extensions import override

from notelstm._version import __version__
from notelstm.bundle_format_1 import upgrade
from notelstm.errors import BundleError, NotelstmError, PluginError
from notelstm.files import written_whole
from notelstm.midi.policy import ReadPolicy
from notelstm.models.windowed import Windowed
from notelstm.plugins import Saved, build, describe
from notelstm.protocols import InputTransform, NoteEncoder, NoteModel, Sampler

__all__ = ["FORMAT", "PRETRAINED", "Bundle", "DataCard", "load", "save"]

FORMAT: Final = 2
"""The version of the file format that this library writes, and the newest that it reads."""

PRETRAINED: Final = Path(__file__).with_name("pretrained") / "maestro.notelstm"
"""The model that comes with the library: piano music, trained on MAESTRO; beside it are its card
and its licence, which is not the library's."""

_KEY: Final = "notelstm"


@final
@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What a model was trained on.

    Attributes:
        name: The corpus, or the folder's name.
        licence: The data's licence as far as it is known, "" if not.
        fingerprint: SHA-256 over the training pieces' notes.
        pieces: Training pieces.
        notes: Training notes.
    """

    name: str = ""
    licence: str = ""
    fingerprint: str = ""
    pieces: int = 0
    notes: int = 0

    def after(self, earlier: DataCard) -> DataCard:
        """The card of a model that was trained on `earlier`, then on this: licences are kept.

        The same music again, which its fingerprint tells, is no more music.
        """
        if self.fingerprint and self.fingerprint == earlier.fingerprint:
            return earlier
        licences = [card.licence for card in (earlier, self) if card.licence]
        return DataCard(
            name=", then ".join(card.name for card in (earlier, self) if card.name),
            licence="; ".join(dict.fromkeys(licences)),
            fingerprint=self.fingerprint,
            pieces=earlier.pieces + self.pieces,
            notes=earlier.notes + self.notes,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model with everything that is needed to generate and to score.

    Attributes:
        model: The model.
        encoder: What its rows mean.
        sampler: How it chooses.
        context: Rows that it looks back on, None for everything (state carried).
        input_transform: The note loop's hook, or None.
        policy: How MIDI files were read for it, and prompts should be.
        sigmas: Of point predictions, by field: the standard deviation of training residuals.
        unigram: How often each pitch, step, duration and velocity was in the training pieces, as
            :meth:`~notelstm.evaluation.baselines.Unigram.to_json` gives it; empty where nobody
            counted.
        data: What it was trained on.
        settings: The recipe's settings, for the record.
        version: The library that wrote it.
    """

    model: NoteModel
    encoder: NoteEncoder
    sampler: Sampler
    context: int | None = None
    input_transform: InputTransform | None = None
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    sigmas: Mapping[str, float] = field(default_factory=dict)
    unigram: Mapping[str, Any] = field(default_factory=dict)
    data: DataCard = field(default_factory=DataCard)
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @override
    def __repr__(self) -> str:
        """What it is made of, on a line."""
        parts = ", ".join(
            f"{name}={type(getattr(self, name)).__name__}"
            for name in ("model", "encoder", "sampler")
        )
        return f"Bundle({parts}, context={self.context}, data={self.data.name or None!r})"

    @property
    def player(self) -> NoteModel:
        """The model as it generates and is scored: windowed if it looks back on `context` rows."""
        return self.model if self.context is None else Windowed(self.model, self.context)

    def with_sampler(self, sampler: Sampler) -> Bundle:
        """The same bundle with another way of choosing."""
        return replace(self, sampler=sampler)


def _saved_or_placeholder(part: object) -> Saved:
    """A part as JSON; one without an entry point only by what lacks it, to be passed to `load`."""
    try:
        return describe(part)
    except PluginError as error:
        return {"missing": error.got}


def save(bundle: Bundle, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write a bundle to one file, whole or not at all.

    A part without an entry point is recorded by name only; whoever loads the file passes it.

    Args:
        bundle: What to write.
        path: The file.
        half: Write the model's numbers in half precision (float16), for a file of half the size; a
            model that is loaded computes in float32 all the same.

    Raises:
        OutputError: If the file cannot be written.
        BundleError: If the settings, sigmas or unigram are not JSON values.
    """
    about = {
        "format": FORMAT,
        "version": __version__,
        "parts": {
            "model": _saved_or_placeholder(bundle.model),
            "encoder": _saved_or_placeholder(bundle.encoder),
            "sampler": _saved_or_placeholder(bundle.sampler),
            "input_transform": None
            if bundle.input_transform is None
            else _saved_or_placeholder(bundle.input_transform),
        },
        "context": bundle.context,
        "policy": asdict(bundle.policy),
        "sigmas": dict(bundle.sigmas),
        "unigram": dict(bundle.unigram),
        "data": asdict(bundle.data),
        "settings": dict(bundle.settings),
    }
    module = cast(nn.Module, bundle.model)
    # Copies, since tensors that share memory are refused by the format.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    try:
        text = json.dumps(about, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise BundleError(
            "settings, sigmas and unigram are JSON values",
            got=str(error),
            hint="use finite numbers, strings, lists and mappings",
        ) from error
    with written_whole(path) as beside:
        try:
            save_file(tensors, beside, metadata={_KEY: text})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON and the tensors of a file."""
    hint = "use a file that `notelstm train` wrote"
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise BundleError("a bundle is a file", got="none", where=str(path), hint=hint) from error
    except (SafetensorError, OSError) as error:
        raise BundleError(
            "a bundle is a whole safetensors file",
            got=str(error),
            where=str(path),
            hint="copy it again if it was cut off; otherwise " + hint,
        ) from error
    if text is None:
        raise BundleError(
            "a bundle has notelstm's description",
            got="another kind of safetensors file",
            where=str(path),
            hint=hint,
        )
    try:
        about = json.loads(text)
        newer = about["format"] > FORMAT
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(
            "a bundle's description can be read", got=str(error), where=str(path), hint=hint
        ) from error
    if newer:
        raise BundleError(
            f"this library reads bundles up to format {FORMAT}",
            got=f"format {about['format']}, written by notelstm {about.get('version')}",
            where=str(path),
            hint="run pip install --upgrade notelstm",
        )
    return upgrade(about, tensors) if about["format"] == 1 else (about, tensors)


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    encoder: NoteEncoder | None = None,
    model: NoteModel | None = None,
    sampler: Sampler | None = None,
    input_transform: InputTransform | None = None,
) -> Bundle:
    """Read a bundle, ready to generate.

    Args:
        path: The file; None for the model that comes with the library, :data:`PRETRAINED`.
        encoder: In place of the saved one; needed if that has no entry point. So for the others.
        model: An untrained model of the saved shape, to be given the saved tensors.
        sampler: In place of the saved one.
        input_transform: In place of the saved one.

    Raises:
        BundleError: If the file is missing, truncated, foreign, too new, or of another model.
        PluginError: If the package of a part is not installed.
    """
    file = PRETRAINED if path is None else Path(path)
    about, tensors = _read(file)
    given: dict[str, Any] = {
        "model": model,
        "encoder": encoder,
        "sampler": sampler,
        "input_transform": input_transform,
    }
    try:
        bundle = _rebuilt(about, given, file)
    except NotelstmError:
        raise
    # What a part may raise that is given settings which are not its own.
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise BundleError(
            "a bundle describes all its parts",
            got=f"{type(error).__name__}: {error}",
            where=str(file),
            hint="copy the file again, or load it with the notelstm that wrote it, "
            f"{about.get('version')}",
        ) from error
    if bundle.model.fields != bundle.encoder.fields:
        names = [[f.name for f in part.fields] for part in (bundle.model, bundle.encoder)]
        raise BundleError(
            "the model's fields are the encoder's",
            got=f"{names[0]}, {names[1]}",
            where=str(file),
            hint="pass the encoder that the model was trained with",
        )
    module = cast(nn.Module, bundle.model)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise BundleError(
            "the tensors fit the model",
            got=str(error).splitlines()[-1].strip(),
            where=str(file),
            hint="copy the file again, or pass the model that it was saved from",
        ) from error
    module.eval()
    return bundle


_KINDS: Final = {
    "model": "models",
    "encoder": "encoders",
    "sampler": "samplers",
    "input_transform": "input_transforms",
}


def _rebuilt(about: Mapping[str, Any], given: Mapping[str, Any], file: Path) -> Bundle:
    """The bundle that a file describes, its model not yet trained."""
    parts = {
        name: _part(name, about["parts"][name], file) if given[name] is None else given[name]
        for name in _KINDS
    }
    context = about["context"]
    if context is not None and context < 1:
        raise ValueError(f"context {context}")
    return Bundle(
        **parts,
        context=context,
        policy=ReadPolicy(**about["policy"]),
        sigmas={name: float(sigma) for name, sigma in about["sigmas"].items()},
        # Files that were written before anybody counted have none.
        unigram=dict(about.get("unigram", {})),
        data=DataCard(**about["data"]),
        settings=dict(about["settings"]),
        version=str(about["version"]),
    )


def _part(name: str, saved: Saved | None, file: Path) -> Any:
    if saved is None and name == "input_transform":
        return None
    if saved is None or saved.get("kind", _KINDS[name]) != _KINDS[name]:
        raise TypeError(f"{name} is {saved}")
    if "missing" in saved:
        raise BundleError(
            f"the {name} has an entry point, or is passed",
            got=saved["missing"],
            where=str(file),
            hint=f"call load(path, {name}=...)",
        )
    return build(saved)
