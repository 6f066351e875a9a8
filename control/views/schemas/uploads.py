"""Uploads in parts, and the sources that they become."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from control.views.schemas.base import Name, Request, like

# RFC 9110, 8.3.1: type, subtype, parameters; or empty, which is refused later as no video
ContentType = Annotated[
    str, Field(max_length=255, pattern=r"^([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *;[ -~]*)?)?$")
]


class NewUpload(Request):
    """A file to upload."""

    model_config = like({"name": "ad.mp4", "size_bytes": 20_971_520, "content_type": "video/mp4"})

    name: Name
    size_bytes: Annotated[int, Field(ge=0)]
    content_type: ContentType


class PartUrl(BaseModel):
    """A part: the URL to PUT it to, or, once it is stored, its ETag and size."""

    number: int
    url: str | None = None
    etag: str | None = None
    size_bytes: int | None = None


class UploadStarted(BaseModel):
    """The parts of an upload. All but the last have `part_size_bytes`. A completed upload shows none."""

    upload_id: str
    part_size_bytes: int
    parts: list[PartUrl]
    expires_at: datetime
    state: str  # open or completed
    source_id: str | None = None  # once it is completed


class PartDone(Request):
    """The ETag from the answer of the bucket to the PUT of a part, with or without quotes."""

    number: Annotated[int, Field(ge=1)]
    etag: Annotated[str, Field(min_length=1, max_length=255)]


class UploadDone(Request):
    """All parts are in the bucket."""

    model_config = like({"parts": [{"number": 1, "etag": "9b2cf535f27731c974343645a3985328"}]})

    parts: Annotated[list[PartDone], Field(min_length=1, max_length=10_000, fail_fast=True)]


class SourceCreated(BaseModel):
    """A playable video, ready to be used in batches. `notes` say what could not be used of it."""

    source_id: str
    name: str
    size_bytes: int
    duration_s: float
    width: int
    height: int
    notes: list[str] = []
