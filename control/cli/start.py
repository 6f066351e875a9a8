"""The start of `refresher`: an interrupt before the commands are loaded ends it without a trace."""

from __future__ import annotations

import signal


def main() -> None:
    """Load the commands and run the one that the arguments name, which handles signals by itself."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from control.cli.loading import loading

    with loading():
        from control.cli.main import main as run
    run()
