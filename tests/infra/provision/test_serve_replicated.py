"""How control's image starts Litestream, with a stand-in that prints its arguments."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.presign import is_virtual_host

SERVE = Path("infra/provision/serve-replicated").resolve()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fly.storage.tigris.dev",
        "https://t3.storage.dev",
        "https://t3.storage.dev:443/",
        "http://127.0.0.1:8333",
        "https://s3.eu-central-1.amazonaws.com",
        "https://storage.dev.example.com",
    ],
)
def test_litestream_names_the_bucket_in_the_host_exactly_where_our_own_client_does(
    tmp_path: Path, endpoint: str
) -> None:
    stand_in = tmp_path / "litestream"
    stand_in.write_text('#!/bin/sh\necho "$1 $FORCE_PATH_STYLE"\n')
    stand_in.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "DATABASE_URL": f"sqlite:///{tmp_path}/control.db",
    }
    ended = subprocess.run(["sh", SERVE], env=env, capture_output=True, text=True, check=True)
    force = "false" if is_virtual_host(endpoint) else "true"
    assert ended.stderr == f"restore {force}\n"
    assert ended.stdout == f"replicate {force}\n"


def test_without_its_volume_neither_litestream_nor_control_is_started(tmp_path: Path) -> None:
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
        "DATABASE_URL": f"sqlite:///{tmp_path}/control.db",
        "DATABASE_MOUNT": str(tmp_path),
    }
    ended = subprocess.run(["sh", SERVE], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"DATABASE_MOUNT: no volume is mounted at {tmp_path}. Attach it to this machine.\n"
    assert not ended.stdout
