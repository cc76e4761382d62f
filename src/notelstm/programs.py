"""General MIDI: the names of programs, of their families, and of drum keys."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from notelstm.errors import MidiError, did_you_mean

__all__ = ["DRUM_KEYS", "FAMILIES", "PROGRAMS", "drum_name", "family_of", "program_number"]

# Source: General MIDI System Level 1, sound set; upper and lower case as pretty_midi has it.
_NAMES: Final = """
Acoustic Grand Piano; Bright Acoustic Piano; Electric Grand Piano; Honky-tonk Piano; Electric
Piano 1; Electric Piano 2; Harpsichord; Clavinet; Celesta; Glockenspiel; Music Box; Vibraphone;
Marimba; Xylophone; Tubular Bells; Dulcimer; Drawbar Organ; Percussive Organ; Rock Organ; Church
Organ; Reed Organ; Accordion; Harmonica; Tango Accordion; Acoustic Guitar (nylon); Acoustic
Guitar (steel); Electric Guitar (jazz); Electric Guitar (clean); Electric Guitar (muted);
Overdriven Guitar; Distortion Guitar; Guitar Harmonics; Acoustic Bass; Electric Bass (finger);
Electric Bass (pick); Fretless Bass; Slap Bass 1; Slap Bass 2; Synth Bass 1; Synth Bass 2;
Violin; Viola; Cello; Contrabass; Tremolo Strings; Pizzicato Strings; Orchestral Harp; Timpani;
String Ensemble 1; String Ensemble 2; Synth Strings 1; Synth Strings 2; Choir Aahs; Voice Oohs;
Synth Choir; Orchestra Hit; Trumpet; Trombone; Tuba; Muted Trumpet; French Horn; Brass Section;
Synth Brass 1; Synth Brass 2; Soprano Sax; Alto Sax; Tenor Sax; Baritone Sax; Oboe; English
Horn; Bassoon; Clarinet; Piccolo; Flute; Recorder; Pan Flute; Blown bottle; Shakuhachi; Whistle;
Ocarina; Lead 1 (square); Lead 2 (sawtooth); Lead 3 (calliope); Lead 4 chiff; Lead 5 (charang);
Lead 6 (voice); Lead 7 (fifths); Lead 8 (bass + lead); Pad 1 (new age); Pad 2 (warm); Pad 3
(polysynth); Pad 4 (choir); Pad 5 (bowed); Pad 6 (metallic); Pad 7 (halo); Pad 8 (sweep); FX 1
(rain); FX 2 (soundtrack); FX 3 (crystal); FX 4 (atmosphere); FX 5 (brightness); FX 6 (goblins);
FX 7 (echoes); FX 8 (sci-fi); Sitar; Banjo; Shamisen; Koto; Kalimba; Bagpipe; Fiddle; Shanai;
Tinkle Bell; Agogo; Steel Drums; Woodblock; Taiko Drum; Melodic Tom; Synth Drum; Reverse Cymbal;
Guitar Fret Noise; Breath Noise; Seashore; Bird Tweet; Telephone Ring; Helicopter; Applause;
Gunshot
"""

PROGRAMS: Final[tuple[str, ...]] = tuple(" ".join(n.split()) for n in _NAMES.split(";"))
"""The names of the 128 General MIDI programs, by number from 0."""

FAMILIES: Final[tuple[str, ...]] = (
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass"),
    *("Reed", "Pipe", "Synth Lead", "Synth Pad", "Synth Effects", "Ethnic", "Percussive"),
    "Sound Effects",
)
"""The names of the 16 General MIDI families, of eight consecutive programs each."""

# Source: General MIDI System Level 2, standard set, which adds 27 to 34 and 82 to 87 to Level 1.
_DRUMS: Final = """
High Q; Slap; Scratch Push; Scratch Pull; Sticks; Square Click; Metronome Click; Metronome Bell;
Acoustic Bass Drum; Bass Drum 1; Side Stick; Acoustic Snare; Hand Clap; Electric Snare; Low Floor
Tom; Closed Hi-Hat; High Floor Tom; Pedal Hi-Hat; Low Tom; Open Hi-Hat; Low-Mid Tom; Hi-Mid Tom;
Crash Cymbal 1; High Tom; Ride Cymbal 1; Chinese Cymbal; Ride Bell; Tambourine; Splash Cymbal;
Cowbell; Crash Cymbal 2; Vibraslap; Ride Cymbal 2; Hi Bongo; Low Bongo; Mute Hi Conga; Open Hi
Conga; Low Conga; High Timbale; Low Timbale; High Agogo; Low Agogo; Cabasa; Maracas; Short
Whistle; Long Whistle; Short Guiro; Long Guiro; Claves; Hi Wood Block; Low Wood Block; Mute Cuica;
Open Cuica; Mute Triangle; Open Triangle; Shaker; Jingle Bell; Belltree; Castanets; Mute Surdo;
Open Surdo
"""

DRUM_KEYS: Final[Mapping[int, str]] = MappingProxyType(
    {27 + k: " ".join(name.split()) for k, name in enumerate(_DRUMS.split(";"))}
)
"""The names of the General MIDI drum keys, by MIDI note number, 27 to 87."""


def drum_name(key: int) -> str:
    """The name of a General MIDI drum key.

    Args:
        key: MIDI note number, 0 to 127.

    Returns:
        Its name, or ``"Drum"`` and the number of a key that General MIDI does not name.

    Example:
        >>> drum_name(38), drum_name(42), drum_name(12)
        ('Acoustic Snare', 'Closed Hi-Hat', 'Drum 12')
    """
    return DRUM_KEYS.get(key, f"Drum {key}")


def family_of(program: int) -> str:
    """The name of the General MIDI family of a program.

    Args:
        program: General MIDI program, 0 to 127.

    Example:
        >>> family_of(0), family_of(40), family_of(52)
        ('Piano', 'Strings', 'Ensemble')
    """
    return FAMILIES[program // 8]


def program_number(program: str | int) -> int:
    """The number of a General MIDI program.

    Args:
        program: Its name, in upper or lower case, or its number, 0 to 127.

    Returns:
        0 to 127.

    Raises:
        MidiError: If there is no such program.

    Example:
        >>> program_number("acoustic grand piano"), program_number("Violin"), program_number(7)
        (0, 40, 7)
    """
    if isinstance(program, int) and not isinstance(program, bool) and 0 <= program <= 127:
        return int(program)
    folded = [name.casefold() for name in PROGRAMS]
    if isinstance(program, str) and program.casefold() in folded:
        return folded.index(program.casefold())
    close = did_you_mean(program, PROGRAMS) if isinstance(program, str) else ""
    raise MidiError(
        f"no General MIDI program is called {program!r}{close}",
        hint="use a name such as 'Violin', or a number from 0 to 127",
    )
