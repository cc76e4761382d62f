"""Sphinx configuration. The build needs no network, and its warnings are errors."""

from __future__ import annotations

import pydoc
import sys
from pathlib import Path
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring

from notelstm import __version__

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from making import make_all, tables  # noqa: E402  # the package is beside this file

project = "notelstm"
author = "The notelstm founders"
copyright = "2026, the notelstm founders"  # noqa: A001  # Sphinx wants this name
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
# Generated files are included by the pages that discuss them.
exclude_patterns = ["_build", "_made", "_templates", "measured"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"notelstm {release}"
html_static_path = ["_static", "_made/listen/sound", "_made/written/sound"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = tables.figures(DOCS / "measured")

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False

autodoc_member_order = "bysource"
autosummary_generate = True
# Every module gets a page, which shows the names in its __all__.
autosummary_ignore_module_all = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style")]
maximum_signature_line_length = 80

# In a signature shown as written, a short name can refer to either of two classes.
suppress_warnings = ["ref.python"]
nitpicky = True
nitpick_ignore_regex = [
    # There are no links to other projects, since their inventories need a network.
    (
        r"py:.*",
        r"(array|asyncio|collections|contextlib|enum|functools|hypothesis|importlib|matplotlib"
        r"|multiprocessing|nn|np|numpy|os|pathlib|starlette|torch|tyro|types|typing|uvicorn|xml)(\..*)?",
    ),
    # The same in signatures shown as written, because a name is imported for type checkers only.
    (
        r"py:class",
        r"ASGIApp|ArrayLike|Axes|FlagCreatePairsOff|MusicTokenizer|NDArray|Path|Positional"
        r"|SearchStrategy|Tensor",
    ),
    # Type variables are not documented.
    (r"py:class", r"notelstm\..*\.T"),
]


def _inline(self: GoogleDocstring) -> tuple[str, list[str]]:
    lines = self._dedent(self._consume_to_end())
    return "", GoogleDocstring(lines, self._config).lines()


def _returns(
    self: GoogleDocstring, preprocess_types: bool = False
) -> list[tuple[str, str, list[str]]]:
    lines = self._dedent(self._consume_to_next_section())
    return [("", "", GoogleDocstring(lines, self._config).lines())] if lines else []


# Types are in signatures only; text before a colon in a docstring is prose. Napoleon has no setting
# for this.
GoogleDocstring._consume_inline_attribute = _inline  # type: ignore[method-assign]
GoogleDocstring._consume_returns_section = _returns  # type: ignore[method-assign]


def _readable_signature(
    app: Sphinx, what: str, name: str, found: Any, options: Any, signature: str, returns: str
) -> tuple[str, str]:
    """A signature that is readable and that Sphinx can parse."""
    if signature and "tyro" in signature:
        return "(...)", ""  # a command; its --help describes the options
    # The default of a field with a factory.
    return signature and signature.replace("<factory>", "..."), returns


def _find_home(
    app: Sphinx, env: BuildEnvironment, node: Element, contnode: TextElement
) -> Element | None:
    """Resolve a short name: ``notelstm.data.SequenceDataset``, or a class of another module."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    found = pydoc.locate(target) if target.startswith("notelstm.") else None
    if found is None:
        node["refspecific"] = True  # any module
    else:
        target = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)


def _link_methods(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """Add to a class on the page of ``notelstm`` a link to its methods."""
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if what == "class" and name.removeprefix("notelstm.") == home.rpartition(".")[2]:
        lines += ["", f"Methods: :class:`{home}`", ""]


def _make(app: Sphinx, config: Config) -> None:
    """Generate music, pictures and tables before Sphinx reads the pages."""
    make_all(DOCS)


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("config-inited", _make, priority=1)
    app.connect("autodoc-process-docstring", _link_methods)
    app.connect("autodoc-process-signature", _readable_signature)
    app.connect("missing-reference", _find_home)
