"""Changes of webhooks: stored at submit, due at the end of the batch, then delivered or given up.

A try is counted before it is made, so a try that never returns counts too, and so does one during which
control stops.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement
from sqlmodel import and_, col, select

from control.domain.ids import new_id
from control.store.due import is_due
from control.store.tables import Batch, Webhook
from control.store.transaction import Store, Transaction

TRIED_FOR = timedelta(hours=24)
PAUSE_S_MAX = 4 * 3600.0
JITTER = 0.2


def ask(tx: Transaction, batch: Batch, subject: str, url: str) -> None:
    """Store a webhook that announces the end of the batch to `url`. `subject` is what was posted."""
    tx.session.add(
        Webhook(batch_id=batch.id, subject=subject, message_id=new_id("msg"), url=url, state="waiting")
    )


def follow_end(tx: Transaction, batch: Batch) -> None:
    """A batch has ended: its webhook becomes due, unless it was delivered or given up before."""
    webhook = tx.session.get(Webhook, batch.id)
    if webhook is not None and webhook.state == "waiting":
        webhook.state, webhook.due_at, webhook.give_up_at = "due", tx.now, tx.now + TRIED_FOR


def take_back(tx: Transaction, batch: Batch) -> None:
    """A user has retried the batch: if its webhook is due, it waits for the new end."""
    webhook = tx.session.get(Webhook, batch.id)
    if webhook is not None and webhook.state == "due":
        webhook.state, webhook.due_at, webhook.tries, webhook.error = "waiting", None, 0, None
        webhook.message_id, webhook.body = new_id("msg"), None


def is_turn(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition of the webhooks that are due now."""
    longest = timedelta(seconds=PAUSE_S_MAX * (1 + JITTER))
    return and_(col(Webhook.state) == "due", is_due(Webhook.due_at, now, longest=longest))


def begin(store: Store, batch_id: str) -> Webhook | None:
    """Count a try that is about to be made and return its row, or None if it is no longer due.

    If its time ended while a try was interrupted, the webhook is given up instead.
    """
    with store.transaction() as tx:
        mine = select(Webhook).where(col(Webhook.batch_id) == batch_id, is_turn(tx.now))
        webhook = tx.session.exec(mine).first()
        if webhook is None or webhook.give_up_at is None:
            return None
        if tx.now >= webhook.give_up_at:
            _give_up(tx, webhook)
            return None
        webhook.tries, webhook.error = webhook.tries + 1, "It has not answered yet."
        webhook.due_at = min(tx.now + pause(webhook.tries), webhook.give_up_at)
        return webhook


def first_told(store: Store, tried: Webhook, body: str) -> str:
    """Store the body that is about to be sent and return it. Every later try sends the same body."""
    with store.transaction() as tx:
        webhook = _still(tx, tried)
        if webhook is None:
            return body
        webhook.body = webhook.body or body
        return webhook.body


def delivered(store: Store, tried: Webhook) -> None:
    """Record that the receiver has accepted it."""
    with store.transaction() as tx:
        webhook = _still(tx, tried)
        if webhook is not None:
            webhook.state, webhook.error, webhook.url, webhook.due_at = "delivered", None, None, None
            webhook.body = None


def failed(store: Store, tried: Webhook, why: str, *, is_final: bool) -> None:
    """Record that a try failed. The pauses grow; after a day or a final refusal the webhook is given up."""
    with store.transaction() as tx:
        webhook = _still(tx, tried)
        if webhook is None or webhook.give_up_at is None:
            return
        webhook.error, webhook.due_at = why, tx.now + pause(webhook.tries)
        if is_final or webhook.due_at > webhook.give_up_at:
            _give_up(tx, webhook)


def _give_up(tx: Transaction, webhook: Webhook) -> None:
    webhook.state, webhook.url, webhook.due_at, webhook.body = "dead", None, None, None
    tx.note("webhook_given_up", batch_id=webhook.batch_id, tries=webhook.tries)


def pause(tries: int) -> timedelta:
    """Return the pause after `tries` tries: about 5 s, 20 s, 80 s, up to 4 h."""
    seconds = min(5.0 * 4 ** min(tries - 1, 10), PAUSE_S_MAX)
    return timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - to spread load


def _still(tx: Transaction, tried: Webhook) -> Webhook | None:
    """Return the row if it is still the one that was tried: not deleted and its batch not retried."""
    webhook = tx.session.get(Webhook, tried.batch_id)
    same = webhook is not None and webhook.state == "due" and webhook.message_id == tried.message_id
    return webhook if same else None
