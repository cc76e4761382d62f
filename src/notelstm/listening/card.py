"""The card of a model: its data, their license, its parts and settings, as tables for a page."""

from __future__ import annotations

from typing import cast

from torch import nn

from notelstm.bundle import Bundle
from notelstm.listening.page import Details
from notelstm.plugins import describe

__all__ = ["card_of", "num_parameters"]


def num_parameters(bundle: Bundle) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())


def card_of(bundle: Bundle) -> Details:
    """A model's card and the settings that it was trained with, as tables by heading."""
    card = bundle.data
    model = {
        "trained on": card.name or "unknown",
        "license of the data": card.license or "unknown",
        "pieces": f"{card.pieces:,}",
        "notes": f"{card.notes:,}",
        "model": describe(bundle.model)["name"],
        "parameters": f"{num_parameters(bundle):,}",
        "encoder": describe(bundle.encoder)["name"],
        "sampler": describe(bundle.sampler)["name"],
        "context length": "all" if bundle.context_length is None else bundle.context_length,
        "written by": f"notelstm {bundle.version}",
    }
    plain = {
        name: value
        for name, value in bundle.settings.items()
        if isinstance(value, bool | int | float | str)
    }
    return {"Model": model, "Training": plain} if plain else {"Model": model}
