"""Single outputs and posters, by redirects to signed URLs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.maker import Maker, bucket, code, stored
from tests.support.user import outputs

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
HOSTILE = [
    'qu"ote;.mp4',
    "a\r\nSet-Cookie: x=1.mp4",
    "../../etc/passwd.mp4",
    "ünï 漢字 😀.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "nul.mp4",
    "%2e%2e%2f%00.mp4",
    "\u202egpj.mp4",
    "x" * 250 + ".mp4",
    "';filename*=utf-8''evil.exe",
]


def fetched(http: httpx.Client, url: str, **query: str) -> httpx.Response:
    """Follow the redirect, without anything of ours but the URL."""
    redirect = http.get(url, params=query)
    assert redirect.status_code == 307, redirect.text
    answer = bucket().get(redirect.headers["location"])
    assert answer.status_code == 200
    return answer


def url_of(output: dict[str, Any]) -> str:
    return f"/api/outputs/{output['output_id']}"


@pytest.fixture(scope="module")
def hls(maker: Maker) -> dict[str, Any]:
    return maker.make(b"media", names=["my ad.mov"], preset="hls")


def test_an_output_comes_under_its_own_name_to_save_or_to_play(maker: Maker) -> None:
    (output,) = outputs(maker.make(b"video"))
    answer = fetched(maker.http, url_of(output))
    assert (answer.content, answer.headers["content-type"]) == (b"video", "video/mp4")
    name = output["name"].split("/")[1]
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{name}"')
    inline = fetched(maker.http, url_of(output), disposition="inline")
    assert inline.headers["content-disposition"].startswith("inline")
    assert fetched(maker.http, url_of(output), file=name).content == b"video"
    redirect = maker.http.get(url_of(output)).headers["location"]
    assert bucket().get(redirect, headers={"Range": "bytes=1-2"}).content == b"id", "players seek"


def test_each_file_of_an_hls_output_comes_by_its_name(maker: Maker, hls: dict[str, Any]) -> None:
    (output,) = outputs(hls)
    playlist, media = (file["name"].split("/")[-1] for file in output["files"])
    answer = fetched(maker.http, url_of(output), file=playlist)
    assert answer.headers["content-type"] == PLAYLIST_TYPE
    assert media in answer.text.splitlines()
    assert playlist in answer.headers["content-disposition"]
    for query in ({"file": media}, {}):
        answer = fetched(maker.http, url_of(output), **query)
        assert (answer.content, answer.headers["content-type"]) == (b"media", "video/mp4")
    for name in ("other.mp4", "../playlist.m3u8", f"my ad/my ad_hls/{media}", ""):
        assert code(maker.http.get(url_of(output), params={"file": name})) == (404, "not_found")


def test_a_poster_is_a_picture_to_show(maker: Maker, hls: dict[str, Any]) -> None:
    (output,) = outputs(hls)
    assert output["poster"] is True
    answer = fetched(maker.http, f"{url_of(output)}/poster")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"].startswith('inline; filename="my ad_hls.jpg"')
    assert answer.content.startswith(b"\xff\xd8")


def test_the_read_ticket_of_the_batch_opens_outputs_and_posters_and_no_other_does(
    maker: Maker, hls: dict[str, Any], stranger: httpx.Client
) -> None:
    url, other = url_of(outputs(hls)[0]), maker.make(b"x")
    for path in (url, f"{url}/poster"):
        assert fetched(stranger, path, ticket=hls["ticket"], disposition="inline").content
        for ticket in (other["ticket"], "nonsense", ""):
            assert code(stranger.get(path, params={"ticket": ticket})) == (401, "unauthorized")


def test_what_is_not_there_or_not_ready_is_404(maker: Maker, stranger: httpx.Client) -> None:
    batch = maker.submit(variations=2)
    first, second = outputs(batch)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    report = stored(spec.outputs[0], b"one").model_copy(update={"poster": None})
    maker.finish(spec, [report], outcome="error", reason="runner_crashed")
    assert outputs(maker.show(batch["batch_id"]))[0]["poster"] is False
    assert fetched(maker.http, url_of(first)).content == b"one"
    for path in (f"{url_of(first)}/poster", url_of(second), f"{url_of(second)}/poster", "/api/outputs/out_x"):
        assert code(maker.http.get(path)) == (404, "not_found"), path
        assert code(stranger.get(path)) == (401, "unauthorized"), path
    assert maker.http.delete(f"/api/batches/{batch['batch_id']}").status_code == 204
    assert code(maker.http.get(url_of(first))) == (404, "not_found")


def test_a_runner_gets_its_sources_in_the_order_in_which_they_were_named(maker: Maker) -> None:
    batch = maker.submit(*(f"{n}.mp4" for n in range(9)), variations=1)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    named = [source["source_id"] for source in batch["sources"]]
    assert [source.source_id for source in spec.sources] == named


@pytest.mark.parametrize("kind", [{"variations": 1}, {"preset": "hls"}], ids=str)
def test_hostile_names_stay_names(maker: Maker, kind: dict[str, Any]) -> None:
    count = len(HOSTILE)
    made = outputs(maker.make(*[b"video"] * count, names=HOSTILE, **kind))
    assert len({output["name"].casefold() for output in made}) == count
    for output in made:
        for path in (url_of(output), f"{url_of(output)}/poster"):
            answer = fetched(maker.http, path)
            assert "set-cookie" not in answer.headers
            said = answer.headers["content-disposition"]
            assert said.isascii()
            assert said.count(";") == 2, said
            assert "/" not in said
            assert "\\" not in said


def test_a_disposition_of_no_kind_is_422(maker: Maker, hls: dict[str, Any]) -> None:
    url = url_of(outputs(hls)[0])
    assert code(maker.http.get(url, params={"disposition": "x"})) == (422, "invalid")
