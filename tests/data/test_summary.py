"""What is in a corpus, in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from notelstm.data.corpus import Corpus
from notelstm.data.summary import CorpusSummary, summarise
from notelstm.midi import write_midi
from notelstm.notes import Notes


def summary_of(folder: Path, tmp_path: Path) -> tuple[CorpusSummary, list[Notes]]:
    corpus = Corpus.open(folder, cache=tmp_path / "cache", workers=0, progress=False)
    return summarise(corpus), list(corpus)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    root.mkdir()
    rng = np.random.default_rng(0)
    for k in range(8):
        n = 20 + 10 * k
        start = np.cumsum(rng.exponential(0.2, n))
        write_midi(
            Notes(
                start=start,
                end=start + rng.uniform(0.05, 0.4, n),
                pitch=rng.permutation(128)[:n] if n <= 128 else rng.integers(0, 128, n),
                velocity=rng.integers(1, 128, n),
            ),
            root / f"{k}.mid",
        )
    return root


def test_statistics_cover_all_notes(folder: Path, tmp_path: Path) -> None:
    summary, pieces = summary_of(folder, tmp_path)
    assert (summary.files, summary.pieces, summary.rejected, summary.repaired) == (8, 8, 0, 0)
    assert summary.notes == sum(map(len, pieces))
    assert summary.seconds == pytest.approx(sum(n.end_time for n in pieces))
    for found, values, unit in (
        (summary.pitch, np.concatenate([n.pitch for n in pieces]), 1),
        (summary.velocity, np.concatenate([n.velocity for n in pieces]), 1),
        (summary.step, np.concatenate([n.step[1:] for n in pieces]), 1e-3),
        (summary.duration, np.concatenate([n.duration for n in pieces]), 1e-3),
    ):
        assert sum(found.counts) == len(values)
        assert found.least == pytest.approx(values.min(), abs=unit / 2 + 1e-9)
        assert found.most == pytest.approx(values.max(), abs=unit / 2 + 1e-9)
        assert found.mean == pytest.approx(values.mean(), abs=unit / 2)
        true = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95), method="inverted_cdf")
        assert found.quantiles == pytest.approx(true, abs=unit / 2 + 1e-9)
        whole = np.rint(values / unit) * unit
        bins = np.histogram(whole + unit / 4, [*found.edges, np.inf])[0]
        assert found.counts == tuple(bins)
    assert summary.shortest[0] == ("0.mid", len(pieces[0]))
    assert summary.worst == ()
    assert summary.duplicates == ()


def test_problems_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "junk.mid").write_bytes(b"junk")
    (folder / "cut.mid").write_bytes((folder / "7.mid").read_bytes()[:-6])
    (folder / "copy.mid").write_bytes((folder / "6.mid").read_bytes())
    summary, _ = summary_of(folder, tmp_path)
    assert (summary.files, summary.pieces, summary.rejected, summary.repaired) == (11, 10, 1, 1)
    assert [file.name for file in summary.worst] == ["junk.mid", "cut.mid"]
    assert sum(summary.reasons.values()) == 1
    pairs = {(leak.left, leak.right): leak.kind for leak in summary.duplicates}
    assert pairs[("6.mid", "copy.mid")] == "copy"


def test_it_is_json(folder: Path, tmp_path: Path) -> None:
    summary, _ = summary_of(folder, tmp_path)
    saved = json.loads(json.dumps(summary.to_json()))
    assert saved["notes"] == summary.notes
    assert saved["pitch"]["counts"] == list(summary.pitch.counts)


def test_a_corpus_without_readable_files(tmp_path: Path) -> None:
    root = tmp_path / "bad"
    root.mkdir()
    (root / "junk.mid").write_bytes(b"junk")
    summary, _ = summary_of(root, tmp_path)
    assert (summary.notes, summary.pieces, summary.seconds) == (0, 0, 0.0)
    assert summary.pitch.quantiles == ()


def test_long_times_are_counted_as_thirty_seconds(tmp_path: Path) -> None:
    root = tmp_path / "long"
    root.mkdir()
    write_midi(Notes(start=[0, 100], end=[90, 101], pitch=[60, 60]), root / "a.mid")
    summary, _ = summary_of(root, tmp_path)
    assert (summary.step.most, summary.duration.most) == (30.0, 30.0)
    assert summary.seconds == pytest.approx(101)
