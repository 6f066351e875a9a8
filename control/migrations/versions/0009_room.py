"""Size and ETag of frozen archives; what lies in the bucket of a job besides its outputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for table in ("batch", "job"):
        op.add_column(table, sa.Column("zip_bytes", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("zip_tag", sa.String(), nullable=True))
    op.add_column("job", sa.Column("stray_bytes", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
