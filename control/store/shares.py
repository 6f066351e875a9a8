"""Makes and ends the share link of a batch. The token itself is never stored."""

from __future__ import annotations

from datetime import datetime

from control.auth.tokens import new_share, share_sha256
from control.domain.errors import Code, ControlError
from control.store.rows import found
from control.store.tables import Batch
from control.store.transaction import Store


def share(store: Store, batch_id: str) -> tuple[str, datetime]:
    """Return the token of a new share link and when it expires. An earlier link of the batch ends.

    The caller has checked that there is something to show.
    Raises ControlError: not_found, not_finished.
    """
    token = new_share()
    with store.transaction() as tx:
        batch = found(tx.session, Batch, batch_id)
        if batch.ended_at is None or batch.expires_at is None:
            raise ControlError(Code.NOT_FINISHED, "This batch has not ended yet. Share it when it is done.")
        batch.share_sha256 = share_sha256(token)
        tx.note("batch_shared", batch_id=batch.id)
        return token, batch.expires_at


def unshare(store: Store, batch_id: str) -> None:
    """End the share link of a batch, if it has one. Raises ControlError not_found."""
    with store.transaction() as tx:
        batch = found(tx.session, Batch, batch_id)
        batch.share_sha256 = None
        tx.note("batch_unshared", batch_id=batch.id)
