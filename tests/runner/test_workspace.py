"""The place of the files during a run, and that all of it is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import workspace as module
from runner.workspace import workspace


def test_files_are_in_memory_and_nothing_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(module, "_SHM", tmp_path)
    with workspace(1000) as folder:
        assert folder.parent == tmp_path
        (folder / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_memory_without_room_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(module, "_SHM", tmp_path)
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    with workspace(1 << 62) as folder:
        assert folder.parent != tmp_path
        assert folder.is_dir()
    assert not folder.exists()


def test_who_sets_tmpdir_gets_it_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(module.tempfile, "tempdir", None)
    with workspace(1000) as folder:
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
