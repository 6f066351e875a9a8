"""The pass that tells users' programs that what they posted has ended (contract, section 7).

Signed as https://www.standardwebhooks.com says. Runs beside the other passes: who is told may be slow.
Must never log a URL: its query may be a key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from datetime import datetime

import urllib3
from sqlmodel import col, select

from control.errors import ControlError
from control.log import record
from control.parts import Parts
from control.store import webhooks
from control.tables import Webhook
from infra import outbound

AT_ONCE_MAX = 20
PATIENCE_S = 60.0  # one that trickles its answer is left alone then, and tried again
GONE = 410  # the receiver wants no more of it
_LEFT_OUT = {"ticket", "sources", "attempts", "webhook"}  # a batch may have 10,000 outputs


def notify(parts: Parts) -> None:
    """Deliver the webhooks whose turn it is, all at once, and note how that went."""
    turn = select(Webhook).where(col(Webhook.state) == "due", col(Webhook.due_at) <= parts.clock())
    with parts.views.session() as session:
        due = session.exec(turn.order_by(col(Webhook.due_at)).limit(AT_ONCE_MAX)).all()
    # daemons: the end of control waits for no stranger
    threads = [threading.Thread(target=_deliver, args=(parts, webhook), daemon=True) for webhook in due]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)


def _deliver(parts: Parts, webhook: Webhook) -> None:
    try:
        body = webhook.body or webhooks.first_told(parts.store, webhook, message(parts, webhook))
    except ControlError:
        return  # deleted meanwhile: the row goes with it
    try:
        status = _post(parts, webhook, body.encode())
    except outbound.Forbidden as refused:
        _fail(parts, webhook, str(refused), is_final=True)
    except urllib3.exceptions.HTTPError as error:
        _fail(parts, webhook, f"It did not answer ({type(error).__name__}).", is_final=False)
    else:
        if 200 <= status < 300:
            webhooks.delivered(parts.store, webhook)
            record("webhook_delivered", batch_id=webhook.batch_id, tries=webhook.tries + 1)
        else:
            _fail(parts, webhook, f"It answered {status}.", is_final=status == GONE)


def _post(parts: Parts, webhook: Webhook, body: bytes) -> int:
    """Return the status of the answer. Raises outbound.Forbidden, urllib3's HTTPError."""
    assert webhook.url is not None, "a webhook that is due has its URL"
    assert parts.settings.webhook_secret is not None, "without it none is accepted"
    headers = signed(
        parts.settings.webhook_secret.get_secret_value(), webhook.message_id, parts.clock(), body
    )
    allow = parts.settings.outbound_allow
    with outbound.request(
        "POST", webhook.url, allow=allow, headers=headers, body=lambda: [body], redirects_max=0
    ) as answer:
        return answer.status


def _fail(parts: Parts, webhook: Webhook, why: str, *, is_final: bool) -> None:
    webhooks.failed(parts.store, webhook, why, is_final=is_final)
    record("webhook_failed", batch_id=webhook.batch_id, tries=webhook.tries + 1, error=why)


def message(parts: Parts, webhook: Webhook) -> str:
    """Return the body: the type, and what was posted as lists show it. Raises ControlError not_found."""
    shown = parts.views.batch(webhook.batch_id)
    if webhook.subject == "job":
        data = parts.views.job(shown.jobs[0].job_id).model_dump(mode="json", exclude=_LEFT_OUT)
    else:
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
