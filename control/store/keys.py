"""Idempotency-Keys: a request that is sent again gets the answer of the first, for a day."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlmodel import col, delete

from control.errors import Code, ControlError
from control.store.transaction import Store, Transaction
from control.tables import IdempotencyKey

LIFE = timedelta(hours=24)


class Answering:
    """The keys of requests that are being answered. In memory: a request ends with its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    @contextmanager
    def only_once(self, key: str | None) -> Iterator[None]:
        """Answer a request, if there is none of its key under way. Raises ControlError conflict."""
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


def first_answer(store: Store, key: str | None, request_sha256: str) -> str | None:
    """Return the batch that a request made when it came first, or None if this is the first time.

    Raises ControlError conflict when the key came with another request.
    """
    if key is None:
        return None
    with store.transaction() as tx:
        return first_use(tx, key, request_sha256)


def first_use(tx: Transaction, key: str, request_sha256: str) -> str | None:
    """Do the same within a transaction."""
    tx.session.exec(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) <= tx.now - LIFE))
    first = tx.session.get(IdempotencyKey, key)
    if first is not None and first.request_sha256 != request_sha256:
        raise ControlError(Code.CONFLICT, "This Idempotency-Key was used for another request.")
    return first.batch_id if first else None


def note(tx: Transaction, key: str, request_sha256: str, batch_id: str) -> None:
    """Note what the first request of a key made."""
    tx.session.add(
        IdempotencyKey(key=key, request_sha256=request_sha256, batch_id=batch_id, created_at=tx.now)
    )
