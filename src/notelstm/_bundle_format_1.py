"""Names of the first bundle format, and their names today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["upgrade"]

_KEYS: Final = {
    "batch": "batch_size",
    "context": "context_length",
    "crossing": "cross_piece_boundaries",
    "feedback": "input_transform",
    "lanes": "stateful",
    "licence": "license",
    "policy": "read_policy",
    "scored": "targets",
    "ties": "simultaneous_order",
    "window": "sequence_length",
}
"""Keys of a description and of a recipe's record, at every level."""

_VALUES: Final = {"instrument-0": "first-instrument"}
"""Values of settings."""

_KINDS: Final = {"feedbacks": "input_transforms"}
"""Kinds of plugins."""

_PARTS: Final = {
    "forbid": "forbid-values",
    "largest-chord": "max-chord-size",
    "no-repeat": "no-repeat-ngram",
    "polyphony-cap": "max-polyphony",
    "shortest-duration": "min-duration",
}
"""Names of parts."""

_SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "max-polyphony": {"voices": "notes"},
    "no-repeat-ngram": {"n": "ngram_size", "memory": "history"},
    "note-density": {"rate": "notes_per_second", "memory": "history"},
    "beat": {"metres": "time_signatures"},
    "note-lstm": {
        "components": "num_components",
        "embedding": "embedding_dim",
        "head": "head_size",
        "hidden": "hidden_size",
        "layers": "num_layers",
        "order": "field_order",
        "sounding": "sounding_features",
        "times": "time_distribution",
    },
    "repetition-penalty": {"memory": "history"},
    "three-head-lstm": {
        "hidden": "hidden_size",
        "layers": "num_layers",
        "point_times": "point_estimates",
    },
    "top-p": {"mass": "p"},
}
"""Settings by the part's name today."""

_RECORDED: Final = {
    "encoder": "encoders",
    "input_transform": "input_transforms",
    "loss": "losses",
    "model": "models",
    "sampler": "samplers",
}
"""Kinds of the parts in a recipe's record."""

_TRAINING: Final = {
    "accumulate": "accumulate_grad_batches",
    "clip": "max_grad_norm",
    "warmup": "warmup_steps",
}
"""Settings of the training."""

_TENSORS: Final = {"begin": "initial_context", "hear": "sounding_layers"}
"""First components of the names of a model's tensors."""


def upgrade(
    about: Mapping[str, Any], tensors: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description and the tensors of a file of format 1, with today's names.

    Args:
        about: The description, as JSON.
        tensors: The model's tensors by name.
    """
    renamed = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        renamed[f"{_TENSORS.get(first, first)}{dot}{rest}"] = tensor
    description = _renamed(about)
    description["settings"] = _record(description["settings"])
    return description, renamed


def _record(settings: Any) -> Any:
    """The record of a recipe in the form of :meth:`notelstm.recipes.Recipe.to_dict`.

    Format 1 recorded a part as ``{"name": ..., <setting>: ...}``; today's record is that of
    :func:`notelstm.plugins.describe`. Anything else is returned as it is.
    """
    encoder = settings.get("encoder") if isinstance(settings, dict) else None
    if not isinstance(encoder, dict) or "config" in encoder:
        return settings
    record = dict(settings)
    for key, kind in _RECORDED.items():
        if record.get(key) is not None:
            record[key] = _part(kind, record[key])
    training = record.get("training", {})
    record["training"] = {_TRAINING.get(key, key): value for key, value in training.items()}
    record["transforms"] = [_part("transforms", part) for part in record.get("transforms", [])]
    # Format 1 has no such setting; a recipe for few pieces reduces the batch size today.
    record["min_steps_per_epoch"] = 50
    return record


def _part(kind: str, old: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in old.items() if key != "name"}
    return {"kind": kind, "name": old["name"], "config": config}


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, Mapping):
        return _VALUES.get(value, value) if isinstance(value, str) else value
    out: dict[str, Any] = {
        _KEYS.get(str(key), str(key)): _renamed(item) for key, item in value.items()
    }
    if isinstance(out.get("kind"), str):
        out["kind"] = _KINDS.get(out["kind"], out["kind"])
    # A part is {"name": ..., "config": settings}; in a recipe's record, without "config".
    part = out.get("name")
    if isinstance(part, str):
        name: str = _PARTS.get(part, part)
        out["name"], names = name, _SETTINGS.get(name, {})
        if isinstance(out.get("config"), dict):
            out["config"] = {names.get(key, key): item for key, item in out["config"].items()}
        else:
            out = {names.get(key, key): item for key, item in out.items()}
    return out
