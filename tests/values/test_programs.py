"""General MIDI names, compared with pretty_midi's tables."""

from __future__ import annotations

import pretty_midi
import pytest

from notelstm.programs import DRUM_KEYS, FAMILIES, PROGRAMS, drum_name, family_of


def test_families_are_those_of_pretty_midi() -> None:
    def plain(name: str) -> str:
        return name.replace(" (Strings)", "").rstrip("s").replace("(", "").replace(")", "").lower()

    theirs = [pretty_midi.program_to_instrument_class(n) for n in range(128)]
    assert [plain(family_of(n)) for n in range(128)] == [plain(name) for name in theirs]
    assert len(PROGRAMS) == 8 * len(FAMILIES) == 128


@pytest.mark.parametrize("key", range(35, 82))
def test_drum_keys_are_those_of_pretty_midi(key: int) -> None:
    theirs = pretty_midi.note_number_to_drum_name(key)
    assert drum_name(key).lower().replace("-", " ") == theirs.lower().replace("-", " ")


def test_every_key_has_a_name() -> None:
    names = [drum_name(key) for key in range(128)]
    assert len(set(names)) == 128
    assert [key for key, name in enumerate(names) if name != f"Drum {key}"] == list(DRUM_KEYS)
