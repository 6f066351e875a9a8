"""Estimates, reserves, what machines sent and leaked, calibration, downloads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("batch", schema=None) as batch_op:
        batch_op.add_column(sa.Column("max_cost_usd", sa.Float(), nullable=True))

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(_amount("estimate_s"))
        batch_op.add_column(_amount("estimate_usd"))
        batch_op.add_column(_amount("egress_bytes_max"))

    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("wall_s", sa.Float(), nullable=True))
        batch_op.add_column(_amount("reserve_usd"))

    with op.batch_alter_table("machine", schema=None) as batch_op:
        batch_op.add_column(sa.Column("batch_id", sa.String(), nullable=True))
        batch_op.add_column(_amount("reserve_usd"))
        batch_op.add_column(_amount("leaked_seconds"))
        batch_op.add_column(sa.Column("outputs", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("egress_bytes", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.create_index(batch_op.f("ix_machine_batch_id"), ["batch_id"], unique=False)

    op.create_table(
        "speed",
        sa.Column("size", sa.String(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Float(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_speed")),
    )
    op.create_table(
        "downloads",
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_downloads")),
    )


_SUMS = ("weight", "work", "work_work", "wall", "work_wall", "launch_s", "bytes_ratio")


def _amount(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=False, server_default="0")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
