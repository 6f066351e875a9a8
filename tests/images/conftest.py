"""The clips of the chaos tests."""

from __future__ import annotations

from tests.chaos.conftest import tiny

__all__ = ["tiny"]
