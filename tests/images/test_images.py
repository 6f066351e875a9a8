"""The images as they are deployed: built with buildah, and the runner's renders a job from its own root.

Only where IMAGE_BASE names a Python base image that buildah has (`make images`): building takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes import until
from tests.support.programs import need
from tests.support.stack import Stack, running, signed_in

BASE = os.environ.get("IMAGE_BASE", "")
VOLUMES = os.environ.get("IMAGE_VOLUMES", "").split()  # what a build behind a proxy needs to see
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not BASE, reason="IMAGE_BASE names no base image (make images)")

# What a machine of Fly does before the entrypoint: the image is the root, with /proc and /dev.
BOOT = """
mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit 99
cd "$0" && mkdir -p .before && pivot_root . .before && umount -l .before || exit 98
exec "$@"
"""


def buildah(*arguments: str) -> str:
    """Run buildah and return what it prints."""
    done = subprocess.run(
        [need("buildah"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def built(name: str) -> str:
    """Build an image, print its size, and return its name."""
    volumes = [word for volume in VOLUMES for word in ("--volume", volume)]
    image = f"refresher-test-{name}"
    file = ["-f", f"Dockerfile.{name}", "-t", image]
    base = ["--build-arg", f"PYTHON_IMAGE={BASE}"]
    buildah("bud", "--isolation", "chroot", *volumes, *base, *file, ".")
    (described,) = json.loads(buildah("images", "--json", image))
    print(f"\nimage of {name}: {described['size']}")
    return image


@pytest.fixture
def root() -> Iterator[Path]:
    """The unpacked image of the runner."""
    container = buildah("from", built("runner"))
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack whose machines never come up by themselves."""
    with running(tmp_path) as stack:
        headers = {"Authorization": f"Bearer {stack.fly.facts['token']}"}
        faults = {"rate_limits": False, "pull_s": [600, 600]}
        address = stack.fly.facts["url"].removesuffix("/v1") + "/admin/faults"
        httpx.put(address, json=faults, headers=headers).raise_for_status()
        yield stack


def environment(stack: Stack) -> dict[str, str]:
    """Return the environment that control gave the one machine, and what Fly adds to it."""
    headers = {"Authorization": f"Bearer {stack.fly.facts['token']}"}
    address = f"{stack.fly.facts['url']}/apps/{stack.fly.facts['app']}/machines"
    (machine,) = until(lambda: httpx.get(address, headers=headers).json())
    return {**machine["config"]["env"], "FLY_MACHINE_ID": machine["id"]}


def test_the_runner_s_image_renders_a_job_in_its_jail(root: Path, stack: Stack, tiny: Path) -> None:
    config = json.loads(buildah("inspect", "--type", "image", "refresher-test-runner"))["OCIv1"]["config"]
    inside = dict(word.split("=", 1) for word in config["Env"])
    with signed_in(stack) as user:
        job = user.submit(user.upload(tiny), variations=2, kind="jobs")
        env = {**inside, **environment(stack)}
        command = [need("unshare"), "--mount", "sh", "-c", BOOT, str(root), *config["Entrypoint"]]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        assert '"event": "claimed"' in done.stderr
        shown = user.show(job["job_id"])
        assert (shown["status"], shown["progress"]["ready"]) == ("completed", 2)


def test_control_s_image_answers_as_an_ordinary_user_and_serves_the_page() -> None:
    config = json.loads(buildah("inspect", "--type", "image", built("control")))["OCIv1"]["config"]
    assert config["Entrypoint"] == ["/srv/start-control"]
    container = buildah("from", "refresher-test-control")
    try:
        root = Path(buildah("mount", container))
        assert (root / "srv/app/control/web/dist/index.html").exists()
        assert not list((root / "srv").rglob("node_modules"))
        said = buildah("run", "--isolation", "chroot", container, "--", "python3", "-m", "control", "--help")
        assert "serve" in said
    finally:
        buildah("rm", container)
