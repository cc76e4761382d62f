"""Files found in the wild, each with its notes; a reader that cannot read one rejects it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notelstm.errors import MidiError
from notelstm.midi import ReadPolicy, read_midi_with_report
from notelstm.notes import Notes

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases.json").read_text())


def check(notes: Notes, want: dict[str, Any]) -> None:
    if "notes" in want:
        columns = np.stack([notes.start, notes.end, notes.pitch], axis=1)
        np.testing.assert_allclose(columns, want["notes"], rtol=0, atol=1e-4)
    if "at_least" in want:
        assert len(notes) >= want["at_least"]
    if "seconds" in want:
        low, high = want["seconds"]
        assert low <= notes.end_time <= high
    for name in ("velocity", "program"):
        if name in want:
            column = getattr(notes, name)
            assert column is not None
            assert set(column.tolist()) == {want[name]}


@pytest.mark.parametrize("reader", ["auto", "tolerant", "symusic", "pretty-midi"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_file_is_read_correctly_or_rejected(case: dict[str, Any], reader: str) -> None:
    data, policy = bytes.fromhex(case["hex"]), ReadPolicy(**case["policy"])
    try:
        notes, _ = read_midi_with_report(data, policy, reader=reader)
    except MidiError:
        assert reader in {"symusic", "pretty-midi"}
        return
    check(notes, case["want"])
