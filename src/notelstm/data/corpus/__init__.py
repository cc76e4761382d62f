"""``Corpus``: any number of pieces, read once into a cache and mapped into memory."""

from notelstm.data.corpus.corpus import Corpus
from notelstm.data.corpus.report import CorpusReport, FileReport
from notelstm.data.corpus.sources import CorpusSource, FolderSource

__all__ = ["Corpus", "CorpusReport", "CorpusSource", "FileReport", "FolderSource"]
