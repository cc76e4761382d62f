"""Pictures, sound and player pages of pieces, and reports of training runs."""

from notelstm.listening.audio import play_soundfont, save_audio
from notelstm.listening.chart import Chart
from notelstm.listening.opening import trim_opening
from notelstm.listening.page import Sample, notebook_html, page_html, save_page
from notelstm.listening.pianoroll import piano_roll, pitch_name, save_piano_roll
from notelstm.listening.plots import feature_shares, training_curves
from notelstm.listening.run_report import save_report
from notelstm.listening.synthesis import synthesize

__all__ = [
    "Chart",
    "Sample",
    "feature_shares",
    "notebook_html",
    "page_html",
    "piano_roll",
    "pitch_name",
    "play_soundfont",
    "save_audio",
    "save_page",
    "save_piano_roll",
    "save_report",
    "synthesize",
    "training_curves",
    "trim_opening",
]
