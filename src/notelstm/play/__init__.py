"""Playing with a model in the browser: an ASGI app, its protocol, and a server of its own.

:func:`create_app` gives the app, which other apps can mount; :func:`serve` runs it. Both need the
extra ``play``.
"""

from __future__ import annotations

import importlib.util

from notelstm.errors import MissingExtraError

if importlib.util.find_spec("starlette") is None:
    raise MissingExtraError(
        "Starlette, which serves the page, is not installed",
        hint="run pip install 'notelstm[play]'",
    )

from notelstm.play.app import create_app
from notelstm.play.limits import Limits
from notelstm.play.protocol import VERSION
from notelstm.play.serving import serve

__all__ = ["VERSION", "Limits", "create_app", "serve"]
