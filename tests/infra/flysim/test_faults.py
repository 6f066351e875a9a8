"""Faults of the model of Fly: each does what it says, is counted, and is repeatable."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from infra.fly.responses import refusal_of
from infra.flysim.events import HostBack, HostLost, RemoveMachine, SendSignal, StartProcess
from infra.flysim.faults import CAPACITY_ANSWERS, FailPoint, Faults, Window, reboot
from infra.flysim.gate import Cut
from infra.flysim.validation import FlyError
from infra.flysim.world import World
from infra.ports import Refusal
from tests.support.fly_spec import check_machine

APP = "runners"
NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class Cloud:
    """A world, and a process of each machine that does nothing but obey signals."""

    def __init__(self, *fail_points: FailPoint, seed: str = "test", **faults: Any) -> None:
        rates = dict.fromkeys(fail_points, 1.0)
        self.world = World(
            [APP], seed=seed, now=NOW, faults=Faults(**{"rate_limits": False, "rates": rates, **faults})
        )
        self.running = set[str]()
        self.effects: list[Any] = []

    def go(self, seconds: float) -> Cloud:
        """Let time pass until `seconds` after the beginning, instant by instant."""
        now = self.world.now
        while True:
            while effects := self.world.advance(now):
                for effect in effects:
                    self._do(effect)
            if now == later(seconds):
                return self
            now = min(self.world.next_due() or later(seconds), later(seconds))

    def _do(self, effect: Any) -> None:
        self.effects.append(effect)
        match effect:
            case StartProcess():
                assert effect.machine_id not in self.running
                self.running.add(effect.machine_id)
                self.world.started(effect.machine_id)
            case SendSignal(signum=15 | 2 | 9) if effect.machine_id in self.running:
                self.leave(effect.machine_id, 128 + effect.signum, effect.signum)

    def leave(self, machine_id: str, code: int = 0, signal: int = 0) -> None:
        self.running.discard(machine_id)
        self.world.exited(machine_id, exit_code=code, signal=signal)

    def create(self, name: str = "job-1", *, region: str = "iad,dfw", **config: Any) -> str:
        body = {
            "image": "i",
            "restart": {"policy": "no"},
            "auto_destroy": True,
            "metadata": {"a": name},
            **config,
        }
        made = self.world.create(APP, {"name": name, "region": region, "config": body})
        return str(made["id"])

    def state(self, machine_id: str) -> str:
        return str(self.world.get(APP, machine_id)["state"])

    def listed(self) -> list[str]:
        return [machine["state"] for machine in self.world.list(APP, metadata={}, include_deleted=True)]

    def exit_event(self, machine_id: str) -> dict[str, Any]:
        events = self.world.get(APP, machine_id)["events"]
        return dict(next(event for event in events if event["type"] == "exit")["request"]["exit_event"])

    def without_faults(self) -> Cloud:
        self.world.set_faults(Faults(rate_limits=False))
        return self


def refused(request: Callable[[], Any]) -> FlyError:
    with pytest.raises(FlyError) as error:
        request()
    return error.value


def outcome(request: Callable[[], Any]) -> str:
    """Return what a caller sees of an answer: its status, `ok` or `cut`."""
    try:
        request()
    except FlyError as error:
        return str(error.status)
    except Cut:
        return "cut"
    return "ok"


# --- the door -------------------------------------------------------------------------------------


def test_a_refused_connection_does_nothing_and_says_nothing() -> None:
    cloud = Cloud(FailPoint.REFUSED)
    with pytest.raises(Cut):
        cloud.create()
    hits = cloud.world.hits
    assert (cloud.without_faults().listed(), hits) == ([], Counter({FailPoint.REFUSED: 1}))


def test_an_unavailable_api_answers_some_5xx_and_does_nothing() -> None:
    cloud = Cloud(FailPoint.UNAVAILABLE)
    assert {outcome(cloud.create) for _ in range(30)} == {"502", "503", "504"}
    assert cloud.without_faults().listed() == []


@pytest.mark.parametrize(
    ("fail_point", "made"), [(FailPoint.CREATE_LOST_DONE, 1), (FailPoint.CREATE_LOST_UNDONE, 0)]
)
def test_a_lost_answer_to_a_create_does_not_show_whether_there_is_a_machine(
    fail_point: FailPoint, made: int
) -> None:
    seen = set()
    for seed in range(20):
        cloud = Cloud(fail_point, seed=str(seed))
        seen.add(outcome(cloud.create))
        assert cloud.world.hits == Counter({fail_point: 1})
        assert len(cloud.without_faults().listed()) == made
    assert seen == {"408", "500", "cut"}


@pytest.mark.parametrize(
    ("fail_point", "state"), [(FailPoint.END_LOST_DONE, "destroying"), (FailPoint.END_LOST_UNDONE, "started")]
)
def test_a_lost_answer_to_a_destroy_does_not_show_whether_it_was_done(
    fail_point: FailPoint, state: str
) -> None:
    cloud = Cloud(fail_point)
    machine_id = cloud.create()
    cloud.go(1)
    assert outcome(lambda: cloud.world.destroy(APP, machine_id, force=True)) in ("408", "500", "cut")
    assert (cloud.state(machine_id), cloud.world.hits) == (state, Counter({fail_point: 1}))


def test_a_read_may_be_cut() -> None:
    cloud = Cloud(FailPoint.READ_LOST)
    machine_id = cloud.create()
    for read in (lambda: cloud.state(machine_id), cloud.listed, lambda: cloud.world.events(APP, machine_id)):
        assert outcome(read) == "cut"
    assert cloud.world.hits[FailPoint.READ_LOST] == 3


def test_limits_are_those_that_fly_documents() -> None:
    cloud = Cloud(rate_limits=True)
    ids = [cloud.create(str(n)) for n in range(3)]
    assert refused(lambda: cloud.create("4")).status == 429
    assert [outcome(cloud.listed) for _ in range(4)] == ["ok", "ok", "ok", "429"]
    assert [outcome(lambda: cloud.state(ids[0])) for _ in range(11)] == ["ok"] * 10 + ["429"]
    for machine_id in ids[:2]:  # each machine has limits of its own
        stops = [outcome(lambda: cloud.world.stop(APP, machine_id, {})) for _ in range(4)]  # noqa: B023
        assert stops == ["ok", "ok", "ok", "429"]
    assert cloud.world.hits == Counter({FailPoint.RATE_LIMITED: 5})
    cloud.go(1).create("4")
    assert refused(lambda: cloud.create("5")).status == 429


def test_windows_open_and_close_and_count_from_when_the_faults_were_set() -> None:
    storm = Window(fail_point=FailPoint.UNAVAILABLE, from_s=10, until_s=20)
    cloud = Cloud(windows=[storm])
    seen = [outcome(cloud.go(at).listed) != "ok" for at in (9, 10, 19, 20)]
    assert seen == [False, True, True, False]
    cloud.world.set_faults(cloud.world.faults)
    assert [outcome(cloud.go(at).listed) != "ok" for at in (29, 30, 40)] == [False, True, False]


def test_a_reboot_of_the_api_is_no_connection_and_then_empty_lists() -> None:
    cloud = Cloud(windows=reboot(from_s=10, down_s=30, cold_s=20))
    cloud.create()
    with pytest.raises(Cut):
        cloud.go(15).listed()
    assert [cloud.go(at).listed() for at in (45, 61)] == [[], ["started"]]


# --- create ---------------------------------------------------------------------------------------


def test_a_full_region_is_passed_over_for_the_next_of_the_list() -> None:
    cloud = Cloud(capacity={"iad": 1, "dfw": 2})
    regions = [cloud.world.get(APP, cloud.create(str(n)))["region"] for n in range(3)]
    assert regions == ["iad", "dfw", "dfw"]
    assert refused(lambda: cloud.create("4")).status == 422
    assert cloud.world.hits == Counter({FailPoint.REGION_FULL: 4})
    cloud.world.destroy(APP, cloud.go(1).create("5", region="lhr"), force=True)
    assert cloud.world.get(APP, cloud.create("6", region="iad,lhr"))["region"] == "lhr"


@pytest.mark.parametrize(("answer", "status"), list(zip(CAPACITY_ANSWERS, (422, 409, 412, 403), strict=True)))
def test_no_capacity_anywhere_is_answered_as_chosen(answer: str, status: int) -> None:
    cloud = Cloud(FailPoint.NO_CAPACITY, capacity_answer=answer)
    error = refused(cloud.create)
    assert (error.status, error.body.get("status")) == (
        status,
        "insufficient_capacity" if status == 422 else None,
    )
    assert cloud.without_faults().listed() == []


def test_a_name_that_fly_does_not_see_held_makes_twins() -> None:
    cloud = Cloud(FailPoint.TWIN)
    assert cloud.create() != cloud.create()
    assert (len(cloud.listed()), cloud.world.hits) == (2, Counter({FailPoint.TWIN: 1}))


@pytest.mark.parametrize(
    ("fail_point", "refusal"),
    [
        (FailPoint.IMAGE_NOT_FOUND, Refusal.IMAGE_NOT_FOUND),
        (FailPoint.MACHINE_LIMIT, Refusal.MACHINE_LIMIT),
        (FailPoint.PAYMENT_REQUIRED, Refusal.PAYMENT_REQUIRED),
        (FailPoint.APP_REFUSED, Refusal.UNAUTHORIZED),
    ],
)
@pytest.mark.parametrize("seed", ["a", "b", "c", "d"])
def test_what_an_operator_must_solve_is_refused_in_words_that_the_client_knows_and_makes_nothing(
    fail_point: FailPoint, refusal: Refusal, seed: str
) -> None:
    cloud = Cloud(fail_point, seed=seed)
    error = refused(cloud.create)
    assert "status" not in error.body
    assert refusal_of(error.status, error.body) is refusal
    assert cloud.world.hits == Counter({fail_point: 1})
    assert cloud.without_faults().listed() == []


@pytest.mark.parametrize("answer", CAPACITY_ANSWERS)
def test_every_answer_of_a_full_region_is_known_to_the_client(answer: str) -> None:
    error = refused(Cloud(FailPoint.NO_CAPACITY, capacity_answer=answer).create)
    assert refusal_of(error.status, error.body) is Refusal.CAPACITY


def test_an_image_that_is_not_found_for_a_while_is_found_later() -> None:
    window = Window(fail_point=FailPoint.IMAGE_NOT_FOUND, from_s=0, until_s=15)
    cloud = Cloud(windows=[window])
    assert "MANIFEST_UNKNOWN" in refused(cloud.create).body["error"]
    assert cloud.go(15).create()


def test_the_organisation_may_have_a_limited_number_of_machines_at_once() -> None:
    cloud = Cloud(machine_limit=2)
    first, _ = cloud.create("1"), cloud.create("2")
    assert refused(lambda: cloud.create("3")).status == 422
    assert cloud.world.hits[FailPoint.MACHINE_LIMIT] == 1
    cloud.world.destroy(APP, first, force=True)
    assert cloud.go(1).create("3")


def test_a_kind_of_cpu_that_the_organisation_may_not_use_is_refused_and_the_other_is_not() -> None:
    cloud = Cloud(refused_cpu_kinds=["performance"])
    guest = {"cpu_kind": "performance", "cpus": 1, "memory_mb": 2048}
    assert refused(lambda: cloud.create("1", guest=guest)).status == 422
    assert cloud.world.hits[FailPoint.SIZE_REFUSED] == 1
    assert cloud.create("2", guest={"cpu_kind": "shared", "cpus": 1, "memory_mb": 256})


def test_a_token_that_does_not_reach_one_app_reaches_the_others() -> None:
    cloud = Cloud(FailPoint.APP_REFUSED, refused_apps=["another"])
    assert cloud.create()
    cloud.world.set_faults(replace(cloud.world.faults, refused_apps=[APP]))
    for ask in (lambda: cloud.world.list(APP, metadata={}), lambda: cloud.world.get(APP, "m")):
        assert refused(ask).status in (401, 403)


def test_a_destroyed_machine_may_be_404_to_a_get_while_lists_show_it() -> None:
    cloud = Cloud(FailPoint.GONE_IS_404)
    machine_id = cloud.create()
    assert cloud.go(1).state(machine_id) == "started"
    cloud.world.destroy(APP, machine_id, force=True)
    cloud.go(2)
    assert refused(lambda: cloud.state(machine_id)).status == 404
    assert cloud.listed() == ["destroyed"]


def test_an_unknown_capacity_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity_answer"):
        Faults(capacity_answer="maybe")


# --- reads ----------------------------------------------------------------------------------------


def test_a_new_machine_is_unseen_by_reads_for_a_while_but_can_be_ended() -> None:
    cloud = Cloud(FailPoint.UNSEEN, unseen_s=(5, 5))
    machine_id = cloud.create()
    assert refused(lambda: cloud.state(machine_id)).status == 404
    assert refused(lambda: cloud.world.reached(APP, machine_id, ["started"])).status == 404
    cloud.world.destroy(APP, machine_id, force=True)
    assert (cloud.go(5).state(machine_id), cloud.world.hits) == ("destroyed", Counter({FailPoint.UNSEEN: 2}))


def test_a_list_shows_a_change_late_and_in_the_end_what_is() -> None:
    cloud = Cloud(FailPoint.LIST_LAG, list_lag_s=(10, 10))
    machine_id = cloud.create()
    assert (cloud.go(1).state(machine_id), cloud.listed()) == ("started", [])
    assert cloud.go(11).listed() == ["started"]
    cloud.leave(machine_id)
    assert (cloud.state(machine_id), cloud.listed()) == ("destroyed", ["started"])
    assert [machine.state for machine in cloud.world.truth()] == ["destroyed"]
    assert cloud.world.list(APP, metadata={"a": "job-1"}, states=["started"]) != []
    assert cloud.go(21).listed() == ["destroyed"]


def test_a_list_may_be_empty_or_lack_some() -> None:
    empty, partial = Cloud(FailPoint.EMPTY_LIST), Cloud(FailPoint.PARTIAL_LIST)
    for cloud in (empty, partial):
        assert (cloud.listed(), cloud.world.hits) == ([], Counter())  # nothing to hide
        for n in range(20):
            cloud.create(str(n))
    assert empty.listed() == []
    assert 0 < len(partial.listed()) < 20
    assert empty.world.hits + partial.world.hits == Counter(
        {FailPoint.EMPTY_LIST: 1, FailPoint.PARTIAL_LIST: 1}
    )


def test_a_destroyed_machine_is_shown_for_a_while_and_then_is_404() -> None:
    cloud = Cloud(retention_s=60)
    machine_id = cloud.create()
    cloud.go(1).leave(machine_id)
    assert cloud.go(60).state(machine_id) == "destroyed"
    assert refused(lambda: cloud.go(61).state(machine_id)).status == 404
    assert cloud.listed() == []
    assert cloud.create() != machine_id


# --- start ----------------------------------------------------------------------------------------


def test_pulling_and_booting_take_their_time() -> None:
    cloud = Cloud(pull_s=(4, 4), boot_s=(2, 2))
    machine_id = cloud.create()
    assert [cloud.go(at).state(machine_id) for at in (3.9, 4, 5.9, 6)] == [
        "created",
        "starting",
        "starting",
        "started",
    ]


@pytest.mark.parametrize("at", [1, 5])
def test_a_machine_stopped_or_destroyed_before_its_process_never_gets_one(at: float) -> None:
    for end in (lambda c, m: c.world.stop(APP, m, {}), lambda c, m: c.world.destroy(APP, m, force=True)):
        cloud = Cloud(pull_s=(4, 4), boot_s=(2, 2))
        machine_id = cloud.create()
        end(cloud.go(at), machine_id)
        assert cloud.state(machine_id) in ("stopped", "destroyed")
        cloud.go(100)
        assert not [effect for effect in cloud.effects if isinstance(effect, StartProcess)]


def test_a_machine_may_stay_created_for_ever_and_can_be_destroyed() -> None:
    cloud = Cloud(FailPoint.STUCK_FOR_EVER)
    machine_id = cloud.create()
    assert (cloud.go(90_000).state(machine_id), cloud.world.next_due()) == ("created", None)
    cloud.world.destroy(APP, machine_id, force=False)
    assert cloud.state(machine_id) == "destroyed"


def test_a_machine_may_stay_created_for_hours_and_then_run() -> None:
    cloud = Cloud(FailPoint.STUCK_FOR_HOURS, stuck_s=(8400, 8400))  # 2 h 20 min: community.fly.io/t/28143
    machine_id = cloud.create()
    assert [cloud.go(at).state(machine_id) for at in (8399, 8400)] == ["created", "started"]


@pytest.mark.parametrize(
    ("fail_point", "state"), [(FailPoint.START_FAILED, "failed"), (FailPoint.LAUNCH_FAILED, "destroyed")]
)
def test_a_start_may_fail(fail_point: FailPoint, state: str) -> None:
    cloud = Cloud(fail_point, boot_s=(2, 2))
    machine_id = cloud.create()
    assert (cloud.go(3).state(machine_id), cloud.running) == (state, set())
    statuses = {event["status"] for event in cloud.world.events(APP, machine_id)}
    assert fail_point in ({"start_failed"} if state == "failed" else statuses)
    cloud.go(4)
    if state == "failed":
        cloud.world.destroy(APP, machine_id, force=False)
    assert cloud.state(machine_id) == "destroyed"


# --- end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail_point", "code", "signal", "oom"),
    [
        (FailPoint.EXITS, 1, -1, False),
        (FailPoint.KILLED, 139, 11, False),
        (FailPoint.OUT_OF_MEMORY, 137, 9, True),
    ],
)
def test_a_process_may_die_by_itself(fail_point: FailPoint, code: int, signal: int, oom: bool) -> None:
    cloud = Cloud(fail_point, death_s=(30, 30))
    machine_id = cloud.create()
    assert [cloud.go(at).state(machine_id) for at in (29, 30)] == ["started", "destroyed"]
    event = cloud.exit_event(machine_id)
    assert (event["exit_code"], event["guest_signal"], event["oom_killed"]) == (code, signal, oom)
    assert event["requested_stop"] is False


def test_a_death_that_was_drawn_for_an_earlier_run_is_void() -> None:
    cloud = Cloud(FailPoint.EXITS, death_s=(30, 30))
    machine_id = cloud.create(restart={"policy": "always"})
    cloud.go(10).leave(machine_id)
    assert (cloud.go(39).state(machine_id), cloud.world.hits) == ("started", Counter())
    assert cloud.go(40).world.hits == Counter({FailPoint.EXITS: 1})


def test_auto_destroy_may_not_happen() -> None:
    cloud = Cloud(FailPoint.STAYS_STOPPED)
    machine_id = cloud.create()
    cloud.go(1).leave(machine_id)
    assert (cloud.go(9000).state(machine_id), cloud.world.next_due()) == ("stopped", None)
    cloud.world.destroy(APP, machine_id, force=False)
    assert cloud.state(machine_id) == "destroyed"


def test_auto_destroy_may_show_stopped_for_a_while() -> None:
    cloud = Cloud(FailPoint.SHOWN_STOPPED, stopped_s=(5, 5))
    machine_id = cloud.create()
    cloud.go(1).leave(machine_id)
    assert [cloud.go(at).state(machine_id) for at in (5.9, 6)] == ["stopped", "destroyed"]


def test_a_destroy_may_be_accepted_and_done_much_later() -> None:
    cloud = Cloud(FailPoint.LATE_DESTROY, late_destroy_s=(100, 100))
    machine_id = cloud.create()
    cloud.go(1).world.destroy(APP, machine_id, force=True)
    assert [cloud.go(at).state(machine_id) for at in (100.9, 101)] == ["destroying", "destroyed"]
    assert cloud.effects[-2:] == [
        SendSignal(machine_id=machine_id, signum=SIGKILL),
        RemoveMachine(machine_id=machine_id),
    ]


# --- hosts ----------------------------------------------------------------------------------------


def lost(fail_point: FailPoint) -> tuple[Cloud, str]:
    """Return a cloud in which a machine's host is away from second 10 to second 1010."""
    cloud = Cloud(fail_point, host_lost_s=(10, 10), host_away_s=(1000, 1000))
    machine_id = cloud.create()
    assert cloud.go(11).world.hits == Counter({fail_point: 1})
    return cloud, machine_id


def test_a_host_that_is_cut_off_leaves_a_zombie_that_answers_to_nobody_at_fly() -> None:
    cloud, machine_id = lost(FailPoint.HOST_CUT_OFF)
    shown = cloud.world.get(APP, machine_id)
    assert (shown["host_status"], shown["state"], "config" in shown) == ("unreachable", "started", False)
    assert shown["incomplete_config"]["metadata"] == {"a": "job-1"}
    assert cloud.running == {machine_id}
    assert refused(lambda: cloud.world.stop(APP, machine_id, {})).status == 408
    assert refused(lambda: cloud.world.signal(APP, machine_id, {"signal": "SIGTERM"})).status == 408
    back = cloud.go(1010).world.get(APP, machine_id)
    assert (back["host_status"], back["state"], "config" in back) == ("ok", "started", True)
    assert cloud.effects[-2:] == [HostLost(machine_id=machine_id), HostBack(machine_id=machine_id)]


def test_a_destroy_on_a_lost_host_is_accepted_and_done_when_the_host_is_back() -> None:
    cloud, machine_id = lost(FailPoint.HOST_CUT_OFF)
    cloud.world.destroy(APP, machine_id, force=True)
    cloud.world.destroy(APP, machine_id, force=True)
    assert (cloud.go(1009).state(machine_id), cloud.running) == ("destroying", {machine_id})
    assert (cloud.go(1010).state(machine_id), cloud.running) == ("destroyed", set())


def test_an_exit_on_a_lost_host_is_seen_when_the_host_is_back_with_its_own_instant() -> None:
    cloud, machine_id = lost(FailPoint.HOST_CUT_OFF)
    cloud.go(500).leave(machine_id)
    assert cloud.go(1009).state(machine_id) == "started"
    assert cloud.go(1010).state(machine_id) == "destroyed"
    event = cloud.exit_event(machine_id)
    assert (event["exit_code"], event["exited_at"]) == (0, "2026-11-01T12:08:20.000Z")


def test_a_host_that_went_down_took_the_process_with_it_and_shows_so_when_it_is_back() -> None:
    cloud, machine_id = lost(FailPoint.HOST_DOWN)
    assert (cloud.state(machine_id), cloud.running) == ("started", set())
    assert cloud.go(1010).state(machine_id) == "destroyed"
    assert cloud.exit_event(machine_id)["exited_at"] == "2026-11-01T12:00:10.000Z"


# --- whole lives ----------------------------------------------------------------------------------

STATES = {
    "created", "starting", "started", "stopping", "stopped",
    "failed", "launch_failed", "destroying", "destroyed",
}  # fmt: skip


def live(seed: int) -> tuple[list[Any], Counter[str], set[str]]:
    """Return all that was seen of a world with faults drawn from the seed, which somebody uses for 2 h."""
    rng = Random(seed)
    drawn = [
        fail_point
        for fail_point in FailPoint
        if fail_point not in (FailPoint.RATE_LIMITED, FailPoint.REGION_FULL, FailPoint.SIZE_REFUSED)
    ]
    faults = Faults(
        rates={fail_point: rng.choice((0, 0, 0.02, 0.2)) for fail_point in drawn},
        windows=reboot(from_s=1000, down_s=60, cold_s=60) if rng.random() < 0.3 else (),
        capacity={"iad": 2} if rng.random() < 0.5 else {},
        pull_s=(0, 9), boot_s=(0, 3), retention_s=600, death_s=(0, 15), host_lost_s=(0, 15),
    )  # fmt: skip
    cloud = Cloud(seed=str(seed), **vars(faults))
    large = {"cpu_kind": "performance", "cpus": 1, "memory_mb": 2048}
    cloud.world.set_faults(replace(faults, refused_cpu_kinds=["performance"]))
    outcome(lambda: cloud.create("large", guest=large))
    cloud.world.set_faults(faults)
    seen, states, ids = list[Any](), set[str](), list[str]()
    for second in range(0, 7200, 20):
        cloud.go(second)
        for _ in range(rng.choice((1, 1, 1, 5))):
            seen.append(outcome(lambda: ids.append(cloud.create(f"job-{rng.randrange(5)}"))))
        for machine_id in ids[-3:]:
            ask = rng.choice((
                lambda: cloud.world.get(APP, machine_id),  # noqa: B023
                lambda: cloud.world.stop(APP, machine_id, {"timeout": "30s"}),  # noqa: B023
                lambda: cloud.world.destroy(APP, machine_id, force=rng.random() < 0.5),  # noqa: B023
                lambda: cloud.running and cloud.leave(sorted(cloud.running)[0], rng.randrange(2)),
            ))  # fmt: skip
            seen.append(outcome(ask))
        seen.append(outcome(lambda: seen.append(cloud.world.list(APP, metadata={}, include_deleted=True))))
    for machine in (machine for listed in seen if isinstance(listed, list) for machine in listed):
        states |= {machine["state"], *(event["status"] for event in machine["events"])}
    return seen, cloud.world.hits, states


def test_a_seed_gives_the_same_life_again_and_another_seed_another() -> None:
    first, again, other = live(1), live(1), live(2)
    assert first == again
    assert first[0] != other[0]


def test_every_fault_is_felt_and_every_state_seen_in_some_life() -> None:
    lives = [live(seed) for seed in range(12)]
    hits = sum((hits for _, hits, _ in lives), Counter[str]())
    assert set(hits) == set(FailPoint), set(FailPoint) - set(hits)
    assert set().union(*(states for _, _, states in lives)) == STATES
    machines = [m for seen, _, _ in lives[:3] for listed in seen if isinstance(listed, list) for m in listed]
    for machine in machines[::10]:
        check_machine(machine)


def test_a_world_can_be_copied_and_both_live_on_the_same() -> None:
    cloud = Cloud(FailPoint.EXITS, death_s=(5, 50), pull_s=(1, 9))
    machine_id = cloud.create()
    twin = copy.deepcopy(cloud)
    assert cloud.go(60).world.get(APP, machine_id) == twin.go(60).world.get(APP, machine_id)
    assert cloud.state(machine_id) == "destroyed"


def test_without_faults_nothing_is_drawn_and_nothing_goes_wrong() -> None:
    cloud = Cloud()
    machine_id = cloud.create()
    assert (cloud.go(0).state(machine_id), cloud.world.next_due()) == ("started", None)
    cloud.world.stop(APP, machine_id, {"signal": "SIGTERM"})
    cloud.go(1)
    assert SendSignal(machine_id=machine_id, signum=SIGTERM) in cloud.effects
    assert (cloud.state(machine_id), cloud.world.hits) == ("destroyed", Counter())
    assert replace(cloud.world.faults, rate_limits=True) == Faults()
