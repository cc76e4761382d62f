"""Seeing and hearing: what has been made, as a picture."""

from notelstm.listening.pianoroll import piano_roll, pitch_name, save_piano_roll

__all__ = ["piano_roll", "pitch_name", "save_piano_roll"]
