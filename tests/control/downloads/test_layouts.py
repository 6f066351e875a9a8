"""The cache of ZIP layouts: how many are built at once, shared, and kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from control.domain.errors import Code, ControlError
from control.downloads import layouts as layouts_module
from control.downloads.contents import Facts, Layout, ZipRequest
from control.downloads.layouts import AT_ONCE_MAX, FILES_MAX, Layouts
from control.downloads.zip_layout import Archive, literal
from control.store.tables import Batch

ENDED = datetime(2026, 11, 21, tzinfo=UTC)


def asked(id_: str, *, ended_at: datetime | None = ENDED) -> ZipRequest:
    return ZipRequest(
        table=Batch,
        id=id_,
        zip_name="a.zip",
        chosen=None,
        ended_at=ended_at,
        expires_at=None,
        facts=None,
    )


class Maker:
    """Makes layouts with so many files, and notes how many it made, and how many at once."""

    def __init__(self, files: int = 1, takes_s: float = 0.02) -> None:
        self.made = Counter[str]()
        self.at_once, self.at_once_max = 0, 0
        self._files, self._takes_s, self._lock = files, takes_s, threading.Lock()

    def __call__(self, asked: ZipRequest) -> Layout:
        with self._lock:
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
            self.made[asked.id] += 1
        time.sleep(self._takes_s)
        with self._lock:
            self.at_once -= 1
        archive = Archive([literal("a", b"a")], modified_at=ENDED)
        files: Any = dict.fromkeys(range(self._files))
        return Layout(archive=archive, files=files, facts=Facts(size_bytes=1, tag="tag"))


def ask(layouts: Layouts, *wanted: ZipRequest) -> list[Layout]:
    async def all_of_them() -> list[Layout]:
        return await asyncio.gather(*(layouts.of(each) for each in wanted))

    return asyncio.run(all_of_them())


def test_fifty_requests_for_the_same_layout_share_one_that_is_made_once() -> None:
    maker = Maker()
    layouts = Layouts(maker)
    assert len(set(map(id, ask(layouts, *[asked("bat_1")] * 50)))) == 1
    ask(layouts, asked("bat_1"))
    assert maker.made == {"bat_1": 1}


def test_of_many_different_layouts_only_two_are_made_at_once() -> None:
    maker = Maker()
    ask(Layouts(maker), *(asked(f"bat_{n}") for n in range(10)))
    assert maker.at_once_max == AT_ONCE_MAX == 2
    assert maker.made.total() == 10


def test_the_cache_is_limited_and_keeps_the_latest_layouts() -> None:
    maker = Maker(files=FILES_MAX // 3, takes_s=0)
    layouts = Layouts(maker)
    for id_ in ("1", "2", "3", "1", "4", "1", "2"):
        ask(layouts, asked(id_))
    assert maker.made == {"1": 1, "2": 2, "3": 1, "4": 1}


def test_after_a_retry_a_new_layout_is_made() -> None:
    maker = Maker()
    layouts = Layouts(maker)
    ask(layouts, asked("bat_1"), asked("bat_1", ended_at=datetime(2026, 11, 22, tzinfo=UTC)))
    assert maker.made == {"bat_1": 2}


def test_a_growing_layout_is_made_again_with_at_most_a_fifth_of_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker, now = Maker(takes_s=0), [100.0]
    monkeypatch.setattr(layouts_module.time, "monotonic", lambda: now[0])

    def make(asked: ZipRequest) -> Layout:
        now[0] += 1.0
        return maker(asked)

    layouts = Layouts(make)
    for _ in range(40):  # ten seconds
        ask(layouts, asked("bat_1", ended_at=None))
        now[0] += 0.25
    assert maker.made["bat_1"] <= 3


def test_an_error_reaches_all_who_wait_and_is_not_cached() -> None:
    refusals = [ControlError(Code.NOT_READY, "no")]
    maker = Maker()

    def make(asked: ZipRequest) -> Layout:
        layout = maker(asked)
        if refusals:
            raise refusals.pop()
        return layout

    layouts = Layouts(make)

    async def two() -> list[Any]:
        return await asyncio.gather(*(layouts.of(asked("b")) for _ in range(2)), return_exceptions=True)

    assert [type(each) for each in asyncio.run(two())] == [ControlError] * 2
    assert ask(layouts, asked("b"))
