"""The frame rate of a source, by which work is estimated where outputs keep it; null while it is unknown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("source", sa.Column("frame_rate", sa.Float(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
