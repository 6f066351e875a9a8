"""A job as a form, through HTTP: what is accepted and refused, and that refusals leave nothing behind."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.bucket import MAX_SOURCE_BYTES, Bucket, padding
from tests.support.processes import until
from tests.support.stack import Patient, Stack
from tests.support.switches import SOAK_FULL
from tests.support.user import ok, outputs

BOUNDARY = "a-boundary-of-the-tests"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
TEXT = b"this is a shopping list, not a video\n" * 50
MB = 1024**2

Part = tuple[str, str | None, Iterable[bytes]]


def segment(name: str, file: str | None, content: Iterable[bytes]) -> Iterator[bytes]:
    filename = f'; filename="{file}"' if file is not None else ""
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode()
    yield from content
    yield b"\r\n"


def form(*parts: Part) -> Iterator[bytes]:
    """Yield a form of (field, file name, content) in this order."""
    for part in parts:
        yield from segment(*part)
    yield f"--{BOUNDARY}--\r\n".encode()


def field(name: str, value: object) -> Part:
    return name, None, [str(value).encode()]


def post(user: Patient, *parts: Part, **headers: str) -> httpx.Response:
    return user.http.post("/api/jobs", content=form(*parts), headers=FORM | headers)


def large(clip: bytes, size_bytes: int) -> Iterator[bytes]:
    """Yield a playable video of so many bytes."""
    left = size_bytes - len(clip)
    yield clip + padding(left)
    yield from itertools.repeat(bytes(MB), (left - 16) // MB)
    yield bytes((left - 16) % MB)


@pytest.fixture
def nothing_is_left(bucket: Bucket) -> Iterator[None]:
    """The bucket's sources are the same after the test, and no upload is open."""
    before = bucket.sources()
    yield
    until(lambda: bucket.sources() == before)


# --- accepted -----------------------------------------------------------------------------------------


def test_several_files_and_fields_in_any_order_become_one_job(user: Patient, clip: bytes) -> None:
    answer = post(
        user,
        ("files", "first ad.mp4", [clip]),
        field("variations", 2),
        ("files", "second.mov", [clip]),
        field("seed", 7),
    )
    job = ok(answer, 202)
    assert answer.headers["location"] == f"/api/jobs/{job['job_id']}"
    job = user.wait(job["job_id"])
    assert (job["status"], job["partial"]) == ("completed", False)
    assert [source["name"] for source in job["sources"]] == ["first ad.mp4", "second.mov"]
    assert len(outputs(job)) == 4
    assert user.show(job["batch_id"])["seed"] == 7


def test_a_form_and_an_upload_of_the_same_bytes_have_the_same_effects(user: Patient, clip: bytes) -> None:
    one = ok(post(user, ("files", "ad.mp4", [clip]), field("seed", 5), field("variations", 3)), 202)
    other = user.submit(user.upload(clip, name="ad.mp4"), variations=3, kind="jobs", seed=5)
    effects = [[output["effects"] for output in outputs(job)] for job in (one, other)]
    assert effects[0] == effects[1]
    for job in (one, other):
        user.wait(job["job_id"])


def test_a_bad_file_among_good_ones_fails_alone_and_is_not_tried_again(
    user: Patient, bucket: Bucket, clip: bytes
) -> None:
    before = bucket.sources()
    names = {"list.txt": [TEXT], "ad.mp4": [clip], "none.mp4": []}
    files: list[Part] = [("files", name, content) for name, content in names.items()]
    job = ok(post(user, *files, field("variations", 1)), 202)
    job = user.wait(job["job_id"])
    assert (job["status"], job["partial"]) == ("completed", True)
    bad, good, empty = job["sources"]
    assert [source["status"] for source in (bad, good, empty)] == ["failed", "ready", "failed"]
    assert bad["outputs"][0]["error"]["code"] == "source_unplayable"
    assert "text file" in bad["outputs"][0]["error"]["message"]
    assert "empty" in empty["outputs"][0]["error"]["message"]
    assert len(bucket.sources() - before) == 1
    assert user.http.post(f"/api/jobs/{job['job_id']}/retry").status_code == 409
    again = {"sources": [{"source_id": bad["source_id"]}], "variations": 1}
    assert user.http.post("/api/jobs", json=again).status_code == 422


def test_the_same_key_and_form_give_the_first_job_and_another_form_is_refused(
    user: Patient, bucket: Bucket, clip: bytes
) -> None:
    headers = {"Idempotency-Key": f"form-{time.time_ns()}"}

    def sent(content: bytes, name: str = "ad.mp4", variations: int = 1) -> httpx.Response:
        return post(user, ("files", name, [content]), field("variations", variations), **headers)

    first = ok(sent(clip), 202)
    stored = bucket.sources()
    assert ok(sent(clip), 202)["job_id"] == first["job_id"]
    for other in (sent(clip + padding(16)), sent(clip, "b.mp4"), sent(clip, variations=2)):
        assert ok(other, 409)["error"]["code"] == "conflict"
    assert bucket.sources() == stored
    user.wait(first["job_id"])


def test_while_a_form_is_under_way_its_key_is_refused(user: Patient, clip: bytes) -> None:
    headers = {"Idempotency-Key": f"slow-{time.time_ns()}"}
    is_refused = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield clip[:1000]
        assert is_refused.wait(60)
        yield clip[1000:]

    with ThreadPoolExecutor(1) as first:
        slow = first.submit(post, user, ("files", "ad.mp4", slowly()), field("variations", 1), **headers)
        until(lambda: again(user, headers).status_code == 409)
        assert again(user, headers).headers["retry-after"] == "1"
        is_refused.set()
        user.wait(ok(slow.result(), 202)["job_id"])


def again(user: Patient, headers: dict[str, str]) -> httpx.Response:
    """Ask for something else with the key; without the key's first request under way this is a 404."""
    body = {"sources": [{"source_id": "src_none"}], "variations": 1}
    return user.http.post("/api/jobs", json=body, headers=headers)


def test_names_are_shown_as_they_were_sent_and_are_no_paths(user: Patient, clip: bytes) -> None:
    job = ok(post(user, ("files", "../../ü/ad.mp4", [clip]), field("variations", 1)), 202)
    assert job["sources"][0]["name"] == "../../ü/ad.mp4"
    assert outputs(job)[0]["name"].startswith("ad/ad_var01_")
    user.wait(job["job_id"])


# --- refused ------------------------------------------------------------------------------------------


def refusals(clip: bytes) -> dict[str, tuple[list[Part], int]]:
    good: Part = ("files", "ad.mp4", [clip])
    one = field("variations", 1)
    return {
        "no file": ([one], 422),
        "an unchosen file": ([("files", "", []), one], 422),
        "no variations": ([good], 422),
        "variations that are none": ([good, field("variations", "many")], 422),
        "too many variations": ([good, field("variations", 101)], 422),
        "a field that nobody knows": ([good, one, field("colour", "red")], 422),
        "a field twice": ([good, one, one], 422),
        "sources by id": ([good, one, field("sources", "[]")], 422),
        "a file in another field": ([("file", "ad.mp4", [clip]), one], 422),
        "more outputs than a job has": ([good, good, good, field("variations", 67)], 422),
        "more files than a form has": ([one, *[("files", "a.txt", [TEXT])] * 101], 422),
        "a long name": ([("files", "x" * 256, [clip]), one], 422),
        "a long field": ([one, field("seed", "1" * 10_000)], 422),
        "a field of no text": ([good, ("variations", None, [b"\xff\xfe"])], 422),
        "one output too many to deliver": (
            [good, field("variations", 2), field("output_url", "https://example.com/x")],
            422,
        ),
        "a delivery to what is private": ([good, one, field("output_url", "http://127.0.0.1:1/x")], 422),
        "only bad files": ([("files", "a.mp4", [TEXT]), ("files", "b.mp4", []), one], 422),
        "a file over the limit": ([good, ("files", "b.mp4", large(clip, MAX_SOURCE_BYTES + 1)), one], 413),
        "endless fields": ([good, *[("files", "", [])] * 40_000], 413),
    }


@pytest.mark.parametrize("what", refusals(b""))
@pytest.mark.usefixtures("nothing_is_left")
def test_a_refused_form_says_why_and_leaves_nothing(user: Patient, clip: bytes, what: str) -> None:
    parts, status = refusals(clip)[what]
    error = ok(post(user, *parts), status)["error"]
    assert len(error["message"]) > 10
    assert error["code"] == {422: error["code"], 413: "too_large"}[status]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"no form at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut'),
        ("Multipart/Form-Data; Boundary=x", b"--x\r\n" + b"a" * 10_000),
    ],
    ids=range(7),
)
def test_an_incomplete_form_is_refused(user: Patient, content_type: str, body: bytes) -> None:
    answer = user.http.post("/api/jobs", content=body, headers={"Content-Type": content_type})
    assert ok(answer, 422)["error"]["message"]


def test_a_form_without_a_token_is_refused_unread(user: Patient, stack: Stack) -> None:
    def endless() -> Iterator[bytes]:
        yield f"--{BOUNDARY}\r\n".encode()
        while True:
            yield bytes(MB)

    with httpx.Client(base_url=stack.url) as stranger:
        assert stranger.post("/api/jobs", content=endless(), headers=FORM).status_code == 401


def test_a_form_is_accepted_for_jobs_only(user: Patient, clip: bytes) -> None:
    parts = list(form(("files", "ad.mp4", [clip]), field("variations", 1)))
    for path in ("/api/batches", "/api/uploads"):
        assert user.http.post(path, content=b"".join(parts), headers=FORM).status_code == 422


@pytest.mark.usefixtures("nothing_is_left")
def test_a_sender_who_goes_away_leaves_nothing(
    user: Patient, stack: Stack, bucket: Bucket, clip: bytes
) -> None:
    before = bucket.sources()
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {user.http.headers['authorization']}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: 1000000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as sender:
        sender.sendall(head.encode())
        for chunk in segment("files", "ad.mp4", [clip]):
            sender.sendall(chunk)
        for chunk in itertools.islice(segment("files", "b.mp4", large(clip, 60 * MB)), 40):
            sender.sendall(chunk)
        until(lambda: len(bucket.sources() - before) == 2)


# --- memory -------------------------------------------------------------------------------------------


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see another's memory")
def test_a_large_form_takes_little_memory_and_no_disk(
    user: Patient, stack: Stack, clip: bytes, tmp_path: Path
) -> None:
    ok(post(user, ("files", "warm.mp4", [clip]), field("variations", 101)), 422)
    before, seen = resident_bytes(stack.control.pid), [0]

    def watched(content: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in content:
            seen.append(resident_bytes(stack.control.pid))
            yield chunk

    size = MAX_SOURCE_BYTES
    files: list[Part] = [
        ("files", f"{n}.mp4", watched(large(clip, size))) for n in range(1 if SOAK_FULL else 2)
    ]
    written = written_bytes(stack.control.pid)
    ok(post(user, *files, field("variations", 101)), 422)
    print(f"control rose by {(max(seen) - before) / 1e6:.1f} MB")
    assert max(seen) - before < 40 * 10**6
    assert written_bytes(stack.control.pid) - written < 10 * MB  # rows; nothing of the videos


def written_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
