"""Writes of webhooks: asked for with the submit, due at the batch's end, told or given up."""

from __future__ import annotations

import random
from datetime import timedelta

from control.ids import new_id
from control.store.transaction import Store, Transaction
from control.tables import Batch, Webhook

TRIED_FOR = timedelta(hours=24)
PAUSE_S_MAX = 4 * 3600.0


def ask(tx: Transaction, batch: Batch, subject: str, url: str) -> None:
    """Note that the end of what was posted is to be told to `url`."""
    tx.session.add(
        Webhook(batch_id=batch.id, subject=subject, message_id=new_id("msg"), url=url, state="waiting")
    )


def follow_end(tx: Transaction, batch: Batch) -> None:
    """Make the batch's webhook due, if it has one that has not been told yet."""
    webhook = tx.session.get(Webhook, batch.id)
    if webhook is not None and webhook.state == "waiting":
        webhook.state, webhook.due_at, webhook.give_up_at = "due", tx.now, tx.now + TRIED_FOR


def take_back(tx: Transaction, batch: Batch) -> None:
    """A user has started the batch again: what was not told yet waits for the new end."""
    webhook = tx.session.get(Webhook, batch.id)
    if webhook is not None and webhook.state == "due":
        webhook.state, webhook.due_at, webhook.tries, webhook.error = "waiting", None, 0, None
        webhook.message_id, webhook.body = new_id("msg"), None


def first_told(store: Store, tried: Webhook, body: str) -> str:
    """Note what is about to be told, and return it: from now on each try tells the same."""
    with store.transaction() as tx:
        webhook = _still(tx, tried)
        if webhook is None:
            return body
        webhook.body = webhook.body or body
        return webhook.body


def delivered(store: Store, tried: Webhook) -> None:
    """Note that the other side has it."""
    with store.transaction() as tx:
        webhook = _still(tx, tried)
        if webhook is not None:
            webhook.state, webhook.error, webhook.url, webhook.due_at = "delivered", None, None, None
            webhook.body = None
            webhook.tries += 1


def failed(store: Store, tried: Webhook, why: str, *, is_final: bool) -> None:
    """Note a try in vain: the next one comes later each time, and none after 24 hours or a final no."""
    with store.transaction() as tx:
        webhook = _still(tx, tried)
        if webhook is None or webhook.give_up_at is None:
            return
        webhook.tries, webhook.error = webhook.tries + 1, why
        webhook.due_at = tx.now + pause(webhook.tries)
        if is_final or webhook.due_at > webhook.give_up_at:
            webhook.state, webhook.url, webhook.due_at, webhook.body = "dead", None, None, None
            tx.note("webhook_given_up", batch_id=webhook.batch_id, tries=webhook.tries)


def pause(tries: int) -> timedelta:
    """Return how long to wait after so many tries: about 5 s, 20 s, 80 s, up to 4 h."""
    seconds = min(5.0 * 4 ** min(tries - 1, 10), PAUSE_S_MAX)
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads the load


def _still(tx: Transaction, tried: Webhook) -> Webhook | None:
    """Return the row if it is still the one that was tried: not deleted, nor started again."""
    webhook = tx.session.get(Webhook, tried.batch_id)
    same = webhook is not None and webhook.state == "due" and webhook.message_id == tried.message_id
    return webhook if same else None
