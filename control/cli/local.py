"""The embedded stack: a private S3 server, the local Fly and control, on free loopback ports of this machine.

The parts speak the same HTTP as in production. Must never be used for a deployment. The S3 server and the
probe of the jail start first: control is imported while they run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.cli.loading import load_fastapi, loading
from infra.local.data_dir import locked_dir, persistent_secret
from infra.local.s3_server import LocalS3, local_s3

if TYPE_CHECKING:
    from control.settings import Settings
    from infra.local.fly_server import LocalFlyHandle
    from infra.local.s3_door import DoorFaults

LOCAL_IMAGE = f"local/video-refresher-runner:{version('video-refresher')}"
LOCAL_DEFAULTS: dict[str, Any] = {
    "max_machines": 2,  # each local runner uses all cores
    "heartbeat_s": 1.0,  # on loopback a slow beat saves nothing, and people watch
    "lease_s": 15.0,
}


@dataclass(frozen=True, kw_only=True)
class LocalStack:
    """How to reach a running embedded stack."""

    url: str
    password: str
    fly: LocalFlyHandle
    settings: Settings  # of its control


@contextmanager
def local_stack(
    data_dir: Path, *, host: str = "127.0.0.1", port: int = 0, bucket_faults: DoorFaults | None = None
) -> Iterator[LocalStack]:
    """Yield a running stack that keeps its state in `data_dir`. Nothing of it runs after the block.

    With `bucket_faults` everyone reaches the bucket through a door that has these faults.
    """
    with ExitStack() as stack:
        stack.enter_context(locked_dir(data_dir))
        started = stack.enter_context(ExitStack())  # by a thread, and ended after all threads
        threads = stack.enter_context(ThreadPoolExecutor(2))
        s3_server = threads.submit(started.enter_context, local_s3(data_dir / "s3"))
        machine_env = threads.submit(_machine_env)
        with loading():
            load_fastapi()
            from control.app import create_app
            from control.http import metrics_port
            from control.http.server import HTTP_LIMITS
            from infra.local.fly_server import local_fly
            from infra.local.s3_door import local_door
            from infra.local.serve import listen, serving, url_of
            from infra.s3 import TigrisStorage
        fly = stack.enter_context(local_fly(data_dir / "fly"))
        listener = stack.enter_context(listen(host, port))
        s3 = direct = s3_server.result()
        if bucket_faults is not None:
            s3 = stack.enter_context(local_door(direct, faults=bucket_faults)).s3
        settings = _settings(data_dir, url_of(listener), s3, fly)
        TigrisStorage(**asdict(direct)).set_rules(settings.origins)
        with loading():
            app = create_app(settings, machine_env=machine_env.result())
        stack.enter_context(metrics_port.serving(settings.metrics_port, app.state.metrics))
        url = stack.enter_context(serving(app, listener=listener, on_stop=app.state.drain, **HTTP_LIMITS))
        password = settings.auth_password.get_secret_value()
        yield LocalStack(url=url, password=password, fly=fly, settings=settings)


def _machine_env() -> dict[str, str]:
    """Let runners work without a jail if this machine cannot make one (macOS, containers), and print that."""
    command = [sys.executable, "-m", "runner.jail"]
    probe = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if probe.returncode == 0:
        return {}
    why = probe.stderr.strip().rpartition("\n")[2]
    print(
        f"refresher: FFmpeg runs unconfined, since this machine cannot make its jail ({why}).",
        file=sys.stderr,
    )
    print("refresher: render only videos that you trust here.", file=sys.stderr)
    from runner.contract import ENV_JAIL

    return {ENV_JAIL: "off"}


def _settings(data_dir: Path, url: str, s3: LocalS3, fly: LocalFlyHandle) -> Settings:
    """Return the settings of this process, with the addresses of the embedded parts and a token secret.

    Without a password in the environment a new one is made and kept. A few defaults differ, see
    docs/settings.md. Budgets apply as if Fly's prices were paid here. Raises SettingsError.
    """
    from pydantic import SecretStr

    from control.settings import load_settings

    embedded: dict[str, Any] = {
        "token_secret": SecretStr(persistent_secret(data_dir / "token-secret", 32)),
        "token_secret_previous": None,
        "database_url": f"sqlite:///{(data_dir / 'control.db').resolve()}",
        "database_mount": None,
        "public_url": url,
        "callback_url": "",
        "aws_endpoint_url_s3": s3.endpoint,
        "aws_region": s3.region,
        "aws_access_key_id": s3.access_key_id,
        "aws_secret_access_key": SecretStr(s3.secret_access_key),
        "bucket_name": s3.bucket,
        "s3_public_endpoint_url": None,
        "fly_api_url": fly.url,
        "fly_api_token": SecretStr(fly.token),
        "runner_apps": (fly.app,),
        "runner_image": LOCAL_IMAGE,
        "fly_app_name": None,
    }
    named = {name.lower() for name in os.environ}
    defaults = {**LOCAL_DEFAULTS, "runner_sizes": (_like_this_machine(),)}
    if "auth_password" not in named:
        defaults["auth_password"] = SecretStr(persistent_secret(data_dir / "password", 18))
    return load_settings(**embedded, **{name: defaults[name] for name in defaults.keys() - named})


def _like_this_machine() -> str:
    """Return the smallest guest preset with as many cores as this computer: a local machine uses them all."""
    from control.planning.prices import cpus, sizes

    cores = os.cpu_count() or 1
    large_enough = [size for size in sizes() if size.startswith("performance-") and cpus(size) >= cores]
    return min(large_enough or ["performance-8x"], key=cpus)
