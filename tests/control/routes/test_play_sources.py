"""Uploaded videos are played by redirects to signed URLs, as long as they are stored."""

from __future__ import annotations

import httpx

from control.store.tables import Source
from infra.s3 import TigrisStorage
from tests.support.maker import Maker, bucket, code, lay


def stored_source(maker: Maker, storage: TigrisStorage, name: str = "my ad.mov") -> str:
    """Return a source whose bytes are in the bucket."""
    source_id = maker.source(name)
    file = lay(storage, f"sources/{source_id}", b"a video")
    with maker.store.transaction() as tx:
        tx.session.get_one(Source, source_id).key = file.key
    return source_id


def submitted(maker: Maker, source_id: str) -> dict[str, str]:
    body = {"sources": [{"source_id": source_id}], "variations": 1}
    batch: dict[str, str] = maker.http.post("/api/batches", json=body).json()
    return batch


def test_a_source_plays_under_its_own_name(maker: Maker, storage: TigrisStorage) -> None:
    source_id = stored_source(maker, storage)
    redirect = maker.http.get(f"/api/sources/{source_id}")
    assert redirect.status_code == 307
    answer = bucket().get(redirect.headers["location"], headers={"Range": "bytes=2-"})
    assert (answer.status_code, answer.content) == (206, b"video"), "players seek"
    assert answer.headers["content-type"] == "video/quicktime"
    assert answer.headers["content-disposition"].startswith('inline; filename="my ad.mov"')


def test_the_ticket_of_any_batch_that_uses_a_source_opens_it_and_no_other_does(
    maker: Maker, storage: TigrisStorage, stranger: httpx.Client
) -> None:
    source_id = stored_source(maker, storage)
    url = f"/api/sources/{source_id}"
    tickets = [submitted(maker, source_id)["ticket"] for _ in range(2)]
    for ticket in tickets:
        assert stranger.get(url, params={"ticket": ticket}).status_code == 307
    other = maker.submit(variations=1)
    for ticket in (other["ticket"], "nonsense", ""):
        assert code(stranger.get(url, params={"ticket": ticket})) == (401, "unauthorized")
    assert code(stranger.get(url)) == (401, "unauthorized")


def test_a_source_that_is_deleted_is_410_and_one_that_was_never_here_404(
    maker: Maker, storage: TigrisStorage
) -> None:
    source_id = stored_source(maker, storage)
    with maker.store.transaction() as tx:
        tx.session.get_one(Source, source_id).deleted_at = tx.now
    assert code(maker.http.get(f"/api/sources/{source_id}")) == (410, "source_gone")
    assert code(maker.http.get("/api/sources/src_x")) == (404, "not_found")


def test_a_source_that_only_a_runner_fetches_cannot_be_played(maker: Maker) -> None:
    source_id = maker.source()
    with maker.store.transaction() as tx:
        row = tx.session.get_one(Source, source_id)
        row.key, row.url = "", "https://videos.example/secret.mp4"
    answer = maker.http.get(f"/api/sources/{source_id}")
    assert code(answer) == (404, "not_found")
    assert "secret" not in answer.text
