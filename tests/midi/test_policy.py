"""Policies are JSON values, checked."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from notelstm.errors import ConfigError, MidiError
from notelstm.midi import ReadPolicy
from notelstm.midi.report import MAX_REPAIRS, RepairLog


@pytest.mark.parametrize(
    "wrong",
    [
        {"tracks": "second"},
        {"simultaneous_order": None},
        {"overlaps": ["fifo"]},
        {"zero_length": "KEEP"},
        {"velocity_zero": 0},
        {"pedal": True},
        {"tempos": ""},
        {"silence": None},
        {"on_error": "ignore"},
        {"drums": 1},
        {"programs": (128,)},
        {"programs": (True,)},
        {"programs": "piano"},
        {"programs": 3},
        {"names": "piano"},
        {"names": (3,)},
        {"max_seconds": 0},
        {"max_seconds": float("inf")},
        {"max_seconds": "1"},
    ],
)
def test_values_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ReadPolicy(**wrong)


def test_a_policy_round_trips_through_json() -> None:
    policy = ReadPolicy(tracks="all", programs=(0, 40), names=("*piano*",), max_seconds=10)
    assert ReadPolicy(**json.loads(json.dumps(dataclasses.asdict(policy)))) == policy


def test_a_log_lists_the_first_repairs_and_counts_all() -> None:
    log = RepairLog("repair", "a.mid")
    for byte in range(MAX_REPAIRS + 5):
        log.add("data-byte", "over 127", byte=byte, chunk=2, lost=1)
    assert (log.total, log.lost, len(log.repairs), log.chunks) == (1005, 1005, MAX_REPAIRS, {2})
    with pytest.raises(MidiError, match=r"data-byte: over 127 \(a.mid, chunk 2, byte 7\)"):
        RepairLog("raise", "a.mid").add("data-byte", "over 127", byte=7, chunk=2)
