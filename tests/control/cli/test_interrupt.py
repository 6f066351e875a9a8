"""An interrupt of `refresher` waits for the end of an import."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.cli.main import interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
INTERRUPTED = "import signal\nsignal.raise_signal(signal.SIGINT)\nis_whole = True\n"


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    former = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signal.signal(signal.SIGINT, interrupt)
    yield
    for signum, handler in former.items():
        signal.signal(signum, handler)


def test_an_interrupt_within_an_import_is_raised_once_the_import_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_while_imported.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        _imported("interrupted_while_imported")
    assert sys.modules.pop("interrupted_while_imported").is_whole
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_second_signal_after_one_within_an_import_does_not_interrupt_the_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_while_imported.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("interrupted_while_imported")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    time.sleep(0.05)  # the clean-up, longer than a look at the import
    del sys.modules["interrupted_while_imported"]


def test_an_interrupt_outside_of_imports_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def _imported(name: str) -> None:
    importlib.import_module(name)
    time.sleep(60)  # ended by the interrupt
