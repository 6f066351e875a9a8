"""Work units on machines."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from control.domain.effects import effects
from control.planning.schedule import Capacity, choose, schedules
from control.planning.workload import SourceInfo, Speed, WorkUnit, work_units

SIZES = ("performance-1x", "performance-2x", "performance-4x", "performance-8x")


def mixed(sources: int, variations: int) -> list[WorkUnit]:
    """Return the pieces of a batch of clips as people have them."""
    dice = Random(1)
    source_info = [
        SourceInfo(
            size_bytes=dice.choice((4e6, 20e6, 60e6)),
            duration_s=dice.choice((6, 9, 15, 15, 30, 60)),
            pixels=dice.choice((1280 * 720, 1920 * 1080, 1080 * 1920)),
        )
        for _ in range(sources)
    ]
    asked = [
        (source, effects(seed=1, fingerprint=str(source), variation=n + 1))
        for source in range(sources)
        for n in range(variations)
    ]
    return work_units(asked, source_info)


def best(parts: list[WorkUnit], **capacity: object):
    ways = schedules(parts, Capacity(**{"sizes": SIZES, **capacity}))  # type: ignore[arg-type]
    return choose(ways, deadline_s=None, max_cost_usd=None), ways


@pytest.mark.parametrize(("sources", "variations"), [(1, 1), (3, 5), (40, 3), (50, 20), (100, 100)])
def test_every_output_is_made_once_and_no_job_is_too_large(sources, variations):
    parts = mixed(sources, variations)
    _, ways = best(parts)
    for way in ways:
        made = Counter(index for assignment in way.assignments for index in assignment.outputs)
        assert made == Counter(range(sources * variations))
        assert max(len(assignment.outputs) for assignment in way.assignments) <= 200


@pytest.mark.parametrize("variations", [4, 10, 20])
def test_siblings_are_never_parted(variations):
    parts = mixed(10, variations)
    whole = {tuple(unit.outputs) for unit in parts}
    for way in best(parts)[1]:
        assert {
            tuple(unit.outputs) for assignment in way.assignments for unit in assignment.work_units
        } == whole


def test_a_limit_that_leaves_no_room_between_pieces_is_kept_all_the_same():
    parts = mixed(400, 3)
    chosen, _ = best(parts, machines_max=6, jobs_max=6, outputs_max=200)
    assert [len(assignment.outputs) for assignment in chosen.assignments] == [200] * 6


def test_the_default_costs_at_most_a_tenth_more_than_the_cheapest_and_none_as_cheap_is_faster():
    chosen, ways = best(mixed(20, 5))
    cheapest = min(way.cost_usd for way in ways)
    assert chosen.cost_usd <= 1.1 * cheapest
    assert not [w for w in ways if w.cost_usd <= 1.1 * cheapest and w.makespan_s < chosen.makespan_s]


def test_a_little_work_is_one_machine_and_much_work_is_many():
    assert best(mixed(1, 1), sizes=SIZES[:1])[0].machines == 1
    assert best(mixed(40, 10), sizes=SIZES[:1])[0].machines > 20


def test_a_large_source_is_split_and_small_ones_share():
    long = SourceInfo(size_bytes=1e8, duration_s=600, pixels=1920 * 1080)
    short = SourceInfo(size_bytes=1e6, duration_s=3, pixels=640 * 360)
    asked = [(0, effects(seed=1, fingerprint="a", variation=n)) for n in range(1, 41)]
    assert best(work_units(asked, [long]))[0].machines > 1
    asked = [(n, effects(seed=1, fingerprint=str(n), variation=1)) for n in range(20)]
    shared = best(work_units(asked, [short] * 20))[0]
    assert max(len({unit.source for unit in assignment.work_units}) for assignment in shared.assignments) > 1


def test_never_more_machines_than_may_live():
    parts = mixed(40, 10)
    for most in (1, 2, 7):
        assert best(parts, machines_max=most, outputs_max=400)[0].machines <= most


def test_more_jobs_than_machines_take_turns():
    parts = mixed(10, 100)
    few, many = (best(parts, machines_max=most)[0] for most in (2, 7))
    assert few.machines > 5
    assert few.makespan_s > 2 * many.makespan_s


def test_a_user_s_limit_on_machines_is_one_on_jobs():
    parts = mixed(10, 100)
    assert all(way.machines <= 6 for way in best(parts, machines_max=6, jobs_max=6)[1])


def test_a_deadline_takes_the_cheapest_that_meets_it_or_else_the_fastest():
    ways = schedules(mixed(40, 10), Capacity(sizes=SIZES))
    fastest = min(way.makespan_s for way in ways)
    relaxed = choose(ways, deadline_s=1e9, max_cost_usd=None)
    assert relaxed.cost_usd == min(way.cost_usd for way in ways)
    assert choose(ways, deadline_s=2 * fastest, max_cost_usd=None).makespan_s <= 2 * fastest
    assert choose(ways, deadline_s=1, max_cost_usd=None).makespan_s == fastest


def test_money_comes_before_a_deadline():
    ways = schedules(mixed(40, 10), Capacity(sizes=SIZES[:1]))
    cheapest = min(way.cost_usd for way in ways)
    assert choose(ways, deadline_s=1, max_cost_usd=1.01 * cheapest).cost_usd <= 1.01 * cheapest
    assert choose(ways, deadline_s=None, max_cost_usd=cheapest / 2).cost_usd == cheapest


def test_more_apps_launch_more_machines_at_once():
    clip = SourceInfo(size_bytes=4e6, duration_s=6, pixels=1280 * 720)
    asked = [(n, effects(seed=1, fingerprint=str(n), variation=v)) for n in range(100) for v in range(1, 5)]
    parts = work_units(asked, [clip] * 100)
    one, four = (best(parts, apps=apps, sizes=SIZES[:1])[0] for apps in (1, 4))
    assert four.makespan_s < one.makespan_s


def test_a_size_that_no_job_has_run_on_is_as_quick_as_the_one_best_known():
    known = Speed().learn(work_s=50, wall_s=25, launch_s=1, bytes_ratio=1)
    capacity = Capacity(sizes=SIZES, speeds={"performance-1x": known})
    assert capacity.speed("performance-8x") == known


def test_the_same_requested_twice_is_the_same_plan():
    assert best(mixed(30, 7))[0] == best(mixed(30, 7))[0]


def test_ten_thousand_outputs_are_planned_for_fifty_machines_or_more():
    chosen, _ = best(mixed(100, 100))
    assert chosen.machines >= 50


def test_work_over_all_tried_counts_is_bounded_and_little_work_tries_them_all():
    alone = [
        WorkUnit(
            source=0, outputs=[n], work_s=1, longest_s=1, fetch_s=1, likely_bytes=1, bytes_max=1, room_bytes=1
        )
        for n in range(10_000)
    ]
    _, many = best(alone, sizes=SIZES[:1], machines_max=1000)
    _, few = best(alone[:1000], sizes=SIZES[:1], machines_max=1000)
    assert len(many) <= 12 < 30 < len(few)
