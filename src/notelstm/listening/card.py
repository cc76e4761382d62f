"""Tables for pages, in words that a listener can read: a model's card, settings of music."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from torch import nn

from notelstm.bundle import Bundle
from notelstm.listening.page import Details
from notelstm.listening.pianoroll import pitch_name
from notelstm.plugins import describe

__all__ = ["card_of", "music_details", "num_parameters"]

_LABELS: Final = {
    "seed": "random seed",
    "temperature": "temperature (1 as trained)",
    "top_k": "most likely values, at most",
    "top_p": "most likely values, up to",
    "min_p": "likelihood of the most likely value, at least",
    "density": "notes per second",
    "low": "lowest note",
    "high": "highest note",
    "pitch_range": "lowest and highest note",
    "polyphony": "notes at a time, at most",
    "max_polyphony": "notes at a time, at most",
    "max_chord_size": "notes that begin together, at most",
    "no_repeat_ngram": "notes in a row that never repeat",
    "grid": "grid of the onsets (seconds or beats)",
    "max_instruments": "instruments at a time, at most",
    "sampler": "choice of values",
    "processor": "more constraints",
}
"""The meaning of each setting of generation that its name does not tell."""


def num_parameters(bundle: Bundle) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())


def card_of(bundle: Bundle) -> Details:
    """A model's card and a summary of its training, as tables by heading.

    Settings that only the code explains are left out;
    ``Bundle.settings`` has all.
    """
    card = bundle.data
    context = bundle.context_length
    model = {
        "trained on": card.name or "unknown",
        "license of the data": card.license or "unknown",
        "pieces": f"{card.pieces:,}",
        "notes": f"{card.notes:,}",
        "model": describe(bundle.model)["name"],
        "parameters": f"{num_parameters(bundle):,}",
        "notes that it takes into account": "all before"
        if context is None
        else f"the last {context}",
        "written by": f"notelstm {bundle.version}",
    }
    training = {
        "recipe": bundle.settings.get("name"),
        "set aside for validation": _percent(bundle.settings.get("held_out")),
        "notes seen, with repeats": _thousands(bundle.settings.get("trained_notes")),
    }
    known = {name: value for name, value in training.items() if value}
    return {"Model": model, "Training": known} if known else {"Model": model}


def music_details(settings: Mapping[str, object]) -> dict[str, str]:
    """The settings with which music was generated, as a table.

    Args:
        settings: Values by the name of an option of ``notelstm generate`` or a control of
            ``notelstm play``.
    """
    return {
        _LABELS.get(name, name.replace("_", " ")): _as_text(name, value)
        for name, value in settings.items()
    }


def _as_text(name: str, value: object) -> str:
    if name in ("low", "high") and isinstance(value, int):
        return pitch_name(value)
    if name in ("top_p", "min_p"):
        return _percent(value)
    if isinstance(value, list | tuple):
        return (" to " if name == "pitch_range" else ", ").join(map(str, value))
    return str(value)


def _percent(value: object) -> str:
    """A share in percent; "" for 0 and for values that are no numbers."""
    return f"{100 * value:.3g} %" if isinstance(value, int | float) and value else ""


def _thousands(value: object) -> str:
    """A count with separators; "" for 0 and for values that are no numbers."""
    return f"{value:,}" if isinstance(value, int | float) and value else ""
