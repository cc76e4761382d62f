"""The commands of each page of the documentation, run in their order in an empty folder."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from notelstm.cli import main
from notelstm.midi import write_midi
from notelstm.notes import Notes, TempoMap

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

FOLDERS: Final = ("my-midi-files", "other-midi-files", "held-out-files", "training-files")
"""The reader's own files, which the pages name."""

SONGS: Final = ("my-songs", "other-songs")
"""Folders of the same with several instruments."""

SMALLER: Final = {
    "train": {"--epochs": "1", "--max-files": "8"},
    "demo": {"--chorales": "8", "--epochs": "1", "--minutes": "0.05"},
    "evaluate": {"--notes": "40"},
}
"""Options that make a command short."""

SMALL: Final = ("options.hidden_size=16", "model.head_size=16")
"""Settings that make a new model small; one that is fine-tuned keeps its size."""


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each ``notelstm`` command of a page, in order."""
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language != "console":
            continue
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            # `play` serves until it is interrupted; its tests start it.
            if words[0] == "notelstm" and words[1] != "play":
                yield words[1:]


def shorter(words: list[str]) -> list[str]:
    """A command that does the same with less work."""
    kept = list(words)
    for option, value in SMALLER.get(words[0], {}).items():
        if option in kept:
            kept[kept.index(option) + 1] = value
        else:
            kept += [option, value]
    if words[0] == "train" and "--from" not in words:
        given = {word.partition("=")[0] for word in words}
        kept += ["--set", *(one for one in SMALL if one.partition("=")[0] not in given)]
    return kept


def piece(seed: int) -> Notes:
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(1, 5, 60) / 10)
    return Notes(start=start, end=start + 0.2, pitch=rng.integers(50, 80, 60))


def band(notes: Notes) -> Notes:
    """The notes as those of a piano, a bass and drums, in turn."""
    track = np.arange(len(notes)) % 3
    program, drum = np.array([0, 33, 0])[track], track == 2
    return replace(notes, program=program, drum=drum, track=track, tempo_map=TempoMap())


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, but for the reader's own MIDI files."""
    for number, name in enumerate(FOLDERS):
        for k, letter in enumerate("abcdef"):
            write_midi(piece(10 * number + k), tmp_path / name / f"{letter}.mid")
    for number, name in enumerate(SONGS):
        for k, letter in enumerate("abcdef"):
            write_midi(band(piece(100 * number + k)), tmp_path / name / f"{letter}.mid")
    monkeypatch.chdir(tmp_path)
    return tmp_path


HEAVY: Final = {
    "README.md",
    "evaluation.md",
    "songs.md",
    "training.md",
    "tutorial.md",
    "writing.md",
}
"""Pages that train large models."""

ELSEWHERE: Final = {"plugins.md"}
"""Pages whose commands need a package that another test builds and installs."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in HEAVY else [])
        for page in PAGES
        if page.name not in ELSEWHERE and any(commands(page))
    ],
)
def test_the_commands_of_a_page_work_in_their_order(
    page: Path, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(words[0] == "corpora" for words in commands(page)):
        monkeypatch.setenv("NOTELSTM_CACHE", str(reader / "cache"))
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "toml" and "recipe =" in text:
            (reader / "mine.toml").write_text(text, encoding="utf-8")
    for words in commands(page):
        if "--soundfont" in words and not font(reader / "piano.sf2"):
            continue
        argv = shorter(words)
        code = main(argv)
        assert code == 0, (argv, capsys.readouterr().err)
        for option, path in itertools.pairwise(words):
            if option in ("-o", "--html", "--picture", "--report") and "--batch" not in words:
                assert (reader / path).is_file(), argv


def font(path: Path) -> bool:
    """Put a sound font at a path; whether there is one, and a synthesiser."""
    try:
        import fluidsynth as _  # noqa: F401  # only to see whether it is there
        import pretty_midi
    except ImportError:
        return False
    shutil.copy(Path(pretty_midi.__file__).with_name("TimGM6mb.sf2"), path)
    return True


def test_following_a_page_twice_replaces_nothing(
    reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "listening.md"
    first = next(commands(page))
    assert main(first) == 0
    before = {path: path.read_bytes() for path in reader.rglob("*") if path.is_file()}
    assert main(first) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in reader.rglob("*") if path.is_file()}
