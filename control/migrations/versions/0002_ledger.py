"""The ledger of machines; cancel, delete and sizes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import UTCDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "machine",
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.String(), nullable=True),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("size", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=True),
        sa.Column("exited_at", UTCDateTime(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Integer(), nullable=True),
        sa.Column("oom_killed", sa.Boolean(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("stop_asked_at", UTCDateTime(), nullable=True),
        sa.Column("destroy_asked_at", UTCDateTime(), nullable=True),
        sa.Column("gone_at", UTCDateTime(), nullable=True),
        sa.Column("machine_seconds", sa.Float(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("app", "id", name=op.f("pk_machine")),
    )
    with op.batch_alter_table("machine", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_machine_attempt_id"), ["attempt_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_machine_gone_at"), ["gone_at"], unique=False)

    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("region_shift", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("asked_at", UTCDateTime(), nullable=True))

    with op.batch_alter_table("batch", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cancelled_at", UTCDateTime(), nullable=True))
        batch_op.add_column(sa.Column("deleted_at", UTCDateTime(), nullable=True))

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("attempts_max", sa.Integer(), nullable=False, server_default="3"))
        batch_op.add_column(sa.Column("size", sa.String(), nullable=False, server_default="performance-1x"))
        batch_op.add_column(sa.Column("cancelled_at", UTCDateTime(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
