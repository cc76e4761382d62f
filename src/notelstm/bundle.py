"""``Bundle``: a trained model in one self-describing file.

The file is a safetensors file: the model's tensors, and one JSON text under the metadata key
``notelstm``. The text names every part and its settings, and holds a checksum of itself and of the
tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from notelstm._bundle_format_1 import upgrade
from notelstm._version import __version__
from notelstm.errors import BundleError, BundleNotFoundError, PluginError
from notelstm.files import atomic_write, displayable
from notelstm.midi.policy import ReadPolicy
from notelstm.models.windowed import Windowed
from notelstm.plugins import Saved, build, describe, missing_parts
from notelstm.protocols import InputTransform, NoteEncoder, NoteModel, Sampler

if TYPE_CHECKING:
    from notelstm.recipes.recipe import Recipe

__all__ = ["FORMAT", "PART_KINDS", "PRETRAINED", "Bundle", "DataCard", "check_tensors", "load"]

FORMAT: Final = 2
"""The version of the file format that this library writes, and the newest that it reads."""

PRETRAINED: Final = Path(__file__).with_name("pretrained") / "maestro.notelstm"
"""The pretrained model, trained on the piano music of MAESTRO; its card and its license, which is
not the library's, are in the same folder."""

PART_KINDS: Final = {
    "model": "models",
    "encoder": "encoders",
    "sampler": "samplers",
    "input_transform": "input_transforms",
}
"""The parts of a bundle, and their kinds of plugin."""

_KEY: Final = "notelstm"
_MAX_HEADER: Final = 2**20
"""The largest description and tensor table, in bytes; a usual one has tens of kilobytes."""
_MAX_DEPTH: Final = 64
"""The number of levels of nested lists and mappings in a description."""
_TOO_DEEP: Final = f"nested more than {_MAX_DEPTH} levels deep"
_EXTRA_NUMBERS: Final = 2**24
"""Numbers that a model may have beside its tensors, such as masks."""
_MAX_WEIGHT: Final = 1e9
"""The largest weight; products of larger ones overflow."""
_DEVICE_OPTIONS: Final = ("device", "generator", "pin_memory")
"""Options of a new tensor that bind it to a device."""
_HINT: Final = "use a file that `notelstm train` wrote"
_COPY_HINT: Final = "copy the file again"


@final
@dataclass(frozen=True, kw_only=True)
class DataCard:
    """The data that a model was trained on.

    In the name and the license, bytes of file names that are not text are replaced by U+FFFD.

    Attributes:
        name: The name of the corpus or the folder.
        license: The license of the data, "" if it is not known.
        fingerprint: SHA-256 over the notes of the training pieces.
        pieces: Number of training pieces.
        notes: Number of training notes.
    """

    name: str = ""
    license: str = ""
    fingerprint: str = ""
    pieces: int = 0
    notes: int = 0

    def __post_init__(self) -> None:
        for name in ("name", "license"):
            text = getattr(self, name)
            if isinstance(text, str):
                object.__setattr__(self, name, displayable(text))

    def after(self, earlier: DataCard) -> DataCard:
        """The card of a model that was trained on `earlier`, then on this data.

        Both licenses are kept. Pieces with the same fingerprint are counted once.
        """
        if self.fingerprint and self.fingerprint == earlier.fingerprint:
            return earlier
        licenses = [card.license for card in (earlier, self) if card.license]
        return DataCard(
            name=", then ".join(card.name for card in (earlier, self) if card.name),
            license="; ".join(dict.fromkeys(licenses)),
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
        encoder: Encodes notes as the model's rows.
        sampler: Samples the fields of a note.
        context_length: Rows that generation and scoring look back on, None for all (the state is
            carried).
        input_transform: Transforms sampled rows before they are fed back, or None.
        read_policy: How the training files were read; prompts are read in the same way.
        sigmas: Standard deviations of the training residuals of point predictions, by field.
        unigram: Counts of each pitch, step, duration and velocity in the training pieces, in the
            form of :meth:`Unigram.to_json <notelstm.evaluation.Unigram.to_json>`; may be empty.
        data: The training data.
        settings: The record of the recipe.
        version: The version of the library that wrote the file.
    """

    model: NoteModel
    encoder: NoteEncoder
    sampler: Sampler
    context_length: int | None = None
    input_transform: InputTransform | None = None
    read_policy: ReadPolicy = field(default_factory=ReadPolicy)
    sigmas: Mapping[str, float] = field(default_factory=dict)
    unigram: Mapping[str, Any] = field(default_factory=dict)
    data: DataCard = field(default_factory=DataCard)
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @override
    def __repr__(self) -> str:
        """The classes of the parts, and the name of the data."""
        parts = ", ".join(
            f"{name}={type(getattr(self, name)).__name__}"
            for name in ("model", "encoder", "sampler")
        )
        data = self.data.name or None
        return f"Bundle({parts}, context_length={self.context_length}, data={data!r})"

    @property
    def generation_model(self) -> NoteModel:
        """The model for generation and scoring, windowed if there is a `context_length`."""
        context = self.context_length
        return self.model if context is None else Windowed(self.model, context)

    def recipe(self, *, epochs: int = 5, lr_divisor: float = 20.0, **parts: Any) -> Recipe:
        """The recipe that trained the model, adapted for fine-tuning.

        It is the recorded recipe (optimizer, schedule, loss, transforms, batches) with the bundle's
        own model, encoder, sampler, input transform, context length and read policy. Only the
        number of epochs, the learning rate and the device, ``"auto"``, differ.

        Args:
            epochs: Passes over the training set.
            lr_divisor: Divides the recorded learning rate, above 0; a smaller rate keeps the
                weights near the trained ones.
            **parts: Settings of the recipe in place of the recorded ones, such as a loss without
                an entry point.

        Raises:
            ConfigError: If the bundle does not record its recipe, or `lr_divisor` is not above 0.
            PluginError: If a recorded part cannot be rebuilt and is not in `parts`.
        """
        # Recipes build bundles, so bundles import them late.
        from notelstm.recipes.overrides import recorded_recipe

        return recorded_recipe(self, epochs=epochs, lr_divisor=lr_divisor, parts=parts)

    def save(self, path: str | os.PathLike[str], *, half_precision: bool = False) -> None:
        """Write the bundle to one file, atomically.

        A part without an entry point is recorded by name only, and has to be passed to
        :func:`load`. Of a model that is wrapped by ``torch.compile``, ``DataParallel`` or
        ``DistributedDataParallel``, the inner model is saved.

        Args:
            path: The file.
            half_precision: Write the weights in half precision (float16), which halves the size
                of the file; a loaded model still computes in float32.

        Raises:
            OutputError: If the file cannot be written.
            BundleError: If the file could not be loaded again: settings, sigmas or unigram are not
                JSON values or longer than 1 MB, or a tensor has numbers that are not finite or far
                too large.
        """
        parts = {name: getattr(self, name) for name in PART_KINDS}
        parts["model"] = _unwrapped(self.model)
        about = {
            "format": FORMAT,
            "version": __version__,
            "parts": {
                name: None if part is None else describe(part, lenient=True)
                for name, part in parts.items()
            },
            "context_length": self.context_length,
            "read_policy": asdict(self.read_policy),
            "sigmas": dict(self.sigmas),
            "unigram": dict(self.unigram),
            "data": asdict(self.data),
            "settings": dict(self.settings),
        }
        # The format rejects tensors that share memory.
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, (_, tensor) in _state_of(self.model).items()
        }
        if half_precision:
            tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
        check_tensors(
            tensors,
            hint="save without half_precision"
            if half_precision
            else "register masks and the like with persistent=False",
        )
        try:
            # The checksum is of the values that a reader gets: lists, not tuples.
            about = _parsed(json.dumps(about, allow_nan=False))
            text = json.dumps({**about, "sha256": _checksum(about, tensors)}, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise BundleError(
                f"settings, sigmas or unigram are not JSON values: {error}",
                hint="use finite numbers, whole ones of 64 bits, strings, lists and mappings",
            ) from error
        # The text is inside another one, which quotes it. A line of the tensor table takes less
        # than 150 bytes and the name.
        if len(json.dumps(text)) + sum(150 + len(name) for name in tensors) > _MAX_HEADER:
            raise BundleError(
                f"description of {len(json.dumps(text))} bytes, more than a model file may hold",
                hint="shorten the settings",
            )
        with atomic_write(path) as beside:
            try:
                save_file(tensors, beside, metadata={_KEY: text})
            except SafetensorError as error:
                raise OSError(str(error)) from error


def _unwrapped(model: object) -> nn.Module:
    """The model inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``."""
    module = cast(nn.Module, model)
    while True:
        parallel = isinstance(module, nn.DataParallel | DistributedDataParallel)
        inner = module.module if parallel else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _state_of(model: object) -> dict[str, tuple[str, Tensor]]:
    """A model's own names and tensors, by their names in a file, without those of compilation."""
    state = _unwrapped(model).state_dict()
    return {name.replace("_orig_mod.", ""): (name, tensor) for name, tensor in state.items()}


def _checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a description without its checksum, and over all tensors."""
    rest = {key: value for key, value in about.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    encoder: NoteEncoder | None = None,
    model: NoteModel | None = None,
    sampler: Sampler | None = None,
    input_transform: InputTransform | None = None,
) -> Bundle:
    """Read a bundle.

    Files need not be trusted: a damaged or crafted file raises BundleError before more memory is
    allocated than its tensors need.

    Args:
        path: The file; None for the pretrained model, :data:`PRETRAINED`.
        encoder: Replaces the saved encoder; needed if that has no entry point.
        model: An untrained model of the saved shapes, which gets the saved tensors.
        sampler: Replaces the saved sampler.
        input_transform: Replaces the saved input transform.

    Raises:
        BundleNotFoundError: If there is no such file.
        BundleError: If the file is truncated, damaged, foreign, too new, or of another model.
        PluginError: If the package of a part is not installed.
    """
    file = PRETRAINED if path is None else Path(path)
    given: dict[str, Any] = {
        "model": model,
        "encoder": encoder,
        "sampler": sampler,
        "input_transform": input_transform,
    }
    about: dict[str, Any] = {}
    try:
        about, tensors = _read(file)
        # The checksum is of the names in the file, which differ in the first format.
        named, weights = upgrade(about, tensors) if about["format"] == 1 else (about, tensors)
        bundle = _rebuilt(named, given, weights)
        _fill(bundle, weights)
        # Early files of the first format have no checksum.
        if "sha256" in about and about["sha256"] != _checksum(about, tensors):
            raise BundleError(
                "damaged: the checksum of the description and the tensors does not match",
                hint=_COPY_HINT,
            )
    except BundleNotFoundError:
        raise
    except (BundleError, PluginError) as error:
        for name, text in vars(error).items():
            setattr(error, name, _short(text))  # it may quote the file
        error.where = error.where or str(file)
        raise
    # A part may raise anything for settings that are not its own.
    except Exception as error:
        raise BundleError(
            f"damaged description of a model: {_short(error)}",
            where=str(file),
            hint=f"{_COPY_HINT}, or load it with the notelstm that wrote it, "
            f"{_short(about.get('version'))}",
        ) from error
    return bundle


def _short(value: object) -> str:
    """A value of a file, or an error, as one line of a message."""
    text = f"there is no {value}" if isinstance(value, KeyError) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:500] + "..."


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file, not yet compared with each other."""
    try:
        if not path.exists():
            raise BundleNotFoundError(f"no such model file: {path}", hint="check the path")
        if not path.is_file():
            raise BundleError("a folder or a device, not a model file", hint=_HINT)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise SafetensorError("no header of a model")
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(_KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise BundleError(
            f"truncated, or not a safetensors file: {_short(error)}",
            hint="copy it again if it was cut off; otherwise " + _HINT,
        ) from error
    except BundleError:
        raise  # BundleNotFoundError is an OSError too
    except OSError as error:
        raise BundleError(
            f"model file that cannot be read: {error.strerror or error}", hint=_HINT
        ) from error
    if text is None:
        raise BundleError("a safetensors file without notelstm's description", hint=_HINT)
    try:
        about = _parsed(text)
        version = about["format"]
        if type(version) is not int or version < 1:
            raise ValueError(f"format {version!r}")
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(
            f"unreadable description of a model: {_short(error)}", hint=_HINT
        ) from error
    if version > FORMAT:
        raise BundleError(
            f"format {version}, written by notelstm {_short(about.get('version'))}, is newer than "
            f"this library, which reads bundles up to format {FORMAT}",
            hint="run pip install --upgrade notelstm",
        )
    return about, tensors


def _parsed(text: str) -> dict[str, Any]:
    """A JSON object of finite numbers, 64-bit integers and valid Unicode."""
    try:
        about = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if not isinstance(about, dict):
        raise TypeError("no JSON object")
    _check_depth(about, _MAX_DEPTH)
    json.dumps(about, ensure_ascii=False).encode()  # ValueError for a lone surrogate
    return about


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) <= 20 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]}, which is not a finite number")
    return number


def _check_depth(value: object, left: int) -> None:
    if not left:
        raise ValueError(_TOO_DEEP)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        if isinstance(item, dict | list):
            _check_depth(item, left - 1)


def _rebuilt(
    about: Mapping[str, Any], given: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Bundle:
    """The bundle that a file describes, with an untrained model."""
    with _Allowance(tensors):
        parts = {
            name: _part(name, about["parts"][name]) if given[name] is None else given[name]
            for name in PART_KINDS
        }
    context, version = about["context_length"], about["version"]
    if context is not None and (type(context) is not int or context < 1):
        raise ValueError(f"context_length {context!r}")
    if not isinstance(version, str):
        raise TypeError(f"version {version!r}")
    sigmas = about["sigmas"]
    if any(type(sigma) not in (int, float) or sigma < 0 for sigma in sigmas.values()):
        raise ValueError(f"sigmas {sigmas}")
    # Files of the first format may have no counts.
    unigram, settings = about.get("unigram", {}), about["settings"]
    if not (isinstance(unigram, dict) and isinstance(settings, dict)):
        raise TypeError("settings or unigram that are not a mapping")
    bundle = Bundle(
        **parts,
        context_length=context,
        read_policy=ReadPolicy(**about["read_policy"]),
        sigmas={name: float(sigma) for name, sigma in sigmas.items()},
        unigram=unigram,
        data=_card(about["data"]),
        settings=dict(settings),
        version=version,
    )
    if bundle.model.fields != bundle.encoder.fields:
        names = [", ".join(f.name for f in part.fields) for part in (bundle.model, bundle.encoder)]
        raise BundleError(
            f"the model's fields ({names[0]}) are not the encoder's ({names[1]})"
            if names[0] != names[1]
            else f"the model's fields ({names[0]}) are other than the encoder's of these names",
            hint="pass the encoder that the model was trained with",
        )
    return bundle


def _part(name: str, saved: Saved | None) -> Any:
    if saved is None and name == "input_transform":
        return None
    if saved is None or saved.get("kind", PART_KINDS[name]) != PART_KINDS[name]:
        raise TypeError(f"{name} is {saved}")
    if missing := missing_parts(saved):
        raise BundleError(
            f"the {name} cannot be rebuilt: {_short(', '.join(missing))} has no entry point",
            hint=f"pass the {name}: load(path, {name}=...)",
        )
    return build(saved)


def _card(stored: Mapping[str, Any]) -> DataCard:
    card = DataCard(**stored)
    for each in fields(card):
        value = getattr(card, each.name)
        if type(value) is not type(each.default) or (isinstance(value, int) and value < 0):
            raise TypeError(f"{each.name} {value!r} of the data")
    return card


class _Allowance(TorchFunctionMode):
    """Stops the construction of a model that is much larger than the tensors of its file.

    The size of each new tensor is computed on the meta device before its memory is allocated.

    Args:
        tensors: The tensors of the file.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._numbers = 2 * sum(tensor.numel() for tensor in tensors.values()) + _EXTRA_NUMBERS
        self._calls = 64 * (len(tensors) + 64)

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        self._calls -= 1
        if not any(isinstance(value, Tensor) for value in (*args, *options.values())):
            with torch.device("meta"):
                planned = func(
                    *args, **{k: v for k, v in options.items() if k not in _DEVICE_OPTIONS}
                )
            self._numbers -= planned.numel() if isinstance(planned, Tensor) else 0
        if self._calls < 0 or self._numbers < 0:
            raise BundleError(
                "the settings describe a much larger model than the tensors of the file",
                hint=_COPY_HINT,
            )
        return func(*args, **options)


def _fill(bundle: Bundle, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of a file into its model, after comparing names, shapes and types."""
    module, state = _unwrapped(bundle.model), _state_of(bundle.model)
    for name in (*state, *tensors):
        if name not in tensors:
            fault = f"there is no {name}"
        elif name not in state:
            fault = f"the model has no {_short(name)}"
        elif tensors[name].shape != state[name][1].shape:
            there, wanted = tuple(tensors[name].shape), tuple(state[name][1].shape)
            fault = f"{name} is of size {there}, not {wanted}"
        elif tensors[name].is_floating_point() != state[name][1].is_floating_point():
            fault = f"{name} is of {tensors[name].dtype}, not {state[name][1].dtype}"
        else:
            continue
        raise BundleError(
            f"the tensors do not fit the model: {fault}",
            hint=f"{_COPY_HINT}, or pass the model that it was saved from",
        )
    check_tensors(tensors, hint=_COPY_HINT)
    module.load_state_dict({own: tensors[name] for name, (own, _) in state.items()})
    module.eval()


def check_tensors(tensors: Mapping[str, Tensor], *, hint: str) -> None:
    """Check the tensors of a model file.

    Raises:
        BundleError: If one has numbers that are not finite, or far too large.
    """
    for name, tensor in tensors.items():
        # Modules can have a state that is no tensor.
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel():
            low, high = (float(end) for end in tensor.float().aminmax())
            if not (low >= -_MAX_WEIGHT and high <= _MAX_WEIGHT):
                raise BundleError(
                    f"{name} has numbers that are not finite, or far too large", hint=hint
                )
