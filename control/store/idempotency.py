"""Idempotency-Keys: for a day, a repeated request gets the answer of the first one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Executable
from sqlmodel import Session, col, delete

from control.domain.errors import Code, ControlError
from control.store.prepared import Moment, Prepared
from control.store.tables import IdempotencyKey
from control.store.transaction import Transaction

LIFE = timedelta(hours=24)


class Answering:
    """The keys of requests in progress. In memory: a request ends with its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    @contextmanager
    def only_once(self, key: str | None) -> Iterator[None]:
        """Hold the key while the block runs. Raises ControlError conflict if another request holds it."""
        with self._lock:
            if key in self._keys:
                why = "A request with this Idempotency-Key is still being answered. Try again in a moment."
                raise ControlError(Code.CONFLICT, why, headers={"Retry-After": "1"})
            if key is not None:
                self._keys.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard(key or "")


def first_use(session: Session, key: str | None, request_sha256: str, now: datetime) -> str | None:
    """Return the batch that the first request with this key made, or None if this is the first request.

    Raises ControlError conflict if the key was used for a different request.
    """
    first = session.get(IdempotencyKey, key) if key is not None else None
    if first is None or first.created_at <= now - LIFE:
        return None
    if first.request_sha256 != request_sha256:
        raise ControlError(Code.CONFLICT, "This Idempotency-Key was used for another request.")
    return first.batch_id


def note(tx: Transaction, key: str, request_sha256: str, batch_id: str) -> None:
    """Store which batch the first request of a key made, and remove the keys that have expired."""
    tx.change(_expired)
    tx.session.add(
        IdempotencyKey(key=key, request_sha256=request_sha256, batch_id=batch_id, created_at=tx.now)
    )


@Prepared
def _expired(now: Moment) -> Executable:
    return delete(IdempotencyKey).where(col(IdempotencyKey.created_at) <= now - LIFE)
