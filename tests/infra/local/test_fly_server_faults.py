"""The local Fly with faults, and the adapter that must handle them: real HTTP, real cut connections."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.fly.client import FlyMachines
from infra.flysim.faults import FailPoint, Faults
from infra.local.fly_server import LocalFlyHandle, local_fly
from infra.ports import Machine, MachineSpec, Refusal, Refused, Unanswered
from tests.support.fly_spec import check_answer

pytestmark = pytest.mark.peer

SPEC = MachineSpec(
    app="local-runners",
    name="job-1",
    image="i",
    regions=["iad", "dfw"],
    size="performance-1x",
    env={},
    metadata={"attempt": "a1"},
)


class Admin:
    """Sets what goes wrong, and calls past the adapter; every answer is held against Fly's document."""

    def __init__(self, handle: LocalFlyHandle) -> None:
        self.faults = f"{handle.url.removesuffix('/v1')}/admin/faults"
        self.machines = f"{handle.url}/apps/{handle.app}/machines"
        self.http = httpx.Client(headers={"Authorization": f"Bearer {handle.token}"}, timeout=20)

    def set(self, **rates: float) -> None:
        self.put({"rate_limits": False, "rates": rates})

    def put(self, faults: Any) -> dict[str, Any]:
        return dict(self.http.put(self.faults, json=faults).raise_for_status().json())

    def hits(self) -> dict[str, int]:
        return dict(self.http.get(self.faults).raise_for_status().json()["hits"])

    def call(self, method: str, path: str = "", **content: Any) -> httpx.Response:
        answer = self.http.request(method, f"{self.machines}{path}", **content)
        check_answer(answer)
        return answer

    def sleeper(self, name: str, **config: Any) -> str:
        config = {
            "image": "i",
            "init": {"exec": ["/bin/sleep", "600"]},
            "restart": {"policy": "no"},
            **config,
        }
        body = {"name": name, "config": {"auto_destroy": True, "metadata": {"attempt": name}, **config}}
        return str(self.call("POST", json=body).raise_for_status().json()["id"])

    def state(self, machine_id: str) -> str:
        return str(self.call("GET", f"/{machine_id}").json()["state"])

    def until(self, machine_id: str, state: str) -> None:
        deadline = time.monotonic() + 10
        while self.state(machine_id) != state:
            assert time.monotonic() < deadline, self.state(machine_id)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def handle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlyHandle]:
    with local_fly(tmp_path_factory.mktemp("fly")) as running:
        yield running


@pytest.fixture(scope="module")
def client(handle: LocalFlyHandle) -> Iterator[Admin]:
    admin = Admin(handle)
    with admin.http:
        yield admin


@pytest.fixture
def admin(client: Admin) -> Iterator[Admin]:
    """Return the admin of a Fly without faults, as it is again afterwards."""
    client.set()
    yield client
    client.set()


@pytest.fixture(scope="module")
def machines(handle: LocalFlyHandle) -> Iterator[FlyMachines]:
    """Return an adapter on so quick a clock that its own limits never hold it back."""
    seconds = itertools.count(step=10)
    adapter = FlyMachines(
        api_url=handle.url,
        token=handle.token,
        pause=lambda _: None,
        monotonic_s=lambda: float(next(seconds)),
    )
    yield adapter
    adapter.close()


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> MachineSpec:
    name = request.node.name.replace("[", "-").replace("]", "")
    return replace(SPEC, name=name, metadata={"attempt": name})


# --- the admin route ------------------------------------------------------------------------------


def test_faults_are_set_and_shown_as_json_with_what_they_hit(admin: Admin) -> None:
    before = admin.hits().get("unavailable", 0)
    answer = admin.put(
        {
            "rate_limits": False,
            "rates": {"unavailable": 1},
            "windows": [{"fail_point": "empty_list", "from_s": 1, "until_s": 2}],
            "boot_s": [1, 2.5],
        }
    )
    assert (answer["faults"]["rates"], answer["faults"]["boot_s"]) == ({"unavailable": 1}, [1, 2.5])
    assert answer["faults"]["windows"] == [{"fail_point": "empty_list", "from_s": 1, "until_s": 2, "rate": 1}]
    assert admin.call("GET").status_code in (502, 503, 504)
    assert admin.hits()["unavailable"] == before + 1


@pytest.mark.parametrize(
    "bad", [[], {"rates": {"gremlins": 1}}, {"x": 1}, {"capacity_answer": "no"}, {"boot_s": 1}]
)
def test_faults_that_make_no_sense_are_refused_and_change_nothing(admin: Admin, bad: Any) -> None:
    before = admin.http.get(admin.faults).json()["faults"]
    assert admin.http.put(admin.faults, json=bad).status_code == 400
    assert admin.http.get(admin.faults).json()["faults"] == before


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_without_the_token_nothing_is_shown_or_changed(admin: Admin, method: str) -> None:
    assert httpx.request(method, admin.faults, json={}).status_code == 401


# --- cuts and limits on the wire ------------------------------------------------------------------


@pytest.mark.parametrize(("fail_point", "made"), [("refused", 0), ("read_lost", 1)])
def test_a_cut_ends_the_connection_without_an_answer_and_only_that(
    admin: Admin, fail_point: str, made: int
) -> None:
    name = f"cut {fail_point}"
    if made:
        admin.sleeper(name)
    admin.set(**{fail_point: 1})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        admin.http.get(admin.machines)
    admin.set()
    assert len(admin.call("GET", params={"metadata.attempt": name}).json()) == made


def test_the_fourth_create_within_a_second_is_429(admin: Admin) -> None:
    admin.put({})
    statuses = [admin.call("POST", json={"config": {}}).status_code for _ in range(4)]
    assert statuses == [400, 400, 400, 429]


# --- the adapter ----------------------------------------------------------------------------------


def raised(call: Callable[[], Any]) -> Refused | Unanswered:
    with pytest.raises((Refused, Unanswered)) as error:
        call()
    return error.value


@pytest.mark.parametrize("number", range(3))
def test_a_create_whose_answer_was_lost_is_unanswered_and_adopted_the_next_time(
    admin: Admin, machines: FlyMachines, spec: MachineSpec, number: int
) -> None:
    """Several times, as the answer is drawn: 408, 500 or a cut."""
    admin.put({"rate_limits": False, "rates": {"create_lost_done": 1}, "boot_s": [60, 60]})
    assert isinstance(raised(lambda: machines.create(spec)), Unanswered)
    admin.set()
    [seen] = machines.list(spec.app, spec.metadata)
    assert machines.create(spec).id == seen.id


def test_a_create_that_was_lost_undone_is_unanswered_and_made_the_next_time(
    admin: Admin, machines: FlyMachines, spec: MachineSpec
) -> None:
    admin.set(create_lost_undone=1)
    assert isinstance(raised(lambda: machines.create(spec)), Unanswered)
    assert machines.list(spec.app, spec.metadata) == []
    admin.set()
    assert machines.create(spec).name == spec.name


@pytest.mark.parametrize(
    ("faults", "refusal"),
    [
        ({"rates": {"no_capacity": 1}}, Refusal.CAPACITY),
        ({"rates": {"no_capacity": 1}, "capacity_answer": "aborted"}, Refusal.CAPACITY),
        ({"capacity": {"iad": 0, "dfw": 0}, "capacity_answer": "quota"}, Refusal.CAPACITY),
    ],
)
def test_no_capacity_is_refused_as_such(
    admin: Admin, machines: FlyMachines, spec: MachineSpec, faults: dict[str, Any], refusal: Refusal
) -> None:
    admin.put({"rate_limits": False, **faults})
    error = raised(lambda: machines.create(spec))
    assert isinstance(error, Refused)
    assert error.refusal is refusal


def test_a_full_region_gives_way_to_the_next(admin: Admin, machines: FlyMachines, spec: MachineSpec) -> None:
    admin.put({"rate_limits": False, "capacity": {"iad": 0}})
    assert machines.create(spec).region == "dfw"


def test_a_429_of_fly_is_rate_limited_also_if_others_used_up_the_limit(
    admin: Admin, machines: FlyMachines
) -> None:
    admin.put({})
    for _ in range(3):
        admin.call("DELETE", "/m1")
    error = raised(lambda: machines.destroy("local-runners", "m1"))
    assert isinstance(error, Refused)
    assert (error.refusal, error.status) == (Refusal.RATE_LIMITED, 429)


@pytest.mark.parametrize("fail_point", ["refused", "unavailable", "read_lost"])
def test_reads_that_get_no_answer_are_unanswered(
    admin: Admin, machines: FlyMachines, fail_point: str
) -> None:
    admin.set(**{fail_point: 1})
    assert isinstance(raised(lambda: machines.get("local-runners", "m1")), Unanswered)
    assert isinstance(raised(lambda: machines.list("local-runners", {})), Unanswered)


def test_an_empty_list_is_an_empty_list_and_get_still_knows(
    admin: Admin, machines: FlyMachines, spec: MachineSpec
) -> None:
    machine_id = admin.sleeper(spec.name)
    admin.set(empty_list=1)
    assert machines.list(spec.app, spec.metadata) == []
    assert machines.get(spec.app, machine_id) is not None
    machines.destroy(spec.app, machine_id)


def test_a_machine_on_a_lost_host_is_shown_as_such_and_a_destroy_waits_for_the_host(
    admin: Admin, machines: FlyMachines, spec: MachineSpec
) -> None:
    admin.put(
        {
            "rate_limits": False,
            "rates": {"host_cut_off": 1},
            "host_lost_s": [0.05, 0.05],
            "host_away_s": [1.5, 1.5],
        }
    )
    machine_id = admin.sleeper(spec.name)
    seen = until(machines, machine_id, lambda machine: not machine.host_ok)
    assert (seen.metadata, seen.state) == ({"attempt": spec.name}, "started")
    assert isinstance(raised(lambda: machines.stop(spec.app, machine_id, timeout_s=1)), Unanswered)
    machines.destroy(spec.app, machine_id)
    destroying = machines.get(spec.app, machine_id)
    assert destroying is not None
    assert (destroying.state, destroying.is_gone) == ("destroying", False)
    ended = until(machines, machine_id, lambda machine: machine.is_gone)
    assert ended.started_at is not None
    assert ended.exit is not None
    assert ended.destroyed_at is not None
    assert ended.host_ok
    assert ended.started_at < ended.exit.at <= ended.destroyed_at


def until(machines: FlyMachines, machine_id: str, wanted: Callable[[Machine], bool]) -> Machine:
    """Return the machine once it is as wanted."""
    deadline = time.monotonic() + 10
    while (machine := machines.get("local-runners", machine_id)) is None or not wanted(machine):
        assert time.monotonic() < deadline, machine
        time.sleep(0.02)
    return machine


# --- delays and deaths on the real clock ----------------------------------------------------------


def test_a_machine_takes_its_time_to_boot_and_a_wait_sees_it_start(admin: Admin, spec: MachineSpec) -> None:
    admin.put({"rate_limits": False, "pull_s": [0.2, 0.2], "boot_s": [0.2, 0.2]})
    machine_id = admin.sleeper(spec.name)
    assert admin.state(machine_id) == "created"
    assert admin.call("GET", f"/{machine_id}/wait", params={"state": "started", "timeout": 10}).json()["ok"]
    began, started = (
        next(
            e["timestamp"] for e in admin.call("GET", f"/{machine_id}/events").json() if e["status"] == status
        )
        for status in ("created", "started")
    )
    assert 350 < started - began < 5000


@pytest.mark.parametrize(
    ("fail_point", "code", "oom"),
    [(FailPoint.OUT_OF_MEMORY, 137, True), (FailPoint.EXITS, 1, False), (FailPoint.KILLED, 139, False)],
)
def test_a_process_is_killed_when_its_time_has_come(
    admin: Admin, machines: FlyMachines, spec: MachineSpec, fail_point: FailPoint, code: int, oom: bool
) -> None:
    admin.put({"rate_limits": False, "rates": {fail_point: 1}, "death_s": [0.1, 0.1]})
    machine_id = admin.sleeper(spec.name)
    ended = until(machines, machine_id, lambda machine: machine.is_gone)
    assert ended.exit is not None
    assert (ended.exit.exit_code, ended.exit.oom_killed, ended.exit.requested_stop) == (code, oom, False)


@pytest.mark.parametrize(
    ("fail_point", "state"),
    [
        (FailPoint.START_FAILED, "failed"),
        (FailPoint.LAUNCH_FAILED, "destroyed"),
        (FailPoint.STUCK_FOR_EVER, "created"),
    ],
)
def test_the_rarer_states_are_answered_as_the_document_has_them(
    admin: Admin, machines: FlyMachines, spec: MachineSpec, fail_point: FailPoint, state: str
) -> None:
    admin.set(**{fail_point: 1})
    machine_id = admin.sleeper(spec.name)
    admin.until(machine_id, state)
    for path in ("", f"/{machine_id}/events", f"/{machine_id}/wait?state=settled&timeout=1"):
        assert admin.call("GET", path).status_code == 200
    machines.destroy(spec.app, machine_id)
    admin.until(machine_id, "destroyed")


def test_a_machine_that_stays_stopped_is_destroyed_by_who_asks(
    admin: Admin, machines: FlyMachines, spec: MachineSpec
) -> None:
    admin.set(stays_stopped=1)
    machine_id = admin.sleeper(spec.name, init={"exec": ["/bin/true"]})
    admin.until(machine_id, "stopped")
    machines.destroy(spec.app, machine_id)
    assert admin.state(machine_id) == "destroyed"


def test_closing_does_not_wait_for_what_is_due_later(tmp_path: Path) -> None:
    with local_fly(tmp_path, faults=Faults(pull_s=(300, 300))) as handle:
        admin = Admin(handle)
        with admin.http:
            assert admin.state(admin.sleeper("job-1")) == "created"
        began = time.monotonic()
    assert time.monotonic() - began < 5
