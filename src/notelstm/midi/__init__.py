"""MIDI in and out: readers, the policies they read by, reports, and the writer."""

from notelstm.midi.policy import ReadPolicy
from notelstm.midi.pretty_midi_reader import PrettyMidiReader, from_pretty_midi, to_pretty_midi
from notelstm.midi.reading import Reader, Source, read_midi, read_midi_with_report
from notelstm.midi.report import ReadReport, Repair, TrackInfo
from notelstm.midi.symusic_reader import SymusicReader
from notelstm.midi.tolerant import TolerantReader
from notelstm.midi.writing import WriteReport, midi_bytes, midi_bytes_with_report, write_midi
from notelstm.programs import drum_name, family_of, program_number

__all__ = [
    "PrettyMidiReader",
    "ReadPolicy",
    "ReadReport",
    "Reader",
    "Repair",
    "Source",
    "SymusicReader",
    "TolerantReader",
    "TrackInfo",
    "WriteReport",
    "drum_name",
    "family_of",
    "from_pretty_midi",
    "midi_bytes",
    "midi_bytes_with_report",
    "program_number",
    "read_midi",
    "read_midi_with_report",
    "to_pretty_midi",
    "write_midi",
]
