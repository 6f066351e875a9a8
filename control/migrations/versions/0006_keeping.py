"""What a job has in the bucket, as one number; deleted batches by index; regions are no attempt's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    stored = sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("job", stored)
    op.execute(_counted())
    op.create_index(op.f("ix_job_stored_bytes"), "job", ["stored_bytes"], unique=False)
    op.create_index(op.f("ix_batch_deleted_at"), "batch", ["deleted_at"], unique=False)
    op.drop_column("attempt", "region_shift")


def _counted() -> sa.Update:
    """Return the statement that counts what is stored already."""
    job = sa.table("job", sa.column("id"), sa.column("stored_bytes"))
    extras = (sa.column("playlist", sa.JSON), sa.column("poster", sa.JSON))
    output = sa.table("output", sa.column("job_id"), sa.column("key"), sa.column("size_bytes"), *extras)
    sizes = [output.c.size_bytes, *(output.c[file.name]["size_bytes"].as_integer() for file in extras)]
    size = sum((sa.func.coalesce(each, 0) for each in sizes), sa.literal(0))
    stored = sa.select(sa.func.coalesce(sa.func.sum(size), 0))
    stored = stored.where(output.c.job_id == job.c.id, output.c.key.is_not(None))
    return sa.update(job).values(stored_bytes=stored.scalar_subquery())


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
