"""The wheel, the source distribution, and their metadata."""

from __future__ import annotations

import email
import importlib
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import notelstm

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# One process builds the distributions.
pytestmark = pytest.mark.xdist_group("packaging")


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build a distribution of `source` into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=280,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    built = build("sdist", ROOT, folder / "dist")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    return folder / built.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def built(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution alone, as an installer would."""
    return build("wheel", sdist, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, independent of this folder.

    The packages that the wheel needs are borrowed from this environment, since torch is large: by a
    line in a .pth file, which does not follow the .pth file of an editable install.
    """
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = ["install", "--quiet", "--no-deps", "--no-index", str(built)]
    subprocess.run([*pip, *install], check=True, timeout=280)
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
    borrowed = "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (Path(site) / "borrowed.pth").write_text(borrowed + "\n", encoding="utf-8")
    return python.parent


def ran(clean: Path, *command: str, cwd: Path) -> str:
    """What a program of the clean environment prints."""
    done = subprocess.run(
        [str(clean / command[0]), *command[1:]],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def sources() -> set[str]:
    """The package's files, without what tools leave behind."""
    made = ("__pycache__", ".")
    paths = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.is_file()]
    return {
        path.as_posix()
        for path in paths
        if not any(part.startswith(made) or part.endswith(".egg-info") for part in path.parts)
    }


def test_the_wheel_contains_only_the_package(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == sources()
    assert "notelstm/py.typed" in names
    for name in ("LICENSE", "src/notelstm/pretrained/LICENSE"):
        assert any(n.endswith(f".dist-info/licenses/{name}") for n in wheel.namelist())
    for name in ("maestro.notelstm", "CARD.md", "LICENSE"):
        assert f"notelstm/pretrained/{name}" in wheel.namelist()
    model = wheel.getinfo("notelstm/pretrained/maestro.notelstm").compress_size
    assert sum(item.compress_size for item in wheel.infolist()) - model < 1_000_000


def test_the_metadata_is_right(metadata: Message) -> None:
    assert metadata["Name"] == "notelstm"
    assert metadata["Version"] == notelstm.__version__
    assert metadata["License-Expression"] == "MIT AND CC-BY-NC-SA-4.0"
    assert metadata["Requires-Python"] == "<3.15,>=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "make demo" in metadata.get_payload()
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(needed) == len(PROJECT["dependencies"])
    assert not any("==" in line for line in needed), "ranges, not pins"


def test_entry_points_are_shipped_and_resolve(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    shipped = ConfigParser(delimiters=("=",))
    shipped.read_string(wheel.read(name).decode())
    assert dict(shipped["console_scripts"]) == PROJECT["scripts"]
    for group, points in PROJECT["entry-points"].items():
        assert dict(shipped[group]) == points
        for value in points.values():
            module, _, attribute = value.partition(":")
            assert hasattr(importlib.import_module(module), attribute), value


def test_the_source_distribution_is_complete(sdist: Path) -> None:
    top = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md")
    for name in (*top, "Makefile"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes(), name
    for name in ("constraints.txt", "pyproject.toml", "docs/conf.py", "docs/tutorial.md"):
        assert (sdist / name).is_file(), name
    for path in (ROOT / "tests").rglob("*.py"):
        assert (sdist / path.relative_to(ROOT)).is_file(), path
    assert not (sdist / "docs" / "_build").exists()
    assert not list(sdist.rglob("__pycache__"))


def test_the_installed_package_is_the_wheel(clean: Path, tmp_path: Path) -> None:
    code = "import notelstm; print(notelstm.__file__, notelstm.__version__)"
    where, version = ran(clean, "python", "-c", code, cwd=tmp_path).rsplit(" ", 1)
    assert Path(where).is_relative_to(clean.parent)
    assert version.strip() == notelstm.__version__
    parts = ran(clean, "notelstm", "plugins", cwd=tmp_path).splitlines()
    assert sum(map(len, PROJECT["entry-points"].values())) == len(
        [line for line in parts if " notelstm " in line]
    )
    # The model, the page and its sound are data files of the package.
    made = ["notelstm", "generate", "-o", "a.mid", "--notes", "9", "--html", "a.html"]
    assert "9 new" in ran(clean, *made, cwd=tmp_path)
    assert "class Synthesizer" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
def test_the_wheel_passes_tests_of_the_source_distribution(clean: Path, sdist: Path) -> None:
    """A part of them, without the slow ones; `make wheel` runs them all."""
    some = [
        "bundle",
        "cli/test_render.py",
        "encoders",
        "listening/test_page.py",
        "midi/test_writing.py",
    ]
    pytest_ = ["python", "-m", "pytest", "-q", "-m", "not slow"]
    pytest_ += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    output = ran(clean, *pytest_, *(f"tests/{name}" for name in some), cwd=sdist)
    assert " passed" in output
    assert int(output.rpartition(" passed")[0].split()[-1]) > 100
