"""A stack of processes with a low limit for a file, and a server of somebody else that it may call.

SOAK_FULL=1 gives it the limit that a deployment has, and the large runs their full size.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.s3_server import LocalS3
from infra.s3 import connect
from tests.support.bucket import MAX_SOURCE_BYTES, Bucket
from tests.support.clips import make_clip
from tests.support.foreign import Server, served
from tests.support.stack import Patient, Stack, running, signed_in


@pytest.fixture(scope="session")
def theirs() -> Iterator[Server]:
    with served() as server:
        yield server


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, theirs: Server, s3: LocalS3) -> Iterator[Stack]:
    allowed = f"{theirs.place},{s3.endpoint.removeprefix('http://')}"
    settings = {"MAX_SOURCE_BYTES": str(MAX_SOURCE_BYTES), "OUTBOUND_ALLOW": allowed, "LEASE_S": "10"}
    with running(tmp_path_factory.mktemp("stack"), **settings) as stack:
        yield stack


@pytest.fixture(scope="package")
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
