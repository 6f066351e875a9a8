"""FFmpeg arguments once for all outputs that share them. Rows of before keep theirs until they expire."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "arguments",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_arguments_job_id")),
        sa.PrimaryKeyConstraint("job_id", "digest", name=op.f("pk_arguments")),
    )
    op.add_column("output", sa.Column("arguments", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
