"""Rows that lie in a file: encoded once, mapped, and no heavier the more there are."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data import SequenceDataset, StatefulBatches, WindowBatches
from notelstm.data.batches import Shuffle
from notelstm.data.corpus import Corpus
from notelstm.data.dataset import PackedRows
from notelstm.data.encoding import Encoded, encode_corpus
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import DataError, EncodingError, OutputError
from notelstm.fields import Field, Rows
from notelstm.midi import ReadPolicy, write_midi
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder

SIZES = [40, 3, 90, 26, 60]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "music"
    folder.mkdir()
    for k, n in enumerate(SIZES):
        start = np.arange(n) * 0.25
        write_midi(
            Notes(start=start, end=start + 0.2, pitch=40 + (start * 8 + k).astype(int) % 50),
            folder / f"{k}.mid",
        )
    return Corpus.open(folder, cache=tmp_path / "cache", workers=0, progress=False)


def encoded(corpus: Corpus, encoder: NoteEncoder) -> Encoded:
    return encode_corpus(corpus, encoder, cache=corpus.path.parents[2], progress=False)


@pytest.mark.parametrize(
    "encoder", [StepDurationEncoder(), LogTimeEncoder(), PerformanceEventEncoder()]
)
def test_rows_equal_the_encoders_and_are_cached(corpus: Corpus, encoder: NoteEncoder) -> None:
    first = encoded(corpus, encoder)
    assert first.rejected == {}
    assert len(first.rows) == len(corpus)
    for rows, notes in zip(first.rows, corpus, strict=True):
        np.testing.assert_array_equal(rows, encoder.encode(notes))
    assert first.folder is not None
    made = (first.folder / "rows.npy").stat().st_mtime_ns
    again = encoded(corpus, encoder)
    assert again.folder == first.folder
    assert (first.folder / "rows.npy").stat().st_mtime_ns == made
    assert [p.name for p in first.folder.parent.iterdir()] == [first.folder.name]


def test_other_settings_or_notes_have_another_cache(corpus: Corpus, tmp_path: Path) -> None:
    first = encoded(corpus, LogTimeEncoder())
    second = encoded(corpus, LogTimeEncoder(growth=1.2))
    assert first.folder != second.folder
    write_midi(corpus[1], tmp_path / "music" / "0.mid")
    changed = Corpus.open(tmp_path / "music", cache=tmp_path / "cache", workers=0, progress=False)
    third = encoded(changed, LogTimeEncoder())
    assert third.folder != first.folder
    assert len(third.rows[0]) == 3


@dataclass(frozen=True, kw_only=True)
class Choosy:
    """An encoder without an entry point that refuses long pieces."""

    most: int = 50
    fields: tuple[Field, ...] = (Field.continuous("step", "step", unit="s", low=0.0),)

    def encode(self, notes: Notes) -> Rows:
        if len(notes) > self.most:
            raise EncodingError(f"{len(notes)} notes are too many")
        return notes.step[:, None].astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        raise NotImplementedError


def test_pieces_outside_the_domain_have_no_rows(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    made = encoded(corpus, Choosy())
    assert made.rows.lengths.tolist() == [40, 3, 0, 26, 0]
    assert sorted(made.rejected) == ["2.mid", "4.mid"]
    assert "90 notes" in made.rejected["2.mid"]
    assert "2 of 5 pieces cannot be encoded" in caplog.text
    assert "2.mid is left out: 90 notes are too many" in caplog.text
    assert made.folder is None
    dataset = SequenceDataset(made.rows, sequence_length=10)
    assert dataset.short == 3
    with pytest.raises(DataError, match=r"no piece of the corpus can be encoded: 40 notes"):
        encoded(corpus, Choosy(most=1))


def test_rejected_pieces_have_the_present_names(tmp_path: Path) -> None:
    folder, day = tmp_path / "music", 86400.0
    folder.mkdir()
    for name, last in (("1.mid", 1.0), ("2.mid", day + 1)):
        write_midi(Notes(start=[0, 0.5], end=[1, last], pitch=[60, 62]), folder / name)
    for name in ("2.mid", "3.mid"):
        (folder / "2.mid").rename(folder / name)
        corpus = Corpus.open(
            folder,
            policy=ReadPolicy(max_seconds=2 * day),
            cache=tmp_path / "cache",
            workers=0,
            progress=False,
        )
        assert list(encoded(corpus, PerformanceEventEncoder()).rejected) == [name]


@pytest.mark.parametrize("name", ["rows.npy", "about.json"])
def test_damaged_rows_are_rebuilt(corpus: Corpus, name: str) -> None:
    first = encoded(corpus, StepDurationEncoder())
    assert first.folder is not None
    truth = [rows.copy() for rows in first.rows]
    for damage in (b"", (first.folder / name).read_bytes()[:-3]):
        (first.folder / name).write_bytes(damage)
        again = encoded(corpus, StepDurationEncoder())
        for rows, true in zip(again.rows, truth, strict=True):
            np.testing.assert_array_equal(rows, true)


@pytest.mark.parametrize("name", ["rows.npy", "about.json"])
def test_a_flipped_byte_never_changes_rows(corpus: Corpus, name: str) -> None:
    first = encoded(corpus, StepDurationEncoder())
    assert first.folder is not None
    truth = [rows.copy() for rows in first.rows]
    path, rng = first.folder / name, np.random.default_rng(0)
    whole = path.read_bytes()
    for place in rng.integers(0, len(whole), 25).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        again = encoded(corpus, StepDurationEncoder())
        assert len(again.rows) == len(truth), place
        for rows, true in zip(again.rows, truth, strict=True):
            np.testing.assert_array_equal(rows, true, str(place))
        assert path.read_bytes() == whole


def test_an_encoder_that_rejects_everything(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: StepDurationEncoder, notes: Notes) -> Rows:
        raise EncodingError("no piece is good enough")

    monkeypatch.setattr(StepDurationEncoder, "encode", refuse)
    for _ in range(2):
        with pytest.raises(DataError, match="no piece of the corpus can be encoded: no piece is"):
            encoded(corpus, StepDurationEncoder())


def test_only_the_first_reasons_are_logged(
    corpus: Corpus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notelstm.data.encoding.REASONS_LOGGED", 2)
    assert len(encoded(corpus, Choosy(most=3)).rejected) == 4
    assert "4 of 5 pieces" in caplog.text
    assert caplog.text.count("is left out:") == 2


def test_a_cache_that_cannot_be_written(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("in the way")
    with pytest.raises(OutputError):
        encode_corpus(corpus, StepDurationEncoder(), cache=tmp_path / "full", progress=False)


def test_mapped_rows_train_like_rows_in_memory(corpus: Corpus) -> None:
    mapped = encoded(corpus, StepDurationEncoder()).rows
    held = [StepDurationEncoder().encode(notes) for notes in corpus]
    for scored in ("last", "every"):
        for crossing in (False, True):
            one = SequenceDataset(
                mapped, sequence_length=9, targets=scored, cross_piece_boundaries=crossing
            )
            two = SequenceDataset(
                held, sequence_length=9, targets=scored, cross_piece_boundaries=crossing
            )
            for a, b in zip(one[range(len(one))], two[range(len(two))], strict=True):
                assert torch.equal(a, b)
            assert torch.equal(one.last_window(), two.last_window())


def test_some_pieces_of_a_file_are_a_training_set(corpus: Corpus) -> None:
    mapped = encoded(corpus, StepDurationEncoder()).rows
    chosen = mapped.select([4, 0])
    held = [StepDurationEncoder().encode(corpus[k]) for k in (4, 0)]
    for a, b in zip(
        StatefulBatches(
            dataset=SequenceDataset(chosen, sequence_length=9, targets="every"), batch_size=3
        ).epoch(1),
        StatefulBatches(
            dataset=SequenceDataset(held, sequence_length=9, targets="every"), batch_size=3
        ).epoch(1),
        strict=True,
    ):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert [len(rows) for rows in mapped[1:3]] == [3, 90]
    assert [len(rows) for rows in mapped[::-1]] == SIZES[::-1]


def test_a_pickled_data_set_is_its_path(corpus: Corpus) -> None:
    dataset = SequenceDataset(encoded(corpus, StepDurationEncoder()).rows, sequence_length=5)
    batch = dataset[[0, 3]]
    data = pickle.dumps(dataset)
    assert len(data) < 3000
    assert torch.equal(pickle.loads(data)[[0, 3]].rows, batch.rows)


def test_missing_rows_are_an_error(corpus: Corpus) -> None:
    made = encoded(corpus, StepDurationEncoder())
    assert made.folder is not None
    data = pickle.dumps(made.rows)
    (made.folder / "rows.npy").unlink()
    with pytest.raises(DataError, match="Encode the corpus again"):
        pickle.loads(data)


def test_pieces_lie_within_the_rows() -> None:
    rows = np.zeros((5, 1), np.float32)
    for begins, lengths in (([0, 3], [3, 3]), ([-1], [2]), ([1], [-1])):
        with pytest.raises(DataError, match="does not lie within the 5 rows"):
            PackedRows(rows, begins, lengths)


def test_writes_to_mapped_rows_do_not_change_the_file(corpus: Corpus) -> None:
    made = encoded(corpus, StepDurationEncoder())
    before = made.rows[0].copy()
    made.rows[0][:] = 7
    np.testing.assert_array_equal(encoded(corpus, StepDurationEncoder()).rows[0], before)


@given(st.integers(0, 3000), st.integers(0, 10**6), st.data())
def test_a_shuffle_is_a_permutation_and_its_parts_agree(
    n: int, seed: int, data: st.DataObject
) -> None:
    order = Shuffle(n, [seed, 1])
    whole = order(0, n)
    assert sorted(whole.tolist()) == list(range(n))
    low = data.draw(st.integers(0, n))
    high = data.draw(st.integers(low, n + 5))
    np.testing.assert_array_equal(order(low, high), whole[low:high])


def test_a_shuffle_is_random() -> None:
    """Each number is at each place equally often, and neighbours are independent."""
    n, trials = 12, 6000
    orders = np.stack([Shuffle(n, [k])(0, n) for k in range(trials)])
    for place in range(n):
        counts = np.bincount(orders[:, place], minlength=n)
        assert np.sum((counts - trials / n) ** 2 / (trials / n)) < 40  # 11 degrees of freedom
    follows = np.mean(np.diff(orders, axis=1) == 1)
    assert abs(follows - 1 / n) < 0.005
    big = Shuffle(10**6, [3])(0, 10**5)
    assert abs(np.corrcoef(big[:-1], big[1:])[0, 1]) < 0.02
    assert abs(big.mean() / 10**6 - 0.5) < 0.01


MEMORY = """
import sys, numpy as np, torch
from notelstm.data import SequenceDataset, WindowBatches, StatefulBatches
from notelstm.data.dataset import PackedRows

def own():
    # What the process holds for itself; mapped pages belong to the system, which takes them back.
    text = open("/proc/self/status").read()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024

n = int(sys.argv[2])
lengths = np.full(n // 5000, 5000)
few = lambda: PackedRows(np.zeros((6000, 4), np.float32), [0], [6000])
many = lambda: PackedRows(sys.argv[1], np.cumsum(lengths) - lengths, lengths)
for make in (few, many):
    before = own()
    rows = make()
    for kind, scored in ((WindowBatches, "last"), (StatefulBatches, "every")):
        dataset = SequenceDataset(rows, sequence_length=25, targets=scored)
        batches = kind(dataset=dataset, batch_size=64)
        for step, batch in enumerate(batches.epoch(0)):
            assert batch.rows.shape[1:] == (26, 4)
            if step == 2000:
                break
print(own() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in /proc")
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    n = 8_000_000
    file = np.lib.format.open_memmap(
        tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=(n, 4)
    )
    file[::1000] = 1
    del file
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "rows.npy"), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    grown = float(done.stdout)
    assert grown < 25, "MiB; the rows are 128 MB, an entry for each of them would be 64 MB"


def test_batches_of_mapped_rows_need_no_list_of_windows(corpus: Corpus) -> None:
    rows = encoded(corpus, StepDurationEncoder()).rows
    made = WindowBatches(dataset=SequenceDataset(rows, sequence_length=9), batch_size=16)
    assert made.num_batches == -(-sum(max(0, n - 9) for n in SIZES) // 16)
    assert sum(len(batch.rows) for batch in made.epoch(0)) == len(made.dataset)
