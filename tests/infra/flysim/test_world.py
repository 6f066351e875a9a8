"""The model of Fly: its state changes, on a clock that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.flysim.events import RemoveMachine, SendSignal, StartProcess
from infra.flysim.faults import Faults
from infra.flysim.machine import RESTARTS_MAX
from infra.flysim.validation import FlyError, duration, image_ref
from infra.flysim.world import World

APP = "runners"
NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new_world(*apps: str) -> World:
    return World(apps or [APP], seed="test", now=NOW, faults=Faults(rate_limits=False))


def at(world: World, seconds: float) -> World:
    """Return the world after so many seconds. What it asked for until then is forgotten."""
    world.advance(later(seconds))
    return world


def body(name: str = "job-1", **config: Any) -> dict[str, Any]:
    """Return the body of a create as the adapter sends it."""
    return {"name": name, "config": {"image": "registry.fly.io/r:1", "restart": {"policy": "no"}, **config}}


def create(world: World, name: str = "job-1", **config: Any) -> str:
    return str(world.create(APP, body(name, **config))["id"])


def run(world: World, name: str = "job-1", **config: Any) -> str:
    """Create a machine, start its process and forget the effects so far."""
    machine_id = create(world, name, **config)
    at(world, 1).started(machine_id)
    world.advance(NOW)
    return machine_id


def leave(world: World, machine_id: str, exit_code: int = 0, signal: int = 0, second: float = 2) -> None:
    at(world, second).exited(machine_id, exit_code=exit_code, signal=signal)


def state(world: World, machine_id: str) -> str:
    return str(world.get(APP, machine_id)["state"])


def exit_event(world: World, machine_id: str) -> dict[str, Any]:
    events = world.get(APP, machine_id)["events"]
    return dict(next(event for event in events if event["type"] == "exit")["request"]["exit_event"])


# --- create ---------------------------------------------------------------------------------------


def test_a_create_answers_created_and_has_the_process_started() -> None:
    world = new_world()
    machine = world.create(APP, body(init={"exec": ["true", "-x"]}))
    assert (machine["state"], machine["name"]) == ("created", "job-1")
    assert state(world, machine["id"]) == "starting"
    [effect] = world.advance(NOW)
    assert isinstance(effect, StartProcess)
    assert (effect.machine_id, effect.argv) == (machine["id"], ("true", "-x"))


def test_effects_are_handed_out_once() -> None:
    world = new_world()
    create(world)
    assert len(world.advance(NOW)) == 1
    assert world.advance(NOW) == []


def test_a_machine_sees_its_own_variables_and_those_of_fly() -> None:
    world = new_world()
    machine = world.create(
        APP, {**body(env={"A": "1"}, guest={"cpu_kind": "performance", "cpus": 2}), "region": "dfw"}
    )
    [effect] = world.advance(NOW)
    assert isinstance(effect, StartProcess)
    assert effect.env == {
        "A": "1",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "FLY_APP_NAME": APP,
        "FLY_MACHINE_ID": machine["id"],
        "FLY_ALLOC_ID": machine["id"],
        "FLY_MACHINE_VERSION": machine["instance_id"],
        "FLY_REGION": "dfw",
        "FLY_IMAGE_REF": "registry.fly.io/r:1",
        "FLY_PRIVATE_IP": machine["private_ip"],
        "FLY_VM_MEMORY_MB": "4096",
    }


def test_a_machine_that_skips_launch_stays_created() -> None:
    world = new_world()
    machine = world.create(APP, {**body(), "skip_launch": True})
    assert (state(world, machine["id"]), world.advance(NOW)) == ("created", [])


def test_a_second_create_under_a_live_name_names_the_machine_that_holds_it() -> None:
    world = new_world()
    machine_id = create(world)
    with pytest.raises(FlyError) as refused:
        create(world)
    text = f'machine ID {machine_id} already exists with name "job-1"'
    assert refused.value.status == 409
    assert refused.value.body == {"error": f"already_exists: unique machine name violation, {text}"}


def test_a_name_is_free_again_once_its_machine_is_destroyed() -> None:
    world = new_world()
    first = run(world, auto_destroy=True)
    leave(world, first)
    assert create(world) != first


def test_a_machine_being_destroyed_still_holds_its_name() -> None:
    world = new_world()
    at(world, 2).destroy(APP, run(world), force=True)
    with pytest.raises(FlyError, match="already_exists"):
        create(world)


def test_two_apps_may_use_the_same_name() -> None:
    world = new_world("a", "b")
    world.create("a", body())
    world.create("b", body())
    assert len(world.list("a", metadata={})) == len(world.list("b", metadata={})) == 1


def test_machines_without_a_name_get_different_ones() -> None:
    world = new_world()
    names = {world.create(APP, {"config": {"image": "i"}})["name"] for _ in range(3)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("wanted", "placed"), [("", "iad"), ("dfw,iad", "dfw"), ("lhr,eu", "lhr"), ("eu", "ams"), ("any", "iad")]
)
def test_the_first_region_of_the_list_is_taken(wanted: str, placed: str) -> None:
    assert new_world().create(APP, {**body(), "region": wanted})["region"] == placed


@pytest.mark.parametrize(
    "bad",
    [
        [],
        "x",
        {},
        {"config": []},
        {"config": {}},
        {"config": {"image": 1}},
        {**body(), "name": 1},
        {**body(), "region": "Mars"},
        body(env={"A": 1}),
        body(env=[]),
        body(env={"FLY_REGION": "iad"}),
        body(metadata={"a": None}),
        body(init={"exec": "true"}),
        body(init=[]),
        body(restart={"policy": "maybe"}),
        body(restart={"max_retries": "x"}),
        body(stop_config={"signal": "SIGSTOP"}),
        body(stop_config={"timeout": "soon"}),
        body(guest=[]),
        body(guest={"cpu_kind": "quantum"}),
        body(guest={"cpu_kind": []}),
        body(guest={"cpus": 3}),
        body(guest={"cpu_kind": "performance", "cpus": 8, "memory_mb": 8192}),
        body(guest={"memory_mb": 300}),
        body(guest={"memory_mb": "256"}),
    ],
)
def test_a_bad_create_is_refused_and_leaves_nothing(bad: Any) -> None:
    world = new_world()
    with pytest.raises(FlyError) as refused:
        world.create(APP, bad)
    assert refused.value.status == 400
    assert (world.list(APP, metadata={}, include_deleted=True), world.advance(NOW)) == ([], [])


def test_equal_lives_of_one_seed_are_equal_and_seeds_share_no_id() -> None:
    ids = [create(World([APP], seed=seed, now=NOW)) for seed in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]


# --- exits ----------------------------------------------------------------------------------------


def test_a_machine_that_ends_by_itself_is_stopped() -> None:
    world = new_world()
    machine_id = run(world)
    leave(world, machine_id, exit_code=3)
    assert state(world, machine_id) == "stopped"
    assert exit_event(world, machine_id) == {
        "exit_code": 3,
        "guest_exit_code": 3,
        "guest_signal": -1,
        "signal": -1,
        "oom_killed": False,
        "requested_stop": False,
        "restarting": False,
        "exited_at": "2026-11-01T12:00:02.000Z",
        "error": "",
    }


@pytest.mark.parametrize("exit_code", [0, 1])
def test_auto_destroy_comes_on_every_exit_and_the_machine_stays_readable(exit_code: int) -> None:
    world = new_world()
    machine_id = run(world, auto_destroy=True)
    leave(world, machine_id, exit_code=exit_code)
    assert state(world, machine_id) == "destroyed"
    assert exit_event(world, machine_id)["exit_code"] == exit_code
    assert world.advance(NOW) == [RemoveMachine(machine_id=machine_id)]


def test_a_kill_for_memory_shows_137_and_says_so() -> None:
    world = new_world()
    machine_id = run(world)
    at(world, 2).exited(machine_id, exit_code=137, signal=9, oom_killed=True)
    event = exit_event(world, machine_id)
    assert (event["exit_code"], event["guest_signal"], event["oom_killed"]) == (137, 9, True)


def test_events_are_newest_first_with_unique_ids() -> None:
    world = new_world()
    machine_id = run(world, auto_destroy=True)
    leave(world, machine_id)
    events = world.events(APP, machine_id)
    assert [(event["type"], event["status"]) for event in events] == [
        ("destroy", "destroyed"),
        ("exit", "stopped"),
        ("start", "started"),
        ("start", "starting"),
        ("launch", "created"),
    ]
    assert len({event["id"] for event in events}) == 5
    assert [event["timestamp"] for event in events] == sorted((e["timestamp"] for e in events), reverse=True)
    assert world.events(APP, machine_id, limit=2) == events[:2]


def test_the_default_restart_policy_restarts_a_failure_ten_times_and_then_stops() -> None:
    world = new_world()
    machine_id = run(world, restart={}, auto_destroy=True)
    for _ in range(RESTARTS_MAX):
        leave(world, machine_id, exit_code=1)
        assert state(world, machine_id) == "starting"
        assert exit_event(world, machine_id)["restarting"] is True
    leave(world, machine_id, exit_code=1)
    assert state(world, machine_id) == "destroyed"


@pytest.mark.parametrize(("policy", "state_after"), [("always", "starting"), ("on-failure", "stopped")])
def test_a_clean_exit_restarts_under_always_only(policy: str, state_after: str) -> None:
    world = new_world()
    machine_id = run(world, restart={"policy": policy})
    leave(world, machine_id)
    assert state(world, machine_id) == state_after


def test_a_stop_is_not_fought_by_the_restart_policy() -> None:
    world = new_world()
    machine_id = run(world, restart={"policy": "always"})
    at(world, 2).stop(APP, machine_id, None)
    leave(world, machine_id, second=3)
    assert state(world, machine_id) == "stopped"


# --- stop, signal, destroy ------------------------------------------------------------------------


def test_a_stop_sends_the_signal_now_and_kills_after_the_time_out() -> None:
    world = new_world()
    machine_id = run(world)
    at(world, 5).stop(APP, machine_id, {"signal": "SIGTERM", "timeout": "10s"})
    assert state(world, machine_id) == "stopping"
    assert world.advance(NOW) == [
        SendSignal(machine_id=machine_id, signum=SIGTERM),
    ]
    assert world.next_due() == later(15)
    assert world.advance(later(15)) == [SendSignal(machine_id=machine_id, signum=SIGKILL)]
    leave(world, machine_id, second=6)
    assert exit_event(world, machine_id)["requested_stop"] is True


@pytest.mark.parametrize(
    ("config", "asked", "signum", "patience_s"),
    [
        ({}, None, SIGINT, 5),
        ({}, {"timeout": 2_000_000_000}, SIGINT, 2),
        ({}, {"timeout": "1h"}, SIGINT, 300),
        ({"stop_config": {"signal": "SIGUSR1", "timeout": "1m"}}, {}, SIGUSR1, 60),
        ({"stop_config": {"signal": "SIGUSR1"}}, {"signal": "SIGTERM"}, SIGTERM, 5),
    ],
)
def test_what_a_stop_leaves_out_comes_from_the_config_then_from_fly(
    config: dict[str, Any], asked: Any, signum: int, patience_s: float
) -> None:
    world = new_world()
    machine_id = run(world, **config)
    world.stop(APP, machine_id, asked)
    [first] = world.advance(NOW)
    assert isinstance(first, SendSignal)
    assert (first.signum, world.next_due()) == (signum, later(1 + patience_s))


def test_a_stop_body_must_be_an_object() -> None:
    world = new_world()
    with pytest.raises(FlyError) as refused:
        world.stop(APP, run(world), [])
    text = "json: cannot unmarshal array into Go value of type main.stopRequest"
    assert (refused.value.status, refused.value.body) == (400, {"error": text})


def test_stopping_a_stopped_machine_changes_nothing() -> None:
    world = new_world()
    machine_id = run(world)
    leave(world, machine_id)
    before = world.get(APP, machine_id)
    at(world, 9).stop(APP, machine_id, None)
    assert (world.get(APP, machine_id), world.advance(NOW)) == (before, [])


def test_stopping_a_machine_that_never_started_just_stops_it() -> None:
    world = new_world()
    machine_id = world.create(APP, {**body(), "skip_launch": True})["id"]
    world.stop(APP, machine_id, None)
    assert (state(world, machine_id), world.advance(NOW)) == ("stopped", [])


def test_a_start_that_is_reported_after_the_stop_does_not_undo_it() -> None:
    world = new_world()
    machine_id = create(world)
    world.stop(APP, machine_id, None)
    at(world, 1).started(machine_id)
    assert state(world, machine_id) == "stopping"


def test_a_signal_goes_to_the_process_and_moves_nothing() -> None:
    world = new_world()
    machine_id = run(world)
    world.signal(APP, machine_id, {"signal": "SIGUSR1"})
    assert world.advance(NOW) == [SendSignal(machine_id=machine_id, signum=SIGUSR1)]
    assert state(world, machine_id) == "started"


@pytest.mark.parametrize("bad", [{}, {"signal": "SIGWHAT"}, {"signal": 9}, {"signal": []}, []])
def test_an_unknown_signal_is_refused(bad: Any) -> None:
    world = new_world()
    with pytest.raises(FlyError) as refused:
        world.signal(APP, run(world), bad)
    assert refused.value.status == 400


def test_a_stopped_machine_takes_no_signal() -> None:
    world = new_world()
    machine_id = run(world)
    leave(world, machine_id)
    with pytest.raises(FlyError) as refused:
        world.signal(APP, machine_id, {"signal": "SIGTERM"})
    assert refused.value.status == 412


def test_a_running_machine_is_destroyed_only_by_force() -> None:
    world = new_world()
    machine_id = run(world)
    with pytest.raises(FlyError) as refused:
        world.destroy(APP, machine_id, force=False)
    assert (refused.value.status, state(world, machine_id)) == (412, "started")
    world.destroy(APP, machine_id, force=True)
    assert state(world, machine_id) == "destroying"
    assert world.advance(NOW) == [SendSignal(machine_id=machine_id, signum=SIGKILL)]
    leave(world, machine_id, exit_code=137, signal=9)
    assert state(world, machine_id) == "destroyed"


def test_destroying_twice_while_it_lasts_is_one_destroy_and_after_it_404() -> None:
    world = new_world()
    machine_id = run(world)
    world.destroy(APP, machine_id, force=True)
    world.destroy(APP, machine_id, force=True)
    assert len(world.advance(NOW)) == 1
    leave(world, machine_id, exit_code=137, signal=9)
    for request in (
        lambda: world.destroy(APP, machine_id, force=True),
        lambda: world.stop(APP, machine_id, None),
        lambda: world.signal(APP, machine_id, {"signal": "SIGTERM"}),
    ):
        with pytest.raises(FlyError) as gone:
            request()
        assert gone.value.status == 404


def test_a_stopped_machine_is_destroyed_at_once() -> None:
    world = new_world()
    machine_id = run(world)
    leave(world, machine_id)
    world.destroy(APP, machine_id, force=False)
    assert (state(world, machine_id), world.advance(NOW)) == (
        "destroyed",
        [RemoveMachine(machine_id=machine_id)],
    )


# --- reads ----------------------------------------------------------------------------------------


def test_a_list_hides_the_destroyed_by_default() -> None:
    world = new_world()
    leave(world, run(world, "gone", auto_destroy=True))
    create(world, "here")
    assert [m["name"] for m in world.list(APP, metadata={})] == ["here"]
    assert [m["name"] for m in world.list(APP, metadata={}, include_deleted=True)] == ["gone", "here"]


def test_a_list_filters_by_metadata_state_and_region() -> None:
    world = new_world()
    create(world, "a", metadata={"job": "1", "v": "x"})
    run(world, "b", metadata={"job": "1"})
    world.create(APP, {**body("c", metadata={"job": "2"}), "region": "dfw"})

    def names(metadata: dict[str, str], **query: Any) -> list[str]:
        return [m["name"] for m in world.list(APP, metadata=metadata, **query)]

    assert names({"job": "1"}) == ["a", "b"]
    assert names({"job": "1", "v": "x"}) == ["a"]
    assert names({}, states=["started", "stopped"]) == ["b"]
    assert names({}, region="dfw") == ["c"]


def test_a_summary_leaves_out_config_and_events() -> None:
    world = new_world()
    create(world)
    [machine] = world.list(APP, metadata={}, summary=True)
    assert not {"config", "events", "host_status"} & set(machine)


def test_an_unknown_app_or_machine_and_a_machine_of_another_app_are_404() -> None:
    world = new_world("a", "b")
    machine_id = world.create("a", body())["id"]
    for app, wanted in (("a", "nope"), ("b", machine_id), ("zzz", machine_id)):
        with pytest.raises(FlyError) as missing:
            world.get(app, wanted)
        assert missing.value.status == 404


def test_a_wait_reports_when_the_state_is_reached() -> None:
    world = new_world()
    machine_id = create(world)
    assert world.reached(APP, machine_id, ["started"]) is None
    at(world, 1).started(machine_id)
    shown = world.get(APP, machine_id)
    assert world.reached(APP, machine_id, ["stopped", "started"], version=shown["instance_id"]) == {
        "ok": True,
        "state": "started",
        "version": shown["instance_id"],
        "event_id": shown["events"][0]["id"],
    }
    assert world.reached(APP, machine_id, ["settled"])


def test_a_wait_for_stopped_needs_a_version_and_finds_nothing_once_destroyed() -> None:
    world = new_world()
    machine_id = run(world, auto_destroy=True)
    with pytest.raises(FlyError) as refused:
        world.reached(APP, machine_id, ["stopped"])
    assert refused.value.body == {"error": "instance_id required when waiting for stopped machine"}
    version = world.get(APP, machine_id)["instance_id"]
    leave(world, machine_id)
    with pytest.raises(FlyError) as gone:
        world.reached(APP, machine_id, ["stopped"], version=version)
    assert (refused.value.status, gone.value.status) == (400, 404)
    assert world.reached(APP, machine_id, ["destroyed"])


@pytest.mark.parametrize(
    ("states", "version", "status"), [(["dancing"], "", 400), (["started"], "other", 404)]
)
def test_a_wait_for_what_cannot_come_is_refused(states: list[str], version: str, status: int) -> None:
    world = new_world()
    with pytest.raises(FlyError) as refused:
        world.reached(APP, create(world), states, version=version)
    assert refused.value.status == status


# --- shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1.5s", 1.5), (1_000_000_000, 1), (0, 0)],
)
def test_a_duration_is_read_as_go_reads_it(written: Any, seconds: float) -> None:
    assert duration(written).total_seconds() == seconds


@pytest.mark.parametrize("bad", ["", "10", "s", "-1s", "1s ", None, True, 1.5, []])
def test_an_invalid_duration_is_refused(bad: Any) -> None:
    with pytest.raises(FlyError):
        duration(bad)


@pytest.mark.parametrize(
    ("image", "registry", "repository", "tag", "digest"),
    [
        ("registry.fly.io/app:v1@sha256:ab", "registry.fly.io", "app", "v1", "sha256:ab"),
        ("library/nginx", "registry-1.docker.io", "library/nginx", "", ""),
        ("nginx:1.27", "registry-1.docker.io", "nginx", "1.27", ""),
    ],
)
def test_an_image_reference_is_shown_in_parts(
    image: str, registry: str, repository: str, tag: str, digest: str
) -> None:
    parts = {"registry": registry, "repository": repository, "tag": tag, "digest": digest, "labels": {}}
    assert image_ref(image) == parts


REQUESTS = st.sampled_from(["create", "started", "stop", "exit 0", "exit 1", "destroy", "force"])


@given(st.lists(REQUESTS, max_size=30), st.booleans())
def test_at_most_one_process_runs_and_destroyed_is_final(moves: list[str], auto: bool) -> None:
    world = new_world()
    machine_id = create(world, auto_destroy=auto, restart={"policy": "on-failure", "max_retries": 2})
    running, destroyed, refused = 0, False, set[int]()
    for move in ["", *moves]:
        try:
            _do(world, machine_id, move, running)
        except FlyError as error:
            refused.add(error.status)
        else:
            running -= move.startswith("exit") and running > 0
        effects = [effect for effect in world.advance(NOW) if effect.machine_id == machine_id]
        running += sum(isinstance(effect, StartProcess) for effect in effects)
        assert running in (0, 1)
        assert not (destroyed and state(world, machine_id) != "destroyed")
        destroyed = state(world, machine_id) == "destroyed"
        assert (running == 1) == (
            world.get(APP, machine_id)["state"] in ("starting", "started", "stopping", "destroying")
        )
    assert refused <= {404, 409, 412}


def _do(world: World, machine_id: str, move: str, running: int) -> None:
    match move:
        case "create":
            create(world)
        case "started" if running:
            world.started(machine_id)
        case "stop":
            world.stop(APP, machine_id, None)
        case "exit 0" | "exit 1" if running:
            leave(world, machine_id, exit_code=int(move[-1]))
        case "destroy" | "force":
            world.destroy(APP, machine_id, force=move == "force")
