"""A stack's bucket seen from outside, and files that fill it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from tests.support.switches import SOAK_FULL

MAX_SOURCE_BYTES = 2 * 1024**3 if SOAK_FULL else 64 * 1024**2


@dataclass
class Bucket:
    """What the stack's bucket holds, looked at from outside."""

    s3: Any
    name: str

    def sources(self) -> set[str]:
        """Return the keys of all stored sources and open uploads."""
        objects = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        uploads = self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", ())
        keys = {found["Key"] for page in objects for found in page.get("Contents", ())}
        return {key for key in keys if "/sources/" in key} | {f"open {upload['Key']}" for upload in uploads}


def padding(size_bytes: int) -> bytes:
    """Return the head of an MP4 box of so many bytes that players skip."""
    return struct.pack(">I4sQ", 1, b"free", size_bytes)
