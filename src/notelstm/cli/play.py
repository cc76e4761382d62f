"""``notelstm play``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import arg

from notelstm.cli.options import Flag, shown

if TYPE_CHECKING:
    from notelstm.bundle import Bundle

__all__ = ["play"]


def play(
    models: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        shown("[MODEL ...]", "the pretrained model"),
    ] = (),
    /,
    *,
    host: Annotated[str, arg(metavar="HOST")] = "127.0.0.1",
    port: Annotated[int | None, shown("N", "7464, or any free one")] = None,
    token: Annotated[str | None, shown("TEXT", "none on this machine")] = None,
    sessions: Annotated[int, arg(metavar="N")] = 32,
    no_browser: Flag = False,
) -> None:
    """Play with a model in the browser: play a few notes, and it answers.

    Starts a server on this machine, prints its address and opens it in the browser. Ctrl-C ends
    it. Needs the extra `play`.

    Args:
        models: Model files to choose from on the page. The pretrained model plays the piano.
        host: The address to listen on; 0.0.0.0 for all machines of the network, which then need the
            token.
        port: The port.
        token: The password that the printed address contains.
        sessions: The most browsers at a time.
        no_browser: Do not open the browser.
    """
    import threading
    import webbrowser

    from notelstm.play import Limits, serve
    from notelstm.play.serving import is_loopback

    limits = Limits(sessions=sessions)
    bundles = _loaded(models)

    def ready(address: str) -> None:
        print(f"playing at {address}  (Ctrl-C ends it)", flush=True)
        if not is_loopback(host):
            print(
                "other machines can reach this address: give it, with its token, only to people "
                "whom you trust",
                flush=True,
            )
        if not no_browser:
            # Browsers of a terminal return only when they are closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    try:
        serve(bundles, host=host, port=port, token=token, limits=limits, on_start=ready)
    except KeyboardInterrupt:
        print("stopped")


def _loaded(models: tuple[Path, ...]) -> dict[str, Bundle]:
    """The models by the names that the page shows."""
    from notelstm.bundle import load

    if not models:
        return {"Piano, pretrained": load()}
    stems = [path.stem for path in models]
    names = [path.stem if stems.count(path.stem) == 1 else str(path) for path in models]
    return {name: load(path) for name, path in zip(names, models, strict=True)}
