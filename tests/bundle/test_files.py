"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from notelstm.errors import OutputError
from notelstm.files import atomic_write


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as beside:
        assert beside.parent == path.parent
        beside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with atomic_write(str(path)) as beside:
        beside.write_text("newer")
        assert path.read_text() == "whole"
    assert path.read_text() == "newer"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failures_leave_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_operating_system_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    full = OSError(errno.ENOSPC, "No space left on device")
    said = r"No space left on device \(.*file\.txt\)"
    with pytest.raises(OutputError, match=said), atomic_write(path):
        raise full
    mine = OutputError("mine")
    with pytest.raises(OutputError, match="mine"), atomic_write(path):
        raise mine
    assert not list(tmp_path.iterdir())
    path.mkdir()
    with pytest.raises(OutputError, match="cannot write the file"), atomic_write(path) as beside:
        beside.write_text("in the way of a folder")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_concurrent_writers_do_not_interfere(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"


def test_file_modes_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "file") as beside:
        beside.unlink()
        beside.touch(mode=0o600)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file")]
    assert modes[0] == modes[1]
