"""Webhooks: signed, retried for a day, delivered once, and never sent to a private address."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import pytest
import standardwebhooks.webhooks
from pydantic import SecretStr
from sqlalchemy.event import listen, remove
from sqlmodel import Session

from control.passes import webhooks as notifying
from control.passes.webhooks import notify
from control.store import changes, queue, reports, webhooks
from control.store.tables import Attempt, Batch, Job, Webhook
from tests.support.receiver import Receiver, receiving
from tests.support.rows import finished, ready, seen

SECRET = "whsec_" + base64.b64encode(b"a secret of more than twenty-four bytes").decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def telling(context, receiver):
    """Control with a webhook secret, allowed to call the receiver."""
    return allowing(replace(context, settings=context.settings), receiver.place)


def allowing(context, *places: str):
    update = {"webhook_secret": SecretStr(SECRET), "outbound_allow": places}
    return replace(context, settings=context.settings.model_copy(update=update))


def submitted(rows, url: str, *, subject: str = "batch") -> str:
    """Store a batch whose end is to be told to `url`, and return its job's id."""
    job_id = rows.submit(variations=1)
    with rows.store.transaction() as tx:
        webhooks.ask(tx, tx.session.get_one(Batch, rows.job(job_id).batch_id), subject, url)
    return job_id


def ended(rows, url: str) -> str:
    return end(rows, submitted(rows, url))


def end(rows, job_id: str) -> str:
    """End the job well."""
    (output,) = rows.outputs(job_id)
    queue.start(rows.store, ["runners"])
    attempt_id = f"{job_id}-{rows.job(job_id).attempts_used}"
    reports.claim(rows.store, attempt_id, "m1")
    reports.finish(rows.store, attempt_id, finished(ready(output.id)), seen(output))
    return job_id


def webhook(rows, job_id: str) -> Webhook:
    with Session(rows.engine) as session:
        return session.get_one(Webhook, rows.job(job_id).batch_id)


def test_the_end_of_a_batch_is_delivered_once(telling, rows, receiver):
    job_id = submitted(rows, receiver.url)
    notify(telling)
    assert receiver.got == []
    end(rows, job_id)
    for _ in range(3):
        notify(telling)
    ((_, body),) = receiver.got
    content = json.loads(body)
    assert content["type"] == "batch.completed"
    assert content["data"]["batch_id"] == rows.job(job_id).batch_id
    assert content["data"]["progress"]["ready"] == 1
    assert "ticket" not in content["data"]
    (source,) = content["data"]["sources"]
    assert (source["status"], source["data"], "outputs" in source) == ("ready", None, False)
    hook = webhook(rows, job_id)
    assert (hook.state, hook.url, hook.tries) == ("delivered", None, 1)


def test_the_reference_library_accepts_the_signature_and_no_other_body(
    telling, rows, receiver, clock, monkeypatch
):
    ended(rows, receiver.url)
    notify(telling)
    ((headers, body),) = receiver.got

    class At(datetime):
        @classmethod
        def now(cls, tz=None):  # noqa: ARG003
            return clock()

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", At)
    verifier = standardwebhooks.webhooks.Webhook(SECRET)
    assert verifier.verify(body, headers)["type"] == "batch.completed"
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        verifier.verify(body.replace(b"completed", b"cancelled"), headers)


def test_what_was_posted_as_a_job_is_delivered_as_a_job(telling, rows, receiver):
    job_id = submitted(rows, receiver.url, subject="job")
    changes.cancel(rows.store, [job_id])
    notify(telling)
    content = json.loads(receiver.got[0][1])
    assert (content["type"], content["data"]["job_id"]) == ("job.cancelled", job_id)


@pytest.mark.parametrize("subject", ["batch", "job"])
def test_what_is_told_is_what_is_shown_without_its_outputs_none_of_which_is_read(
    telling, rows, receiver, engine, subject
):
    """Up to 20 threads tell of batches of up to 10,000 outputs at once."""
    job_id = submitted(rows, receiver.url, subject=subject)
    changes.cancel(rows.store, [job_id])
    batch_id, statements = rows.job(job_id).batch_id, []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    listen(engine, "before_cursor_execute", note)
    notifying.message(telling, webhook(rows, job_id))
    remove(engine, "before_cursor_execute", note)
    assert any("output.state" in each for each in statements), "they are counted"
    assert not any("output.effects" in each for each in statements)
    views = telling.views
    shown = (views.job(job_id) if subject == "job" else views.batch(batch_id)).model_dump(mode="json")
    assert shown["sources"][0].pop("outputs")
    notify(telling)
    told = json.loads(receiver.got[0][1])["data"]
    shown = {name: value for name, value in shown.items() if name not in ("ticket", "attempts", "webhook")}
    assert list(told.items()) == list(shown.items())


@pytest.mark.parametrize("status", [500, 429, 404, 302])
def test_a_receiver_that_fails_gets_the_same_call_again_later(telling, rows, receiver, clock, status):
    receiver.statuses = [status]
    job_id = ended(rows, receiver.url)
    notify(telling)
    notify(telling)  # too soon
    assert len(receiver.got) == 1
    waiting = webhook(rows, job_id)
    assert (waiting.state, waiting.tries, waiting.error) == ("due", 1, f"It answered {status}.")
    clock.forward(10)
    with rows.store.transaction() as tx:  # what it costs is known more exactly by now
        tx.session.get_one(Attempt, f"{job_id}-1").cost_usd = 0.5
    notify(telling)
    assert len(receiver.got) == 2
    assert len({(headers["webhook-id"], body) for headers, body in receiver.got}) == 1
    assert webhook(rows, job_id).state == "delivered"


def test_after_24_hours_in_vain_it_is_dead_and_says_why(telling, rows, receiver, clock):
    receiver.statuses = [503] * 100
    job_id, ended_at = ended(rows, receiver.url), clock()
    while (due := webhook(rows, job_id)).state == "due":
        clock.now = max(clock(), due.due_at)
        notify(telling)
    assert (due.url, due.error) == (None, "It answered 503.")
    assert 10 <= due.tries <= 20
    assert 18 * 3600 < (clock() - ended_at).total_seconds() <= 24 * 3600
    assert telling.views.batch(due.batch_id).webhook.state == "dead"


def test_a_receiver_that_is_gone_for_good_is_not_called_again(telling, rows, receiver):
    receiver.statuses = [410]
    job_id = ended(rows, receiver.url)
    notify(telling)
    assert webhook(rows, job_id).state == "dead"


def test_nobody_listening_is_a_failure_like_any_other(telling, rows):
    with receiving() as closed:
        url = closed.url
    job_id = ended(rows, url)
    notify(allowing(telling, closed.place))
    assert webhook(rows, job_id).state == "due"
    assert "did not answer" in webhook(rows, job_id).error


def test_a_private_address_that_no_setting_names_is_never_called(telling, rows, receiver):
    job_id = ended(rows, receiver.url)
    notify(allowing(telling))
    assert receiver.got == []
    assert webhook(rows, job_id).state == "dead"


def test_a_batch_that_is_started_again_before_it_was_delivered_is_delivered_at_its_new_end(
    telling, rows, receiver, clock
):
    receiver.statuses = [500]
    job_id = submitted(rows, receiver.url)
    changes.cancel(rows.store, [job_id])
    notify(telling)
    changes.retry(rows.store, [job_id])
    clock.forward(60)
    notify(telling)
    assert len(receiver.got) == 1
    end(rows, job_id)
    notify(telling)
    assert receiver.types == ["batch.cancelled", "batch.completed"]


def test_a_deleted_batch_takes_its_webhook_with_it(telling, rows, receiver):
    batch_id = rows.job(ended(rows, receiver.url)).batch_id
    changes.delete(rows.store, batch_id)
    notify(telling)
    assert receiver.got == []
    changes.remove_rows(rows.store, batch_id)
    assert rows.all(Webhook) == rows.all(Job) == []


def test_no_url_reaches_the_log(telling, rows, receiver, caplog):
    caplog.set_level("INFO", logger="control")
    receiver.statuses = [500]
    ended(rows, receiver.url)
    notify(telling)
    assert "webhook_failed" in caplog.text
    assert "SECRET-QUERY" not in caplog.text


# --- receivers that keep control waiting ----------------------------------------------------------------


class Trickler:
    """A program that sends a byte of its answer's head now and then, and never ends."""

    def __init__(self, server: socket.socket) -> None:
        self._server, self._is_over = server, threading.Event()
        self.place = f"127.0.0.1:{server.getsockname()[1]}"
        self.calls = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.calls += 1
            threading.Thread(target=self._trickle, args=(connection,), daemon=True).start()

    def _trickle(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not self._is_over.wait(0.05):
                connection.sendall(b"a")

    def end(self) -> None:
        self._is_over.set()
        self._server.close()


@pytest.fixture
def trickler(monkeypatch) -> Iterator[Trickler]:
    monkeypatch.setattr(notifying, "PATIENCE_S", 0.4)
    trickler = Trickler(socket.create_server(("127.0.0.1", 0), backlog=100))
    yield trickler
    trickler.end()


def test_a_receiver_that_trickles_its_answer_is_cut_off_and_dead_in_the_end(telling, rows, trickler, clock):
    context = allowing(telling, trickler.place)
    job_id = ended(rows, f"http://{trickler.place}/")
    notify(context)
    notify(context)  # too soon
    tried = webhook(rows, job_id)
    assert (trickler.calls, tried.state, tried.tries) == (1, "due", 1)
    assert tried.error == "It did not answer (Late)."
    for _ in range(2):
        clock.now = webhook(rows, job_id).due_at
        notify(context)
    assert (trickler.calls, webhook(rows, job_id).tries) == (3, 3)
    clock.forward(24 * 3600)
    notify(context)
    assert webhook(rows, job_id).state == "dead"


def counted(parts, monkeypatch) -> list[int]:
    """Return how many calls of the trickler's host were under way, each time that one may have begun."""
    at_once: list[int] = []
    take = parts.telling.take

    def taken(*args: str, **limits: int) -> bool:
        has_turn = take(*args, **limits)
        at_once.append(list(parts.telling._hosts.values()).count("127.0.0.1"))
        return has_turn

    monkeypatch.setattr(parts.telling, "take", taken)
    return at_once


def test_receivers_that_trickle_keep_no_other_from_its_turn(telling, rows, trickler, clock, monkeypatch):
    monkeypatch.setattr(notifying, "AT_ONCE_MAX", 6)
    monkeypatch.setattr(notifying, "OF_A_HOST_MAX", 2)
    with receiving("127.0.0.2") as other:
        context = allowing(telling, trickler.place, other.place)
        at_once = counted(context, monkeypatch)
        tricklers = [ended(rows, f"http://{trickler.place}/{n}") for n in range(8)]
        clock.forward(1)
        good = ended(rows, other.url)
        notify(context)
        assert sum(thread.name == "webhook" for thread in threading.enumerate()) <= notifying.AT_ONCE_MAX
        assert webhook(rows, good).state == "delivered"
    for _ in range(20):  # each of them has its turn, one after the other
        notify(context)
        if all(webhook(rows, job_id).tries for job_id in tricklers):
            break
    assert Counter(webhook(rows, job_id).state for job_id in tricklers) == {"due": 8}
    assert max(at_once) == notifying.OF_A_HOST_MAX


def test_a_try_is_counted_before_it_is_made_and_made_once(telling, rows, receiver, clock):
    job_id, during = submitted(rows, receiver.url), []

    def look() -> None:
        clock.forward(3600)  # its next turn has come, while this one is under way
        notify(telling)
        during.append((webhook(rows, job_id).state, webhook(rows, job_id).tries))

    receiver.on_call = look
    end(rows, job_id)
    notify(telling)
    assert during == [("due", 1)]
    assert (webhook(rows, job_id).state, webhook(rows, job_id).tries) == ("delivered", 1)
    assert len(receiver.got) == 1


def test_a_try_in_which_control_was_ended_is_not_repeated_for_ever(
    telling, rows, receiver, clock, monkeypatch
):
    job_id = ended(rows, receiver.url)
    monkeypatch.setattr(notifying, "_deliver", lambda *_: None)  # it never came to its end
    tries = 0
    while webhook(rows, job_id).state == "due":
        clock.now = max(clock(), webhook(rows, job_id).due_at)
        notify(telling)
        tries += 1
        assert tries < 30
    assert webhook(rows, job_id).state == "dead"
    assert 10 <= webhook(rows, job_id).tries <= 20


def test_a_webhook_that_fails_here_does_not_stop_the_others(telling, rows, receiver, monkeypatch, caplog):
    caplog.set_level("INFO", logger="control")
    jobs = [ended(rows, receiver.url) for _ in range(3)]
    first, real = webhook(rows, jobs[0]).batch_id, notifying._deliver

    def broken(context, hook) -> None:
        if hook.batch_id == first:
            raise RuntimeError("the database is away")
        real(context, hook)

    monkeypatch.setattr(notifying, "_deliver", broken)
    notify(telling)
    assert [webhook(rows, job_id).state for job_id in jobs] == ["due", "delivered", "delivered"]
    assert "the database is away" in caplog.text


def test_a_webhook_for_which_there_is_no_thread_gives_its_turn_back_and_is_tried_again(
    telling, rows, receiver, clock, monkeypatch
):
    job_id, start = ended(rows, receiver.url), threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "webhook":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            notify(telling)
    assert webhook(rows, job_id).state == "due"
    clock.now = webhook(rows, job_id).due_at
    notify(telling)
    assert webhook(rows, job_id).state == "delivered"


def test_a_try_that_a_clock_far_ahead_has_put_off_is_made_when_it_is_right_again(
    telling, rows, receiver, clock
):
    receiver.statuses = [500]
    job_id = ended(rows, receiver.url)
    clock.forward(20 * 3600)
    notify(telling)
    clock.forward(-20 * 3600)
    notify(telling)
    assert webhook(rows, job_id).state == "delivered"
