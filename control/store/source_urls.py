"""Forgets the URLs of users: their queries may be keys to what is not ours."""

from __future__ import annotations

from sqlmodel import and_, col, or_, select

from control.domain import states
from control.domain.states import OutputState
from control.store.tables import Batch, Output, Source
from control.store.transaction import Store

AT_ONCE_MAX = 1000


def forget_ended(store: Store) -> None:
    """Forget the URLs of batches that have ended for good: nothing of them is left that could be retried.

    That is when all is ready, the batch has expired, or a user has deleted it. A source by URL belongs to one
    batch; without its URL it counts as deleted.
    """
    with store.transaction() as tx:
        unready = (
            select(Output.batch_id)
            .join(Source)
            .where(col(Output.state) != OutputState.READY, col(Source.refusal).is_(None))
        )
        over = or_(
            col(Batch.id).not_in(unready), col(Batch.expires_at) <= tx.now, col(Batch.deleted_at) <= tx.now
        )
        ended = select(Batch.id).where(and_(col(Batch.status).in_(states.ENDED), over))
        urls = (
            select(Source).join(Output).where(col(Source.url).is_not(None), col(Output.batch_id).in_(ended))
        )
        for source in tx.session.exec(urls.limit(AT_ONCE_MAX)).unique().all():
            source.url, source.deleted_at = None, tx.now
        targets = select(Batch).where(col(Batch.output_url).is_not(None), col(Batch.id).in_(ended))
        for batch in tx.session.exec(targets.limit(AT_ONCE_MAX)).all():
            batch.output_url = None
