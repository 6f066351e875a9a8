"""ZIPs through real HTTP from a real bucket: frozen, resumed, linked, and cut off rather than wrong."""

from __future__ import annotations

import csv
import io
import random
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlmodel import select

from control.auth.tokens import Link
from control.downloads import contents as results
from control.downloads import layouts, streaming
from control.routes import runner
from control.store.tables import Attempt, Batch, Output
from control.views.batches import Views
from infra.local.s3_server import LocalS3
from infra.s3 import TigrisStorage
from runner.contract import OutputError, OutputFault, OutputReport
from tests.support.maker import Maker, code, making, manifest_of, put, stored
from tests.support.processes import until
from tests.support.programs import need
from tests.support.proxy import Fault, Proxy
from tests.support.settings import SETTINGS
from tests.support.user import outputs, sign_in

CONTENTS = (b"first" * 30_000, b"second" * 50_000)


@pytest.fixture(scope="module")
def batch(maker: Maker) -> dict[str, Any]:
    return maker.make(*CONTENTS)


@pytest.fixture(scope="module")
def whole(maker: Maker, batch: dict[str, Any]) -> httpx.Response:
    return get(maker, batch)


def address(shown: dict[str, Any], more: str = "download") -> str:
    if "job_id" in shown:
        return f"/api/jobs/{shown['job_id']}/{more}"
    return f"/api/batches/{shown['batch_id']}/{more}"


def get(maker: Maker, shown: dict[str, Any], **headers: str) -> httpx.Response:
    return maker.http.get(address(shown), headers={k.replace("_", "-"): v for k, v in headers.items()})


def link(maker: Maker, shown: dict[str, Any]) -> str:
    """Return a download link's path and query: the tests' control does not answer at its PUBLIC_URL."""
    answer = maker.http.post(address(shown, "download-link"))
    assert answer.status_code == 200, answer.text
    url = urlsplit(answer.json()["url"])
    assert f"{url.scheme}://{url.netloc}" == "http://control.test"
    return f"{url.path}?{url.query}"


def members(answer: httpx.Response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def change(maker: Maker, batch_id: str, **facts: Any) -> None:
    with maker.store.transaction() as tx:
        row = tx.session.get_one(Batch, batch_id)
        for name, value in facts.items():
            setattr(row, name, value)


def failed(output_id: str) -> OutputReport:
    error = OutputError(code=OutputFault.RENDER_FAILED, message="no")
    return OutputReport(output_id=output_id, status="failed", error=error)


def half_made(maker: Maker) -> dict[str, Any]:
    """Return a batch of which one of two outputs has failed."""
    batch = maker.submit(variations=2)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    first, second = spec.outputs
    assert maker.finish(spec, [stored(first, b"one"), failed(second.output_id)]).status_code == 200
    return maker.show(batch["batch_id"])


# --- the frozen archive -------------------------------------------------------------------------------


def test_any_range_of_a_frozen_zip_is_that_part_of_the_whole(maker: Maker, batch, whole) -> None:
    assert list(members(whole).values())[:2] == list(CONTENTS)
    assert whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == len(whole.content)
    dice, size = random.Random(5), len(whole.content)
    spans = [(0, 1), (size - 1, size), (0, size)]
    spans += [tuple(sorted(dice.sample(range(size + 1), 2))) for _ in range(20)]
    for start, stop in spans:
        answer = get(maker, batch, Range=f"bytes={start}-{stop - 1}", If_Range=whole.headers["etag"])
        assert answer.status_code == 206
        assert answer.content == whole.content[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert answer.headers["etag"] == whole.headers["etag"]
    assert get(maker, batch, Range="bytes=-500").content == whole.content[-500:]
    assert get(maker, batch, Range="bytes=500-").content == whole.content[500:]


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-9"},
        {"Range": "nonsense"},
        {"Range": "bytes=5-", "If_Range": '"another"'},
        {"Range": "bytes=999999999-", "If_Range": '"another"'},
        {"If_Range": '"another"'},
    ],
    ids=str,
)
def test_several_ranges_nonsense_and_another_archive_s_range_get_the_whole(
    maker: Maker, batch, whole, headers: dict[str, str]
) -> None:
    answer = get(maker, batch, **headers)
    assert answer.status_code == 200
    assert answer.content == whole.content


def test_a_range_after_the_end_is_416_with_the_length(maker: Maker, batch, whole) -> None:
    answer = get(maker, batch, Range=f"bytes={len(whole.content)}-")
    assert code(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(whole.content)}"


def test_who_has_the_archive_gets_304_and_another_etag_412(maker: Maker, batch, whole) -> None:
    tag = whole.headers["etag"]
    fresh = get(maker, batch, If_None_Match=tag)
    assert (fresh.status_code, fresh.content, fresh.headers["etag"]) == (304, b"", tag)
    assert get(maker, batch, If_None_Match='"another"', If_Match=tag).content == whole.content
    assert code(get(maker, batch, If_Match='"another"')) == (412, "changed")


def test_head_has_the_headers_of_get(maker: Maker, batch, whole) -> None:
    names = ("content-length", "etag", "accept-ranges", "content-disposition", "content-type")
    answer = maker.http.head(address(batch), headers={"Range": "bytes=0-5"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert [answer.headers[name] for name in names] == [whole.headers[name] for name in names]


def test_a_job_s_zip_is_frozen_under_an_etag_of_its_own(maker: Maker, batch, whole) -> None:
    job = maker.show(batch["jobs"][0]["job_id"])
    answer = get(maker, job)
    assert list(members(answer)) == list(members(whole))
    assert get(maker, job, Range="bytes=9-99").content == answer.content[9:100]


def test_what_changes_after_the_end_does_not_reach_the_archive(maker: Maker, batch, whole) -> None:
    maker.http.post(address(batch, "cancel"))
    with maker.store.transaction() as tx:
        for row in tx.session.exec(select(Output)).all():
            row.delivery_error = "told later"
        for attempt in tx.session.exec(select(Attempt)).all():
            attempt.cost_usd, attempt.region = 9.9, "late"
    again = get(maker, batch)
    assert again.content == whole.content
    assert again.headers["etag"] == whole.headers["etag"]


def test_a_retry_that_adds_outputs_changes_the_archive_and_its_etag(maker: Maker) -> None:
    batch = half_made(maker)
    before = get(maker, batch)
    assert maker.http.post(address(batch, "retry")).status_code == 202
    live = get(maker, batch)
    assert "etag" not in live.headers
    spec = maker.claim(batch["jobs"][0]["job_id"])
    assert maker.finish(spec, [stored(spec.outputs[0], b"two")]).status_code == 200
    after = get(maker, batch, Range="bytes=10-", If_Range=before.headers["etag"])
    assert after.status_code == 200, "what was begun before the retry starts over"
    assert after.headers["etag"] != before.headers["etag"]
    assert sorted(members(after).values())[-2:] == [b"two", members(after)["manifest.json"]]


def test_curl_resumes_a_partial_file(maker: Maker, batch, whole, tmp_path: Path) -> None:
    path = tmp_path / "batch.zip"
    path.write_bytes(whole.content[:100_000])
    url = f"{maker.http.base_url}{link(maker, batch)}"
    command = [need("curl"), "-sS", "--fail", "-C", "-", "-w", "%{size_download}", "-o", path, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert path.read_bytes() == whole.content
    assert int(done.stdout) == len(whole.content) - 100_000


# --- what a link in many hands costs --------------------------------------------------------------------


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the archives that are laid out from now on."""
    seen: list[str] = []

    def noted(session: Any, subject: Any, **how: Any) -> Any:
        seen.append(subject.id)
        return results.laid_out(session, subject, **how)

    monkeypatch.setattr(layouts, "laid_out", noted)
    return seen


def test_head_conditions_and_links_lay_nothing_out_once_the_archive_is_frozen(
    maker: Maker, stranger: httpx.Client, laid_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "FILES_MAX", 0)  # none stays in memory
    batch = maker.make(*CONTENTS)
    url, bound = link(maker, batch), batch["batch_id"]
    assert laid_out == [bound], "size and ETag are told for the first time"
    head = stranger.head(url)
    size_bytes, tag = int(head.headers["content-length"]), head.headers["etag"]
    assert stranger.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert stranger.get(url, headers={"If-Match": '"another"'}).status_code == 412
    assert stranger.get(url, headers={"Range": f"bytes={size_bytes}-"}).status_code == 416
    for _ in range(3):
        assert stranger.head(link(maker, batch)).headers["etag"] == tag
    assert laid_out == [bound]
    monkeypatch.undo()
    with maker.store.transaction() as tx:
        row = tx.session.get_one(Batch, bound)
        assert (row.zip_bytes, f'"{row.zip_tag}"') == (size_bytes, tag)


def test_ranges_of_one_archive_lay_it_out_once(maker: Maker, laid_out: list[str]) -> None:
    batch = maker.make(*CONTENTS)
    for start in range(5):
        assert get(maker, batch, Range=f"bytes={start}-{start}").status_code == 206
    assert laid_out == [batch["batch_id"]]


def test_size_and_etag_of_a_layout_of_before_a_deploy_are_replaced_by_what_is_sent(maker: Maker) -> None:
    batch = maker.make(*CONTENTS)
    change(maker, batch["batch_id"], zip_bytes=5, zip_tag="of another version")
    assert maker.http.head(address(batch)).headers["content-length"] == "5"
    answer = get(maker, batch)
    assert len(answer.content) == int(answer.headers["content-length"])
    assert manifest_of(members(answer))["batch_id"] == batch["batch_id"]
    later = maker.http.head(address(batch)).headers
    assert [later[name] for name in ("etag", "content-length")] == [
        answer.headers[name] for name in ("etag", "content-length")
    ]


def test_a_delete_reads_no_output(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, alone = maker.make(b"x"), maker.submit(kind="jobs", variations=1)
    for name in ("batch", "job"):
        monkeypatch.setattr(Views, name, lambda *_: pytest.fail("it was built"))
    assert maker.http.delete(f"/api/batches/{batch['batch_id']}").status_code == 204
    assert maker.http.delete(f"/api/jobs/{alone['job_id']}").status_code == 204
    assert maker.http.delete(f"/api/jobs/{alone['job_id']}").status_code == 404


def test_an_output_larger_than_any_honest_one_is_not_believed(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "OUTPUT_BYTES_ANYWAY", 0)
    batch = maker.submit(variations=2)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    contents = (bytes(7 * 1024**2), bytes(5 * 1024**2))  # of 2 s of video, at most 1.4 MB by the plan
    reports = [stored(output, content) for output, content in zip(spec.outputs, contents, strict=True)]
    assert maker.finish(spec, reports).status_code == 200
    statuses = {output["output_id"]: output["status"] for output in outputs(maker.show(batch["batch_id"]))}
    assert [statuses[output.output_id] for output in spec.outputs] == ["queued", "ready"]


def test_a_retry_forgets_size_and_etag(maker: Maker) -> None:
    batch = half_made(maker)
    before = [maker.http.head(address(shown)).headers["etag"] for shown in (batch, batch["jobs"][0])]
    maker.http.post(address(batch, "retry"))
    spec = maker.claim(batch["jobs"][0]["job_id"])
    maker.finish(spec, [stored(spec.outputs[0], b"two")])
    after = [maker.http.head(address(shown)).headers["etag"] for shown in (batch, batch["jobs"][0])]
    assert not set(before) & set(after)


def test_more_downloads_of_one_archive_than_its_places_are_refused_with_retry_after(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "OPEN_OF_ONE_MAX", 2)
    batch, other = maker.make(bytes(16 * 1024**2)), maker.make(b"x")
    port = urlsplit(str(maker.http.base_url)).port
    with ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(f"GET {link(maker, batch)} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
        full = get(maker, batch)
        assert code(full) == (503, "unavailable")
        assert int(full.headers["retry-after"]) > 0
        assert maker.http.head(address(batch)).status_code == 200
        assert get(maker, other).status_code == 200, "others are not kept from theirs"
    until(lambda: get(maker, batch, Range="bytes=0-9").status_code == 206)


# --- live, nothing, gone ------------------------------------------------------------------------------


def test_a_live_zip_has_a_length_and_neither_etag_nor_ranges(maker: Maker) -> None:
    batch = maker.submit(variations=2)
    job = batch["jobs"][0]
    spec = maker.claim(job["job_id"])
    for more in ("download", "download-link"):
        verb = maker.http.get if more == "download" else maker.http.post
        assert code(verb(address(batch, more))) == (409, "not_ready")
        assert code(verb(address(job, more))) == (409, "not_ready")
    beat = {"seq": 1, "outputs": [stored(spec.outputs[0], b"one").model_dump(mode="json")]}
    headers = {"Authorization": f"Bearer {maker.signer.attempt_token(spec.attempt_id)}"}
    beaten = maker.http.post(f"/runner/attempts/{spec.attempt_id}/heartbeat", json=beat, headers=headers)
    assert beaten.status_code == 200
    answer = get(maker, batch, Range="bytes=5-9")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert not {"etag", "accept-ranges", "content-range"} & set(answer.headers)
    assert [entry["status"] for entry in manifest_of(members(answer))["outputs"]] == ["ready", "queued"]
    early = link(maker, batch)
    assert maker.finish(spec, [stored(spec.outputs[1], b"two")]).status_code == 200
    with httpx.Client(base_url=maker.http.base_url) as stranger:
        late = stranger.get(early)
    assert "etag" in late.headers
    assert set(members(late).values()) >= {b"one", b"two"}


@pytest.mark.parametrize("facts", [{"status": "expired"}, {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_an_expired_batch_is_410_on_every_route(maker: Maker, facts: dict[str, Any]) -> None:
    batch = maker.make(b"x")
    job, ticket = maker.show(batch["jobs"][0]["job_id"]), link(maker, batch)
    change(maker, batch["batch_id"], **facts)
    for shown in (batch, job):
        assert code(maker.http.post(address(shown, "retry"))) == (410, "expired")
    output = f"/api/outputs/{outputs(batch)[0]['output_id']}"
    for path in (address(batch), address(job), ticket, output, f"{output}/poster"):
        assert code(maker.http.get(path)) == (410, "expired"), path
    for shown in (batch, job):
        assert code(maker.http.post(address(shown, "download-link"))) == (410, "expired")
        assert maker.http.head(address(shown)).status_code == 410


def test_a_missing_archive_is_404(maker: Maker, stranger: httpx.Client) -> None:
    for noun, id_ in (("jobs", "job_none"), ("batches", "bat_none")):
        url = f"/api/{noun}/{id_}/download"
        assert code(maker.http.get(url)) == (404, "not_found")
        assert code(maker.http.post(f"{url}-link")) == (404, "not_found")
        assert code(stranger.get(url)) == (401, "unauthorized")
        assert code(stranger.post(f"{url}-link")) == (401, "unauthorized")
    batch = maker.make(b"x")
    ticket = link(maker, batch)
    assert maker.http.delete(f"/api/batches/{batch['batch_id']}").status_code == 204
    assert code(stranger.get(ticket)) == (404, "not_found")


# --- links --------------------------------------------------------------------------------------------


def test_a_link_needs_no_header_and_serves_head_and_ranges_too(
    maker: Maker, batch, whole, stranger: httpx.Client
) -> None:
    for shown in (batch, maker.show(batch["jobs"][0]["job_id"])):
        url, content = link(maker, shown), get(maker, shown).content
        assert stranger.get(url).content == content
        assert stranger.get(url, headers={"Range": "bytes=7-70"}).content == content[7:71]
        assert int(stranger.head(url).headers["content-length"]) == len(content)


def test_a_link_lives_as_long_as_its_archive(maker: Maker, batch) -> None:
    expires_at = maker.http.post(address(batch, "download-link")).json()["expires_at"]
    assert expires_at == maker.show(batch["batch_id"])["expires_at"].split(".")[0].rstrip("Z") + "Z"


def test_a_link_opens_its_one_archive_and_nothing_else(maker: Maker, batch, stranger: httpx.Client) -> None:
    ticket = link(maker, batch).split("?ticket=")[1]
    other = maker.make(b"other")
    job = maker.show(batch["jobs"][0]["job_id"])
    output = f"/api/outputs/{outputs(batch)[0]['output_id']}"
    for path in (address(other), address(job), f"/api/batches/{batch['batch_id']}", output, "/api/batches"):
        assert code(stranger.get(f"{path}?ticket={ticket}")) == (401, "unauthorized"), path
    for path in (address(batch, "cancel"), address(batch, "download-link")):
        assert code(stranger.post(f"{path}?ticket={ticket}")) == (401, "unauthorized"), path
    assert stranger.get(f"{address(batch)}?ticket={batch['ticket']}").status_code == 401, "of outputs only"


def test_a_forged_link_is_refused(maker: Maker, batch, stranger: httpx.Client) -> None:
    ticket = link(maker, batch).split("?ticket=")[1]
    forged = [
        *("", "nonsense", "é.٣.ü", "0" * 32 + ticket[32:], "." + ticket.partition(".")[2]),
        ticket[:-1] + ("0" if ticket[-1] != "0" else "1"),
        ticket.replace(".1", ".9", 1),
    ]
    for text in forged:
        answer = stranger.get(address(batch), params={"ticket": text})
        assert code(answer) == (401, "unauthorized"), text


def test_a_link_to_what_a_retry_has_changed_is_412(maker: Maker, stranger: httpx.Client) -> None:
    batch = half_made(maker)
    url = link(maker, batch)
    assert stranger.get(url).status_code == 200
    maker.http.post(address(batch, "retry"))
    assert code(stranger.get(url)) == (412, "changed"), "while it lives again"
    spec = maker.claim(batch["jobs"][0]["job_id"])
    maker.finish(spec, [stored(spec.outputs[0], b"two")])
    assert code(stranger.get(url, headers={"Range": "bytes=5-"})) == (412, "changed")
    assert stranger.get(link(maker, batch)).status_code == 200


def chosen(maker: Maker, shown: dict[str, Any], *output_ids: str) -> str:
    """Return the path and query of a link to these outputs."""
    answer = maker.http.post(address(shown, "download-link"), json={"output_ids": output_ids})
    assert answer.status_code == 200, answer.text
    url = urlsplit(answer.json()["url"])
    return f"{url.path}?{url.query}"


def test_a_link_to_some_outputs_has_them_alone_by_the_same_rules(
    maker: Maker, whole, stranger: httpx.Client
) -> None:
    batch = maker.make(b"one", b"two", b"three", b"four", b"five", b"six", b"seven", b"eight", b"nine")
    wanted = [output for output in outputs(batch) if output["variation"] in (2, 9)]
    for shown in (batch, maker.show(batch["jobs"][0]["job_id"])):
        url = chosen(maker, shown, *(output["output_id"] for output in wanted))
        answer = stranger.get(url)
        found = members(answer)
        assert [found[output["name"]] for output in wanted] == [b"two", b"nine"]
        assert set(found) == {*(output["name"] for output in wanted), "manifest.json", "manifest.csv"}
        assert [entry["variation"] for entry in manifest_of(found)["outputs"]] == [2, 9]
        assert answer.headers["accept-ranges"] == "bytes"
        part = stranger.get(url, headers={"Range": "bytes=9-99", "If-Range": answer.headers["etag"]})
        assert (part.status_code, part.content) == (206, answer.content[9:100])
        assert stranger.head(url).headers["content-length"] == str(len(answer.content))
        everything = get(maker, shown)
        assert everything.headers["etag"] != answer.headers["etag"]
        assert len(members(everything)) == 11, "the archive of all is as it was"


def test_a_link_to_some_outputs_cannot_be_widened(maker: Maker, stranger: httpx.Client) -> None:
    batch = maker.make(b"one", b"two")
    first, second = (output["output_id"] for output in outputs(batch))
    url, other = chosen(maker, batch, first), chosen(maker, batch, second)
    head, tail = url.split("ticket=")[1], other.split("ticket=")[1]
    swapped = f"{tail.partition('~')[0]}~{head.partition('~')[2]}"
    whole = head.partition("~")[2]
    for ticket in (swapped, whole, f"~{whole}", f"!!!~{whole}"):
        assert code(stranger.get(f"{url.split('?')[0]}?ticket={ticket}")) == (401, "unauthorized")


def test_links_to_outputs_that_are_not_there_or_not_ready_are_refused(maker: Maker, batch) -> None:
    other = outputs(maker.make(b"x"))[0]["output_id"]
    half = half_made(maker)
    ready, missing = (
        next(output["output_id"] for output in outputs(half) if output["status"] == status)
        for status in ("ready", "failed")
    )

    def asked(shown: dict[str, Any], output_ids: Any) -> tuple[int, str]:
        return code(maker.http.post(address(shown, "download-link"), json={"output_ids": output_ids}))

    assert asked(batch, [outputs(batch)[0]["output_id"], other]) == (404, "not_found")
    assert asked(batch, ["out_x"]) == (404, "not_found")
    assert asked(half, [missing]) == (409, "not_ready")
    assert len(members(maker.http.get(chosen(maker, half, ready, missing)))) == 3
    for nonsense in ([], "out_x", [1], ["x" * 65]):
        assert asked(batch, nonsense) == (422, "invalid")


def test_a_link_names_as_many_outputs_as_a_batch_may_have(maker: Maker) -> None:
    far = Link("tag", datetime.now(UTC) + timedelta(hours=1), frozenset({0, 9_999}))
    ticket = maker.signer.link("bat_x", far, generation=0)
    assert maker.signer.read_link(ticket, "bat_x", generation=0).chosen == far.chosen
    assert len(ticket) < 2000


def test_the_table_beside_the_manifest_has_a_row_for_each_output_and_no_formula(maker: Maker) -> None:
    batch = maker.make(b"one", b"two", names=["=cmd|.mp4"])
    found = members(get(maker, batch))
    rows = list(csv.DictReader(io.StringIO(found["manifest.csv"].decode())))
    for row, entry in zip(rows, manifest_of(found)["outputs"], strict=True):
        assert row["file"] == f"'{entry['file']}"
        assert (row["sha256"], row["size_bytes"]) == (entry["sha256"], str(entry["size_bytes"]))
        assert float(row["zoom"]) == entry["effects"]["zoom"]
        assert (row["variety_source"], row["variety_sibling"]) == ("0.041", "0.017")
        assert entry["variety"] == {"source": 0.041, "sibling": 0.017}


def test_a_link_that_has_expired_before_its_archive_is_401(maker: Maker, stranger: httpx.Client) -> None:
    batch = maker.make(b"x")
    change(maker, batch["batch_id"], expires_at=datetime.now(UTC) + timedelta(seconds=1))
    url = link(maker, batch)
    change(maker, batch["batch_id"], expires_at=datetime.now(UTC) + timedelta(hours=9))
    answer = stranger.get(url)
    while answer.status_code == 200:
        answer = stranger.get(url)
    assert code(answer) == (401, "unauthorized")
    assert "new one" in answer.json()["error"]["message"]


def test_revoking_all_tokens_ends_links_too(maker: Maker, batch, stranger: httpx.Client) -> None:
    url = link(maker, batch)
    assert stranger.get(url).status_code == 200
    assert maker.http.post("/api/auth/revoke").status_code == 204
    assert stranger.get(url).status_code == 401
    sign_in(maker.http, SETTINGS["auth_password"])


def cut_off(maker: Maker, shown: dict[str, Any]) -> bytes:
    """Return what arrives of a ZIP before its connection is cut."""
    seen = b""
    with maker.http.stream("GET", address(shown)) as answer, suppress(httpx.RemoteProtocolError):
        for chunk in answer.iter_raw():
            seen += chunk
        pytest.fail("it was not cut")
    return seen


# --- the bucket fails -----------------------------------------------------------------------------------


def test_a_member_that_vanished_or_changed_cuts_the_stream_instead_of_sending_other_bytes(
    maker: Maker, storage: TigrisStorage
) -> None:
    batch = maker.make(*CONTENTS)
    good = get(maker, batch).content
    with maker.store.transaction() as tx:
        key = tx.session.get_one(Output, outputs(batch)[1]["output_id"]).key
    for replacement in (None, b"X" * len(CONTENTS[1])):
        storage.delete(key)
        if replacement:
            url, headers = storage.sign_put(key, expires_s=60)
            put(url, headers, replacement)
        seen = cut_off(maker, batch)
        assert good.startswith(seen)
        assert len(CONTENTS[0]) < len(seen) < len(good) - len(CONTENTS[1])


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, s3: LocalS3) -> Iterator[tuple[Maker, Proxy]]:
    """A control that reaches the bucket through a proxy that can spoil answers."""
    proxy = Proxy(urlsplit(s3.endpoint).port or 0)
    with making(tmp_path_factory.mktemp("proxied"), s3, aws_endpoint_url_s3=proxy.url) as maker:
        yield maker, proxy
    proxy.close()


def test_a_bucket_connection_that_drops_is_taken_up_where_it_ended(proxied: tuple[Maker, Proxy]) -> None:
    maker, proxy = proxied
    batch = maker.make(*CONTENTS)
    good = get(maker, batch).content
    faults = [Fault.TRUNCATED, Fault.ERROR, Fault.CUT_AFTER, Fault.THROTTLED]
    proxy.spoil("bad network", r"GET .*\.mp4", faults)
    assert get(maker, batch).content == good
    assert not proxy.left()


def test_a_bucket_that_stays_away_ends_the_download(proxied: tuple[Maker, Proxy]) -> None:
    maker, proxy = proxied
    batch = maker.make(*CONTENTS)
    proxy.spoil("away", r"GET .*\.mp4", [Fault.CUT_BEFORE] * 5)
    assert len(cut_off(maker, batch)) < 100, "a header, and no byte of a member"
    assert not proxy.left()
    assert len(members(get(maker, batch))) == 4
