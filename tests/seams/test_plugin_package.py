"""The packages in examples/: installed, tested and trained; missed where they are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import notelstm
from notelstm.errors import PluginError

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGE = EXAMPLES / "plugin_package"
FRAMES = EXAMPLES / "frames_package"
GOLDEN = Path(__file__).parents[1] / "golden" / "study.mid"

# One process installs the plugin package. Some tests start several programs.
pytestmark = [pytest.mark.xdist_group("plugin-package"), pytest.mark.timeout(900)]


class Machine:
    """A Python that may have the plugin package installed beside what is there."""

    def __init__(self, site: Path | None, cwd: Path) -> None:
        self.env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        if site is not None:
            self.env["PYTHONPATH"] = str(site)
        self.cwd = cwd

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.env,
            cwd=self.cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )


def installed(package: Path, target: Path) -> Path:
    """A folder into which pip has installed a package; nothing is fetched."""
    pip = ["pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    done = Machine(None, target).run(
        *pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(package)
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin package."""
    return installed(PACKAGE, tmp_path_factory.mktemp("site"))


@pytest.mark.usefixtures("scipy")
def test_the_frames_package_passes_its_tests(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    done = Machine(installed(FRAMES, tmp_path / "site"), tmp_path).run(
        "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(FRAMES / "tests")
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    done = Machine(site, tmp_path).run(
        "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(PACKAGE / "tests")
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_trained_by_name_and_missed_where_it_is_not_installed(site: Path, tmp_path: Path) -> None:
    machine = Machine(site, tmp_path)
    listed = machine.run("notelstm", "plugins")
    own = [line.split() for line in listed.stdout.splitlines() if "notelstm-intervals" in line]
    assert [line[:2] for line in own] == [
        ["encoders", "interval"],
        ["samplers", "best-of-two"],
        ["processors", "small-leaps"],
        ["recipes", "intervals"],
    ]

    trained = machine.run(
        *["notelstm", "train", str(GOLDEN), "-o", "model.notelstm", "--recipe", "intervals"],
        *["--epochs", "2", "--set", "options.hidden_size=16", "encoder.anchor=64"],
        *["sampler.processors=[{name='small-leaps', semitones=5}, {name='min-duration'}]"],
    )
    assert trained.returncode == 0, trained.stderr
    generated = machine.run(
        *["notelstm", "generate", "model.notelstm", "-o", "out.mid", "--notes", "40"]
    )
    assert generated.returncode == 0, generated.stderr
    assert len(notelstm.read_midi(tmp_path / "out.mid")) > 30

    without = Machine(None, tmp_path)
    refused = without.run("notelstm", "generate", "model.notelstm", "-o", "other.mid")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("notelstm: error: ")
    assert "'interval'" in line
    assert "Install the package notelstm-intervals" in line
    assert "pip install" not in line
    assert not (tmp_path / "other.mid").exists()
    with pytest.raises(PluginError, match=r"package notelstm-intervals 0\.1\.0"):
        notelstm.load(tmp_path / "model.notelstm")
