"""MIDI in and out: readers, the policies they read by, reports, and the writer."""

from notelstm.midi.policy import ReadPolicy
from notelstm.midi.pretty import PrettyMidiReader, from_pretty_midi, to_pretty_midi
from notelstm.midi.programs import PROGRAMS, program_number
from notelstm.midi.reading import Reader, Source, read_midi, read_midi_with_report
from notelstm.midi.report import ReadReport, Repair, TrackInfo
from notelstm.midi.symusic import SymusicReader
from notelstm.midi.tolerant import TolerantReader
from notelstm.midi.writing import WriteReport, midi_bytes, midi_bytes_with_report, write_midi

__all__ = [
    "PROGRAMS",
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
    "from_pretty_midi",
    "midi_bytes",
    "midi_bytes_with_report",
    "program_number",
    "read_midi",
    "read_midi_with_report",
    "to_pretty_midi",
    "write_midi",
]
