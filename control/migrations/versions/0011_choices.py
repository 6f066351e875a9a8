"""What a user chooses for a batch: its name, the effects and their strength, quality and frame rate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("batch", sa.Column("name", sa.String(), nullable=True))
    op.add_column("batch", sa.Column("without", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("batch", sa.Column("strength", sa.Float(), nullable=False, server_default="1"))
    op.add_column("batch", sa.Column("quality", sa.String(), nullable=False, server_default="standard"))
    op.add_column("batch", sa.Column("frame_rate", sa.String(), nullable=False, server_default="29.97"))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
