"""``Corpus``: any number of pieces, read once into a cache and mapped into memory."""

from notelstm.data.corpus.corpus import Corpus, CorpusSource, FolderSource
from notelstm.data.corpus.report import CorpusReport, FileReport

__all__ = ["Corpus", "CorpusReport", "CorpusSource", "FileReport", "FolderSource"]
