"""The clips of the chaos tests."""

from __future__ import annotations

from tests.support.fixtures import tiny

__all__ = ["tiny"]
