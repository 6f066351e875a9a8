"""Users' URLs to which outputs are also PUT: one for each output instead of one for each batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "delivery",
        sa.Column("output_id", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["output_id"], ["output.id"], name=op.f("fk_delivery_output_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_delivery_batch_id")),
        sa.PrimaryKeyConstraint("output_id", name=op.f("pk_delivery")),
    )
    op.create_index(op.f("ix_delivery_batch_id"), "delivery", ["batch_id"])
    op.add_column("output", sa.Column("delivered", sa.Boolean(), nullable=True))
    op.execute(
        "INSERT INTO delivery (output_id, batch_id, url)"
        " SELECT output.id, batch.id, batch.output_url FROM output JOIN batch ON batch.id = output.batch_id"
        " WHERE batch.output_url IS NOT NULL AND output.state <> 'ready'"
    )
    op.execute(
        "UPDATE output SET delivered = delivery_error IS NULL AND state = 'ready'"
        " WHERE batch_id IN (SELECT id FROM batch WHERE output_url IS NOT NULL)"
    )
    op.drop_column("batch", "output_url")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
