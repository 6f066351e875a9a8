"""The caller's own data of the sources of a batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "sourcedata",
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_sourcedata_batch_id")),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_sourcedata_source_id")),
        sa.PrimaryKeyConstraint("batch_id", "source_id", name=op.f("pk_sourcedata")),
    )


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
