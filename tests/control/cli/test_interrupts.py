"""Ctrl-C ends a command, but never inside an import: its lock would stay held, and all other threads hang."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.cli.main import _ENDING, _interrupt

MODULE = """
import signal
signal.raise_signal(signal.SIGINT)
is_whole = True
"""


@pytest.fixture
def _handled() -> Iterator[None]:
    """Handle signals as a command does."""
    before = {signum: signal.signal(signum, _interrupt) for signum in _ENDING}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def load_and_wait() -> None:
    import interrupted_module  # noqa: F401

    time.sleep(10)


@pytest.mark.usefixtures("_handled")
def test_an_interrupt_within_an_import_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        load_and_wait()
    assert sys.modules["interrupted_module"].is_whole


@pytest.mark.usefixtures("_handled")
def test_any_other_interrupt_comes_at_once_and_no_second_one_follows() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert {signal.getsignal(signum) for signum in _ENDING} == {signal.SIG_IGN}
