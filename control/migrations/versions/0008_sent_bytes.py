"""What an attempt may send and what it says that it has sent: a cap on cost holds for bytes too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("attempt", sa.Column("send_bytes_max", sa.BigInteger(), nullable=True))
    op.add_column("attempt", sa.Column("sent_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
