"""A stack of processes with a low limit for a file, and a server of somebody else that it may call.

SOAK_FULL=1 gives it the limit that a deployment has, and the large runs their full size.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from infra.s3 import connect
from tests.support.clips import make_clip
from tests.support.foreign import Server, served
from tests.support.stack import Patient, Stack, running, signed_in

FULL = os.environ.get("SOAK_FULL") == "1"
MAX_SOURCE_BYTES = 2 * 1024**3 if FULL else 64 * 1024**2


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


@pytest.fixture(scope="session")
def theirs() -> Iterator[Server]:
    with served() as server:
        yield server


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, theirs: Server) -> Iterator[Stack]:
    settings = {"MAX_SOURCE_BYTES": str(MAX_SOURCE_BYTES), "OUTBOUND_ALLOW": theirs.place, "LEASE_S": "10"}
    with running(tmp_path_factory.mktemp("stack"), **settings) as stack:
        yield stack


@pytest.fixture(scope="session")
def bucket(stack: Stack) -> Bucket:
    keys = ("endpoint", "region", "access_key_id", "secret_access_key")
    return Bucket(connect(**{key: stack.s3.facts[key] for key in keys}), stack.s3.facts["bucket"])


@pytest.fixture
def user(stack: Stack) -> Iterator[Patient]:
    with signed_in(stack) as patient:
        yield patient


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> bytes:
    """A tiny video whose index is at its end."""
    path = make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "tiny.mp4", size="64x64", seconds=1)
    return path.read_bytes()


def padding(size_bytes: int) -> bytes:
    """Return the head of an MP4 box of so many bytes that players skip."""
    return struct.pack(">I4sQ", 1, b"free", size_bytes)
