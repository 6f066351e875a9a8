"""The private S3 server: its data, its address, and that it is gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from infra.local import s3_server
from infra.local.s3_server import LocalS3, local_s3
from infra.s3 import TigrisStorage
from tests.support.programs import need

pytestmark = pytest.mark.peer

CONTENT = b"what nobody may read" * 1000
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def storage_of(s3: LocalS3) -> TigrisStorage:
    return TigrisStorage(**asdict(s3))


def servers_on(data_dir: Path) -> list[int]:
    """Return the processes whose command line names `data_dir`; one that is dead and unread has none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"-dir={data_dir}".encode() in command:
            found.append(int(folder.name))
    return found


def listening(ss: str, pid: int) -> list[str]:
    lines = subprocess.run([ss, "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[3] for line in lines if f"pid={pid}," in line]


def test_a_restart_on_the_same_folder_finds_the_same_keys_and_objects(tmp_path: Path) -> None:
    with local_s3(tmp_path) as first:
        client = storage_of(first)._client
        client.put_object(Bucket=first.bucket, Key="kept", Body=b"here")
    with local_s3(tmp_path) as second:
        assert second.access_key_id == first.access_key_id
        assert second.secret_access_key == first.secret_access_key
        assert storage_of(second).read("kept", 0, 10) == b"here"
    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600


def test_two_servers_have_keys_of_their_own(s3: LocalS3, tmp_path: Path) -> None:
    with local_s3(tmp_path) as other:
        assert other.access_key_id != s3.access_key_id
        assert other.endpoint != s3.endpoint


@LINUX
def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    ss = need("ss")
    with local_s3(tmp_path):
        (server,) = servers_on(tmp_path)
        deadline = time.monotonic() + 20
        while len(ours := listening(ss, server)) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)  # its admin service comes up after the bucket does
    assert len(ours) == 10
    assert all(address.startswith("127.0.0.1:") for address in ours)


def test_no_port_of_it_gives_an_object_by_http_without_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: dict[str, int] = {}
    arguments = s3_server._arguments
    monkeypatch.setattr(s3_server, "_arguments", lambda *both: ports.update(both[1]) or arguments(*both))
    with local_s3(tmp_path) as s3:
        storage_of(s3)._client.put_object(Bucket=s3.bucket, Key="secret.mp4", Body=CONTENT)
        for port in ports.values():
            for path in ("", "buckets/refresher/secret.mp4", "refresher/secret.mp4", "buckets/refresher/"):
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=5)
                except httpx.HTTPError:
                    continue  # it speaks gRPC
                assert CONTENT not in answer.content, f"{port} {path}"
                if not path.endswith("secret.mp4"):  # which an error may repeat
                    assert b"secret.mp4" not in answer.content, port
        assert CONTENT not in by_its_own_tool(tmp_path, ports)


def by_its_own_tool(folder: Path, ports: dict[str, int]) -> bytes:
    """Return what SeaweedFS's shell prints of the object: it asks where it is stored, and then there."""
    weed, home = Path(sys.executable).with_name("weed"), folder / "home"
    home.mkdir()
    command = [weed, "shell", f"-master=127.0.0.1:{ports['master']}", f"-filer=127.0.0.1:{ports['filer']}"]
    asked = b"fs.ls /buckets/refresher\nfs.cat /buckets/refresher/secret.mp4\n"
    env = {"PATH": os.defpath, "HOME": str(home)}
    done = subprocess.run(command, input=asked, env=env, cwd=home, capture_output=True, timeout=120)
    assert b"401 Unauthorized" in done.stderr + done.stdout
    return done.stdout


def test_its_files_and_sockets_are_its_owners_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "s3"
    with local_s3(data_dir) as s3:
        port = urlsplit(s3.endpoint).port
        (socket_path,) = Path("/tmp").glob(f"seaweedfs-s3-{port}.sock")
        for path in (data_dir, data_dir / "security.toml", socket_path):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@LINUX
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), local_s3(tmp_path) as s3:  # noqa: PT012
        assert servers_on(tmp_path)
        raise error
    assert not servers_on(tmp_path)
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{urlsplit(s3.endpoint).port}.sock"))


@LINUX
def test_the_server_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = "import sys, pathlib, infra.local.s3_server as m\nwith m.local_s3(pathlib.Path(sys.argv[1])):\n"
    program += "    print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert servers_on(tmp_path)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while servers_on(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not servers_on(tmp_path)
    with local_s3(tmp_path):
        pass


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="is taken"),
        local_s3(tmp_path, port=taken.getsockname()[1]),
    ):
        pass
    assert not (tmp_path / "weed.log").exists()


def test_a_port_of_ones_own_choice_is_used(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with local_s3(tmp_path, port=port) as s3:
        assert s3.endpoint == f"http://127.0.0.1:{port}"
        storage_of(s3).check()


def test_a_port_lost_to_someone_else_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose, blockers = s3_server._free_ports, []

    def lose_the_first(port: int) -> dict[str, int]:
        ports = choose(port)
        if not blockers:
            blockers.append(socket.create_server(("127.0.0.1", ports["volume"])))
        return ports

    monkeypatch.setattr(s3_server, "_free_ports", lose_the_first)
    with local_s3(tmp_path) as s3:
        storage_of(s3).check()
    blockers[0].close()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_server, "_arguments", lambda *_: ["mini", "-nonsense"])
    with pytest.raises(RuntimeError, match=r"SeaweedFS did not start: .*\w"), local_s3(tmp_path):
        pass
