"""What the client does by itself when control cannot answer just now."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from tenacity import wait_none

from tests.support.answers import AT, answer
from video_refresher import ApiError, Batch, Client, Job, SourceRef, Unfinished, api
from video_refresher import client as library
from video_refresher.api import BUSY_TRIES

ROOT = Path(__file__).parents[2]


def client(answers: list[httpx.Response]) -> Client:
    http = httpx.Client(
        base_url="http://control.test", transport=httpx.MockTransport(lambda _: answers.pop(0))
    )
    return Client(http)


def busy(**headers: str) -> httpx.Response:
    return httpx.Response(503, headers=headers, json={"error": {"code": "unavailable", "message": "Busy."}})


def test_a_call_that_control_was_too_busy_to_begin_comes_again_when_it_was_told_to():
    answers = [
        *(busy(**{"Retry-After": "0"}) for _ in range(BUSY_TRIES)),
        httpx.Response(200, json=answer(Job, job_id="job_1")),
    ]
    assert client(answers).show("job_1").id == "job_1"


@pytest.mark.parametrize(
    ("told", "lasts_s"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("Thu, 26 Nov 2026 12:00:30 GMT", 30),
        ("Thursday, 26-Nov-26 12:00:30 GMT", 30),
        ("Thu Nov 26 12:00:30 2026", 30),
        ("Wed, 25 Nov 2026 12:00:00 GMT", 0),
        *((nonsense, None) for nonsense in ("", "soon", "nan", "-1", "9" * 400)),
        *((f"Thu, {day} 12:00:30 GMT", None) for day in ("99 Nov 2026", "26 Nov 99999999999")),
    ],
)
def test_the_time_to_come_again_is_told_in_seconds_or_as_a_date(
    monkeypatch: pytest.MonkeyPatch, told: str, lasts_s: float | None
):
    pauses = list[float]()
    monkeypatch.setattr(api, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(api, "random", SimpleNamespace(uniform=lambda *_: 1))
    monkeypatch.setattr(api, "datetime", SimpleNamespace(now=lambda _: datetime.fromisoformat(AT)))
    answers = [busy(**{"Retry-After": told}), httpx.Response(200, json=answer(Job, job_id="job_1"))]
    if lasts_s is None:
        with pytest.raises(ApiError, match="Busy"):
            client(answers).show("job_1")
        assert pauses == []
    else:
        assert client(answers).show("job_1").id == "job_1"
        assert pauses == [lasts_s]


def test_a_token_that_became_too_old_during_a_wait_is_replaced():
    answers = [
        httpx.Response(200, json={"token": "old"}),
        busy(**{"Retry-After": "0"}),
        httpx.Response(401, json={"error": {"code": "unauthorized", "message": "Sign in."}}),
        httpx.Response(200, json={"token": "new"}),
        httpx.Response(200, json=answer(Job, job_id="job_1")),
    ]
    patient = client(answers)
    patient._api.sign_in("right")
    assert patient.show("job_1").id == "job_1"
    assert answers == []


def test_a_failure_that_does_not_say_when_to_come_again_is_told_at_once():
    answers = [busy(), httpx.Response(200, json={})]
    with pytest.raises(ApiError, match="Busy"):
        client(answers).show("job_1")
    assert len(answers) == 1


def test_each_id_is_one_more_line_and_a_line_that_was_cut_off_loses_no_other(tmp_path: Path) -> None:
    memory, files = tmp_path / "ids.json", [tmp_path / f"{n}.mp4" for n in range(3)]
    for file in files:
        file.write_bytes(b"x")
    unfinished = Unfinished(memory)
    for file in files:
        unfinished.set("http://c", file, f"upl_{file.stem}")
    lines = memory.read_text().splitlines()
    assert len(lines) == 3
    unfinished.forget({"upl_1"})
    assert memory.read_text().splitlines()[:3] == lines, "nothing is written again"
    memory.write_text(memory.read_text() + lines[0][:20])
    again = Unfinished(memory)
    assert [again.get("http://c", file) for file in files] == ["upl_0", None, "upl_2"]
    assert len(memory.read_text().splitlines()) == 2, "only what is left"
    again.set("http://c", files[1], "upl_3")
    assert Unfinished(memory).get("http://c", files[1]) == "upl_3"


@pytest.mark.parametrize(
    ("status", "is_kept"), [(404, False), (410, False), (422, False), (401, True), (429, True), (502, True)]
)
def test_an_upload_is_forgotten_when_control_refuses_it_and_not_when_it_is_away(
    tmp_path: Path, status: int, is_kept: bool
):
    def control(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/complete"):
            return httpx.Response(status, json={"error": {"code": "any", "message": "No."}})
        part = {"number": 1, "url": "http://bucket.test/part"}
        facts = {
            "upload_id": "upl_1",
            "part_size_bytes": 9,
            "parts": [part],
            "expires_at": AT,
            "state": "open",
        }
        return httpx.Response(201, json=facts)

    http = httpx.Client(base_url="http://control.test", transport=httpx.MockTransport(control))
    stored = httpx.MockTransport(lambda _: httpx.Response(200, headers={"ETag": '"e"'}))
    unfinished, file = Unfinished(tmp_path / "ids.json"), tmp_path / "ad.mp4"
    file.write_bytes(b"video")
    with pytest.raises(ApiError, match="No"):
        Client(http, bucket=httpx.Client(transport=stored), unfinished=unfinished).upload(file)
    assert (unfinished.get("http://control.test", file) == "upl_1") is is_kept


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        *((status, ["GET", "POST"]) for status in (404, 410, 422)),
        *((status, ["GET"]) for status in (401, 500, 503, 507)),
    ],
)
def test_a_new_upload_begins_only_when_control_says_that_the_known_one_is_over(
    tmp_path: Path, status: int, asked: list[str]
):
    methods = list[str]()

    def control(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        refusal = status if request.method == "GET" else 403
        return httpx.Response(refusal, json={"error": {"code": "any", "message": f"Said {refusal}."}})

    http = httpx.Client(base_url="http://control.test", transport=httpx.MockTransport(control))
    unfinished, file = Unfinished(tmp_path / "ids.json"), tmp_path / "ad.mp4"
    file.write_bytes(b"video")
    unfinished.set("http://control.test", file, "upl_1")
    with pytest.raises(ApiError, match="Said"):
        Client(http, unfinished=unfinished).upload(file)
    assert methods == asked
    assert unfinished.get("http://control.test", file) == "upl_1"


def test_completed_uploads_are_sent_again_only_after_their_submit_or_when_their_source_is_gone(
    tmp_path: Path,
):
    sources, gone, submits = list[str](), set[str](), iter([507, 202, 202])

    def control(request: httpx.Request) -> httpx.Response:
        number = request.url.path.removeprefix("/api/uploads/upl_").partition("/")[0]
        if request.url.path == "/api/batches":
            status = next(submits)
            error = {"error": {"code": "storage_full", "message": "Full."}}
            return httpx.Response(status, json=answer(Batch) if status == 202 else error)
        if request.url.path.endswith("/complete"):
            sources.append(f"src_{number}")
            return httpx.Response(200, json={"source_id": f"src_{number}"})
        if number in gone:
            return httpx.Response(410, json={"error": {"code": "source_gone", "message": "Gone."}})
        facts = {"part_size_bytes": 9, "parts": [{"number": 1, "etag": "e"}], "expires_at": AT}
        if request.method == "GET":
            source_id = f"src_{number}"
            return httpx.Response(
                200,
                json=facts | {"upload_id": f"upl_{number}", "state": "completed", "source_id": source_id},
            )
        return httpx.Response(201, json=facts | {"upload_id": f"upl_{len(sources)}", "state": "open"})

    def refresher() -> Client:
        http = httpx.Client(base_url="http://control.test", transport=httpx.MockTransport(control))
        return Client(http, unfinished=Unfinished(tmp_path / "ids.json"))

    files = [tmp_path / f"ad{n}.mp4" for n in range(120)]
    for file in files:
        file.write_bytes(b"video")
    with pytest.raises(ApiError, match="Full"):
        (first := refresher()).submit([first.upload(file) for file in files])
    assert len(sources) == 120
    gone.add("7")
    again = refresher()
    assert [again.upload(file).source_id for file in files] == [
        f"src_{120 if n == 7 else n}" for n in range(120)
    ]
    again.submit([f"src_{n}" for n in range(119)])
    after = refresher()
    assert after.upload(files[119]).source_id == "src_119", "it was not in the batch"
    assert after.upload(files[0]).source_id == "src_121"
    files[0].unlink()
    after.submit(["src_119", "src_121"])
    assert after.upload(files[119]).source_id == "src_122"


@pytest.mark.parametrize(
    "lost",
    [
        httpx.ReadTimeout("lost"),
        httpx.Response(502),
        httpx.Response(409, headers={"Retry-After": "0"}, json={"error": {"code": "conflict"}}),
    ],
    ids=["no answer", "a proxy's", "still being answered"],
)
def test_a_submit_whose_answer_was_lost_is_sent_again_with_the_same_key(
    monkeypatch: pytest.MonkeyPatch, lost: httpx.Response | Exception
):
    monkeypatch.setattr(library._place.retry, "wait", wait_none())
    asked: list[httpx.Request] = []

    def control(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1 and isinstance(lost, Exception):
            raise lost
        if len(asked) == 1:
            return lost
        return httpx.Response(202, json=answer(Batch, batch_id="bat_1"))

    http = httpx.Client(base_url="http://control.test", transport=httpx.MockTransport(control))
    refs = ["src_1", "https://v.example/a.mp4", SourceRef(source_id="src_2", data={"sku": 7})]
    batch = Client(http).submit(refs, variations=2, without=["mirror"], name=None)
    assert batch.batch_id == "bat_1"
    first, second = (json.loads(request.content) for request in asked)
    assert (
        first
        == second
        == {
            "sources": [
                {"source_id": "src_1"},
                {"url": "https://v.example/a.mp4"},
                {"source_id": "src_2", "data": {"sku": 7}},
            ],
            "variations": 2,
            "without": ["mirror"],
        }
    )
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1


def test_a_token_that_is_too_old_is_replaced_once_and_a_wrong_password_is_said():
    tokens, asked = iter(["old", "new"]), list[str]()

    def control(request: httpx.Request) -> httpx.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        asked.append(f"{request.url.path} {token}")
        if request.url.path == "/api/auth":
            if token := next(tokens, ""):
                return httpx.Response(200, json={"token": token})
        elif token == "new" and len(asked) < 7:
            return (
                httpx.Response(200, json=answer(Job))
                if "events" not in request.url.path
                else httpx.Response(200)
            )
        return httpx.Response(401, json={"error": {"code": "unauthorized", "message": "Sign in."}})

    http = httpx.Client(base_url="http://control.test", transport=httpx.MockTransport(control))
    client = Client(http, bucket=http)
    client._api.sign_in("right")
    assert list(client.events("job_1")) == []
    assert client.show("job_1").status
    assert asked[1:] == [
        "/api/jobs/job_1/events old",
        "/api/auth old",
        "/api/jobs/job_1/events new",
        "/api/jobs/job_1 new",
    ]
    with pytest.raises(ApiError, match="Sign in"):
        [client.show("job_1") for _ in range(3)]
    assert asked[-1].startswith("/api/auth"), "and no request follows"


def test_the_package_of_the_client_is_in_step_with_the_project():
    own, project = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in ("client", ".")
    )
    assert own["version"] == project["version"]
    known = {*project["dependencies"], *project["optional-dependencies"]["control"]}
    assert set(own["dependencies"]) - known == set()
