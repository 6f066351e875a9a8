"""The door in front of the local bucket: what passes is unchanged, and each fault answers as it should."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict

import httpx
import pytest

from infra.local.s3_door import DoorFault, DoorFaults, LocalDoor, faults_from_json, local_door
from infra.local.s3_server import LocalS3
from infra.ports import Refused, Unanswered
from infra.s3 import TigrisStorage

LARGE = os.urandom(6 * 1024**2)


@pytest.fixture(scope="module")
def running(s3: LocalS3) -> Iterator[LocalDoor]:
    with local_door(s3) as running:
        yield running


@pytest.fixture
def door(running: LocalDoor) -> Iterator[LocalDoor]:
    running.door.set(DoorFaults())
    yield running
    running.door.set(DoorFaults())


@pytest.fixture
def through(door: LocalDoor) -> TigrisStorage:
    """The bucket through the door, for who never waits."""
    return TigrisStorage(**asdict(door.s3), pause=lambda _: None)


def put(storage: TigrisStorage, key: str, content: bytes) -> httpx.Response:
    url, headers = storage.sign_put(key, expires_s=60)
    return httpx.put(url, headers=headers, content=content)


def test_without_faults_all_passes_unchanged_in_both_directions(through: TigrisStorage):
    assert put(through, "door/large", LARGE).status_code == 200
    assert put(through, "door/large", LARGE).status_code == 412
    stored = through.head("door/large")
    assert stored is not None
    assert stored.etag == hashlib.md5(LARGE, usedforsecurity=False).hexdigest()
    assert httpx.get(through.sign_get("door/large", expires_s=60)).content == LARGE
    assert through.read("door/large", 1000, 1010) == LARGE[1000:1010]
    assert [found.key for found in through.list_objects("door/")] == ["door/large"]
    through.delete("door/large")
    assert through.head("door/large") is None


@pytest.mark.parametrize("fault", [DoorFault.SLOW_DOWN, DoorFault.REQUEST_TIMEOUT])
def test_a_busy_bucket_is_unanswered_and_whoever_sends_much_hears_it_too(
    door: LocalDoor, through: TigrisStorage, fault: DoorFault
):
    before = door.door.hits[fault]
    door.door.set(DoorFaults(rates={fault: 1.0}))
    assert put(through, "door/busy", LARGE).status_code in (503, 408)
    with pytest.raises(Unanswered):
        through.check()
    assert door.door.hits[fault] == before + 2
    door.door.set(DoorFaults())
    assert through.head("door/busy") is None, "it was not done"


def test_the_same_requests_meet_the_same_faults(door: LocalDoor):
    def statuses() -> list[int]:
        door.door.set(DoorFaults(rates={DoorFault.SLOW_DOWN: 0.5}))
        return [httpx.get(f"{door.s3.endpoint}/none").status_code for _ in range(10)]

    first = statuses()
    assert 503 in first
    assert len(set(first)) == 2
    assert statuses() == first


def test_a_new_object_is_not_seen_for_a_while_and_then_it_is(door: LocalDoor, through: TigrisStorage):
    door.door.set(DoorFaults(rates={DoorFault.STALE_READ: 1.0}, stale_s=1000))
    assert put(through, "door/late", b"x").status_code == 200
    assert through.head("door/late", is_fresh=True) is None
    assert httpx.get(through.sign_get("door/late", expires_s=60)).status_code == 404
    assert put(through, "door/late", b"x").status_code == 412, "it is there all the same"
    door.door.set(DoorFaults(rates={DoorFault.STALE_READ: 1.0}, stale_s=0))
    assert put(through, "door/at-once", b"x").status_code == 200
    assert through.head("door/at-once") is not None


def test_a_refused_lifecycle_rule_is_a_warning_and_the_pages_rule_is_set(
    door: LocalDoor, through: TigrisStorage
):
    door.door.set(DoorFaults(rates={DoorFault.LIFECYCLE_REFUSED: 1.0}))
    assert "NotImplemented" in (through.set_rules(["https://door.example"]) or "")
    assert through.allowed_origins() == {"https://door.example"}


def test_path_style_may_be_refused(door: LocalDoor, through: TigrisStorage):
    door.door.set(DoorFaults(rates={DoorFault.PATH_STYLE_REFUSED: 1.0}))
    with pytest.raises(Refused, match="405"):
        through.check()


def test_faults_are_switched_by_name_with_the_secret_key_alone(door: LocalDoor):
    url, key = f"{door.s3.endpoint}/admin/faults", door.s3.secret_access_key
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.put(url, json={"rates": {"slow_down": 1}}, headers=headers).json()
    assert answer["faults"] == {"rates": {"slow_down": 1.0}, "stale_s": 2.0}
    for bad in ({"rates": {"gremlins": 1}}, {"x": 1}, []):
        assert httpx.put(url, json=bad, headers=headers).status_code == 400
    assert door.door.faults.rates == {DoorFault.SLOW_DOWN: 1.0}, "nonsense changes nothing"
    assert httpx.put(url, json={}, headers={"Authorization": "Bearer no"}).status_code == 401
    assert httpx.get(url, headers=headers).json()["hits"].keys() <= set(DoorFault)
    with pytest.raises(ValueError, match="stale_s"):
        faults_from_json(b'{"stale_s": "soon"}')
