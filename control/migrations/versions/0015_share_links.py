"""The share link of a batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("batch", sa.Column("share_sha256", sa.String(), nullable=True))
    op.create_index(op.f("ix_batch_share_sha256"), "batch", ["share_sha256"], unique=True)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
