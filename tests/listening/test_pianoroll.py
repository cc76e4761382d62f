"""The piano roll: what stands where, in which colour, and in which file."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import rgb_to_hsv, to_hex
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline

from notelstm.errors import ConfigError, MissingExtraError, NotesError, OutputError
from notelstm.listening import piano_roll, pitch_name, save_piano_roll
from notelstm.listening.pianoroll import bar_starts
from notelstm.listening.styles import COLOURS, SHAPES
from notelstm.notes import Notes, TempoMap

BEATS = TempoMap(tempos=[60], time_signature_beats=[1, 7], numerators=[3, 4], denominators=[4, 4])


def tune(beats: TempoMap | None = None) -> Notes:
    return Notes(
        start=[0, 1, 2, 3, 8],
        end=[1, 2, 3, 5, 12],
        pitch=[60, 64, 67, 72, 48],
        velocity=[20, 60, 100, 120, 40],
        tempo_map=beats,
    )


def drawn(notes: Notes, **settings: object) -> Axes:
    figure = Figure()
    ax = figure.add_subplot()
    piano_roll(notes, ax, **settings)  # type: ignore[arg-type]  # settings vary by test
    figure.draw_without_rendering()
    return ax


def bars(ax: Axes) -> list[PolyCollection]:
    return [item for item in ax.collections if isinstance(item, PolyCollection)]


def outlines(item: PolyCollection) -> list[Outline]:
    return list(item.get_paths())


def test_a_bar_for_each_note_at_its_time_and_pitch() -> None:
    (collection,) = bars(drawn(tune()))
    boxes = [path.get_extents() for path in outlines(collection)]
    assert [box.x0 for box in boxes] == [0, 1, 2, 3, 8]
    assert [round((box.y0 + box.y1) / 2) for box in boxes] == [60, 64, 67, 72, 48]
    for box, end in zip(boxes, [1, 2, 3, 5, 12], strict=True):
        assert end - 0.05 * (end - box.x0) < box.x1 < end


def test_louder_is_darker() -> None:
    (collection,) = bars(drawn(tune()))
    colours = np.asarray(collection.get_facecolor())[:, :3]
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    loudness = tune().velocity
    assert np.argsort(-lightness).tolist() == np.argsort(loudness).tolist()
    assert lightness.max() < 0.75


def test_prompt_and_continuation_are_told_apart() -> None:
    ax = drawn(tune(), prompt_notes=2)
    prompt, rest = bars(ax)
    assert (len(outlines(prompt)), len(outlines(rest))) == (2, 3)

    def hues(item: PolyCollection) -> list[float]:
        return list(rgb_to_hsv(np.asarray(item.get_facecolor())[:, :3])[:, 0])

    assert max(hues(prompt)) < 0.12, "brown"
    assert min(hues(rest)) > 0.4, "teal to purple"
    assert {text.get_text(): text.get_position()[0] for text in ax.texts} == {
        "prompt": 0,
        "continuation": 2,
    }


@pytest.mark.parametrize("prompt", [5, 9])
def test_a_piece_that_is_all_prompt(prompt: int) -> None:
    ax = drawn(tune(), prompt_notes=prompt)
    assert [text.get_text() for text in ax.texts] == ["prompt"]
    assert [len(outlines(item)) for item in bars(ax)] == [5, 0]


def test_axes_hold_every_note_and_name_their_units() -> None:
    ax = drawn(tune())
    assert ax.get_xlim() == (0, 12)
    low, high = ax.get_ylim()
    assert low < 48
    assert high > 72
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("seconds", "pitch")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C3", "C4", "C5"]


def test_a_narrow_range_names_all_white_keys() -> None:
    ax = drawn(tune()[:3])
    assert [label.get_text() for label in ax.get_yticklabels()][:3] == ["B3", "C4", "D4"]


def test_bars_follow_upbeat_and_time_signature() -> None:
    ax = drawn(tune(BEATS), grid="bars")
    # One beat of upbeat, two bars of three, then bars of four, a beat being a second here.
    assert ax.get_xticks().tolist() == [1, 4, 7, 11]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3", "4"]
    assert ax.get_xlabel() == "bar"


def test_bars_end_with_the_notes() -> None:
    """Not with a time signature after them."""
    later = TempoMap(
        time_signature_beats=[0, 2, 400, 4e6], numerators=[2, 4, 3, 4], denominators=[4, 4, 4, 4]
    )
    assert bar_starts(later, 4.0).tolist() == [0, 1, 3]
    assert bar_starts(later, 0.5).tolist() == [0]
    only = TempoMap(time_signature_beats=[4e6], numerators=[4], denominators=[4])
    assert bar_starts(only, 4.0).tolist() == []
    ax = drawn(tune(later), grid="bars")
    assert ax.get_xlim()[1] == drawn(tune()).get_xlim()[1]


def test_bars_of_four_where_no_time_signature_is_known() -> None:
    assert drawn(tune(TempoMap(tempos=[120])), grid="bars").get_xticks().tolist() == [
        0, 2, 4, 6, 8, 10,
    ]  # fmt: skip


def test_many_bars_are_numbered_sparsely() -> None:
    long = Notes(start=[0], end=[400], pitch=[60], tempo_map=TempoMap(tempos=[120]))
    labels = [label.get_text() for label in drawn(long, grid="bars").get_xticklabels()]
    assert labels[:3] == ["1", "10", "19"]
    assert len(labels) <= 24


def test_the_colour_bar_is_there_when_it_says_something() -> None:
    def axes(notes: Notes, **settings: object) -> int:
        figure = drawn(notes, **settings).figure
        assert figure is not None
        return len(figure.axes)

    assert axes(tune()) == 2
    assert axes(tune(), colorbar=False) == 1
    assert axes(tune()[:1]) == 1


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"grid": "beats"}, ConfigError, "unknown grid 'beats'"),
        ({"prompt_notes": -1}, ConfigError, "negative prompt length -1"),
        ({"grid": "bars"}, NotesError, "tempo map"),
    ],
)
def test_refusals(settings: dict[str, object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        drawn(tune(), **settings)


@pytest.mark.parametrize("pitches", [[0], [127], [0, 127]])
def test_the_ends_of_the_keyboard(pitches: list[int]) -> None:
    low, high = drawn(
        Notes(start=[0] * len(pitches), end=[1] * len(pitches), pitch=pitches)
    ).get_ylim()
    assert low <= pitches[0] - 0.4
    assert high >= pitches[-1] + 0.4


def test_png_and_svg(tmp_path: Path) -> None:
    save_piano_roll(
        tune(BEATS), tmp_path / "new" / "a.PNG", prompt_notes=2, grid="bars", title="a tune"
    )
    assert (tmp_path / "new" / "a.PNG").read_bytes().startswith(b"\x89PNG")
    save_piano_roll(Notes.empty(), tmp_path / "empty.svg")
    assert ElementTree.parse(tmp_path / "empty.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.svg", "new"]


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode")
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_titles_that_are_file_names(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9 $x_" + suffix.encode())
    save_piano_roll(tune(), path, title=path.stem)
    assert path.stat().st_size > 1000
    if suffix == ".svg":
        assert "caf\ufffd $x_" in path.read_text(encoding="utf-8")


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown picture format .*\.png or \.svg"):
        save_piano_roll(tune(), tmp_path / "a.jpg")


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        save_piano_roll(tune(), tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'notelstm\[plot\]'"):
        save_piano_roll(tune(), tmp_path / "a.png")


def test_no_pyplot_and_nothing_at_import(tmp_path: Path) -> None:
    code = (
        "import sys; from notelstm.listening import save_piano_roll;"
        "from notelstm.notes import Notes;"
        "assert not {'matplotlib', 'torch'} & sys.modules.keys();"
        f"save_piano_roll(Notes.empty(), {str(tmp_path / 'a.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_pitch_names() -> None:
    assert [pitch_name(pitch) for pitch in (0, 21, 60, 61, 127)] == ["C-1", "A0", "C4", "C♯4", "G9"]


def band() -> Notes:
    return Notes(
        start=[0, 0, 0, 1, 1, 2],
        end=[1, 1, 0.5, 2, 1.5, 3],
        pitch=[60, 48, 36, 64, 42, 67],
        velocity=[127, 127, 127, 127, 127, 1],
        program=[0, 33, 0, 0, 0, 0],
        drum=[0, 0, 1, 0, 1, 0],
        track=[0, 1, 2, 0, 2, 0],
        track_names=("Solo",),
    )


def test_instruments_have_colours_shapes_and_names() -> None:
    ax = drawn(band())
    piano, bass, drums = bars(ax)
    found = [to_hex(np.asarray(item.get_facecolor())[0]) for item in (piano, bass, drums)]
    assert found == list(COLOURS["light"][:3])
    assert [len(outlines(item)) for item in (piano, bass, drums)] == [3, 2, 2]
    assert len(SHAPES["rails"]) == 2, "one bass note is two rails"
    legend = ax.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["Solo", "Electric Bass (finger)", "Drums"]
    assert drawn(band(), legend=False).get_legend() is None
    assert drawn(tune()).get_legend() is None
    assert len(drawn(band()).figure.axes) == 1, "no colour bar"


def test_the_notes_of_several_instruments_are_where_those_of_one_are() -> None:
    piano = bars(drawn(band()))[0]
    boxes = [path.get_extents() for path in outlines(piano)]
    assert [box.x0 for box in boxes] == [0, 1, 2]
    assert [(box.y0 + box.y1) / 2 for box in boxes] == pytest.approx([60, 64, 67])
    assert boxes[0].height == pytest.approx(0.84)
    assert 0.5 < boxes[2].height / boxes[0].height < 0.7, "soft notes are lower"


def test_the_prompt_of_several_instruments_has_frames() -> None:
    ax = drawn(band(), prompt_notes=4)
    framed = [item for item in bars(ax) if not np.asarray(item.get_facecolor()).size]
    assert sum(len(outlines(item)) for item in framed) == 4
    (colour,) = {to_hex(np.asarray(item.get_edgecolor())[0]) for item in framed}
    hue, saturation, _ = rgb_to_hsv(np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255)
    assert hue < 0.12, "brown"
    assert saturation > 0.5
    assert {text.get_text() for text in ax.texts} == {"prompt", "continuation"}


def test_drums_have_rows_with_names_below_the_pitches() -> None:
    ax = drawn(band())
    at = dict(
        zip((t.get_text() for t in ax.get_yticklabels()), ax.get_yticks().tolist(), strict=True)
    )
    assert at["Bass Drum 1"] < at["Closed Hi-Hat"] < at["C3"] < at["C4"]
    kick, hat = (path.get_extents() for path in outlines(bars(ax)[2]))
    assert (kick.y0 + kick.y1) / 2 == pytest.approx(at["Bass Drum 1"])
    assert (hat.y0 + hat.y1) / 2 == pytest.approx(at["Closed Hi-Hat"])
    low, high = ax.get_ylim()
    assert low <= kick.y0
    assert high > 67


def test_only_drums() -> None:
    loop = Notes(start=[0, 1], end=[0.1, 1.1], pitch=[36, 38], velocity=[60, 90], drum=True)
    ax = drawn(loop)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["Bass Drum 1", "Acoustic Snare"]
    assert ax.get_ylabel() == "drum"
    assert len(bars(ax)) == 1


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_of_many_instruments(suffix: str, tmp_path: Path) -> None:
    many = Notes(start=range(20), end=range(1, 21), pitch=60, program=range(20), track=range(20))
    save_piano_roll(many, tmp_path / f"a{suffix}", prompt_notes=3)
    assert (tmp_path / f"a{suffix}").stat().st_size > 5000
    names = [text.get_text() for text in drawn(many).get_legend().get_texts()]  # type: ignore[union-attr]  # there is one
    assert len(set(names)) == 20


def test_any_name_of_a_track_is_shown(tmp_path: Path) -> None:
    """Names that matplotlib would leave out or take for formulas, and ones that are not UTF-8."""
    names = ("_hidden", "$a_{$", "caf\udce9", "x" * 300)
    notes = Notes(
        start=[0] * 4, end=[1] * 4, pitch=[60, 62, 64, 65], track=range(4), track_names=names
    )
    legend = drawn(notes).get_legend()
    assert legend is not None
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[:3] == ["_hidden", "$a_{$", "caf\ufffd"]
    for suffix in (".png", ".svg"):
        save_piano_roll(notes, tmp_path / f"a{suffix}")


REPEATS = Notes(
    start=np.arange(60) / 12, end=np.arange(60) / 12 + np.tile([0.04, 1 / 12, 1], 20), pitch=60
)
"""One pitch twelve times a second: with rests, without any, and overlapping the next ones."""


def test_repeated_notes_stay_apart_in_a_png(tmp_path: Path) -> None:
    from matplotlib.image import imread

    save_piano_roll(REPEATS, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")[..., :3]
    coloured = np.ptp(picture, axis=-1) > 0.2  # the rest is grey
    row = coloured[np.argmax(coloured.sum(axis=1))]
    assert np.count_nonzero(row[1:] & ~row[:-1]) == 60


def test_repeated_notes_stay_apart_in_an_svg(tmp_path: Path) -> None:
    for notes, count in ((REPEATS, 60), (band(), 3)):
        path = tmp_path / "a.svg"
        save_piano_roll(notes, path)
        root = ElementTree.parse(path).getroot()
        groups = [e for e in root.iter() if str(e.get("id")).startswith("PolyCollection")]
        group = next(g for g in groups if len([p for p in g.iter() if p.get("d")]) == count)
        paths = [str(p.get("d")).split() for p in group.iter() if p.get("d")]
        across = [[float(x) for x in path[1::3]] for path in paths]
        spans = sorted((min(x), max(x)) for x in across)
        for (left, right), (following, _) in itertools.pairwise(spans):
            assert right - left >= 0.5
            assert following - right >= 0.5, "points"


def test_closest_repeats_share_the_space(tmp_path: Path) -> None:
    """Notes that are closer than the gap are half as wide as their distance."""
    dense = Notes(start=np.arange(3000) / 1000, end=np.arange(3000) / 1000 + 0.001, pitch=60)
    (collection,) = bars(drawn(dense))
    boxes = [path.get_extents() for path in outlines(collection)]
    assert max(box.width for box in boxes[:-1]) <= 0.00051
    assert min(box.width for box in boxes) > 0


def test_notes_that_begin_together_are_both_drawn() -> None:
    twice = Notes(start=[0, 0, 2], end=[1, 3, 4], pitch=60)
    (collection,) = bars(drawn(twice))
    boxes = [path.get_extents() for path in outlines(collection)]
    assert boxes[0].x1 == pytest.approx(0.96)
    assert 1.9 < boxes[1].x1 < 2 == boxes[2].x0


def test_other_instruments_are_no_repeats() -> None:
    both = Notes(start=[0, 1], end=[2, 3], pitch=60, program=[0, 40])
    piano, _ = bars(drawn(both))
    assert outlines(piano)[0].get_extents().x1 == pytest.approx(1.92)
