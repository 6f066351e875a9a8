"""Environment variables that make long runs of tests."""

from __future__ import annotations

import os

CHAOS_FULL = os.environ.get("CHAOS_FULL") == "1"
SOAK_FULL = os.environ.get("SOAK_FULL") == "1"
