"""Share links, and what they show of a batch to people without the password."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class ShareLink(BaseModel):
    """A URL that shows the results of a batch to anyone, and when it expires."""

    url: str
    expires_at: datetime


class SharedOutput(BaseModel):
    """A ready output. `size_bytes` of an `hls` output is that of its media file."""

    output_id: str
    name: str
    variation: int  # 0 with a preset
    preset: str | None
    size_bytes: int | None
    duration_s: float | None
    poster: bool  # whether there is one at `/api/outputs/{output_id}/poster`


class SharedSource(BaseModel):
    """A source with its ready outputs. `width` and `height` are in pixels; 0 while they are unknown."""

    name: str
    width: int
    height: int
    outputs: list[SharedOutput]


class SharedBatch(BaseModel):
    """A batch as its share link shows it.

    `ticket` opens its outputs, posters and ZIP as `?ticket=`, and nothing else, until the link ends.
    """

    batch_id: str
    name: str | None
    created_at: datetime
    expires_at: datetime | None  # null while a retry is running
    ticket: str
    sources: list[SharedSource]
