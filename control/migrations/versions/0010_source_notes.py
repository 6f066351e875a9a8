"""Sentences on a source for its user: what could not be used of a file that was taken nevertheless."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("source", sa.Column("notes", sa.JSON(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
