"""The faults of a world and their rates, drawn from its seed: some worlds have few, others many."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random

from control.planning import boots
from infra.flysim.faults import CAPACITY_ANSWERS, FailPoint, Faults, Window


class Mishap(StrEnum):
    """What may go wrong outside the model of Fly. All are counted where they are felt."""

    MESSAGE_LOST = "message_lost"  # from a runner or user to control
    ANSWER_LOST = "answer_lost"  # control did it, nobody hears
    MESSAGE_LATE = "message_late"  # after its sender gave up, too
    MESSAGE_TWICE = "message_twice"  # and the second may be much later
    CRASH = "crash"  # of control: before or after a commit or a call outside
    CRASH_IN_CREATE = "crash_in_create"  # the request is sent, and nobody reads the answer
    AWAY = "away"  # control is down for longer
    SLOW_CALL = "slow_call"  # time passes inside control, and others act meanwhile
    CREATE_LATE = "create_late"  # cut off, and done up to a minute later
    TOKEN_REFUSED = "token_refused"  # Fly answers 401 for a while
    BUCKET_AWAY = "bucket_away"  # for a while
    PUT_ANSWER_LOST = "put_answer_lost"  # stored, and the runner does not know
    PUT_LATE = "put_late"  # under way for long: stored though its machine may be judged, or dead, by then
    RENDER_FAILED = "render_failed"  # an output fails for good
    RENDER_HANGS = "render_hangs"  # until somebody stops it
    STALE_HEAD = "stale_head"  # a new object is not seen for STALE_S
    BUCKET_SLOW_DOWN = (
        "bucket_slow_down"  # 503, as of the door in front of the local bucket (and the next two)
    )
    BUCKET_TIMEOUT = "bucket_timeout"  # 408
    PATH_STYLE_REFUSED = "path_style_refused"  # 405 for every call for a while
    BOOT_GIVEN_UP = "boot_given_up"  # by the learned deadline, long before BOOT_TIMEOUT_S: counted only
    PUT_VANISHES = "put_vanishes"  # answered as stored, and it is not, or not whole
    RUNNER_CUT_OFF = "runner_cut_off"  # from control, for a while; it works on
    ZOMBIE_MUTE = "zombie_mute"  # a host that is cut off is cut off from control too
    SUBMIT_AGAIN = "submit_again"  # with the same key
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    RETRY_DELETED = "retry_deleted"  # a retry of what was deleted before: counted only
    DISK_FULL = "disk_full"  # no commit succeeds for a while
    CLOCK_STEP = "clock_step"  # the wall clock of control jumps by an hour, forward or back
    STORAGE_FULL = "storage_full"  # a submit is refused for lack of room: counted only, like the next two
    EVICTED = "evicted"  # a batch is expired before its time, to make room
    EXPIRED = "expired"  # a batch is expired because its time is over
    SHARE = "share"  # users make, use and end share links


OFTEN = {  # how likely a site is where it can happen, before the swarm's weight
    FailPoint.REFUSED: 0.05,
    FailPoint.UNAVAILABLE: 0.05,
    FailPoint.READ_LOST: 0.05,
    FailPoint.CREATE_LOST_DONE: 0.4,
    FailPoint.CREATE_LOST_UNDONE: 0.2,
    FailPoint.END_LOST_DONE: 0.35,
    FailPoint.END_LOST_UNDONE: 0.35,
    FailPoint.NO_CAPACITY: 0.2,
    FailPoint.TWIN: 0.9,
    FailPoint.UNSEEN: 0.6,
    FailPoint.LIST_LAG: 0.2,
    FailPoint.EMPTY_LIST: 0.1,
    FailPoint.PARTIAL_LIST: 0.15,
    FailPoint.STUCK_FOR_HOURS: 0.1,
    FailPoint.STUCK_FOR_EVER: 0.08,
    FailPoint.START_FAILED: 0.1,
    FailPoint.LAUNCH_FAILED: 0.1,
    FailPoint.EXITS: 0.25,
    FailPoint.KILLED: 0.25,
    FailPoint.OUT_OF_MEMORY: 0.25,
    FailPoint.STAYS_STOPPED: 0.15,
    FailPoint.SHOWN_STOPPED: 0.2,
    FailPoint.LATE_DESTROY: 0.4,
    FailPoint.HOST_CUT_OFF: 0.3,
    FailPoint.HOST_DOWN: 0.25,
    Mishap.MESSAGE_LOST: 0.1,
    Mishap.ANSWER_LOST: 0.1,
    Mishap.MESSAGE_LATE: 0.08,
    Mishap.MESSAGE_TWICE: 0.08,
    Mishap.CRASH: 0.006,
    Mishap.CRASH_IN_CREATE: 0.1,
    Mishap.AWAY: 0.5,
    Mishap.SLOW_CALL: 0.05,
    Mishap.CREATE_LATE: 0.15,
    Mishap.TOKEN_REFUSED: 0.5,
    Mishap.BUCKET_AWAY: 0.5,
    Mishap.PUT_ANSWER_LOST: 0.2,
    Mishap.PUT_LATE: 0.1,
    Mishap.RENDER_FAILED: 0.08,
    Mishap.RENDER_HANGS: 0.12,
    Mishap.PUT_VANISHES: 0.2,
    Mishap.RUNNER_CUT_OFF: 0.15,
    Mishap.ZOMBIE_MUTE: 0.5,
    Mishap.SUBMIT_AGAIN: 0.5,
    Mishap.CANCEL: 0.4,
    Mishap.RETRY: 0.6,
    Mishap.DELETE: 0.4,
}
# Drawn for some worlds apart from all others, so that the rest of a seed's world stays as it was.
APART = {
    Mishap.STALE_HEAD: 0.3,
    Mishap.BOOT_GIVEN_UP: 0.3,
    Mishap.BUCKET_SLOW_DOWN: 0.2,
    Mishap.BUCKET_TIMEOUT: 0.2,
    Mishap.PATH_STYLE_REFUSED: 0.2,
    Mishap.DISK_FULL: 0.2,
    Mishap.CLOCK_STEP: 0.2,
    Mishap.STORAGE_FULL: 0.08,
    Mishap.EVICTED: 0.08,
    Mishap.EXPIRED: 0.08,
    Mishap.SHARE: 0.08,
}
# What Fly and the bucket do late is waited for by the wall clock: a step of it cuts the wait short.
LATE = frozenset({FailPoint.UNSEEN, Mishap.CREATE_LATE, Mishap.PUT_LATE})
CLOCK_STEPS_S = (3600.0, -3600.0)
AMPLE_USD = 0.5
ROOM_BYTES = 10_000_000  # the most that an output may take
COUNTED_ONLY = frozenset({FailPoint.RATE_LIMITED, FailPoint.REGION_FULL, FailPoint.SIZE_REFUSED})
# Refusals that last for a while, as a window of the model's faults; how often a world has one.
LASTING = {
    FailPoint.IMAGE_NOT_FOUND: 0.25,
    FailPoint.MACHINE_LIMIT: 0.25,
    FailPoint.PAYMENT_REQUIRED: 0.25,
    FailPoint.APP_REFUSED: 0.25,
    FailPoint.GONE_IS_404: 0.4,
}


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """What one world is like. As it stands: small and without a fault."""

    rates: dict[Mishap, float] = field(default_factory=dict)
    fly: Faults = field(default_factory=Faults)
    settings: dict[str, object] = field(default_factory=dict)
    boots_min: int = boots.SAMPLES_MIN  # with so many boots the deadline of the next ones is learned
    batches: int = 3
    jobs_max: int = 2
    outputs_max: int = 3
    submits_s: float = 120.0  # submits come until then
    faults_s: float = 600.0  # faults and users end then
    dead_at_s: float | None = None  # control dies then, for ever
    tick_s: float = 1.0  # how far passes lie apart while they find something to do
    tick_s_max: float = 3.0  # and how far quiet ones may
    rest_s: float = 3 * 3600.0  # by so long after the last fault everything has come to rest

    @property
    def can_expire(self) -> bool:
        """True if results can expire or be evicted while the world lives."""
        return "storage_cap_bytes" in self.settings

    @classmethod
    def of(cls, seed: int) -> Swarm:
        """Return what the world of a seed is like."""
        injector = Random(f"{seed} swarm")
        share = injector.choice((0.0, 0.1, 0.25, 0.5, 0.8))
        on = {fail_point: injector.uniform(0.3, 1.5) for fail_point in OFTEN if injector.random() < share}
        if share == 0.0:
            on = dict.fromkeys(injector.sample(list(OFTEN), 2), 1.5)
        if FailPoint.TWIN in on:  # comes only of a second create, after one whose machine is not seen
            on = {FailPoint.CREATE_LOST_DONE: 1.5, FailPoint.LIST_LAG: 1.5, **on}
        rate = {fail_point: min(0.9, OFTEN[fail_point] * weight) for fail_point, weight in on.items()}
        heartbeat_s = injector.choice((5, 15))
        world = cls(
            rates={fail_point: value for fail_point, value in rate.items() if isinstance(fail_point, Mishap)},
            fly=_fly(
                injector,
                {
                    fail_point: value
                    for fail_point, value in rate.items()
                    if isinstance(fail_point, FailPoint)
                },
            ),
            settings={
                "max_machines": injector.choice((1, 2, 3)),
                "attempts_max": injector.choice((1, 2, 3)),
                "heartbeat_s": heartbeat_s,
                "lease_s": 4 * heartbeat_s,
                "run_timeout_s": injector.choice((200, 600)),
                "runner_apps": injector.choice(("runners", "runners,runners-2")),
                "runner_regions": injector.choice(("iad", "iad,ord")),
                # enough for all to end: worlds on too little are in test_budget.py
                "budget_usd_per_day": Random(f"{seed} money").choice((None, None, AMPLE_USD)),
            },
            batches=injector.randint(1, 3),
            jobs_max=injector.randint(1, 3),
            outputs_max=injector.randint(1, 3),
            submits_s=injector.choice((20.0, 100.0)),
            faults_s=injector.choice((150.0, 300.0, 600.0)),
            dead_at_s=injector.uniform(20, 300) if injector.random() < 0.04 else None,
            tick_s=injector.choice((1.0, 1.0, 3.0)),
            tick_s_max=injector.choice((3.0, 5.0, 10.0)),
        )
        lasting = _lasting(Random(f"{seed} lasting"), world.faults_s)
        world = replace(world, fly=replace(world.fly, windows=lasting, refused_apps=("runners",)))
        world = _apart(Random(f"{seed} apart"), world)
        return with_little_storage(Random(f"{seed} storage"), world, APART[Mishap.EVICTED])


def _apart(injector: Random, world: Swarm) -> Swarm:
    """Return the world, perhaps with a bucket that is late, busy or refusing, or boots that get stuck."""
    if injector.random() < APART[Mishap.STALE_HEAD]:
        world = replace(world, rates={**world.rates, Mishap.STALE_HEAD: 0.4})
    if injector.random() < APART[Mishap.BOOT_GIVEN_UP]:
        stuck = {FailPoint.STUCK_FOR_EVER: 0.2, FailPoint.STUCK_FOR_HOURS: 0.2}
        fly = replace(world.fly, rates={**world.fly.rates, **stuck})
        world = replace(world, fly=fly, boots_min=injector.choice((1, 2)))
    busy = (Mishap.BUCKET_SLOW_DOWN, Mishap.BUCKET_TIMEOUT, Mishap.PATH_STYLE_REFUSED)
    rates = {mishap: 0.3 for mishap in busy if injector.random() < APART[mishap]}
    world = replace(world, rates={**world.rates, **rates})
    if injector.random() < APART[Mishap.DISK_FULL]:
        world = replace(world, rates={**world.rates, Mishap.DISK_FULL: 0.5})
    return _with_clock_steps(world) if injector.random() < APART[Mishap.CLOCK_STEP] else world


def with_little_storage(injector: Random, world: Swarm, likely: float = 1.0) -> Swarm:
    """Return the world, perhaps with many small batches, room for some of them, and users with share links.

    Its clock makes no steps: a grace is measured by the wall clock.
    """
    if injector.random() >= likely or Mishap.CLOCK_STEP in world.rates:
        return world
    outputs_max = injector.choice((2, 3))
    room = {
        "storage_cap_bytes": int(outputs_max * ROOM_BYTES * injector.choice((1.2, 2, 3))),
        "evict_grace_s": injector.choice((20.0, 60.0, 150.0)),
        "retention_hours": injector.choice((0.06, 24.0)),
    }
    rates = {Mishap.SHARE: 0.6} if injector.random() < 0.5 else {}
    return replace(
        world,
        rates={**world.rates, **rates},
        settings={**world.settings, **room},
        batches=injector.randint(4, 6),
        jobs_max=1,
        outputs_max=outputs_max,
        submits_s=injector.choice((20.0, 150.0)),
    )


def _with_clock_steps(world: Swarm) -> Swarm:
    """Return the world with steps of the clock, and without what happens later than it is waited for then."""
    kept = {mishap: rate for mishap, rate in world.rates.items() if mishap not in LATE}
    of_fly = {point: rate for point, rate in world.fly.rates.items() if point not in LATE}
    return replace(world, rates={**kept, Mishap.CLOCK_STEP: 1.0}, fly=replace(world.fly, rates=of_fly))


def _lasting(injector: Random, faults_s: float) -> list[Window]:
    """Return when which refusals last. Drawn apart, so that the rest of a seed's world stays as it was."""
    windows: list[Window] = []
    if injector.random() < 0.4:
        return windows
    for fail_point, likely in LASTING.items():
        start_s, length_s = injector.uniform(0, faults_s * 0.4), injector.choice((20, 60, 330))
        rate = injector.choice((0.5, 1.0))
        if injector.random() < likely:
            until_s = min(start_s + length_s, faults_s)
            windows.append(Window(fail_point=fail_point, from_s=start_s, until_s=until_s, rate=rate))
    return windows


def _fly(injector: Random, rates: dict[FailPoint, float]) -> Faults:
    crowded = injector.random() < 0.15
    return Faults(
        rates=rates,
        capacity={"iad": 1} if crowded else {},
        capacity_answer=injector.choice(CAPACITY_ANSWERS),
        pull_s=injector.choice(((0, 1), (1, 20))),
        boot_s=(0.3, injector.choice((1, 10))),
        stuck_s=(200, 2400),
        death_s=(0, injector.choice((10, 40))),
        late_destroy_s=(10, 400),
        host_lost_s=(0, 30),
        host_away_s=(30, injector.choice((120, 1200))),
    )
