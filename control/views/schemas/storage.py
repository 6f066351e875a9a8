"""The used storage."""

from __future__ import annotations

from pydantic import BaseModel


class StorageView(BaseModel):
    """The used storage and its cap."""

    used_bytes: int
    cap_bytes: int
    percent: float
