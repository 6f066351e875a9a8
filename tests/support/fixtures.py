"""Fixtures of several suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clips import make_clip


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """A clip of which a variation takes a moment."""
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "tiny.mp4", size="64x64", seconds=1)
