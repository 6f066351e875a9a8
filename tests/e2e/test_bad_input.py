"""Bad input of every kind is refused in the one error shape, is never a 5xx, and leaves nothing half done."""

from __future__ import annotations

import json
import re
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from control.cli.local import LocalStack
from tests.support.clips import make_clip
from tests.support.foreign import Held
from tests.support.processes import until
from tests.support.user import User, ok, outputs

OPEN = {("POST", "/api/auth"), ("GET", "/api/health"), ("GET", "/api/ready")}
TOO_EARLY = urlsafe_b64encode(b"0001-01-01T00:00:00+14:00~job_0").decode()
HOSTILE_NAMES = [
    'a "quoted" \\ name.mp4',
    "line\nbreak\r\nX-Injected: 1.mp4",
    "party 🎉 ünïcode ‮gpj.mp4",
    "../../../etc/passwd",
    "..\\..\\windows\\system32.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "x" * 246 + ".mp4",
    "CON.mp4",
    "con",
    ".mp4",
    "...",
    " ",
    "%2e%2e%2f; rm -rf $HOME.mp4",
    "-i.mp4",
    "e\u0301.mp4",
    "𝔘" * 250,
]


@pytest.fixture(scope="module", autouse=True)
def _only_accepted_jobs(user: User) -> Iterator[None]:
    """After all of these tests every job that the lists show is one that was accepted, and it ends."""
    before = set(_all_ids(user))
    accepted: set[str] = set()
    post = user.http.post

    def remembering(url: str, **more: Any) -> httpx.Response:
        answer = post(url, **more)
        if answer.status_code == 202:
            accepted.add(answer.json()["batch_id"])
        return answer

    user.http.post = remembering  # type: ignore[method-assign]
    yield
    user.http.post = post  # type: ignore[method-assign]
    assert set(_all_ids(user)) - before == accepted
    for batch_id in accepted:
        assert user.wait(batch_id)["status"] in ("completed", "cancelled")


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    return ok(http.get("/openapi.json"), 200)


@pytest.fixture(scope="module")
def codes(document: dict[str, Any]) -> set[str]:
    """The closed list of error codes as it is published."""
    schemas = document["components"]["schemas"]
    detail = schemas["ErrorBody"]["properties"]["error"]["$ref"].rpartition("/")[2]
    code = schemas[detail]["properties"]["code"]["$ref"].rpartition("/")[2]
    return set(schemas[code]["enum"])


@pytest.fixture(scope="module")
def refused(codes: set[str]) -> Callable[..., dict[str, str]]:
    def check(answer: httpx.Response, *statuses: int) -> dict[str, str]:
        """Return the error of an answer that is a refusal in the shape that docs/api.md gives."""
        assert answer.status_code in statuses, f"{answer.status_code}: {answer.text}"
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert set(body) == {"error"}
        assert set(body["error"]) >= {"code", "message"}
        assert body["error"]["code"] in codes
        assert len(body["error"]["message"]) > 10
        assert "Traceback" not in answer.text
        error: dict[str, str] = body["error"]
        return error

    return check


Refused = Callable[..., dict[str, str]]

# --- files ------------------------------------------------------------------------------------------


def _text(_: str, folder: Path) -> bytes:
    return b"this is a shopping list, not a video\n" * 50


def _truncated(ffmpeg: str, folder: Path) -> bytes:
    content = make_clip(ffmpeg, folder / "whole.mp4").read_bytes()
    return content[: len(content) // 2]


def _without_end(ffmpeg: str, folder: Path) -> bytes:
    """A file whose index is whole and promises more than there is."""
    content = make_clip(ffmpeg, folder / "fast.mp4", "-movflags", "+faststart").read_bytes()
    return content[: len(content) * 2 // 3]


def _sound_only(ffmpeg: str, folder: Path) -> bytes:
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]
    subprocess.run([*command, str(folder / "sound.mp4")], check=True, stdin=subprocess.DEVNULL)
    return (folder / "sound.mp4").read_bytes()


def _webm(ffmpeg: str, folder: Path) -> bytes:
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.3", "-c:v", "libvpx"]
    subprocess.run([*command, str(folder / "clip.webm")], check=True, stdin=subprocess.DEVNULL)
    return (folder / "clip.webm").read_bytes()


@pytest.mark.parametrize("make", [_text, _truncated, _without_end, _sound_only, _webm])
def test_a_file_that_is_no_playable_video_is_refused_and_says_what_to_do(
    user: User, refused: Refused, ffmpeg: str, tmp_path: Path, make: Callable[[str, Path], bytes]
) -> None:
    content = make(ffmpeg, tmp_path)
    upload = user.open_upload(len(content), name="holiday.mp4")
    body = {"parts": user.put_parts(upload, content)}
    complete = f"/api/uploads/{upload['upload_id']}/complete"
    first = refused(user.http.post(complete, json=body), 422)
    assert first["message"].count(".") >= 1
    assert refused(user.http.post(complete, json=body), 422) == first


def test_an_empty_file_is_refused(user: User, refused: Refused) -> None:
    body = {"name": "empty.mp4", "size_bytes": 0, "content_type": "video/mp4"}
    refused(user.http.post("/api/uploads", json=body), 422)


def test_another_kind_of_content_is_415_and_too_much_of_it_413(user: User, refused: Refused) -> None:
    for content_type in ("image/png", "text/html", "", "application/octet-stream; video/mp4"):
        body = {"name": "a.mp4", "size_bytes": 10, "content_type": content_type}
        refused(user.http.post("/api/uploads", json=body), 415)
    for content_type in ("video/mp4\r\nX: b", "video/\0", "video/mp4; \x7f", "video", "vidéo/mp4"):
        body = {"name": "a.mp4", "size_bytes": 10, "content_type": content_type}
        refused(user.http.post("/api/uploads", json=body), 422)
    body = {"name": "a.mp4", "size_bytes": 10, "content_type": 'video/mp4; codecs="avc1.42E01E"'}
    ok(user.http.post("/api/uploads", json=body), 201)
    for size in (2 * 1024**3 + 1, 10**30):
        body = {"name": "a.mp4", "size_bytes": size, "content_type": "video/mp4"}
        refused(user.http.post("/api/uploads", json=body), 413)


def test_more_or_fewer_bytes_than_announced_are_refused(user: User, refused: Refused) -> None:
    upload = user.open_upload(1000)
    parts = user.put_parts(upload, b"x" * 1000)
    short = user.open_upload(1000)
    for size_bytes in (999, 1001, 1 << 20):
        answer = httpx.put(short["parts"][0]["url"], content=b"x" * size_bytes)
        assert answer.status_code == 403, "the bucket takes only what was announced"
    refused(user.http.post(f"/api/uploads/{short['upload_id']}/complete", json={"parts": parts}), 422)


@pytest.mark.parametrize("size", [-1, 1.5, "many", None])
def test_a_size_that_is_none_is_refused(user: User, refused: Refused, size: object) -> None:
    body = {"name": "a.mp4", "size_bytes": size, "content_type": "video/mp4"}
    refused(user.http.post("/api/uploads", json=body), 422)


@pytest.mark.parametrize("name", ["", "x" * 256, None, 7, "\ud800", "nul\0.mp4"])
def test_a_name_that_is_none_is_refused(user: User, refused: Refused, name: object) -> None:
    body = json.dumps({"name": name, "size_bytes": 1, "content_type": "video/mp4"})
    headers = {"Content-Type": "application/json"}
    refused(user.http.post("/api/uploads", content=body, headers=headers), 422)


# --- names ------------------------------------------------------------------------------------------


def test_hostile_names_are_shown_as_they_are_and_are_safe_in_paths_and_headers(
    user: User, landscape: Path
) -> None:
    sources = [user.upload(landscape, name=name) for name in HOSTILE_NAMES]
    batch = user.submit(*sources, variations=1)
    ok(user.http.post(f"/api/batches/{batch['batch_id']}/cancel"), 202)
    assert [source["name"] for source in batch["sources"]] == HOSTILE_NAMES
    names = [output["name"] for output in outputs(batch)]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        _assert_safe(name)
    some = user.wait(user.submit(*sources[::5], variations=1)["batch_id"])  # test_outputs.py downloads all
    names = [output["name"] for output in outputs(some)]
    assert set(user.unzip(some["batch_id"])) == {*names, "manifest.csv", "manifest.json"}
    for output in outputs(some):
        redirect = user.http.get(f"/api/outputs/{output['output_id']}")
        header = httpx.get(redirect.headers["location"]).headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename=\"[^\"\\\r\n]*\"; filename\*=UTF-8''[^\s;\"]+", header)
        assert unquote(header.rpartition("''")[2]) == output["name"].split("/")[1]


def _assert_safe(path: str) -> None:
    folder, _, file = path.partition("/")
    assert file.startswith(folder + "_var01_")
    assert not re.search(r'[\x00-\x1f\x7f\\/:*?"<>|\u202a-\u202e\u2066-\u2069]', folder), path
    assert folder.strip(" .") == folder
    assert folder
    assert folder.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
    assert len(file.encode()) <= 200


# --- jobs and batches -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"variations": 0},
        {"variations": -1},
        {"variations": 101},
        {"variations": 1000},
        {"variations": 10**30},
        {"variations": "three"},
        {"variations": "3"},
        {"variations": True},
        {"variations": 1.5},
        {"variations": None},
        {"variations": [3]},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": "x"},
        {"sources": []},
        {"sources": None},
        {"sources": "src"},
        {"sources": [{"source_id": f"src_{n}"} for n in range(101)]},
        {"sources": [{}]},
        {"sources": [{"source_id": None}]},
        {"colour": "red"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_nonsense_in_a_submission_is_422(
    user: User, refused: Refused, source: str, change: dict[str, Any]
) -> None:
    body = {"sources": [{"source_id": source}], "variations": 1} | change
    for kind in ("jobs", "batches"):
        refused(user.http.post(f"/api/{kind}", json=body), 422)
    without = {key: value for key, value in body.items() if key != "variations"}
    refused(user.http.post("/api/jobs", json=without), 422)


@pytest.mark.parametrize("machines", [0, -1, "2", 1.5])
def test_a_number_of_machines_that_is_none_is_refused(
    user: User, refused: Refused, source: str, machines: object
) -> None:
    body = {"sources": [{"source_id": source}], "variations": 1, "max_machines": machines}
    refused(user.http.post("/api/batches", json=body), 422)


def test_a_batch_that_fits_on_its_machines_is_accepted(user: User, source: str) -> None:
    batch = user.submit(source, variations=2, max_machines=1)
    assert len(batch["jobs"]) == 1
    user.wait(batch["batch_id"])


def test_a_source_named_twice_or_unknown_is_refused(user: User, refused: Refused, source: str) -> None:
    for kind in ("jobs", "batches"):
        twice = {"sources": [{"source_id": source}] * 2, "variations": 1}
        refused(user.http.post(f"/api/{kind}", json=twice), 422)
        for unknown in ("src_" + "0" * 32, "' OR 1=1 --", "", "../x"):
            body = {"sources": [{"source_id": source}, {"source_id": unknown}], "variations": 1}
            refused(user.http.post(f"/api/{kind}", json=body), 404)


def test_a_job_of_more_than_200_outputs_is_refused(user: User, refused: Refused) -> None:
    sources = [{"source_id": f"src_{n:032x}"} for n in range(3)]
    error = refused(user.http.post("/api/jobs", json={"sources": sources, "variations": 67}), 422)
    assert "200" in error["message"]


@pytest.mark.parametrize("path", ["/api/jobs", "/api/batches", "/api/uploads", "/api/auth"])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"not json", "application/json"),
        (b"[1, 2]", "application/json"),
        (b"null", "application/json"),
        (b'"text"', "application/json"),
        (b'{"variations": 1', "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"variations": ' + b"9" * 10_000 + b"}", "application/json"),
        (b'{"variations": NaN}', "application/json"),
        (b"variations=1", "application/x-www-form-urlencoded"),
        (b'{"password": "x"}', "text/plain"),
        (b"{}", ""),
    ],
    ids=range(13),
)
def test_a_body_that_is_no_json_object_is_refused(
    user: User, refused: Refused, path: str, body: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    error = refused(user.http.post(path, content=body, headers=headers), 400, 413, 415, 422)
    assert "address" not in error["message"]
    assert not error["message"][0].isdigit()  # it is not a position, which means nothing to a person


def test_a_huge_body_is_refused_before_it_has_all_been_read(
    http: httpx.Client, user: User, refused: Refused
) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"[" * 100_000

    assert refused(http.post("/api/jobs", content=endless()), 401)["code"] == "unauthorized"
    assert refused(user.http.post("/api/jobs", content=endless()), 413)["code"] == "too_large"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "status=odd", "cursor=odd", "cursor=4pyT", f"cursor={TOO_EARLY}"],
)
def test_a_nonsensical_query_is_422(user: User, refused: Refused, query: str) -> None:
    for kind in ("jobs", "batches"):
        refused(user.http.get(f"/api/{kind}?{query}"), 422)


# --- addresses --------------------------------------------------------------------------------------


def test_unknown_routes_are_404_and_wrong_methods_405_in_the_error_shape(
    user: User, refused: Refused
) -> None:
    for path in ("/nothing", "/api", "/api/nothing", "/api/jobs/a/b", "/api/../etc/passwd", "/api/%00"):
        refused(user.http.get(path), 404)
    for method, path in (("PUT", "/api/jobs"), ("DELETE", "/api/health"), ("POST", "/api/ready")):
        answer = user.http.request(method, path)
        refused(answer, 405)
        assert answer.headers["allow"]


def test_the_id_of_a_batch_names_no_job_and_changes_nothing(
    user: User, refused: Refused, source: str
) -> None:
    job = user.submit(source, variations=1, kind="jobs")
    for noun, id_ in (("batches", job["job_id"]), ("jobs", job["batch_id"])):
        for action in ("cancel", "retry"):
            refused(user.http.post(f"/api/{noun}/{id_}/{action}"), 404)
        refused(user.http.get(f"/api/{noun}/{id_}/events"), 404)
    assert user.wait(job["job_id"])["status"] == "completed"


def test_refusals_say_what_to_do_in_words(user: User, refused: Refused, source: str) -> None:
    plain = user.http.post("/api/jobs", content=b'{"variations": 1}', headers={"Content-Type": "text/plain"})
    assert "application/json" in refused(plain, 422)["message"]
    odd = {"sources": [{"source_id": source, "foo": 1}], "variations": 1}
    assert refused(user.http.post("/api/quote", json=odd), 422)["message"].startswith("sources.0.foo: ")
    for day in ("9999-12-31", "0001-01-01"):
        refused(user.http.get("/api/costs", params={"to": day}), 422)


def test_a_list_takes_empty_words_for_none(user: User) -> None:
    for kind in ("jobs", "batches"):
        assert ok(user.http.get(f"/api/{kind}?status=&limit=&cursor="), 200)["items"] is not None


def test_unknown_ids_are_404(user: User, refused: Refused) -> None:
    for id_ in ("job_" + "0" * 32, "x", "%00", "%F0%9F%8E%89", "'", "a" * 3000):
        for path in ("jobs/{}", "batches/{}", "jobs/{}/download", "batches/{}/download", "outputs/{}"):
            refused(user.http.get("/api/" + path.format(id_)), 404)
        refused(user.http.delete(f"/api/uploads/{id_}"), 404)
        parts = {"parts": [{"number": 1, "etag": "x"}]}
        refused(user.http.post(f"/api/uploads/{id_}/complete", json=parts), 404)


def test_a_job_with_nothing_ready_cannot_be_downloaded_yet(user: User, refused: Refused, held: Held) -> None:
    job = user.submit(held.url, variations=1, kind="jobs")
    refused(user.http.get(f"/api/jobs/{job['job_id']}/download"), 409)
    refused(user.http.get(f"/api/batches/{job['batch_id']}/download"), 409)
    refused(user.http.get(f"/api/outputs/{outputs(job)[0]['output_id']}"), 404)


# --- who calls --------------------------------------------------------------------------------------


def test_a_wrong_password_is_401(stack: LocalStack, http: httpx.Client, refused: Refused) -> None:
    for password in ["wrong", "\u0000", "pässwörd"]:
        refused(http.post("/api/auth", json={"password": password}), 401)
    assert http.post("/api/auth", json={"password": stack.password}).status_code == 200


def test_every_route_but_the_open_ones_needs_a_client_s_token(
    http: httpx.Client, user: User, document: dict[str, Any], refused: Refused, source: str
) -> None:
    token = user.http.headers["authorization"].removeprefix("Bearer ")
    expiry, _, mac = token.partition(".")
    batch = user.submit(source, variations=1)
    bad = {
        "nothing": {},
        "empty": {"Authorization": ""},
        "no token": {"Authorization": "Bearer"},
        "garbled": {"Authorization": f"Bearer {token[:-1]}{'0' if token[-1] != '0' else '1'}"},
        "later": {"Authorization": f"Bearer {int(expiry) + 1}.{mac}"},
        "expired": {"Authorization": f"Bearer {int(time.time()) - 1}.{mac}"},
        "another scheme": {"Authorization": f"Basic {token}"},
        "a ticket": {"Authorization": f"Bearer {batch['ticket']}"},
        "words": {"Authorization": b"Bearer \xe2\x82\xac.\xff"},
        "in the query": {},
    }
    routes = [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if (method.upper(), path) not in OPEN
    ]
    assert len(routes) >= 12
    for method, path in routes:
        url = re.sub(r"\{\w+\}", batch["batch_id"], path)
        for what, headers in bad.items():
            params = {"token": token} if what == "in the query" else {}
            body = {"sources": [{"source_id": source}], "variations": 1} if method == "POST" else None
            answer = http.request(method, url, headers=headers, params=params, json=body)
            assert answer.status_code == 401, (method, path, what, answer.text)
            if method != "HEAD":
                refused(answer, 401)


def test_a_runner_s_token_works_for_its_own_attempt_and_machine_only(
    http: httpx.Client, user: User, stack: LocalStack, refused: Refused, held: Held
) -> None:
    jobs = [user.submit(held.url, variations=1, kind="jobs") for _ in range(2)]
    one, other = (until(lambda job=job: _claimed(user, job)) for job in jobs)
    token = _attempt_token(stack, one)
    mine = {"Authorization": f"Bearer {token}"}
    claim = {"version": 1, "machine_id": "another-machine"}
    calls = {"claim": claim, "heartbeat": {"seq": 10**6, "outputs": []}}
    for call, body in calls.items():
        refused(http.post(f"/runner/attempts/{other}/{call}", json=body, headers=mine), 401)
        refused(http.post(f"/runner/attempts/job_0-1/{call}", json=body, headers=mine), 401)
        refused(http.post(f"/runner/attempts/{one}/{call}", json=body), 401)
        client = user.http.headers["authorization"]
        headers = {"Authorization": client}
        refused(http.post(f"/runner/attempts/{one}/{call}", json=body, headers=headers), 401)
    refused(http.get("/api/jobs", headers=mine), 401)
    refused(http.post(f"/runner/attempts/{one}/claim", json=claim, headers=mine), 409)
    held.let_go()
    for job in jobs:
        assert user.wait(job["job_id"])["status"] == "completed"
    refused(http.post(f"/runner/attempts/{one}/claim", json=claim, headers=mine), 409)
    refused(http.post(f"/runner/attempts/{one}/heartbeat", json=calls["heartbeat"], headers=mine), 409)
    finish = {"seq": 10**6, "outcome": "error", "outputs": [], "usage": _USAGE}
    refused(http.post(f"/runner/attempts/{one}/finish", json=finish, headers=mine), 409)
    assert user.show(jobs[0]["job_id"])["status"] == "completed"


_USAGE = {"wall_s": 1, "cpu_s": 1, "timings": {}}


def _claimed(user: User, job: dict[str, Any]) -> str | None:
    """Return the id of the job's attempt once its machine has claimed it."""
    shown = user.show(job["job_id"])
    return str(shown["attempts"][0]["attempt_id"]) if shown["status"] == "running" else None


def _attempt_token(stack: LocalStack, attempt_id: str) -> str:
    """Return the token as the machine has it in its environment, which Fly tells to who may see machines.

    The list names destroyed machines too, so a job that is already done is no reason to fail.
    """
    machines = f"{stack.fly.url}/apps/{stack.fly.app}/machines"
    headers = {"Authorization": f"Bearer {stack.fly.token}"}

    def token() -> str | None:
        answer = httpx.get(machines, params={"include_deleted": "true"}, headers=headers)
        listed = answer.json() if answer.is_success else []  # Fly's limits hold for us and control together
        environments = [machine["config"]["env"] for machine in listed]
        mine = (env for env in environments if env.get("ATTEMPT_ID") == attempt_id)
        return next((env["ATTEMPT_TOKEN"] for env in mine), None)

    return until(token)


# --- asking twice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jobs", "batches"])
def test_the_same_idempotency_key_gives_the_first_answer_and_never_a_second_job(
    user: User, refused: Refused, source: str, kind: str
) -> None:
    body = {"sources": [{"source_id": source}], "variations": 1}
    headers = {"Idempotency-Key": f"key-{kind}-{time.time_ns()}"}
    before = len(_all_ids(user))
    first = user.http.post(f"/api/{kind}", json=body, headers=headers)
    again = user.http.post(f"/api/{kind}", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["batch_id"] == again.json()["batch_id"]
    assert first.headers["location"] == again.headers["location"]
    refused(user.http.post(f"/api/{kind}", json=body | {"variations": 2}, headers=headers), 409)
    other = "batches" if kind == "jobs" else "jobs"
    refused(user.http.post(f"/api/{other}", json=body, headers=headers), 409)
    user.wait(first.json()["batch_id"])
    assert user.http.post(f"/api/{kind}", json=body, headers=headers).json()["status"] == "completed"
    assert len(_all_ids(user)) == before + 1


def test_concurrent_submissions_with_one_key_make_one_job(user: User, source: str) -> None:
    body = {"sources": [{"source_id": source}], "variations": 1}
    headers = {"Idempotency-Key": f"race-{time.time_ns()}"}
    before = len(_all_ids(user))
    with ThreadPoolExecutor(6) as pool:
        tries = [pool.submit(user.http.post, "/api/jobs", json=body, headers=headers) for _ in range(6)]
        answers = [attempt.result() for attempt in tries]
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 202}) == 1
    assert len(_all_ids(user)) == before + 1


@pytest.mark.parametrize("key", ["", "x" * 300])
def test_an_unusable_idempotency_key_is_422(user: User, refused: Refused, source: str, key: str) -> None:
    body = {"sources": [{"source_id": source}], "variations": 1}
    refused(user.http.post("/api/jobs", json=body, headers={"Idempotency-Key": key}), 422)


def test_completing_an_upload_twice_gives_the_same_answer(user: User, landscape: Path) -> None:
    content = landscape.read_bytes()
    upload = user.open_upload(len(content))
    body = {"parts": user.put_parts(upload, content)}
    complete = f"/api/uploads/{upload['upload_id']}/complete"
    with ThreadPoolExecutor(3) as pool:
        tries = [pool.submit(user.http.post, complete, json=body) for _ in range(3)]
        answers = [ok(attempt.result(), 200) for attempt in tries]
    assert answers[0] == answers[1] == answers[2] == ok(user.http.post(complete, json=body), 200)
    assert answers[0]["size_bytes"] == len(content)
    assert (answers[0]["width"], answers[0]["height"]) == (161, 91)
    assert answers[0]["duration_s"] == pytest.approx(3, abs=0.05)


def test_a_wrong_completion_is_refused_and_the_right_one_still_works(
    user: User, refused: Refused, landscape: Path
) -> None:
    content = landscape.read_bytes()
    upload = user.open_upload(len(content))
    complete = f"/api/uploads/{upload['upload_id']}/complete"
    (right,) = user.put_parts(upload, content)
    for parts in (
        [],
        [{"number": 2, "etag": right["etag"]}],
        [right, right],
        [{"number": 0, "etag": right["etag"]}],
        [{"number": 1, "etag": '"00000000000000000000000000000000"'}],
        [{"number": 1, "etag": "<x>&"}],
        [{"number": 1}],
        "all",
    ):
        refused(user.http.post(complete, json={"parts": parts}), 400, 409, 422)
    assert ok(user.http.post(complete, json={"parts": [right]}), 200)["source_id"].startswith("src_")


def test_completing_before_the_bytes_have_arrived_is_refused(
    user: User, refused: Refused, landscape: Path
) -> None:
    upload = user.open_upload(landscape.stat().st_size)
    complete = f"/api/uploads/{upload['upload_id']}/complete"
    parts = [{"number": 1, "etag": '"d41d8cd98f00b204e9800998ecf8427e"'}]
    refused(user.http.post(complete, json={"parts": parts}), 400, 409, 422)
    parts = user.put_parts(upload, landscape.read_bytes())
    ok(user.http.post(complete, json={"parts": parts}), 200)


def test_an_aborted_upload_is_gone_for_good(user: User, refused: Refused, landscape: Path) -> None:
    content = landscape.read_bytes()
    upload = user.open_upload(len(content))
    parts = user.put_parts(upload, content)
    for _ in range(2):
        assert user.http.delete(f"/api/uploads/{upload['upload_id']}").status_code == 204
    answer = user.http.post(f"/api/uploads/{upload['upload_id']}/complete", json={"parts": parts})
    refused(answer, 404, 409, 410)
    assert httpx.put(upload["parts"][0]["url"], content=content).status_code == 404


def test_a_deleted_upload_that_was_complete_stays_usable(user: User, landscape: Path) -> None:
    content = landscape.read_bytes()
    upload = user.open_upload(len(content))
    body = {"parts": user.put_parts(upload, content)}
    source = ok(user.http.post(f"/api/uploads/{upload['upload_id']}/complete", json=body), 200)["source_id"]
    user.http.delete(f"/api/uploads/{upload['upload_id']}")
    assert user.wait(user.submit(source, variations=1)["batch_id"])["status"] == "completed"


# --- what is published ------------------------------------------------------------------------------


def test_every_error_that_a_route_documents_has_the_error_shape(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            for status, answer in route["responses"].items():
                if int(status) >= 400 and not (path == "/api/ready" and status == "503"):
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema["$ref"].endswith("/ErrorBody"), (method, path, status)
    assert not [name for name in document["components"]["schemas"] if "Validation" in name]
    assert "503" in document["paths"]["/runner/attempts/{attempt_id}/finish"]["post"]["responses"]


def test_no_page_of_the_framework_is_served(user: User, refused: Refused) -> None:
    refused(user.http.get("/redoc"), 404)
    assert "swagger" not in user.http.get("/docs").text.lower()  # the reference is a page of our own


def _all_ids(user: User) -> list[str]:
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": 100} | ({"cursor": cursor} if cursor else {})
        page = ok(user.http.get("/api/jobs", params=params), 200)
        ids += [item["batch_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    return ids
