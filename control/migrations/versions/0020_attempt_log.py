"""The last lines of the log of a runner whose attempt failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "attemptlog",
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("tail", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_attemptlog_attempt_id")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_attemptlog")),
    )


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
