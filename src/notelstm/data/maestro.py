"""``MaestroCorpus``: two hundred hours of piano competitions, downloaded at the first use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, final

from notelstm.data.cache import cache_folder
from notelstm.data.download import fetch_folder
from notelstm.data.folder import Folder
from notelstm.data.splits import Split, split_by_table
from notelstm.errors import ConfigError, DataError, DataNotFoundError
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes

__all__ = ["MaestroCorpus"]

CHECKSUMS: Final = {
    "1.0.0": "f620f9e1eceaab8beea10617599add2e9c83234199b550382a2f603098ae7135",
    "2.0.0": "ec2cc9d94886c6b376db1eaa2b8ad1ce62ff9f0a28b3744782b13163295dadf3",
    "3.0.0": "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c",
}
"""SHA-256 of each version's MIDI archive, about 60 MB each."""

_SIZES: Final = {
    "1.0.0": "1,184 performances, 172 hours",
    "2.0.0": "1,282 performances, 201 hours",
    "3.0.0": "1,276 performances, 199 hours",
}
"""As counted by its authors."""

_ADDRESS: Final = "https://storage.googleapis.com/magentadata/datasets/maestro"


@final
@dataclass(frozen=True, kw_only=True)
class MaestroCorpus:
    """MAESTRO: piano performances of the International Piano-e-Competition, by Google's Magenta.

    It is downloaded once, about 60 MB, to :func:`~notelstm.data.cache.cache_folder`.

    Attributes:
        version: ``"1.0.0"``, ``"2.0.0"`` (that of the reference recipe) or ``"3.0.0"``.
        path: The unpacked folder, instead of a download.
        policy: How to read the files.
        address: The base address of the versions, for mirrors.
        progress: Show a progress bar during the download.

    Raises:
        ConfigError: If there is no such version.

    Source:
        Curtis Hawthorne et al., "Enabling Factorized Piano Music Modeling and Generation with the
        MAESTRO Dataset", ICLR 2019.
    """

    name: ClassVar[str] = "maestro"
    license: ClassVar[str] = "CC BY-NC-SA 4.0 (not for commercial use), by Google LLC"

    version: str = "2.0.0"
    path: str | os.PathLike[str] | None = None
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    address: str = _ADDRESS
    progress: bool = True

    def __post_init__(self) -> None:
        """Check the version."""
        if self.version not in CHECKSUMS:
            raise ConfigError(
                f"no version {self.version!r} of MAESTRO", hint=f"use {', '.join(CHECKSUMS)}"
            )

    @property
    def size(self) -> str:
        """The amount of music, and the size of the download."""
        return f"{_SIZES[self.version]}; about 60 MB to download"

    @property
    def source(self) -> str:
        """The given folder, or the address of the archive."""
        if self.path is not None:
            return str(self.path)
        stem = f"maestro-v{self.version}"
        return f"{self.address}/v{self.version}/{stem}-midi.zip"

    def folder(self) -> Folder:
        """The folder of MIDI files, after a download if need be.

        Raises:
            DataError: If it does not exist, or cannot be downloaded.
            OutputError: If it cannot be written.
        """
        path = self.path
        if path is None:
            path = fetch_folder(
                self.source,
                cache_folder() / "downloads" / f"maestro-v{self.version}",
                sha256=CHECKSUMS[self.version],
                progress=self.progress,
            )
        elif not os.path.isdir(path):
            raise DataNotFoundError(f"no such folder: {path}", hint="check the path")
        return Folder(path=path, policy=self.policy, license=self.license)

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The performances, by their file names, as :meth:`Folder.pieces` of :meth:`folder`."""
        return self.folder().pieces(limit)

    def split(self, names: tuple[str, ...]) -> Split:
        """MAESTRO's own split of pieces, named as by :meth:`pieces` or a corpus.

        Raises:
            DataError: If its table is missing, or lacks a piece.
        """
        tables = sorted(Path(self.folder().path).glob("maestro-v*.csv"))
        if not tables:
            raise DataError(
                "MAESTRO's table, maestro-v*.csv, is missing",
                where=self.source,
                hint="unpack the whole archive",
            )
        return split_by_table(names, tables[0])
