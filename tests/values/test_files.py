"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notelstm.errors import OutputError
from notelstm.files import atomic_write


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "ünïcode ♫.txt"
    with atomic_write(path) as beside:
        beside.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_failures_leave_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as beside:
            beside.write_text("half of")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the file"), atomic_write(tmp_path) as x:
        x.write_text("")


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        pytest.raises(OutputError, match="not a file but a device or a pipe"),
        atomic_write(pipe) as beside,
    ):
        beside.write_text("")
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["a" * 250, "\u266b" * 80])
def test_names_as_long_as_names_can_be(name: str, tmp_path: Path) -> None:
    with atomic_write(tmp_path / name) as beside:
        beside.write_text("done")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("path", ["", ".", "/", "a\0b", "a" * 300])
def test_paths_that_no_file_can_have_are_errors(path: str) -> None:
    with pytest.raises(OutputError) as caught, atomic_write(path) as beside:
        beside.write_text("")
    assert str(caught.value).startswith(("not the path of a file", "cannot write the file"))
