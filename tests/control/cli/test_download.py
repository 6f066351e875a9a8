"""Saving a ZIP over a network that fails: received bytes stay, and only the missing ones are requested."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tenacity import wait_none

from tests.support.maker import Maker, stored
from tests.support.proxy import Fault, Proxy
from video_refresher import ApiError, Client, downloads

CONTENT = os.urandom(300_000)


@pytest.fixture(scope="module")
def batch(maker: Maker) -> dict[str, Any]:
    return maker.make(CONTENT)


@pytest.fixture(scope="module")
def whole(maker: Maker, batch: dict[str, Any]) -> httpx.Response:
    return maker.http.get(f"/api/batches/{batch['batch_id']}/download")


@pytest.fixture
def proxy(maker: Maker) -> Iterator[Proxy]:
    proxy = Proxy(maker.http.base_url.port or 0)
    yield proxy
    proxy.close()


@pytest.fixture
def client(maker: Maker, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client that reaches control through the proxy, and does not wait between its tries."""
    monkeypatch.setattr(downloads._go_on.retry, "wait", wait_none())
    token = maker.http.headers["Authorization"].removeprefix("Bearer ")
    with Client.signed_in(proxy.url, token=token) as client:
        yield client


def part_of(path: Path, whole: httpx.Response) -> Path:
    etag = whole.headers["etag"].strip('"')
    return path.with_name(f"{path.name}.{etag}.part")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_cuts_are_repaired_within_one_call(
    client: Client, proxy: Proxy, batch, whole, tmp_path: Path
) -> None:
    proxy.spoil("cuts", "GET .*/download", [Fault.TRUNCATED, Fault.TRUNCATED, Fault.CUT_AFTER])
    progress: list[tuple[int, int]] = []
    client.download(batch["batch_id"], tmp_path / "a.zip", on_progress=lambda *now: progress.append(now))
    assert (tmp_path / "a.zip").read_bytes() == whole.content
    assert progress[-1] == (len(whole.content), len(whole.content))
    assert not proxy.left()
    assert names(tmp_path) == ["a.zip"]


def test_too_many_cuts_leave_a_part_that_the_next_call_continues_with(
    client: Client, proxy: Proxy, batch, whole, tmp_path: Path
) -> None:
    out = tmp_path / "a.zip"
    part = part_of(out, whole)
    part.write_bytes(whole.content[:1000])
    proxy.spoil("away", "GET .*/download", [Fault.CUT_BEFORE] * downloads.TRIES_MAX)
    with pytest.raises(httpx.TransportError):
        client.download(batch["batch_id"], out)
    assert names(tmp_path) == [part.name]
    changed = b"?" * 999 + part.read_bytes()[999:]
    part.write_bytes(changed)
    client.download(batch["batch_id"], out)
    assert out.read_bytes() == b"?" * 999 + whole.content[999:], "what was there is not asked for again"
    assert names(tmp_path) == ["a.zip"]


def test_a_part_that_holds_all_is_only_renamed(client: Client, batch, whole, tmp_path: Path) -> None:
    part_of(tmp_path / "a.zip", whole).write_bytes(whole.content)
    client.download(batch["batch_id"], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == whole.content


def test_a_part_of_another_archive_is_dropped(client: Client, batch, whole, tmp_path: Path) -> None:
    (tmp_path / f"a.zip.{'0' * 32}.part").write_bytes(b"?" * 1000)
    (tmp_path / "a.zip.my own.part").write_bytes(b"not ours")
    (tmp_path / "a.zip").write_bytes(b"an older download")
    client.download(batch["batch_id"], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == whole.content
    assert names(tmp_path) == ["a.zip", "a.zip.my own.part"]


def test_a_live_zip_that_is_cut_starts_over_and_leaves_nothing(
    maker: Maker, client: Client, proxy: Proxy, tmp_path: Path
) -> None:
    batch = maker.submit("ad.mp4", variations=2)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    beat = {"seq": 1, "outputs": [stored(spec.outputs[0], CONTENT).model_dump(mode="json")]}
    headers = {"Authorization": f"Bearer {maker.signer.attempt_token(spec.attempt_id)}"}
    maker.http.post(f"/runner/attempts/{spec.attempt_id}/heartbeat", json=beat, headers=headers)
    proxy.spoil("away", "GET .*/download", [Fault.TRUNCATED] * downloads.TRIES_MAX)
    with pytest.raises(httpx.TransportError):
        client.download(batch["batch_id"], tmp_path / "a.zip")
    assert names(tmp_path) == []
    client.download(batch["batch_id"], tmp_path / "a.zip")
    assert CONTENT in (tmp_path / "a.zip").read_bytes()


def test_a_refusal_is_not_tried_again_and_leaves_nothing(
    client: Client, proxy: Proxy, tmp_path: Path
) -> None:
    with pytest.raises(ApiError, match="no such batch"):
        client.download("bat_none", tmp_path / "a.zip")
    assert len([passed for passed in proxy.passed if "download" in passed.path]) == 1
    assert names(tmp_path) == []


def test_the_command_continues_with_a_part_and_says_with_its_exit_code_how_it_went(
    maker: Maker, batch, whole, tmp_path: Path
) -> None:
    part = part_of(tmp_path / "a.zip", whole)
    part.write_bytes(b"?" * 100 + whole.content[100:1000])
    env = {
        "PATH": os.environ["PATH"],
        "REFRESHER_URL": str(maker.http.base_url),
        "REFRESHER_TOKEN": maker.http.headers["Authorization"].removeprefix("Bearer "),
    }

    def run(id_: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "refresher"), "download", id_, "-o", "a.zip"]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    done = run(batch["batch_id"])
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "a.zip").read_bytes() == b"?" * 100 + whole.content[100:]
    refused = run("bat_none")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no such batch" in refused.stderr
    assert "Traceback" not in refused.stderr
