"""Data: corpora, splits of their pieces, and training batches of encoded rows."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from notelstm.data.bach import BachChorales
from notelstm.data.cache import clear_caches, list_caches
from notelstm.data.corpus import Corpus, CorpusReport, CorpusSource, FileReport
from notelstm.data.folder import Folder
from notelstm.data.given import GivenMixture
from notelstm.data.leaks import find_duplicates, find_leaks, find_shared
from notelstm.data.maestro import MaestroCorpus
from notelstm.data.splits import (
    Split,
    content_key,
    split_at_random,
    split_by_content,
    split_by_keys,
    split_by_table,
)
from notelstm.data.summary import summarise

if TYPE_CHECKING:
    from notelstm.data.batches import StatefulBatches, WindowBatches
    from notelstm.data.dataset import PackedRows, SequenceDataset
    from notelstm.data.encoding import encode_corpus
    from notelstm.data.transforms import (
        Augmented,
        DropLabels,
        TimeStretch,
        Transform,
        Transpose,
        VelocityShift,
    )

# Reading a corpus needs no torch, and a process that only reads should not wait for it.
_NEED_TORCH = {
    "batches": ("StatefulBatches", "WindowBatches"),
    "dataset": ("PackedRows", "SequenceDataset"),
    "encoding": ("encode_corpus",),
    "transforms": (
        *("Augmented", "DropLabels", "TimeStretch", "Transform", "Transpose", "VelocityShift"),
    ),
}

__all__ = [
    "Augmented",
    "BachChorales",
    "Corpus",
    "CorpusReport",
    "CorpusSource",
    "DropLabels",
    "FileReport",
    "Folder",
    "GivenMixture",
    "MaestroCorpus",
    "PackedRows",
    "SequenceDataset",
    "Split",
    "StatefulBatches",
    "TimeStretch",
    "Transform",
    "Transpose",
    "VelocityShift",
    "WindowBatches",
    "clear_caches",
    "content_key",
    "encode_corpus",
    "find_duplicates",
    "find_leaks",
    "find_shared",
    "list_caches",
    "split_at_random",
    "split_by_content",
    "split_by_keys",
    "split_by_table",
    "summarise",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    for home, names in _NEED_TORCH.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
