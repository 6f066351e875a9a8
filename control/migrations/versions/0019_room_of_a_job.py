"""The storage that is reserved for the outputs of a job. Older jobs reserve the bytes that they may send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("job", sa.Column("room_bytes", sa.Float(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
