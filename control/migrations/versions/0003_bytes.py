"""Sources by URL and refused files; presets, playlists and posters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("source", schema=None) as batch_op:
        batch_op.add_column(sa.Column("url", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("refusal", sa.String(), nullable=True))

    with op.batch_alter_table("batch", schema=None) as batch_op:
        batch_op.add_column(sa.Column("preset", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("output_url", sa.String(), nullable=True))

    with op.batch_alter_table("output", schema=None) as batch_op:
        batch_op.add_column(sa.Column("preset", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("playlist", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("poster", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("delivery_error", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
