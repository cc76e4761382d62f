"""Tests without their browser or library are skipped, or fail where none may be skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(("nothing_skipped", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_without_a_browser(nothing_skipped: str, outcome: str, tmp_path: Path) -> None:
    test = f"{HERE / 'test_page_in_browser.py'}::test_volume"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", test],
        env={**os.environ, "PATH": str(tmp_path), "NOTELSTM_NO_SKIPS": nothing_skipped},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert outcome in done.stdout
    assert "needs Chromium and its driver: on Debian, chromium and chromium-driver" in done.stdout
    assert (done.returncode == 0) == (not nothing_skipped)
