"""Share links: what they open without the password, what they do not, and what ends them."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlmodel import select
from typer.testing import CliRunner

from control.cli.commands import app
from control.store import retention
from control.store.tables import Batch
from tests.support.maker import Maker, bucket, code, stored
from tests.support.settings import SETTINGS
from tests.support.user import ok, outputs, sign_in

SHOWN = {"batch_id", "name", "created_at", "expires_at", "ticket", "sources"}
SHOWN_OF_OUTPUT = {"output_id", "name", "variation", "preset", "size_bytes", "duration_s", "poster"}


def share(maker: Maker, batch: dict[str, Any]) -> str:
    """Return the token of a new share link."""
    link = ok(maker.http.post(f"/api/batches/{batch['batch_id']}/share-link"), 201)
    url = urlsplit(link["url"])
    assert (url.scheme, url.netloc, url.path, url.query) == ("http", "control.test", "/", "")
    assert link["expires_at"] == maker.show(batch["batch_id"])["expires_at"]
    return url.fragment.removeprefix("/shared/")


def names_in(answer: httpx.Response) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(answer.content)).namelist()


def look(stranger: httpx.Client, token: str) -> httpx.Response:
    return stranger.get("/api/shared", headers={"Authorization": f"Bearer {token}"})


def test_a_link_shows_videos_pictures_and_the_zip_to_a_stranger_and_nothing_else(
    maker: Maker, stranger: httpx.Client
) -> None:
    batch = maker.make(b"one", b"two", names=["spring.mp4"], variations=2)
    other = maker.make(b"x")
    token = share(maker, batch)
    assert len(token) >= 43
    assert maker.show(batch["batch_id"])["shared"] is True
    shown = ok(look(stranger, token), 200)
    assert set(shown) == SHOWN
    (source,) = shown["sources"]
    assert set(source) == {"name", "width", "height", "outputs"}
    assert source["name"] == "spring.mp4"
    assert all(set(output) == SHOWN_OF_OUTPUT for output in source["outputs"])
    ticket = {"ticket": shown["ticket"]}
    for output, content in zip(source["outputs"], (b"one", b"two"), strict=True):
        address = f"/api/outputs/{output['output_id']}"
        assert bucket().get(stranger.get(address, params=ticket).headers["location"]).content == content
        assert stranger.get(f"{address}/poster", params=ticket).status_code == 307
    archive = f"/api/batches/{batch['batch_id']}/download"
    ours, whole = maker.http.get(archive), stranger.get(archive, params=ticket)
    videos = [output["name"] for output in outputs(batch)]
    assert names_in(whole) == videos, "no manifest: it names machines, effects and the caller's own data"
    assert names_in(ours) == [*videos, "manifest.csv", "manifest.json"]
    assert whole.headers["etag"] != ours.headers["etag"] == maker.http.head(archive).headers["etag"]
    part = stranger.get(archive, params=ticket, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole.content[5:10])
    assert part.headers["etag"] == whole.headers["etag"]

    source_id = batch["sources"][0]["source_id"]
    closed = [
        f"/api/batches/{batch['batch_id']}",
        f"/api/batches/{batch['batch_id']}/events",
        f"/api/jobs/{batch['jobs'][0]['job_id']}/events",
        f"/api/jobs/{batch['jobs'][0]['job_id']}/download",
        f"/api/sources/{source_id}",
        f"/api/batches/{other['batch_id']}/download",
        f"/api/outputs/{outputs(other)[0]['output_id']}",
        *("/api/batches", "/api/costs", "/api/machines", "/api/storage"),
    ]
    for path in closed:
        for headers in ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": f"Bearer {ticket}"}):
            answer = stranger.get(path, params=ticket, headers=headers)
            assert code(answer) == (401, "unauthorized"), path
    for method, more in (("POST", "cancel"), ("POST", "retry"), ("POST", "share-link"), ("DELETE", "")):
        path = f"/api/batches/{batch['batch_id']}/{more}".rstrip("/")
        assert code(stranger.request(method, path, params=ticket)) == (401, "unauthorized"), path
    with maker.store.transaction() as tx:
        assert token not in str(tx.session.exec(select(Batch)).all()), "only its hash is stored"


def test_a_link_is_ended_by_a_second_one_by_its_end_by_a_delete_and_by_an_eviction(
    maker: Maker, stranger: httpx.Client
) -> None:
    def ends(what: Any) -> None:
        """Share a new batch, do it, and see that link and ticket are over."""
        batch = maker.make(b"one")
        token = share(maker, batch)
        ticket = ok(look(stranger, token), 200)["ticket"]
        what(batch["batch_id"])
        assert code(look(stranger, token)) == (401, "unauthorized")
        for path in (
            f"/api/outputs/{outputs(batch)[0]['output_id']}",
            f"/api/batches/{batch['batch_id']}/download",
        ):
            assert code(stranger.get(path, params={"ticket": ticket}))[0] in (401, 404), path

    def evict(batch_id: str) -> None:
        with maker.store.transaction() as tx:
            tx.session.get_one(Batch, batch_id).expires_at = tx.now - timedelta(seconds=1)
        assert code(maker.http.post(f"/api/batches/{batch_id}/share-link")) == (410, "expired")
        retention.expire_due(maker.store)
        with maker.store.transaction() as tx:
            assert tx.session.get_one(Batch, batch_id).share_sha256 is None

    def delete(batch_id: str) -> None:
        assert maker.http.delete(f"/api/batches/{batch_id}").status_code == 204

    def unshare(batch_id: str) -> None:
        for _ in range(2):
            assert maker.http.delete(f"/api/batches/{batch_id}/share-link").status_code == 204
        assert maker.show(batch_id)["shared"] is False

    def again(batch_id: str) -> None:
        assert look(stranger, share(maker, {"batch_id": batch_id})).status_code == 200

    for what in (unshare, again, delete, evict):
        ends(what)
    kept = maker.make(b"one")
    token = share(maker, kept)
    maker.http.post("/api/auth/revoke").raise_for_status()
    assert code(look(stranger, token)) == (401, "unauthorized")
    sign_in(maker.http, SETTINGS["auth_password"])


def test_a_retry_leaves_the_link_and_shows_what_is_ready_meanwhile(
    maker: Maker, stranger: httpx.Client
) -> None:
    batch = maker.submit(variations=2)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    maker.finish(spec, [stored(spec.outputs[0], b"one")], outcome="error", reason="runner_crashed")
    maker.http.post(f"/api/batches/{batch['batch_id']}/cancel").raise_for_status()
    token = share(maker, batch)
    maker.http.post(f"/api/batches/{batch['batch_id']}/retry").raise_for_status()
    shown = ok(look(stranger, token), 200)
    assert shown["expires_at"] is None
    (output,) = shown["sources"][0]["outputs"]
    address = f"/api/outputs/{output['output_id']}"
    assert stranger.get(address, params={"ticket": shown["ticket"]}).status_code == 307


def test_the_command_makes_and_ends_a_link(maker: Maker, stranger: httpx.Client) -> None:
    id_ = maker.make(b"one")["batch_id"]
    env = {"REFRESHER_URL": str(maker.http.base_url), "REFRESHER_PASSWORD": SETTINGS["auth_password"]}
    made = CliRunner().invoke(app, ["share", id_], env=env)
    token = made.stdout.strip().rpartition("/")[2]
    assert look(stranger, token).status_code == 200, made.output
    assert CliRunner().invoke(app, ["share", id_, "--end"], env=env).exit_code == 0
    assert look(stranger, token).status_code == 401


def test_a_live_batch_has_no_link_and_wrong_tokens_open_nothing(maker: Maker, stranger: httpx.Client) -> None:
    live = maker.submit(variations=1)["batch_id"]
    assert code(maker.http.post(f"/api/batches/{live}/share-link")) == (409, "not_finished")
    maker.http.post(f"/api/batches/{live}/cancel").raise_for_status()
    assert code(maker.http.post(f"/api/batches/{live}/share-link")) == (409, "not_ready")
    assert code(maker.http.post("/api/batches/bat_none/share-link")) == (404, "not_found")
    for token in ("x", "é" * 9, maker.http.headers["Authorization"], "a" * 5000):
        answer = stranger.get("/api/shared", headers={"Authorization": f"Bearer {token}".encode()})
        assert code(answer) == (401, "unauthorized"), token
    assert code(stranger.get("/api/shared")) == (401, "unauthorized")
