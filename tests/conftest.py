"""What several test suites share."""

import imageio_ffmpeg
import pytest


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The path of the pinned FFmpeg."""
    return imageio_ffmpeg.get_ffmpeg_exe()
