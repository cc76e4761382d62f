"""The first bundle format's record of a recipe, brought to the form that recipes write today.

Files of that format recorded a part as ``{"name": ..., <setting>: ...}``; today's record has
``kind``, ``name``, ``distribution``, ``version`` and ``config``. Nothing else in the library knows
the old form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["upgraded_settings"]

_KINDS: Final = {
    "encoder": "encoders",
    "model": "models",
    "loss": "losses",
    "sampler": "samplers",
    "feedback": "feedbacks",
}

_TRAINING: Final = {
    "accumulate": "accumulate_grad_batches",
    "clip": "max_grad_norm",
    "warmup": "warmup_steps",
}
"""Settings of the training that had other names."""


def upgraded_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a recipe in today's form; anything else is returned as it is.

    Args:
        settings: The ``settings`` of a bundle file, old or new.
    """
    encoder = settings.get("encoder")
    if not isinstance(encoder, Mapping) or "config" in encoder:
        return dict(settings)
    new = dict(settings)
    for key, kind in _KINDS.items():
        if new.get(key) is not None:
            new[key] = _part(kind, new[key])
    training = dict(new.get("training", {}))
    new["training"] = {_TRAINING.get(key, key): value for key, value in training.items()}
    # Not recorded then; few pieces are trained on with a smaller batch today.
    new["min_steps_per_epoch"] = 50
    new["transforms"] = [_part("transforms", part) for part in new.get("transforms", [])]
    return new


def _part(kind: str, old: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in old.items() if key != "name"}
    return {"kind": kind, "name": old["name"], "config": config}
