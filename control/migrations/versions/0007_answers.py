"""What was answered once: keys outlive their batch, and a webhook's message is the same on every try."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("idempotencykey") as table:
        table.drop_constraint("fk_idempotencykey_batch_id", type_="foreignkey")
    op.create_index(op.f("ix_idempotencykey_created_at"), "idempotencykey", ["created_at"], unique=False)
    op.add_column("webhook", sa.Column("body", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
