"""What an attempt may send and what it says that it has sent: a cap on cost holds for bytes too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# What waits was planned as if a URL gave a clip of 30 s, and its runner would now stop at that: 5 GiB is room
# for the largest source by default, in two places. A batch with a cap of its own keeps what it was promised.
ROOM_FOR_UNSEEN = """
    UPDATE job SET egress_bytes_max = 5368709120.0 *
      (SELECT count(*) FROM output WHERE output.job_id = job.id)
    WHERE status IN ('queued', 'launching', 'running')
      AND (SELECT max_cost_usd FROM batch WHERE batch.id = job.batch_id) IS NULL
      AND EXISTS (SELECT 1 FROM output JOIN source ON source.id = output.source_id
        WHERE output.job_id = job.id AND source.url IS NOT NULL)
"""


def upgrade() -> None:
    op.add_column("attempt", sa.Column("send_bytes_max", sa.BigInteger(), nullable=True))
    op.add_column("attempt", sa.Column("sent_bytes", sa.BigInteger(), nullable=True))
    op.execute(ROOM_FOR_UNSEEN)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
