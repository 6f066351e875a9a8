"""Event streams of jobs and batches, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.foreign import Held
from tests.support.user import User, address, ok, outputs

DURABLE = ("state", "output", "end")


@dataclass(frozen=True)
class Event:
    """One event as a browser would hand it to a page."""

    name: str
    id: int | None
    data: dict[str, Any]


def events(answer: httpx.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            id_ = int(fields["id"]) if "id" in fields else None
            yield Event(fields["event"], id_, json.loads(fields["data"]))
            fields = {}


@contextmanager
def stream(user: User, id_: str, **how: Any) -> Iterator[Iterator[Event]]:
    with user.http.stream("GET", f"{address(id_)}/events", **how) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


def listen(user: User, id_: str, **how: Any) -> list[Event]:
    """Return all events until the stream closes by itself."""
    with stream(user, id_, **how) as found:
        return list(found)


def durable(found: list[Event]) -> list[Event]:
    return [event for event in found if event.name in DURABLE]


def after(position: int | None) -> dict[str, Any]:
    return {"headers": {"Last-Event-ID": str(position)}}


@pytest.fixture(scope="module")
def heard(user: User, landscape: Path, vertical: Path) -> tuple[str, list[Event]]:
    """A batch and all that its stream told from its submission to its end."""
    sources = [user.upload(landscape), user.upload(vertical)]
    batch_id = user.submit(*sources, variations=2)["batch_id"]
    return batch_id, listen(user, batch_id)


def test_a_stream_begins_with_a_snapshot_and_closes_after_the_end(heard: tuple[str, list[Event]]) -> None:
    _, found = heard
    assert found[0].name == "progress"
    assert [event.name for event in found].count("end") == 1
    assert found[-1].name == "end"
    assert found[-1].data["status"] == "completed"


def test_durable_events_have_rising_ids_and_snapshots_none(heard: tuple[str, list[Event]]) -> None:
    _, found = heard
    ids = [event.id for event in durable(found)]
    assert ids == sorted(set(ids))
    assert {event.id for event in found if event.name == "progress"} == {None}
    assert {event.name for event in found} == {"progress", *DURABLE}


def test_the_states_are_those_of_the_batch_in_their_order(heard: tuple[str, list[Event]]) -> None:
    batch_id, found = heard
    states = [event.data for event in found if event.name == "state"]
    assert [state["status"] for state in states] == ["queued", "launching", "running", "completed"]
    assert {(state["batch_id"], state["job_id"]) for state in states} == {(batch_id, None)}


def test_progress_never_falls_and_says_the_same_as_a_look(user: User, heard: tuple[str, list[Event]]) -> None:
    batch_id, found = heard
    snapshots = [event.data for event in found if event.name == "progress"]
    percents = [snapshot["percent"] for snapshot in snapshots]
    assert percents == sorted(percents)
    last, shown = snapshots[-1], user.show(batch_id)
    assert {key: last[key] for key in shown["progress"]} == shown["progress"]
    assert [(s["source_id"], s["status"], s["percent"]) for s in last["sources"]] == [
        (s["source_id"], s["status"], s["percent"]) for s in shown["sources"]
    ]
    assert last["jobs"] == shown["jobs"]
    assert last["status"] == shown["status"]


def test_each_output_is_sent_once_as_polling_shows_it(user: User, heard: tuple[str, list[Event]]) -> None:
    batch_id, found = heard
    reported = [event.data for event in found if event.name == "output"]
    by_id = {output["output_id"]: output for output in reported}
    assert len(by_id) == len(reported) == 4
    assert by_id == {output["output_id"]: output for output in outputs(user.show(batch_id))}


def test_after_any_event_a_stream_continues_with_the_next(user: User, heard: tuple[str, list[Event]]) -> None:
    batch_id, found = heard
    whole = durable(found)
    assert durable(listen(user, batch_id)) == whole
    for index, event in enumerate(whole[:-1]):
        assert durable(listen(user, batch_id, **after(event.id))) == whole[index + 1 :]
    position = {"params": {"last_event_id": whole[2].id}}
    assert durable(listen(user, batch_id, **position)) == whole[3:]


def test_who_has_seen_the_end_gets_204(user: User, heard: tuple[str, list[Event]]) -> None:
    batch_id, found = heard
    assert user.http.get(f"{address(batch_id)}/events", **after(found[-1].id)).status_code == 204


def test_the_stream_of_a_job_reports_the_job(user: User, heard: tuple[str, list[Event]]) -> None:
    batch_id, _ = heard
    job_id = user.show(batch_id)["jobs"][0]["job_id"]
    found = durable(listen(user, job_id))
    states = [event.data for event in found if event.name == "state"]
    assert [state["status"] for state in states] == ["queued", "launching", "running", "completed"]
    assert {state["job_id"] for state in states} == {job_id}
    assert [state["attempt_id"] for state in states] == [None, *[f"{job_id}-1"] * 3]
    assert (found[-1].name, found[-1].data["status"]) == ("end", "completed")


def test_what_ends_with_its_job_is_sent_and_a_retry_takes_the_end_back(user: User, source: str) -> None:
    batch_id = user.submit(source, variations=2)["batch_id"]
    ok(user.http.post(f"{address(batch_id)}/cancel"), 202)
    first = listen(user, batch_id)
    assert {e.data["status"] for e in first if e.name == "output"} <= {"ready", "cancelled"}
    assert len([event for event in first if event.name == "output"]) == 2
    assert first[-1].data["status"] == "cancelled"
    ok(user.http.post(f"{address(batch_id)}/retry"), 202)
    again = durable(listen(user, batch_id, **after(first[-1].id)))
    assert again[0].data["status"] == "queued"
    assert (again[-1].name, again[-1].data["status"]) == ("end", "completed")
    whole = durable(listen(user, batch_id))
    assert [event.name for event in whole].count("end") == 1, "the first end is none any more"
    assert whole[-1] == again[-1]


def test_streams_take_the_ticket_of_their_batch_and_no_other(
    http: httpx.Client, user: User, heard: tuple[str, list[Event]], source: str
) -> None:
    batch_id, _ = heard
    shown = user.show(batch_id)
    other = user.submit(source, variations=1)
    for id_ in (batch_id, shown["jobs"][0]["job_id"]):
        path = f"{address(id_)}/events"
        assert http.get(path, params={"ticket": shown["ticket"]}).status_code == 200
        for wrong in (None, "nonsense", other["ticket"]):
            answer = http.get(path, params={"ticket": wrong} if wrong else {})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    user.wait(other["batch_id"])


@pytest.mark.parametrize("id_", ["job_nonsense", "bat_nonsense"])
def test_an_unknown_id_has_no_stream(http: httpx.Client, user: User, id_: str) -> None:
    path = f"{address(id_)}/events"
    answer = user.http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert http.get(path).status_code == 401


@pytest.mark.parametrize("position", ["-1", "x", str(2**63)])
def test_a_position_that_is_none_is_refused(
    user: User, heard: tuple[str, list[Event]], position: str
) -> None:
    path = f"{address(heard[0])}/events"
    for how in ({"headers": {"Last-Event-ID": position}}, {"params": {"last_event_id": position}}):
        assert user.http.get(path, **how).status_code == 422  # type: ignore[arg-type]


def test_a_deleted_batch_ends_its_stream(user: User, held: Held) -> None:
    batch_id = user.submit(held.url, variations=1)["batch_id"]
    with stream(user, batch_id) as found:
        assert next(found).name == "progress"
        assert user.http.delete(address(batch_id)).status_code == 204
        assert all(event.data["status"] != "completed" for event in found)
    assert user.http.get(f"{address(batch_id)}/events").status_code == 404
