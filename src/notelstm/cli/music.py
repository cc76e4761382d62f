"""Sources of music: a folder, a file, or a named corpus, and the split of its pieces."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, final, overload

from typing_extensions import override

from notelstm.data.corpus import Corpus, CorpusSource
from notelstm.data.folder import Folder, midi_files
from notelstm.data.maestro import MaestroCorpus
from notelstm.data.splits import Split, check_shares, split_by_keys, split_by_table
from notelstm.data.tables import find_table
from notelstm.errors import (
    ConfigError,
    DataError,
    DataNotFoundError,
    PluginError,
    did_you_mean,
)
from notelstm.midi.policy import ReadPolicy
from notelstm.notes import Notes
from notelstm.plugins import Plugin, find, installed, settings_of

__all__ = ["Music", "Pieces", "Side", "open_corpus", "open_music"]

Side: TypeAlias = Literal["train", "validation", "test", "all"]
"""A side of a split, or all pieces."""


class Music(NamedTuple):
    """An open source of music and the split of its pieces.

    Attributes:
        corpus: The pieces.
        split: Training and held-out pieces.
        by_table: Whether the source has its own table of the split, as MAESTRO does.
    """

    corpus: Corpus
    split: Split
    by_table: bool

    def side(self, side: Side, limit: int | None = None) -> Pieces:
        """The pieces of one side, at most `limit`; DataError if there is none."""
        _check_limit(limit)
        everything: Iterable[int] = range(len(self.corpus))
        numbers = list(everything if side == "all" else getattr(self.split, side))
        if not len(self.corpus):
            next(self.corpus.pieces())  # raises with the reason
        if not numbers:
            raise DataError(
                f"{self.corpus.name} has no pieces for {side}",
                hint="use another --split, or train with --validation SHARE to set some aside",
            )
        return Pieces(self.corpus, numbers[:limit])


@final
class Pieces(Sequence[Notes]):
    """Some pieces of a corpus, each read from its cache when it is accessed."""

    def __init__(self, corpus: Corpus, numbers: Sequence[int]) -> None:
        self._corpus = corpus
        self._numbers = numbers

    @property
    def names(self) -> list[str]:
        """The names of the pieces."""
        return [self._corpus.names[number] for number in self._numbers]

    def longer_than(self, notes: int) -> Pieces:
        """The pieces that have more notes."""
        lengths = self._corpus.lengths
        return Pieces(self._corpus, [number for number in self._numbers if lengths[number] > notes])

    @override
    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Notes: ...
    @overload
    def __getitem__(self, index: slice) -> Pieces: ...
    @override
    def __getitem__(self, index: int | slice) -> Notes | Pieces:
        if isinstance(index, slice):
            return Pieces(self._corpus, self._numbers[index])
        return self._corpus[self._numbers[index]]


def open_music(
    where: str, policy: ReadPolicy, *, share: float = 0.0, limit: int | None = None
) -> Music:
    """Open a folder, file or named corpus and split it.

    Args:
        where: A path, or a corpus's name.
        policy: How files are read.
        share: The share that is held out, by content, if the source has no table.
        limit: The most files to read of a folder without a table.
    """
    _check_limit(limit)
    check_shares(share, 0.0)
    table = _table(Path(where))
    corpus = open_corpus(where, policy, limit=limit if table is None else None)
    if table is not None:
        return Music(corpus, split_by_table(corpus.names, table), by_table=True)
    split = split_by_keys(corpus.content_keys, validation=share, test=0.0)
    return Music(corpus, split, by_table=False)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"--max-files {limit} is below 1", hint="give 1 or more")


def open_corpus(where: str, policy: ReadPolicy, *, limit: int | None = None) -> Corpus:
    """Open a folder or file, or if there is none of that name, the corpus plugin."""
    path = Path(where)
    progress = sys.stderr.isatty()
    if not path.exists():
        return Corpus.open(_plugin(where, policy), progress=progress)
    table = _table(path)
    if table is not None:
        version = table.stem.removeprefix("maestro-v")
        maestro = MaestroCorpus(path=path, version=version, policy=policy)
        return Corpus.open(maestro, progress=progress)
    if limit is not None and path.is_dir():
        files = midi_files(path)[:limit]
        found = find_table(path, [file.relative_to(path).as_posix() for file in files])
        return Corpus.open(files or path, policy=policy, table=found, progress=progress)
    return Corpus.open(Folder(path=path, policy=policy), progress=progress)


def _table(path: Path) -> Path | None:
    """MAESTRO's table of splits, if the folder has it."""
    tables = [
        t for t in path.glob("maestro-v*.csv") if re.fullmatch(r"maestro-v[\d.]+\.csv", t.name)
    ]
    return tables[0] if len(tables) == 1 else None


def _opens_by_name(plugin: Plugin) -> bool:
    """Whether a corpus needs no settings; also if its package is broken."""
    try:
        inspect.signature(plugin.load()).bind()
    except TypeError:
        return False
    except PluginError:
        pass  # found again where the corpus is opened
    return True


def _plugin(name: str, policy: ReadPolicy) -> CorpusSource:
    known = installed("corpora")
    if name not in [plugin.name for plugin in known]:
        names = [plugin.name for plugin in known if _opens_by_name(plugin)]
        closest = did_you_mean(name, names)
        raise DataNotFoundError(
            f"no folder, MIDI file or corpus is called {name!r}{closest}",
            hint="" if closest else f"check the path, or name a corpus: {', '.join(names)}",
        )
    plugin = find("corpora", name)
    if not _opens_by_name(plugin):
        raise DataError(
            f"the corpus {name!r} cannot be opened by its name alone",
            hint="name a folder or a MIDI file",
        )
    corpus: CorpusSource = plugin.load()()
    if "policy" in settings_of(corpus):
        # Parts with settings are dataclasses, which the protocol does not declare.
        return dataclasses.replace(corpus, policy=policy)  # type: ignore[type-var]
    return corpus
