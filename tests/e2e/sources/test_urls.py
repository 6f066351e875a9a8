"""Sources by URL and deliveries, through HTTP: real runners call the server of another party."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.support import codec_files
from tests.support.bucket import MAX_SOURCE_BYTES, Bucket
from tests.support.foreign import Server, served
from tests.support.stack import Patient, Stack
from tests.support.user import ok, outputs

SECRET = "a-key-in-a-query"


@pytest.fixture
def video(theirs: Server, clip: bytes) -> str:
    """A URL that gives a video, after a redirect."""
    theirs.seen.clear()
    theirs.answers = {
        f"/old?{SECRET}": (302, {"Location": f"/new.mp4?{SECRET}"}, b""),
        f"/new.mp4?{SECRET}": (200, {}, clip),
        f"/put?{SECRET}": (201, {}, b""),
    }
    return f"http://{theirs.place}/old?{SECRET}"


def submit(user: Patient, url: str, **more: Any) -> httpx.Response:
    body = {"sources": [{"url": url, "name": "Their ad"}], "variations": 1, **more}
    return user.http.post("/api/jobs", json=body)


def made(user: Patient, url: str, **more: Any) -> dict[str, Any]:
    return user.wait(ok(submit(user, url, **more), 202)["job_id"])


def test_a_video_is_fetched_from_its_url_and_the_result_is_put_where_the_user_says(
    user: Patient, theirs: Server, bucket: Bucket, stack: Stack, video: str
) -> None:
    stored = bucket.sources()
    job = made(user, video, output_url=f"http://{theirs.place}/put?{SECRET}")
    (output,) = outputs(job)
    assert (job["status"], output["status"], output["delivery_error"]) == ("completed", "ready", None)
    assert output["name"].startswith("Their ad/Their ad_var01_")
    assert job["progress"]["percent"] == 100
    (delivered,) = [seen for seen in theirs.seen if seen[0] == "PUT"]
    assert delivered[3] == user.unzip(job["job_id"])[output["name"]]
    assert bucket.sources() == stored
    logs = "".join(path.read_text(errors="replace") for path in stack.folder.rglob("*.log"))
    assert SECRET not in logs + str(job)


def test_a_delivery_that_fails_is_reported_and_the_result_stays(
    user: Patient, theirs: Server, video: str
) -> None:
    job = made(user, video, output_url=f"http://{theirs.place}/nowhere?{SECRET}")
    (output,) = outputs(job)
    assert (job["status"], output["status"]) == ("completed", "ready")
    assert "404" in output["delivery_error"]
    assert SECRET not in output["delivery_error"]
    assert output["name"] in user.unzip(job["job_id"])


def test_urls_and_uploads_mix_and_a_bad_url_fails_alone(
    user: Patient, theirs: Server, video: str, clip: bytes, ffmpeg: str
) -> None:
    theirs.answers["/text"] = (200, {}, b"no video")
    cinepak = codec_files.made(ffmpeg, *codec_files.NOT_TAKEN["Cinepak"])
    theirs.answers["/cinepak"] = (200, {}, cinepak)
    with served() as canary:
        theirs.answers["/inside"] = (302, {"Location": f"http://{canary.place}/"}, b"")
        theirs.answers["/large"] = (200, {"Content-Length": str(MAX_SOURCE_BYTES + 1)}, b"")
        paths = {"text": "source_unplayable", "none": "source_unreachable", "inside": "source_unreachable"}
        paths |= {"large": "source_too_large", "cinepak": "source_unplayable"}
        sources: list[dict[str, str]] = [{"source_id": user.upload(clip)}, {"url": video}]
        sources += [{"url": f"http://{theirs.place}/{path}"} for path in paths]
        answer = user.http.post("/api/batches", json={"sources": sources, "variations": 1})
        batch = user.wait(ok(answer, 202)["batch_id"])
        assert canary.seen == []
    assert (batch["status"], batch["partial"]) == ("completed", True)
    codes = [output["error"] and output["error"]["code"] for output in outputs(batch)]
    assert codes == [None, None, *paths.values()]
    assert [source["name"] for source in batch["sources"]][1:] == ["old", *paths]
    messages = [output["error"]["message"] for output in outputs(batch) if output["error"]]
    assert messages[0] == "This is a text file. Upload an MP4 or MOV video."
    assert messages[-1] == user.try_upload(cinepak).json()["error"]["message"], (
        "as an upload of it is refused"
    )
    assert {attempt["number"] for attempt in batch["attempts"]} == {1}


@pytest.mark.parametrize(
    "source",
    [
        {"url": "http://127.0.0.1/x.mp4", "name": "a"},
        {"url": "http://169.254.169.254/latest/meta-data", "name": "a"},
        {"url": "http://_api.internal:4280/v1/apps", "name": "a"},
        {"url": "https://user:pass@example.com/", "name": "a"},
        {"url": "ftp://example.com/a.mp4", "name": "a"},
        {"url": "", "name": "a"},
        {"url": 7, "name": "a"},
        {"url": "https://example.com/" + "a" * 9000, "name": "a"},
        {"url": "https://example.com/a.mp4", "name": ""},
        {"url": "https://example.com/a.mp4", "source_id": "src_1"},
        {"source_id": "src_1", "name": "a"},
        {"name": "a"},
        {},
    ],
    ids=range(13),
)
def test_a_source_that_cannot_be_is_refused_at_once(user: Patient, source: dict[str, Any]) -> None:
    for noun in ("jobs", "batches"):
        answer = user.http.post(f"/api/{noun}", json={"sources": [source], "variations": 1})
        message = ok(answer, 422)["error"]["message"]
        assert message
        assert len(str(source.get("url", ""))) < 10 or str(source["url"]) not in message


@pytest.mark.parametrize("url", ["http://10.0.0.1/put", "not a url", "file:///tmp/x", ""])
def test_a_delivery_that_cannot_be_is_refused_at_once(user: Patient, video: str, url: str) -> None:
    ok(submit(user, video, output_url=url), 422)


def test_a_delivery_of_more_than_one_result_is_refused(user: Patient, theirs: Server, video: str) -> None:
    url = f"http://{theirs.place}/put"
    assert "one output" in ok(submit(user, video, output_url=url, variations=2), 422)["error"]["message"]
    body = {"sources": [{"url": video}, {"url": video + "2"}], "variations": 1, "output_url": url}
    ok(user.http.post("/api/batches", json=body), 422)


def test_a_url_named_twice_is_refused(user: Patient, video: str) -> None:
    ok(user.http.post("/api/jobs", json={"sources": [{"url": video}] * 2, "variations": 1}), 422)


def test_a_job_by_url_has_its_key_too_and_its_source_is_its_own(user: Patient, video: str) -> None:
    headers = {"Idempotency-Key": f"url-{time.time_ns()}"}
    body = {"sources": [{"url": video}], "variations": 1}
    jobs = [ok(user.http.post("/api/jobs", json=body, headers=headers), 202) for _ in range(2)]
    assert jobs[0]["job_id"] == jobs[1]["job_id"]
    other = {"sources": [{"url": video + "&more"}], "variations": 1}
    ok(user.http.post("/api/jobs", json=other, headers=headers), 409)
    again = {"sources": [{"source_id": jobs[0]["sources"][0]["source_id"]}], "variations": 1}
    ok(user.http.post("/api/jobs", json=again), 422)
    user.wait(jobs[0]["job_id"])
    assert user.http.delete(f"/api/batches/{jobs[0]['batch_id']}").status_code == 204
