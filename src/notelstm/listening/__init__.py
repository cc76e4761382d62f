"""Seeing and hearing: what has been made, as a picture and as sound."""

from notelstm.listening.pianoroll import piano_roll, pitch_name, save_piano_roll
from notelstm.listening.soundfont import play_soundfont
from notelstm.listening.synthesis import save_audio, synthesize

__all__ = [
    "piano_roll",
    "pitch_name",
    "play_soundfont",
    "save_audio",
    "save_piano_roll",
    "synthesize",
]
