"""Waiting for a batch: its event stream is used, and it is polled only while the stream is interrupted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.console import Console
from tenacity import wait_none

from control.cli import demo
from tests.support.answers import AT, answer
from video_refresher import ApiError, Client
from video_refresher import client as library
from video_refresher.models import Batch, Output, ProgressEvent, SourceInBatch, SourceProgress, StateEvent

Answer = httpx.Response | Exception


def batch(status: str, *outputs: str, percent: float = 0) -> httpx.Response:
    shown = [answer(Output, output_id=f"out_{n}", status=state) for n, state in enumerate(outputs)]
    state = "ready" if {*outputs} == {"ready"} else "running"
    source = answer(
        SourceInBatch, source_id="src_1", name="a.mp4", status=state, percent=percent, outputs=shown
    )
    return httpx.Response(
        200, json=answer(Batch, batch_id="bat_1", status=status, sources=[source], new_field=1)
    )


def event(name: str, id_: int | None = None, /, **data: Any) -> str:
    head = f"id: {id_}\n" if id_ else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def ready(id_: int) -> str:
    return event("output", id_, **answer(Output, output_id="out_0", status="ready"))


def progress(percent: float) -> str:
    source = answer(SourceProgress, source_id="src_1", status="running", percent=percent)
    return event("progress", **answer(ProgressEvent, eta_s=5, waiting=None, sources=[source]))


def stream(*events: str, is_cut: bool = False) -> httpx.Response:
    def content() -> Any:
        for each in events:
            yield each.encode()
        if is_cut:
            raise httpx.ReadError("cut")

    return httpx.Response(200, content=content())


END = event("end", 9, **answer(StateEvent, status="completed", at=AT))


class Control:
    """Gives these answers in turn, the last of each kind for ever, and keeps what it was asked."""

    def __init__(self, looks: list[Answer], streams: list[Answer]) -> None:
        self.answers = {"look": looks, "stream": streams}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        kind = "stream" if request.url.path.endswith("/events") else "look"
        after = request.headers.get("Last-Event-ID")
        self.asked.append(f"{kind} {after}" if after else kind)
        answers = self.answers[kind]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    made: list[float] = []
    monkeypatch.setattr(library, "time", SimpleNamespace(sleep=made.append))  # other threads sleep on
    monkeypatch.setattr(library._looked_at.retry, "wait", wait_none())
    return made


def watched(control: Callable[[httpx.Request], httpx.Response]) -> tuple[Any, str]:
    """Return the batch at its end, and the last picture that was shown."""
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    client = Client(httpx.Client(base_url="http://c", transport=httpx.MockTransport(control)))
    ended = demo.watch(client, "bat_1", console)
    return ended, console.file.getvalue()  # type: ignore[attr-defined]


def test_while_its_stream_tells_a_batch_is_asked_for_only_at_start_and_end(pauses: list[float]) -> None:
    streamed = stream(": ping\n\n", progress(40), ready(7), END)
    control = Control([batch("running", "queued"), batch("completed", "ready", percent=100)], [streamed])
    ended, picture = watched(control)
    assert ended.status == "completed"
    assert control.asked == ["look", "stream 0", "look"]
    assert pauses == []
    assert "100%" in picture


def test_why_nothing_moves_is_printed_whole_and_once_beside_a_bar_that_stays(pauses: list[float]) -> None:
    why = "All 2 machines that MAX_MACHINES allows are in use. The job starts when one of them is free."
    waits = event(
        "progress",
        **answer(ProgressEvent, eta_s=None, waiting={"code": "machine_cap", "message": why}, sources=[
            answer(SourceProgress, source_id="src_1", status="queued", percent=0)
        ]),
    )  # fmt: skip
    looks = [batch("queued", "queued"), batch("completed", "ready", percent=100)]
    control = Control(looks, [stream(waits, waits, END)])
    console = Console(file=io.StringIO(), width=80)
    client = Client(httpx.Client(base_url="http://c", transport=httpx.MockTransport(control)))
    demo.watch(client, "bat_1", console)
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert shown.count(why) == 1
    assert "1/1 ready" in shown
    assert "ready, ready" not in shown


def test_what_the_events_tell_is_shown(pauses: list[float]) -> None:
    streamed = stream(ready(7), progress(40), event("of tomorrow", 8), is_cut=True)
    control = Control([batch("running", "queued", "queued")], [streamed])
    client = Client(httpx.Client(base_url="http://c", transport=httpx.MockTransport(control)))
    with demo.Progress(console=Console(file=io.StringIO())) as shown:
        bars = demo.Bars(shown)
        bars.show(client.show("bat_1"))
        assert client._follow("bat_1", 0, bars.take) == (7, False)
        (task,) = shown.tasks
        assert task.completed == 40
        assert task.fields["note"] == "1/2 ready, running, about 5 s left"


def test_a_stream_that_was_cut_goes_on_where_it_was_after_a_slow_look(pauses: list[float]) -> None:
    streams = [
        stream(event("state", 3, **answer(StateEvent)), is_cut=True),
        httpx.ConnectError("away"),
        stream(END),
    ]
    looks = [batch("running", "queued"), batch("running", "queued"), batch("running", "queued")]
    control = Control([*looks, batch("completed", "ready")], [*streams])
    assert watched(control)[0].status == "completed"
    assert control.asked == ["look", "stream 0", "look", "stream 3", "look", "stream 3", "look"]
    assert pauses == [library.POLL_S] * 2


def test_without_a_free_stream_a_batch_is_polled_slowly(pauses: list[float]) -> None:
    full = httpx.Response(429, json={"error": {"code": "streams_full", "message": "full"}})
    control = Control([batch("running", "queued")] * 3 + [batch("completed", "ready")], [full])
    assert watched(control)[0].status == "completed"
    assert pauses == [library.POLL_S] * 3


def test_a_control_that_is_away_for_a_moment_ends_no_wait(pauses: list[float]) -> None:
    looks: list[Answer] = [batch("running", "queued"), httpx.ConnectError("away"), httpx.ReadTimeout("slow")]
    control = Control([*looks, batch("completed", "ready")], [stream(is_cut=True)])
    end, printed = watched(control)
    assert end.status == "completed"
    assert printed.count("does not answer. Trying again for 2 minutes.") == 1


def test_a_batch_that_was_deleted_meanwhile_is_an_error(pauses: list[float]) -> None:
    gone = httpx.Response(404, json={"error": {"code": "not_found", "message": "There is no such batch."}})
    with pytest.raises(ApiError, match="no such batch"):
        watched(Control([batch("running", "queued"), gone], [stream()]))
