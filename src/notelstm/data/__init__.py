"""Data: windows and lanes of rows, splits of pieces, and the corpora they come from."""

from notelstm.data.batches import LaneBatches, WindowBatches
from notelstm.data.dataset import SequenceDataset
from notelstm.data.splits import content_key, split_by_content

__all__ = ["LaneBatches", "SequenceDataset", "WindowBatches", "content_key", "split_by_content"]
