"""Uploading several files: what control refuses of one file, and what it refuses of all."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import cast

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


def test_a_second_batch_in_a_folder_keeps_the_manifests_of_the_first(tmp_path: Path) -> None:
    class Zips:
        def download(self, id_: str, file: Path) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("manifest.json", json.dumps({"batch_id": id_}))
                archive.writestr("manifest.csv", id_)

    for id_ in ("bat_1", "bat_2", "bat_2"):
        demo.download(cast(Client, Zips()), id_, tmp_path, Console(file=io.StringIO()))
    tables = {path.name: path.read_text() for path in tmp_path.glob("*.csv")}
    assert tables == {"manifest-bat_1.csv": "bat_1", "manifest.csv": "bat_2"}
    assert json.loads((tmp_path / "manifest-bat_1.json").read_text()) == {"batch_id": "bat_1"}
    (tmp_path / "manifest.json").write_text("not ours")
    demo.download(cast(Client, Zips()), "bat_3", tmp_path, Console(file=io.StringIO()), keep_zip=True)
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"batch_id": "bat_3"}
    assert [path.name for path in tmp_path.glob("*.zip")] == ["bat_3.zip"]
