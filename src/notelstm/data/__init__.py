"""Data: windows and lanes of rows, splits of pieces, and the corpora they come from."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notelstm.data.batches import LaneBatches, WindowBatches
    from notelstm.data.corpus import Corpus
    from notelstm.data.dataset import SequenceDataset
    from notelstm.data.splits import content_key, split_by_content

# Reading a corpus needs no torch, and a process that only reads should not wait for it.
_HOMES = {
    "batches": ("LaneBatches", "WindowBatches"),
    "corpus": ("Corpus",),
    "dataset": ("SequenceDataset",),
    "splits": ("content_key", "split_by_content"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Corpus",
    "LaneBatches",
    "SequenceDataset",
    "WindowBatches",
    "content_key",
    "split_by_content",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
