"""Machines over Fly: with the local Fly, and with every known answer of Fly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from infra.fly.client import PRESETS, FlyMachines, authorization
from infra.fly.responses import machine_of
from infra.flysim.faults import Faults
from infra.flysim.validation import create_request
from infra.local.fly_server import LocalFlyHandle, local_fly
from infra.ports import Machine, Machines, MachineSpec, Refusal, Refused, Unanswered
from tests.support.fly_spec import check_request

API = "https://fly.test/v1"
UNLIMITED = Faults(rate_limits=False)
TOKEN = "fm2_very-secret"
SPEC = MachineSpec(
    app="runners",
    name="job-1",
    image="registry.fly.io/runners:1",
    regions=["iad", "dfw"],
    size="performance-2x",
    env={"ATTEMPT_TOKEN": "attempt-secret"},
    metadata={"attempt": "a1"},
)
SHOWN = {
    "id": "m1",
    "name": "job-1",
    "state": "created",
    "region": "iad",
    "created_at": "2026-11-01T12:00:00.12Z",
    "config": {"metadata": {"attempt": "a1"}},
}
SEEN_ERRORS = json.loads(Path(__file__).with_name("fly-errors.json").read_text(encoding="utf-8"))


def shown(**changes: Any) -> dict[str, Any]:
    return {**SHOWN, **changes}


# --- against the local Fly ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlyHandle]:
    with local_fly(tmp_path_factory.mktemp("fly"), faults=UNLIMITED) as handle:
        yield handle


@pytest.fixture
def machines(fly: LocalFlyHandle) -> Iterator[FlyMachines]:
    adapter = FlyMachines(api_url=fly.url, token=fly.token)
    yield adapter
    adapter.close()


@pytest.fixture
def spec(fly: LocalFlyHandle, request: pytest.FixtureRequest) -> MachineSpec:
    """Return a spec of this test's own; it runs the runner, which ends at once without its variables."""
    name = request.node.name.replace("[", "-").replace("]", "")
    return replace(SPEC, app=fly.app, name=name, metadata={"attempt": name}, env={"A": "1"})


def sleeper(fly: LocalFlyHandle, name: str) -> str:
    """Create, past the adapter, a machine that runs until it is told to stop."""
    config = {
        "image": "i",
        "auto_destroy": True,
        "restart": {"policy": "no"},
        "init": {"exec": ["/bin/sleep", "600"]},
        "metadata": {"attempt": name},
    }
    url, headers = f"{fly.url}/apps/{fly.app}/machines", {"Authorization": f"Bearer {fly.token}"}
    answer = httpx.post(url, json={"name": name, "config": config}, headers=headers)
    return str(answer.raise_for_status().json()["id"])


def gone(machines: Machines, app: str, machine_id: str) -> Machine:
    """Return the machine once it is destroyed."""
    deadline = time.monotonic() + 10
    while (machine := machines.get(app, machine_id)) is None or not machine.is_gone:
        assert time.monotonic() < deadline, machine
        time.sleep(0.02)
    return machine


def test_a_created_machine_runs_once_and_is_gone_with_its_exit_to_be_read(
    machines: FlyMachines, spec: MachineSpec
) -> None:
    made = machines.create(spec)
    assert (made.app, made.name, made.state, made.region) == (spec.app, spec.name, "created", "iad")
    assert made.metadata == spec.metadata
    ended = gone(machines, spec.app, made.id)
    assert ended.exit is not None
    assert (ended.exit.exit_code != 0, ended.exit.signal, ended.exit.requested_stop) == (True, 0, False)
    assert abs((datetime.now(UTC) - ended.exit.at).total_seconds()) < 60
    assert machines.list(spec.app, spec.metadata) == [ended]


def test_a_create_under_a_held_name_adopts_the_machine(
    machines: FlyMachines, fly: LocalFlyHandle, spec: MachineSpec
) -> None:
    machine_id = sleeper(fly, spec.name)
    assert machines.create(spec).id == machine_id


def test_a_stop_ends_the_machine_and_is_recorded_as_requested(
    machines: FlyMachines, fly: LocalFlyHandle, spec: MachineSpec
) -> None:
    machine_id = sleeper(fly, spec.name)
    machines.stop(fly.app, machine_id, timeout_s=2.5)
    ended = gone(machines, fly.app, machine_id)
    assert ended.exit is not None
    assert (ended.exit.exit_code, ended.exit.signal, ended.exit.requested_stop) == (143, 15, True)
    machines.stop(fly.app, machine_id, timeout_s=5)


def test_a_destroy_takes_a_running_machine_and_succeeds_again_when_it_is_gone(
    machines: FlyMachines, fly: LocalFlyHandle, spec: MachineSpec
) -> None:
    machine_id = sleeper(fly, spec.name)
    machines.destroy(fly.app, machine_id)
    gone(machines, fly.app, machine_id)
    machines.destroy(fly.app, machine_id)
    machines.destroy(fly.app, "never-was")


def test_a_list_holds_only_what_matches(
    machines: FlyMachines, fly: LocalFlyHandle, spec: MachineSpec
) -> None:
    machine_id = sleeper(fly, spec.name)
    assert [machine.id for machine in machines.list(fly.app, {"attempt": spec.name})] == [machine_id]
    assert machines.list(fly.app, {"attempt": "none"}) == []


def test_a_machine_that_never_was_is_none(machines: FlyMachines, fly: LocalFlyHandle) -> None:
    assert machines.get(fly.app, "never-was") is None


def test_a_wrong_token_is_unauthorized(fly: LocalFlyHandle) -> None:
    stranger = FlyMachines(api_url=fly.url, token="wrong")
    with pytest.raises(Refused) as refused:
        stranger.list(fly.app, {})
    stranger.close()
    assert (refused.value.refusal, refused.value.status) == (Refusal.UNAUTHORIZED, 401)


@pytest.mark.parametrize("size", PRESETS)
def test_every_size_is_one_that_fly_sells(size: str, remote: FlyMachines, fake: respx.Router) -> None:
    route = fake.post(f"{API}/apps/runners/machines").respond(json=SHOWN)
    remote.create(replace(SPEC, size=size))
    create_request(json.loads(route.calls.last.request.content))


# --- against answers ------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[respx.Router]:
    with respx.mock(assert_all_called=False) as router:
        yield router
        for call in router.calls:
            check_request(call.request)


class Monotonic:
    """A clock that only waiting moves, and how long was waited."""

    now_s = 0.0

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.waited_s.append(seconds)


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def remote(monotonic: Monotonic) -> Iterator[FlyMachines]:
    adapter = FlyMachines(api_url=API, token=TOKEN, pause=monotonic.pause, monotonic_s=monotonic)
    yield adapter
    adapter.close()


MACHINES = f"{API}/apps/runners/machines"


def test_a_create_asks_for_a_one_shot_machine(remote: FlyMachines, fake: respx.Router) -> None:
    route = fake.post(MACHINES).respond(json=SHOWN)
    machine = remote.create(SPEC)
    assert json.loads(route.calls.last.request.content) == {
        "name": "job-1",
        "region": "iad,dfw",
        "config": {
            "image": "registry.fly.io/runners:1",
            "env": {"ATTEMPT_TOKEN": "attempt-secret"},
            "metadata": {"attempt": "a1"},
            "guest": {"cpu_kind": "performance", "cpus": 2, "memory_mb": 4096},
            "auto_destroy": True,
            "restart": {"policy": "no"},
        },
    }
    assert route.calls.last.request.headers["Authorization"] == f"FlyV1 {TOKEN}"
    assert machine.created_at == datetime(2026, 11, 1, 12, 0, 0, 120000, tzinfo=UTC)


def test_a_machine_may_run_another_command_or_not_be_started_at_all(
    remote: FlyMachines, fake: respx.Router
) -> None:
    route = fake.post(MACHINES).respond(json=SHOWN)
    remote.create(replace(SPEC, command=("python3", "-m", "runner.self_test"), is_started=False))
    sent = json.loads(route.calls.last.request.content)
    assert sent["config"]["init"] == {"exec": ["python3", "-m", "runner.self_test"]}
    assert sent["skip_launch"] is True
    create_request(sent)


def test_the_other_calls_send_what_fly_documents(remote: FlyMachines, fake: respx.Router) -> None:
    stop = fake.post(f"{MACHINES}/m1/stop").respond(json={"ok": True})
    destroy = fake.delete(f"{MACHINES}/m1").respond(json={"ok": True})
    listed = fake.get(MACHINES).respond(json=[])
    remote.stop("runners", "m1", timeout_s=5)
    remote.destroy("runners", "m1")
    remote.list("runners", {"batch": "b&1"})
    assert json.loads(stop.calls.last.request.content) == {"signal": "SIGTERM", "timeout": "5s"}
    assert dict(destroy.calls.last.request.url.params) == {"force": "true"}
    assert dict(listed.calls.last.request.url.params) == {"include_deleted": "true", "metadata.batch": "b&1"}


def test_an_id_cannot_leave_its_place_in_the_path(remote: FlyMachines, fake: respx.Router) -> None:
    route = fake.get(url__startswith=API).respond(404, json={"error": "machine not found"})
    assert remote.get("runners", "../x?y") is None
    assert route.calls.last.request.url.raw_path == b"/v1/apps/runners/machines/..%2Fx%3Fy"


@pytest.mark.parametrize(
    ("token", "header"),
    [
        ("fm1r_x", "FlyV1 fm1r_x"),
        ("fm2_x,fm2_y", "FlyV1 fm2_x,fm2_y"),
        ("FlyV1 fm2_x", "FlyV1 fm2_x"),
        ("Bearer x", "Bearer x"),
        ("x", "Bearer x"),
    ],
)
def test_the_scheme_follows_the_token(token: str, header: str) -> None:
    assert authorization(token) == header


REFUSED_OF_SEEN = {
    "Authenticate: token validation error": Refusal.UNAUTHORIZED,
    'organization "Kilo" is using': Refusal.CAPACITY,
    "machine not found": Refusal.INVALID,
    "aborted: no capacity": Refusal.CAPACITY,
    "aborted: could not reserve": Refusal.CAPACITY,
    "aborted: insufficient": Refusal.CAPACITY,
    "insufficient resources to create new machine with existing volume": Refusal.CAPACITY,
    "could not find a candidate host": Refusal.CAPACITY,
    "Validation failed": Refusal.INVALID,
    "instance_id required": Refusal.INVALID,
    "invalid_argument": Refusal.INVALID,
    "json: cannot": Refusal.INVALID,
    "no capacity": Refusal.CAPACITY,
    "out of capacity": Refusal.CAPACITY,
}


def expected_of_seen(seen: dict[str, Any]) -> Refusal | None:
    if seen["status"] == 429:
        return Refusal.RATE_LIMITED
    text = (seen["body"] or {}).get("error", "")
    return next((found for start, found in REFUSED_OF_SEEN.items() if text.startswith(start)), None)


@pytest.mark.parametrize(
    "seen",
    [seen for seen in SEEN_ERRORS if "already_exists" not in str(seen["body"])],
    ids=lambda seen: f"{seen['status']}-{seen['meaning'][:40]}",
)
def test_every_answer_that_fly_was_seen_to_give_is_classified(
    remote: FlyMachines, fake: respx.Router, seen: dict[str, Any]
) -> None:
    fake.post(MACHINES).respond(seen["status"], json=seen["body"], headers={"fly-request-id": "r1"})
    expected = expected_of_seen(seen)
    with pytest.raises(Unanswered if expected is None else Refused) as failed:
        remote.create(SPEC)
    assert getattr(failed.value, "refusal", None) is expected
    assert (failed.value.method, failed.value.path) == ("POST", "/v1/apps/runners/machines")
    assert (failed.value.status, failed.value.request_id) == (seen["status"], "r1")


LOOK_ALIKES: list[tuple[int, Any, Refusal | None]] = [
    # the status in the body outranks the text and the HTTP status
    (422, {"error": "anything", "status": "insufficient_capacity"}, Refusal.CAPACITY),
    (503, {"error": "anything", "status": "insufficient_capacity"}, Refusal.CAPACITY),
    (409, {"error": "aborted: no capacity", "status": "name_taken"}, Refusal.INVALID),
    (409, {"error": "aborted: no capacity", "status": "unknown"}, Refusal.CAPACITY),
    # words of capacity where they mean something else
    (422, {"error": "Validation failed: could not find a candidate host"}, Refusal.INVALID),
    (422, {"error": "insufficient resources available"}, Refusal.INVALID),
    (400, {"error": "invalid name: no capacity"}, Refusal.INVALID),
    (409, {"error": 'conflict with machine "aborted: no capacity"'}, None),
    (409, {"error": "aborted: machine update failed due to concurrent update"}, None),
    (409, {"status": "error", "message": "machine ID x lease currently held by y", "code": "invalid"}, None),
    (409, {"error": "something new"}, None),
    (409, None, None),
    (412, {"error": "unable to start machine from current state: 'created'"}, None),
    (403, {"error": "not authorized for this app"}, Refusal.UNAUTHORIZED),
    (403, None, Refusal.UNAUTHORIZED),
    (404, {"error": "app not found"}, Refusal.UNAUTHORIZED),
    (404, {"error": "Could not find App runners"}, Refusal.UNAUTHORIZED),
    (409, {"error": "aborted"}, Refusal.CAPACITY),
    (412, {"error": "aborted: no capacity"}, Refusal.CAPACITY),
    (412, {"error": "insufficient resources to place the machine"}, Refusal.CAPACITY),
    (412, {"error": "could not reserve resource for machine: insufficient CPUs"}, Refusal.CAPACITY),
    (412, {"error": "failed_precondition: machine not stopped"}, None),
    # what an operator or a minute can mend
    (400, {"error": "failed to get manifest registry.fly.io/a:1: MANIFEST_UNKNOWN"}, Refusal.IMAGE_NOT_FOUND),
    (400, {"error": "invalid name: failed to get manifest"}, Refusal.INVALID),
    (422, {"error": "Your organization has reached its machine limit. Ask billing@x"}, Refusal.MACHINE_LIMIT),
    (422, {"error": "We need your payment information to continue!"}, Refusal.PAYMENT_REQUIRED),
    (403, {"error": "Please add a payment method"}, Refusal.PAYMENT_REQUIRED),
    (402, None, Refusal.PAYMENT_REQUIRED),
    (418, "tea", Refusal.INVALID),
    (500, {"error": "aborted: no capacity"}, None),
    (502, None, None),
    (504, ["x"], None),
    (307, None, None),
]


@pytest.mark.parametrize(("status", "body", "expected"), LOOK_ALIKES)
def test_look_alikes_are_distinguished(
    remote: FlyMachines, fake: respx.Router, status: int, body: Any, expected: Refusal | None
) -> None:
    route = fake.post(MACHINES).respond(status, json=body)
    with pytest.raises(Unanswered if expected is None else Refused) as failed:
        remote.create(SPEC)
    assert getattr(failed.value, "refusal", None) is expected
    assert route.call_count == 1


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError])
def test_a_create_that_is_cut_is_unanswered_and_not_sent_again(
    remote: FlyMachines, fake: respx.Router, error: type[httpx.TransportError]
) -> None:
    route = fake.post(MACHINES).mock(side_effect=error("cut"))
    with pytest.raises(Unanswered, match=error.__name__):
        remote.create(SPEC)
    assert route.call_count == 1


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout])
def test_a_create_that_found_no_connection_was_surely_not_done(
    remote: FlyMachines, fake: respx.Router, error: type[httpx.TransportError]
) -> None:
    fake.post(MACHINES).mock(side_effect=error("refused"))
    with pytest.raises(Refused) as failed:
        remote.create(SPEC)
    assert failed.value.refusal is Refusal.UNREACHABLE


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b"null", b'{"id": "m1"}'])
def test_a_success_that_cannot_be_read_is_unanswered(
    remote: FlyMachines, fake: respx.Router, content: bytes
) -> None:
    fake.post(MACHINES).respond(200, content=content)
    with pytest.raises(Unanswered, match="cannot be read"):
        remote.create(SPEC)


def test_an_unknown_size_is_refused_before_anything_is_sent(remote: FlyMachines, fake: respx.Router) -> None:
    with pytest.raises(Refused) as refused:
        remote.create(replace(SPEC, size="huge"))
    assert (refused.value.refusal, len(fake.calls)) == (Refusal.INVALID, 0)


# --- limits ---------------------------------------------------------------------------------------


def test_three_creates_of_an_app_go_at_once_and_the_next_is_refused_without_a_request(
    remote: FlyMachines, fake: respx.Router, monotonic: Monotonic
) -> None:
    route = fake.post(url__regex=f"{API}/apps/.*").respond(json=SHOWN)
    rooms = [remote.room("runners")]
    for _ in range(3):
        remote.create(SPEC)
        rooms.append(remote.room("runners"))
    with pytest.raises(Refused) as refused:
        remote.create(SPEC)
    assert (rooms, refused.value.refusal, route.call_count) == ([3, 2, 1, 0], Refusal.RATE_LIMITED, 3)
    remote.create(replace(SPEC, app="others"))
    monotonic.now_s += 1
    remote.create(SPEC)
    assert (route.call_count, monotonic.waited_s) == (5, [])


def test_lists_wait_their_turn(remote: FlyMachines, fake: respx.Router, monotonic: Monotonic) -> None:
    route = fake.get(MACHINES).respond(json=[])
    for _ in range(5):
        remote.list("runners", {})
    assert (route.call_count, monotonic.waited_s) == (5, [1, 1])


def test_a_machine_may_be_read_five_times_a_second(
    remote: FlyMachines, fake: respx.Router, monotonic: Monotonic
) -> None:
    fake.get(url__startswith=MACHINES).respond(json=SHOWN)
    for _ in range(12):
        remote.get("runners", "m1")
    assert sum(monotonic.waited_s) == pytest.approx(0.4)
    remote.get("runners", "m2")
    assert sum(monotonic.waited_s) == pytest.approx(0.4)


# --- adoption -------------------------------------------------------------------------------------

HELD = 'already_exists: unique machine name violation, machine ID m9 already exists with name "job-1"'


def test_the_holder_of_the_name_is_adopted_even_if_it_ended_since(
    remote: FlyMachines, fake: respx.Router
) -> None:
    fake.post(MACHINES).respond(409, json={"error": HELD})
    fake.get(f"{MACHINES}/m9").respond(json=shown(id="m9", state="destroyed"))
    assert remote.create(SPEC).is_gone


NOT_THERE = (404, {"error": "machine not found"})
NOT_OURS = (200, shown(id="m9", name="other"))


@pytest.mark.parametrize(("status", "body"), [NOT_THERE, NOT_OURS, (500, None), (429, None), (401, None)])
def test_a_holder_that_is_not_ours_or_not_seen_leaves_the_create_open(
    remote: FlyMachines, fake: respx.Router, status: int, body: Any
) -> None:
    fake.post(MACHINES).respond(409, json={"error": HELD})
    fake.get(f"{MACHINES}/m9").respond(status, json=body)
    with pytest.raises(Unanswered):
        remote.create(SPEC)


# --- reads ----------------------------------------------------------------------------------------


def test_a_read_is_repeated_a_few_times(remote: FlyMachines, fake: respx.Router) -> None:
    answers = [httpx.Response(502), httpx.ReadTimeout("late"), httpx.Response(200, json=SHOWN)]
    fake.get(f"{MACHINES}/m1").mock(side_effect=answers)
    machine = remote.get("runners", "m1")
    assert machine is not None
    assert machine.id == "m1"


def test_a_read_that_stays_unanswered_says_so(remote: FlyMachines, fake: respx.Router) -> None:
    route = fake.get(MACHINES).respond(503)
    with pytest.raises(Unanswered):
        remote.list("runners", {})
    assert route.call_count == 4


def test_a_refused_read_is_not_repeated(remote: FlyMachines, fake: respx.Router) -> None:
    route = fake.get(MACHINES).respond(401)
    with pytest.raises(Refused):
        remote.list("runners", {})
    assert route.call_count == 1


def test_a_read_over_the_limit_is_repeated(remote: FlyMachines, fake: respx.Router) -> None:
    fake.get(MACHINES).mock(side_effect=[httpx.Response(429), httpx.Response(200, json=[])])
    assert remote.list("runners", {}) == []


def test_a_list_drops_what_fly_did_not_filter(remote: FlyMachines, fake: respx.Router) -> None:
    foreign = shown(id="m2", config={"metadata": {"attempt": "other"}})
    fake.get(MACHINES).respond(json=[SHOWN, foreign, shown(id="m3", config=None)])
    assert [machine.id for machine in remote.list("runners", {"attempt": "a1"})] == ["m1"]


@pytest.mark.parametrize("body", [{}, None, "x", [1]])
def test_a_list_that_cannot_be_read_is_unanswered(remote: FlyMachines, fake: respx.Router, body: Any) -> None:
    fake.get(MACHINES).respond(json=body)
    with pytest.raises(Unanswered):
        remote.list("runners", {})


# --- what a machine's JSON tells ------------------------------------------------------------------


def exit_of(*events: dict[str, Any]) -> Any:
    return machine_of("runners", shown(events=list(events))).exit


def test_an_exit_event_without_an_exit_code_is_a_zero() -> None:
    request = {"exit_event": {"guest_signal": -1, "signal": -1, "exited_at": "2026-11-01T12:00:02Z"}}
    found = exit_of({"type": "exit", "timestamp": 5, "request": request})
    assert (found.exit_code, found.signal, found.oom_killed, found.requested_stop) == (0, 0, False, False)
    assert found.at == datetime(2026, 11, 1, 12, 0, 2, tzinfo=UTC)


def test_the_older_place_of_the_exit_event_and_milliseconds_are_understood() -> None:
    old = {"exit_code": 137, "oom_killed": True, "exited_at": 1653346105255}
    found = exit_of({"type": "exit", "timestamp": 5, "request": {"MonitorEvent": {"exit_event": old}}})
    assert (found.exit_code, found.oom_killed, found.at.year) == (137, True, 2022)


def test_the_newest_exit_counts_in_any_place_and_others_are_no_exit() -> None:
    def event(code: int, timestamp: int) -> dict[str, Any]:
        return {"type": "exit", "timestamp": timestamp, "request": {"exit_event": {"exit_code": code}}}

    launch = {"type": "launch", "timestamp": 9000, "request": None}
    assert exit_of(launch, event(1, 1000), event(2, 2000)).exit_code == 2
    assert exit_of(launch, {"type": "start", "timestamp": 1, "request": {}}) is None
    assert machine_of("runners", SHOWN).exit is None


def test_metadata_is_found_while_the_host_does_not_answer() -> None:
    unreachable = shown(
        config=None, incomplete_config={"metadata": {"attempt": "a1"}}, host_status="unreachable"
    )
    assert machine_of("runners", unreachable).metadata == {"attempt": "a1"}


def test_events_show_when_a_machine_started_and_was_destroyed_and_the_host_how_sure_that_is() -> None:
    events = [
        {"type": "destroy", "status": "destroyed", "timestamp": 1793534409000, "request": None},
        {"type": "destroy", "status": "destroying", "timestamp": 1793534408000},
        {"type": "start", "status": "started", "timestamp": 1793534402000},
        {"type": "start", "status": "starting", "timestamp": 1793534401000},
    ]
    machine = machine_of("runners", shown(events=events, host_status="unreachable"))
    assert machine.started_at == datetime(2026, 11, 1, 12, 0, 2, tzinfo=UTC)
    assert machine.destroyed_at == datetime(2026, 11, 1, 12, 0, 9, tzinfo=UTC)
    assert not machine.host_ok
    fresh = machine_of("runners", SHOWN)
    assert (fresh.started_at, fresh.destroyed_at, fresh.host_ok) == (None, None, True)


# --- secrets --------------------------------------------------------------------------------------


def test_an_error_holds_neither_the_token_nor_a_variable_and_is_short(
    remote: FlyMachines, fake: respx.Router
) -> None:
    text = f"cannot use attempt-secret with {TOKEN} " + "x" * 5000
    fake.post(MACHINES).respond(400, json={"error": text}, headers={"fly-request-id": "r1"})
    with pytest.raises(Refused) as refused:
        remote.create(SPEC)
    shown = str(refused.value) + repr(refused.value)
    assert "attempt-secret" not in shown
    assert TOKEN not in shown
    assert "POST /v1/apps/runners/machines · 400 · cannot use *** with ***" in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_token_with_its_prefix_is_kept_out_of_errors_too(fake: respx.Router) -> None:
    adapter = FlyMachines(api_url=API, token=f"FlyV1 {TOKEN}")
    fake.post(MACHINES).respond(401, json={"error": f"bad token {TOKEN}"})
    with pytest.raises(Refused) as refused:
        adapter.create(SPEC)
    adapter.close()
    assert TOKEN not in str(refused.value)


def test_each_app_is_called_with_its_own_token_and_no_error_quotes_any(fake: respx.Router) -> None:
    tokens = {"runners": f"FlyV1 {TOKEN}", "more": "fm2_of-another-app"}
    adapter = FlyMachines(api_url=API, tokens=tokens)
    first = fake.post(MACHINES).respond(401, json={"error": f"bad {TOKEN} or fm2_of-another-app"})
    second = fake.get(f"{API}/apps/more/machines").respond(json=[])
    with pytest.raises(Refused) as refused:
        adapter.create(SPEC)
    adapter.list("more", {})
    assert str(refused.value).endswith("bad *** or ***")
    assert first.calls.last.request.headers["Authorization"] == f"FlyV1 {TOKEN}"
    assert second.calls.last.request.headers["Authorization"] == "FlyV1 fm2_of-another-app"
    with pytest.raises(Refused) as unnamed:
        adapter.list("third", {})
    adapter.close()
    assert (unnamed.value.refusal, unnamed.value.status) == (Refusal.UNAUTHORIZED, None)
