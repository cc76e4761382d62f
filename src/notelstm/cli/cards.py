"""The card of a model, for pages with its music."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.listening.page import Details

__all__ = ["card_of"]


def card_of(bundle: Bundle) -> Details:
    """A model's card and the settings that it was trained with, as tables by heading."""
    from typing import cast

    from torch import nn

    from notelstm.plugins import describe

    card = bundle.data
    parameters = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    model = {
        "trained on": card.name or "unknown",
        "licence of the data": card.license or "unknown",
        "pieces": f"{card.pieces:,}",
        "notes": f"{card.notes:,}",
        "model": describe(bundle.model)["name"],
        "parameters": f"{parameters:,}",
        "encoder": describe(bundle.encoder)["name"],
        "sampler": describe(bundle.sampler)["name"],
        "notes looked back on": "all" if bundle.context_length is None else bundle.context_length,
        "written by": f"notelstm {bundle.version}",
    }
    plain = {
        name: value
        for name, value in bundle.settings.items()
        if isinstance(value, bool | int | float | str)
    }
    return {"Model": model, "Training": plain} if plain else {"Model": model}
