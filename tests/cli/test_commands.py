"""The command line: what it prints, its exit codes, and one line for each error."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notelstm._version import __version__
from notelstm.bundle import Bundle, load
from notelstm.cli import main
from notelstm.encoders import BeatEncoder, LogTimeEncoder, PerformanceEventEncoder
from notelstm.midi import read_midi, write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.parts import Part, PartMap
from notelstm.sampling import Ancestral
from notelstm.testing.midi_files import FILES

SMALL = [
    "--recipe",
    "reference",
    "--set",
    "model.hidden_size=8",
    "sequence_length=8",
    "batch_size=32",
    "--epochs",
    "1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small pieces, and a file that is none."""
    made = tmp_path_factory.mktemp("musik, ♫")
    for k in range(3):
        rng = np.random.default_rng(k)
        start = np.cumsum(rng.integers(1, 5, 80) / 10)
        notes = Notes(start=start, end=start + 0.1, pitch=rng.integers(50, 80, 80))
        write_midi(notes, made / "inner" / f"piece {k}.mid")
    (made / "broken.mid").write_bytes(b"not a MIDI file")
    return made


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.notelstm"
    assert main(["train", str(folder), "-o", str(path), *SMALL]) == 0
    return path


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that fails; its one line."""
    assert main(list(argv)) == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("notelstm: error:")]
    assert len(lines) == 1
    return lines[0]


def test_training_prints_a_summary(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.notelstm"
    assert main(["train", str(folder), "-o", str(path), *SMALL, "--validation", "0.4"]) == 0
    said = capsys.readouterr()
    assert "pieces" in said.out
    assert "targets/s" in said.out
    assert f"next: notelstm generate {path}" in said.out
    assert "epoch 1/1: loss" in said.err
    line = json.loads((tmp_path / "m.notelstm.run" / "log.jsonl").read_text(encoding="utf-8"))
    assert {"loss", "loss/pitch", "loss/step", "loss/duration"} <= line.keys()


def test_repeated_set_options_are_all_applied(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.notelstm"
    argv = ["train", str(folder), "-o", str(path), "--set", "model.hidden_size=8", "batch_size=32"]
    assert main([*argv, "--set", "sequence_length=9", "--epochs", "1"]) == 0
    settings = json.loads((tmp_path / "m.notelstm.run" / "settings.json").read_text())
    assert settings["model"]["config"]["hidden_size"] == 8
    assert (settings["batch_size"], settings["sequence_length"]) == (32, 9)


def test_the_same_seed_trains_the_same_model(folder: Path, tmp_path: Path, model: Path) -> None:
    again = tmp_path / "again.notelstm"
    assert main(["train", str(folder), "-o", str(again), *SMALL]) == 0
    assert again.read_bytes() == model.read_bytes()


def test_html_pages_have_the_music(folder: Path, tmp_path: Path, model: Path) -> None:
    page, prompt = tmp_path / "page.html", folder / "inner" / "piece 0.mid"
    argv = ["generate", str(model), "-o", str(tmp_path / "new.mid"), "--notes", "9", "--seed", "7"]
    argv += ["--temperature", "1.5", "--top-p", "0.975", "--pitch-range", "C1", "C8"]
    assert main([*argv, "--prompt", str(prompt), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    data = json.loads(text)
    (sample,) = data["samples"]
    assert (sample["title"], sample["prompt_notes"], len(sample["pitch"])) == ("new", 80, 89)
    assert data["details"]["This music"] == {
        "random seed": "7",
        "temperature (1 as trained)": "1.5",
        "most likely values, up to": "97.5 %",
        "lowest and highest note": "C1 to C8",
    }
    assert data["details"]["Model"]["model"] == "three-head-lstm"
    assert data["details"]["Model"]["notes that it takes into account"] == "the last 25"
    # No setting that only the code explains.
    assert data["details"]["Training"].keys() <= {
        "recipe",
        "set aside for validation",
        "notes seen, with repeats",
    }
    assert not re.search(r"[a-z]_[a-z]|True|False|None", json.dumps(data["details"]))


def test_a_recipe_file_is_read(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('recipe = "expressive"\nsequence_length = 16\n[options]\nhidden_size = 8\n')
    path = tmp_path / "m.notelstm"
    argv = ["train", str(folder), "-o", str(path), "--recipe", str(recipe), "--epochs", "1"]
    assert main(argv) == 0
    assert path.exists()


def test_generating_with_and_without_a_prompt(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, prompt = tmp_path / "out.mid", folder / "inner" / "piece 0.mid"
    argv = ["generate", str(model), "-o", str(out), "--notes", "20", "--overwrite", "--seed", "3"]
    assert main(argv) == 0
    assert len(read_midi(out)) == 20
    first = out.read_bytes()
    assert main(argv) == 0
    assert out.read_bytes() == first
    assert main([*argv[:-1], "4", "--sampler", "greedy"]) == 0
    assert main([*argv[:-1], "4", "--temperature", "1.3"]) == 0
    assert main([*argv, "--prompt", str(prompt)]) == 0
    assert "80 notes of the prompt, 20 new notes" in capsys.readouterr().out
    assert len(read_midi(out)) >= 95


def test_evaluate_prints_json(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), str(folder), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    keys = {"pitch", "step", "duration", "pitch_step_duration", "velocity", "total", "notes"}
    assert keys < figures.keys()
    assert figures["notes"] == 3 * 55
    assert figures["velocity"] is None
    assert figures["pitch_step_duration"] == pytest.approx(
        figures["pitch"] + figures["step"] + figures["duration"]
    )


def test_evaluate_prints_figures_beside_baselines(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), str(folder), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # The bundle knows its training pieces' counts, but not their n-grams.
    assert list(figures["baselines"]) == ["uniform", "unigram", "repeat-last"]
    assert 0 <= figures["pitch_top1"] < figures["pitch_top5"] < 1
    assert list(figures["calibration"]) == ["pitch"]
    assert figures["bits_per_second"] is None
    low, high = figures["intervals"]["pitch_step_duration"]
    assert low <= figures["pitch_step_duration"] <= high
    assert sorted(piece["name"] for piece in figures["pieces"]) == [
        f"inner/piece {k}.mid" for k in range(3)
    ]
    uniform = figures["baselines"]["uniform"]
    assert uniform["notes"] == figures["notes"]
    difference = uniform["difference"]["differences"]["pitch_step_duration"]
    assert difference["value"] == pytest.approx(
        figures["pitch_step_duration"] - uniform["pitch_step_duration"]
    )
    argv = ["evaluate", str(model), str(folder), "--train", str(folder)]
    assert main([*argv, "--json"]) == 0
    more = json.loads(capsys.readouterr().out.splitlines()[-1])["baselines"]
    assert list(more) == ["uniform", "unigram", "repeat-last", "bigram", "4-gram"]
    assert more["4-gram"]["total"] < more["bigram"]["total"] < more["unigram"]["total"]
    assert more["unigram"] == figures["baselines"]["unigram"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "3 pieces, 165 notes; nats per note:" in said
    assert "than 4-gram" in said
    assert f"{figures['pitch']:.3f}" in said
    assert f"{more['4-gram']['pitch']:.3f}" in said


def test_evaluate_prints_dynamic_evaluation_beside_fixed_weights(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(model), str(folder)]
    assert main([*argv, "--json"]) == 0
    fixed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "adapted" not in fixed
    assert main([*argv, "--adapt", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    adapted = figures.pop("adapted")
    assert figures == fixed
    assert adapted["settings"]["segment"] == 25
    assert adapted["notes"] == fixed["notes"]
    assert adapted["pitch"] != fixed["pitch"]
    assert main([*argv, "--adapt"]) == 0
    said = capsys.readouterr().out
    assert f"every 25 rows: pitch_step_duration {adapted['pitch_step_duration']:.3f} (" in said
    assert "ms per note in place of" in said


def test_a_single_piece_has_no_interval(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(model), str(folder / "inner" / "piece 1.mid")]
    assert main([*argv, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["intervals"] == {}
    assert figures["baselines"]["unigram"]["difference"] is None
    assert main(argv) == 0
    assert "1 piece, 55 notes" in capsys.readouterr().out


def test_samples_are_evaluated(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(model), str(folder), "--samples", "3", "--notes", "60"]
    assert main([*argv, "--train", str(folder), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["notes"] == 165
    found = figures["samples"]
    assert (found["similarity"]["generated"], found["similarity"]["real"]) == (3, 3)
    assert found["similarity"]["notes"] == found["health"]["notes"] == 60
    assert len(found["memorisation"]["samples"]) == 3
    assert found["memorisation"]["usual"] == 60, "the real pieces are training pieces here"
    assert main([*argv, "--seed", "0", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])["samples"]
    assert again.pop("memorisation") is None
    assert again == {k: found[k] for k in again}
    assert main([*argv, "--seed", "1", "--json"]) == 0
    other = json.loads(capsys.readouterr().out.splitlines()[-1])["samples"]
    assert other["similarity"] != found["similarity"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "3 samples beside 3 real pieces, 60 notes of each" in said
    assert f"{found['similarity']['features']['step']['overlap']:.3f}" in said
    assert found["health"]["symptoms"]["one note"]["sentence"] in said
    assert "passage of 8 notes or more, in the first 60 notes of each" in said
    shares = found["repetition"]["same_key"]
    (line,) = [line for line in said.splitlines() if line.startswith("  in the same key  ")]
    assert line.split()[4:] == [
        f"{shares['mean']:.1%}",
        f"{shares['real']:.1%}",
        f"{shares['usual'][0]:.1%}",
        "to",
        f"{shares['usual'][1]:.1%}",
        str(shares["less"]),
        str(shares["more"]),
    ]
    assert "not searched for without --train" in said


def test_samples_continue_the_pieces(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(model), str(folder), "--samples", "3", "--notes", "40", "--json"]
    found = []
    for prompt in ("0", "30", "50"):
        assert main([*argv, "--prompt-notes", prompt]) == 0
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1])["samples"])
    assert found[0] != found[1] != found[2]
    assert "longer than --prompt-notes 80; the longest has 80 notes" in failed(
        capsys, *argv, "--prompt-notes", "80"
    )
    assert "--prompt-notes -1 is below 0" in failed(capsys, *argv, "--prompt-notes", "-1")


def test_samples_can_be_files(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the training pieces, one of them higher and slower."""
    notes = read_midi(folder / "inner" / "piece 0.mid")
    moved = Notes(start=notes.start * 1.2, end=notes.end * 1.2, pitch=notes.pitch + 4)
    write_midi(read_midi(folder / "inner" / "piece 1.mid"), tmp_path / "a.mid")
    write_midi(moved, tmp_path / "b.mid")
    write_midi(Notes(start=notes.start, end=notes.end, pitch=127 - notes.pitch), tmp_path / "c.mid")
    argv = ["evaluate", str(model), str(folder), "--samples-from", str(tmp_path)]
    assert main([*argv, "--train", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["samples"]
    first, second, third = found["memorisation"]["samples"]
    assert (first["piece"], first["at"], first["notes"]) == ("inner/piece 1.mid", 0, 80)
    assert (second["piece"], second["semitones"]) == ("inner/piece 0.mid", 4)
    assert second["stretch"] == pytest.approx(1.2, abs=0.01)
    assert third is None


def test_twenty_samples_are_the_default(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(model), str(folder), "--notes", "30", "--samples", "--max-files", "2"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["samples"]
    assert found["similarity"]["generated"] == 20
    assert "--samples 1 is not a number of at least 2" in failed(
        capsys, *argv[:5], "--samples", "1"
    )
    assert "--samples and --samples-from" in failed(capsys, *argv, "--samples-from", str(folder))
    one = str(folder / "inner" / "piece 0.mid")
    assert "3 samples and 1 real piece are too few to compare" in failed(
        capsys, "evaluate", str(model), one, "--samples", "3", "--notes", "20"
    )
    assert "fewer than 2" in failed(
        capsys, "evaluate", str(model), str(folder), "--samples", "3", "--notes", "1"
    )


def test_a_split_finds_what_training_held_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.notelstm"
    assert main(["train", str(folder), "-o", str(path), *SMALL, "--validation", "0.6"]) == 0
    capsys.readouterr()
    counts, unigrams = {}, {}
    for side in ("train", "validation", "all"):
        argv = ["evaluate", str(path), str(folder), "--split", side, "--json"]
        for more in ((), ("--train", str(folder))):
            assert main([*argv, *more]) == 0
            figures = json.loads(capsys.readouterr().out.splitlines()[-1])
            counts[side] = figures["notes"]
            unigrams[side, more] = figures["baselines"]["unigram"]
        # What was held out is not counted: the training side is what the bundle was trained on.
        assert unigrams[side, more] == unigrams[side, ()]
    assert counts["train"] + counts["validation"] == counts["all"] == 3 * 55
    assert 0 < counts["validation"] < counts["all"]


def test_inspecting_files_and_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "inner" / "piece 1.mid")]) == 0
    said = capsys.readouterr().out
    assert "80 notes" in said
    assert "pedal: holds no note" in said
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "the same music twice" in said
    assert "two sides" not in said
    assert main(["inspect", str(folder), "--leaks"]) == 0
    said = capsys.readouterr().out
    assert "4 files, 3 read, 240 notes" in said
    assert said.count("rejected: ") == said.count("rejected: broken.mid: ") == 1
    assert main(["inspect", str(folder), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["files"], summary["rejected"], summary["notes"]) == (4, 1, 240)


def test_inspecting_a_folder_without_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1 file, 0 read, 0 notes" in said
    assert "mean" not in said


def test_many_rejected_files_are_counted_by_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        (tmp_path / f"{number}.mid").write_bytes(b"no music")
    assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("  rejected: ") == 20
    assert "30 rejected: not a MIDI file" in said


@pytest.mark.parametrize(
    "make",
    [functools.partial(LogTimeEncoder, exact=True), BeatEncoder, PerformanceEventEncoder],
    ids=["log-time", "beat", "performance-event"],
)
def test_inspect_lists_the_instruments_of_a_model(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = (Part(name="Lead", program=40), Part(name="Kit", drum=True))
    for name, part_map in (("band", PartMap(by="name", parts=parts)), ("piano", None)):
        encoder = make(parts=part_map)
        model = NoteLSTM(fields=encoder.fields, hidden_size=4)
        bundle = Bundle(model=model, encoder=encoder, sampler=Ancestral())
        bundle.save(tmp_path / f"{name}.notelstm")
    assert main(["inspect", str(tmp_path / "band.notelstm")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  instruments by name; notes of others: nearest",
        "  class 0: Lead, program 40 (Violin)",
        "  class 1: Kit, drums",
    ]
    assert main(["inspect", str(tmp_path / "band.notelstm"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instruments"]["parts"][1]["name"] == "Kit"
    assert main(["inspect", str(tmp_path / "piano.notelstm")]) == 0
    assert "instruments: none" in capsys.readouterr().out


def test_inspect_reports_the_pedal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A note of half a second, and a pedal that is released half a second later.
    (pedalled,) = {known.data for known in FILES if known.name == "pedal"}
    path = tmp_path / "pedal.mid"
    path.write_bytes(pedalled)
    assert main(["inspect", str(path)]) == 0
    assert "pedal: holds 1 of 1 note beyond their keys, for 0.50 s" in capsys.readouterr().out
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pedal"] == {"held": 1, "seconds": 0.5}


def test_inspect_reports_time_signatures_and_beats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beats = TempoMap(time_signature_beats=[1, 5], numerators=[4, 33], denominators=[4, 32])
    start = np.array([0, 1, 1.25, 3, 3.05])
    notes = Notes(start=start, end=start + 0.25, pitch=[60, 62, 64, 65, 67], tempo_map=beats)
    path = tmp_path / "one.mid"
    write_midi(notes, path)
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  time signatures: 4/4 from beat 1, 33/32 from beat 5" in lines
    changes = {
        "in 33/32, encoded as 11/16": 2,
        "with times rounded to 1/12 beat": 1,
    }
    line = "  changed by the beat encoder: " + "; ".join(
        (f"{n} notes {why}" if n > 1 else f"1 note {why}") for why, n in changes.items()
    )
    assert line in lines
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changes_in_beats"] == changes
    assert found["time_signatures"] == [
        {"beat": 1.0, "name": "4/4"},
        {"beat": 5.0, "name": "33/32"},
    ]
    write_midi(notes[:3], tmp_path / "two.mid")
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  pieces by time signature: 4/4 in 2, 33/32 in 2" in lines
    assert line in lines
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changes_in_beats"] == changes
    assert found["time_signatures"] == {"4/4": 2, "33/32": 2}


def test_plugins_and_corpora_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if x.startswith("encoders") and " step-duration " in x]
    assert "notelstm 0." in line
    assert "One row per note" in line
    assert main(["corpora"]) == 0
    said = capsys.readouterr().out
    _, of_maestro = said.split("\nmaestro ")
    for part in ("size: 1,282 performances", "license: CC BY-NC-SA", "source: https://"):
        assert part in of_maestro
    _, of_bach = said.split("bach ", 1)
    assert "size: about 360 chorales" in of_bach


def test_a_broken_corpus_plugin_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[notelstm.corpora]\naaa = no_such_module:Corpus\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["corpora"]) == 0
    said = capsys.readouterr().out
    assert "aaa        broken: cannot import the corpora plugin 'aaa'" in said
    assert "size: 1,282 performances" in said
    assert "kept in" in said


@pytest.mark.parametrize("held_out", ["much", [0.1], None, 7, -1])
def test_a_crafted_share_is_an_error(
    held_out: object, model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load(model)
    crafted = tmp_path / "crafted.notelstm"
    replace(bundle, settings={**bundle.settings, "held_out": held_out}).save(crafted)
    assert "the model records" in failed(capsys, "evaluate", str(crafted), str(folder))


def test_a_table_does_not_hide_a_wrong_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "maestro-v2.0.0.csv").write_text("split,midi_filename\ntrain,a.mid\n")
    for share in ("5", "-1", "nan"):
        assert "leave nothing to train on" in failed(
            capsys, "train", str(tmp_path), "-o", str(tmp_path / "x"), "--validation", share
        )


def test_errors_are_one_line_with_a_hint(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, empty = str(tmp_path / "x"), tmp_path / "empty"
    empty.mkdir()
    cut = tmp_path / "cut.notelstm"
    cut.write_bytes(model.read_bytes()[:500])
    assert "Name the folder" in failed(capsys, "train", str(empty), "-o", out)
    assert "bach" in failed(capsys, "train", "no-such-place", "-o", out)
    assert "epochs" in failed(capsys, "train", str(folder), "-o", out, "--set", "training.epoch=1")
    assert "reference" in failed(capsys, "train", str(folder), "-o", out, "--recipe", "nothing")
    assert "broken.mid" in failed(capsys, "train", str(folder / "broken.mid"), "-o", out)
    assert "resum" in failed(capsys, "train", str(folder), "-o", out, "--resume")
    assert "--max-files" in failed(capsys, "train", str(folder), "-o", out, "--max-files", "0")
    mid = f"{out}.mid"
    assert "none" in failed(capsys, "generate", str(tmp_path / "none"), "-o", mid)
    assert "cut.notelstm" in failed(capsys, "generate", str(cut), "-o", mid)
    assert "temperature" in failed(capsys, "generate", str(model), "-o", mid, "--temperature", "0")
    assert "MIDI" in failed(
        capsys, "generate", str(model), "-o", mid, "--prompt", str(folder / "broken.mid")
    )
    assert not Path(out).exists()
    assert not Path(mid).exists()


def test_a_wrong_flag_is_a_usage_error() -> None:
    assert main(["train", "--no-such-flag"]) == 2


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom notelstm.cli import main\n"
        "assert main(['train', '--help']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"train" in done.stdout


@pytest.mark.parametrize(
    ("before", "given", "want"),
    [("", None, "PASSIVE"), ("", "ACTIVE", "ACTIVE"), ("import torch\n", None, "None")],
    ids=["not said", "said", "too late"],
)
def test_waiting_threads_are_passive(before: str, given: str | None, want: str) -> None:
    code = (
        f"{before}import os\nfrom notelstm.cli import main\n"
        "assert main(['--help']) == 0\n"
        "print(os.environ.get('OMP_WAIT_POLICY'))"
    )
    said = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    said |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=said)
    assert done.stdout.split()[-1].decode() == want


@pytest.fixture
def heard() -> Iterator[None]:
    """A child of a process that ignores Ctrl-C, as one in the background does, ignores it too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_saves_and_the_resumed_run_is_identical(folder: Path, tmp_path: Path) -> None:
    def argv(name: str, *more: str) -> list[str]:
        small = [
            "--set",
            "model.hidden_size=8",
            "sequence_length=8",
            "batch_size=4",
            "--epochs",
            "12",
        ]
        path = str(tmp_path / name)
        return [sys.executable, "-m", "notelstm", "train", str(folder), "-o", path, *small, *more]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        argv("stopped"), env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    log = tmp_path / "stopped.run" / "log.jsonl"
    until = time.monotonic() + 90
    while not (log.exists() and log.stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert not (tmp_path / "stopped").exists()
    kept = tmp_path / "stopped.run" / "interrupted.notelstm"
    assert f"the model so far is in {kept}" in errors.decode()
    assert b"the same command with --resume continues the run" in errors
    assert main(["generate", str(kept), "-o", str(tmp_path / "x.mid"), "--notes", "9"]) == 0
    for command in (argv("stopped", "--resume"), argv("whole")):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (tmp_path / "stopped").read_bytes() == (tmp_path / "whole").read_bytes()


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"notelstm {__version__}\n"


def test_fine_tuning_from_a_file(folder: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    made = ["train", str(folder), "-o", str(old), "--recipe", "expressive", "--epochs", "1"]
    assert main([*made, "--set", "model.hidden_size=8"]) == 0
    gone_on = ["train", str(folder), "-o", str(new), "--from", str(old), "--epochs", "2"]
    assert main([*gone_on, "--half"]) == 0
    before, after = load(old), load(new)
    assert after.data == before.data, "the same music again is no more music"
    assert after.settings["name"] == "expressive"
    assert new.stat().st_size < 0.7 * old.stat().st_size


def test_processors_and_batches(folder: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out.mid"
    made = ["train", str(folder), "-o", str(model), "--recipe", "expressive", "--epochs", "1"]
    assert main([*made, "--set", "model.hidden_size=8"]) == 0
    steering = ["--scale", "D dorian", "--pitch-range", "C3", "60", "--max-polyphony", "2"]
    drawn = ["--top-p", "0.9", "--top-k", "40", "--min-p", "0.01", "--temperature", "1.1"]
    shape = ["--max-chord-size", "2", "--no-repeat-ngram", "5", "--density", "3", "--grid", "0.1"]
    plain = ["generate", str(model), "-o", str(out), "--overwrite", "--seed", "0", "--notes", "60"]
    assert main([*plain, "--batch", "2", *steering, *drawn, *shape]) == 0
    assert not out.exists()
    first, second = (read_midi(tmp_path / f"out-{k}.mid") for k in (1, 2))
    assert first != second
    for music in (first, second):
        assert set(music.pitch % 12) <= {2, 4, 5, 7, 9, 11, 0}
        assert music.pitch.min() >= 48
        assert music.pitch.max() <= 60
        at = music.start[:, None]
        assert ((music.start <= at) & (music.end > at + 1e-3)).sum(axis=1).max() <= 2
    assert main(plain) == 0
    assert read_midi(out).pitch.max() > 60, "unsteered music goes further"
    # The best of three is one of the three; a greedy sampler needs no luck.
    assert main([*plain[:-1], "12", "--batch", "3"]) == 0
    three = [read_midi(tmp_path / f"out-{k}.mid") for k in (1, 2, 3)]
    assert main([*plain[:-1], "12", "--best-of", "3"]) == 0
    assert read_midi(out) in three
    likely = read_midi(out)
    assert main([*plain[:-1], "12", "--sampler", "greedy"]) == 0
    assert read_midi(out) != likely
    assert main([*plain[:-2], "--seconds", "20"]) == 0
    assert read_midi(out).start.max() < 20
