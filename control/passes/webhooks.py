"""The pass that calls the webhooks of batches that have ended (docs/api.md describes the message).

Signed as https://www.standardwebhooks.com describes. Runs beside the other passes, since receivers may be
slow. Must never log a URL: its query may hold a key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from datetime import datetime
from functools import partial
from typing import Any

import urllib3
from sqlmodel import col, select

from control.context import AppContext
from control.domain.errors import ControlError
from control.store import webhooks
from control.store.tables import Batch, Webhook
from control.telemetry.log import log_event, log_failure
from control.views.schemas.batches import BatchView, JobView
from infra import outbound

AT_ONCE_MAX = 20
OF_A_HOST_MAX = 4
PATIENCE_S = 20.0  # for a whole call, however slowly the receiver sends
GONE = 410  # the receiver refuses further calls
_LEFT_OUT: Any = {"ticket": True, "attempts": True, "webhook": True, "sources": {"__all__": {"outputs"}}}


def notify(context: AppContext) -> None:
    """Deliver the webhooks that are due and record the results: many at once, few for one host.

    Returns when all are delivered or have timed out. There are never more than AT_ONCE_MAX threads, over all
    runs of this pass. Raises RuntimeError if a thread cannot be started: the next runs try the rest.
    """
    threads = []
    while webhook := _begun(context):
        # daemons: the end of control does not wait for a receiver
        work = partial(_deliver_in_turn, context, webhook)
        threads.append(threading.Thread(target=work, name="webhook", daemon=True))
        try:
            threads[-1].start()
        except RuntimeError:  # no thread could be made, so nobody else gives its turn back
            context.telling.give_back(webhook.batch_id)
            raise
    until = time.monotonic() + 2 * PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _begun(context: AppContext) -> Webhook | None:
    """Return the webhook that has been due longest and whose host may be called; its try is counted."""
    while batch_id := _next(context):
        webhook = None
        try:
            webhook = webhooks.begin(context.store, batch_id)
        finally:
            if webhook is None:  # by now it was delivered, deleted, given up, or the batch started again
                context.telling.give_back(batch_id)
        if webhook is not None:
            return webhook
    return None


def _next(context: AppContext) -> str | None:
    """Return the batch of the webhook that is next, whose turn is then taken."""
    turn = select(Webhook.batch_id, Webhook.url).join(Batch, col(Batch.id) == col(Webhook.batch_id))
    turn = turn.where(webhooks.is_turn(context.clock()), col(Batch.deleted_at).is_(None))
    limits = {"at_once_max": AT_ONCE_MAX, "per_host_max": OF_A_HOST_MAX}
    with context.views.session() as session:
        for batch_id, url in session.exec(turn.order_by(col(Webhook.due_at))):
            if context.telling.take(batch_id, _host(context, url or ""), **limits):
                return batch_id
    return None


def _host(context: AppContext, url: str) -> str:
    """Return whom a call would keep busy; those that are never called share one place."""
    try:
        return outbound.target(url, allow=context.settings.outbound_allow).host
    except outbound.Forbidden:
        return ""


def _deliver_in_turn(context: AppContext, webhook: Webhook | None) -> None:
    """Deliver this webhook, and then those that found no turn free."""
    try:
        while webhook is not None:
            try:
                _deliver(context, webhook)
            finally:
                context.telling.give_back(webhook.batch_id)
            webhook = _begun(context)
    except Exception as error:  # noqa: BLE001 - the row's next try is set already
        log_failure("webhook_not_sent", error)


def _deliver(context: AppContext, webhook: Webhook) -> None:
    try:
        body = webhook.body or webhooks.first_told(context.store, webhook, message(context, webhook))
    except ControlError:
        return  # deleted meanwhile: the row goes with it
    try:
        status = _post(context, webhook, body.encode())
    except outbound.Forbidden as refused:
        _fail(context, webhook, str(refused), is_final=True)
    except urllib3.exceptions.HTTPError as error:
        _fail(context, webhook, f"It did not answer ({type(error).__name__}).", is_final=False)
    else:
        if 200 <= status < 300:
            webhooks.delivered(context.store, webhook)
            log_event("webhook_delivered", batch_id=webhook.batch_id, tries=webhook.tries)
        else:
            _fail(context, webhook, f"It answered {status}.", is_final=status == GONE)


def _post(context: AppContext, webhook: Webhook, body: bytes) -> int:
    """Return the status of the answer. Raises outbound.Forbidden, urllib3's HTTPError."""
    assert webhook.url is not None, "a webhook that is due has its URL"
    assert context.settings.webhook_secret is not None, "without it none is accepted"
    headers = signed(
        context.settings.webhook_secret.get_secret_value(), webhook.message_id, context.clock(), body
    )
    allow = context.settings.outbound_allow
    called = outbound.request(
        "POST",
        webhook.url,
        allow=allow,
        headers=headers,
        body=lambda: [body],
        redirects_max=0,
        within_s=PATIENCE_S,
    )
    with called as answer:
        return answer.status


def _fail(context: AppContext, webhook: Webhook, why: str, *, is_final: bool) -> None:
    webhooks.failed(context.store, webhook, why, is_final=is_final)
    log_event("webhook_failed", batch_id=webhook.batch_id, tries=webhook.tries, error=why)


def message(context: AppContext, webhook: Webhook) -> str:
    """Return the body: the type, and what was posted, without its up to 10,000 outputs, which are not read.

    Raises ControlError not_found.
    """
    views = context.views
    if webhook.subject == "job":
        shown: JobView | BatchView = views.job(views.job_ids(Batch, webhook.batch_id)[0], with_outputs=False)
    else:
        shown = views.batch(webhook.batch_id, with_outputs=False)
    data = shown.model_dump(mode="json", exclude=_LEFT_OUT)
    content = {"type": f"{webhook.subject}.{data['status']}", "timestamp": data["ended_at"], "data": data}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def signed(secret: str, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of a message; `secret` is `whsec_` and base64."""
    stamp = str(int(now.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
