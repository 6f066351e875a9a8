"""Uploading several files: what control refuses of one file, and what it refuses of all."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from control.cli import commands, demo
from tests.support.answers import AT
from video_refresher import ApiError, Client


@pytest.mark.parametrize(
    ("status", "concerns_the_file"),
    [
        *((status, True) for status in (413, 415, 422)),
        *((status, False) for status in (401, 404, 429, 500, 503, 507)),
    ],
)
def test_only_a_refusal_that_concerns_the_file_lets_the_others_be_uploaded(
    tmp_path: Path, status: int, concerns_the_file: bool
) -> None:
    opened = iter([200, status, 200])

    def control(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/complete"):
            return httpx.Response(200, json={"source_id": "src_1"})
        if (said := next(opened)) != 200:
            return httpx.Response(said, json={"error": {"code": "any", "message": "No."}})
        part = {"number": 1, "etag": "e"}
        facts = {"upload_id": "upl_1", "part_size_bytes": 9, "expires_at": AT, "state": "open"}
        return httpx.Response(201, json={**facts, "parts": [part]})

    names = {tmp_path / f"{name}.mp4": name for name in ("first", "second", "third")}
    for video in names:
        video.write_bytes(b"video")
    client = Client(httpx.Client(base_url="http://c", transport=httpx.MockTransport(control)))
    console = Console(file=io.StringIO())
    if concerns_the_file:
        sources, refused = demo.upload(client, names, console)
        assert [names[video] for video in sources] == ["first", "third"]
        assert refused == [{"name": "second", "message": "No."}]
    else:
        with pytest.raises(ApiError, match="No") as caught:
            demo.upload(client, names, console)
        assert (caught.value.status, len(list(opened))) == (status, 1)


@pytest.mark.parametrize("end", [httpx.ConnectError("away"), KeyboardInterrupt()], ids=repr)
def test_a_wait_that_breaks_off_says_that_the_batch_continues(
    end: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(end)), commands._that_goes_on("bat_1"):
        raise end
    assert "bat_1 continues. Watch it: refresher watch bat_1" in capsys.readouterr().err
