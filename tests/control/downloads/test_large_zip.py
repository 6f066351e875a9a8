"""A ZIP that was interrupted at three random places is complete: 5.5 GiB with SOAK_FULL=1, else small."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from infra.s3 import TigrisStorage
from tests.support.maker import Maker, completed, lay
from tests.support.programs import unpacks
from video_refresher import Client

IS_FULL = os.environ.get("SOAK_FULL") == "1"
OBJECT_BYTES = 512 * 1024**2 if IS_FULL else 256 * 1024
MEMBERS = 11  # one object in the bucket, each time another member
TILE = os.urandom(256 * 1024)


class Broken(Exception):
    """The user's machine went to sleep."""


def digest_of(maker: Maker, batch_id: str) -> tuple[str, int]:
    """Return the SHA-256 and size of a ZIP that is read in one go."""
    digest, size = hashlib.sha256(), 0
    with maker.http.stream("GET", f"/api/batches/{batch_id}/download") as answer:
        for chunk in answer.iter_raw():
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def test_a_zip_resumed_at_three_random_places_is_byte_equal(
    maker: Maker, storage: TigrisStorage, tmp_path: Path
) -> None:
    tile = lay(storage, "large/tile.mp4", TILE * (OBJECT_BYTES // len(TILE)))
    batch_id = completed(maker.store, [tile] * MEMBERS)
    out, seed = tmp_path / "large.zip", random.randrange(10**6)
    token = maker.http.headers["Authorization"].removeprefix("Bearer ")
    wanted, size = digest_of(maker, batch_id)
    assert size > MEMBERS * OBJECT_BYTES
    with Client.signed_in(str(maker.http.base_url), token=token) as client:

        def breaking_at(place: int):
            def on_progress(done: int, _: int) -> None:
                if done >= place:
                    raise Broken

            return on_progress

        for place in sorted(random.Random(seed).sample(range(1, size), 3)):
            with pytest.raises(Broken):
                client.download(batch_id, out, on_progress=breaking_at(place))
        client.download(batch_id, out)
    with out.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == wanted, f"seed {seed}"
    for program in ("unzip", "7z") if IS_FULL else ():
        unpacks(out, program)
    out.unlink()
