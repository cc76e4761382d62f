"""The field's words, everywhere: names and prose that must not come back."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "notelstm").rglob("*.py"))
SOURCES.remove(ROOT / "src" / "notelstm" / "_bundle_format_1.py")  # the names of old files
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "_made", "generated"} & set(page.parts)]

NAMES = {
    # words of no library: the word to use
    r"lanes?": "sequence, stream, stateful",
    r"lean": "numpy",
    r"hear(d|s|ing)?": "sounding features",
    r"told": "inform, report",
    r"said": "alt_text, message",
    r"tempi": "tempos",
    r"metres?|meter_beats": "time signature",
    r"licences?": "license",
    r"psd": "pitch_step_duration",
    r"ill": "flagged",
    r"among_five": "top5",
    r"wishes": "TrainerControl",
    r"tally": "LossMeter",
    r"laps?": "StepTimer",
    r"keeper": "checkpoints",
    r"crew": "WorkerPool",
    r"undoable": "max_undo",
    r"legal": "allowed",
    r"tempered": "with_temperature",
    r"masked": "constrained",
    r"gentler": "lr_divisor",
    r"written_whole": "atomic_write",
    r"lay_out": "find_chunks",
    r"goes_on": "parses_from",
    r"struck": "render_note",
    r"as_it_is|clip_norm": "max_grad_norm",
    r"accumulate(?!_grad_batches)": "accumulate_grad_batches",
    r"warmup(?!_steps)": "warmup_steps",
    r"early_stop|best_kept|json_log": "EarlyStopping, BestCheckpoint, JSONLogger",
}
"""Parts of names (between underscores or capitals), as regular expressions."""

PROSE = (
    r"comes? along\b(?! with)",
    r"models? (that )?(hears?|knows?|wish|says?|wants?|thinks?)\b",
    r"\blet it learn\b",
    r"\bgoes? on (with|from|to)\b",
    r"\bbegins? a?new\b",
    r"\bstart(ed|s)? anew\b",
    r"\b(can be|be|lets? itself be) led\b",
    r"\bleading it\b",
    r"\bfor ever\b",
    r"\b(begun|begins?) with nothing\b",
    r"\bfrom nothing\b",
    r"\bwhat chance is\b",
    r"\bis told of\b",
    r"\bsays? of\b",
    r"\bworked out\b",
    r"\bmade again\b",
    r"\blicences?\b",
    r"\bmetres?\b",
    r"\btempi\b",
    r"\blanes?\b",
    r"\bthe seams?\b",
    r"\bthe floors\b",
    r"\bheaps?\b",
    r"\bof its own accord\b",
    r"\bin good order\b",
    r"\bwhoever\b",
    r"\bgo(es)? its own way\b",
    r"\bon trial\b",
    r"\b(is|are) told\b",
    r"\bthe house\b",
)


def words(name: str) -> list[str]:
    """The words of a name: ``LossMeter`` and ``loss_meter`` have the same two."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in spaced.lower().split("_") if word]


def defined_names(path: Path) -> Iterator[tuple[int, str]]:
    """Names that a module defines: classes, functions, parameters, attributes, variables."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The comments and strings of a module, a line each."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            for k, line in enumerate(token.string.splitlines()):
                yield token.start[0] + k, line


def banned(pattern: str, name: str) -> bool:
    """Whether a name has words that match a pattern of one or more words."""
    return re.search(rf"(^|_)({pattern})(_|$)", "_".join(words(name))) is not None


def test_names_are_the_fields_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name} (use {instead})"
        for path in SOURCES
        for line, name in defined_names(path)
        for pattern, instead in NAMES.items()
        if banned(pattern, name)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("kind", ["sources", "pages"])
def test_prose_is_plain(kind: str) -> None:
    found = []
    for path in SOURCES if kind == "sources" else PAGES:
        lines = (
            prose(path)
            if kind == "sources"
            else enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        )
        for line, text in lines:
            for pattern in PROSE:
                if re.search(pattern, text, re.IGNORECASE):
                    found.append(f"{path.relative_to(ROOT)}:{line}: {text.strip()}")
    assert not found, "\n".join(found)


def test_the_list_matches_its_examples() -> None:
    assert banned(r"lanes?", "LaneBatches")
    assert not banned(r"lanes?", "planes")
    assert any(re.search(p, "the model that comes along") for p in PROSE)
