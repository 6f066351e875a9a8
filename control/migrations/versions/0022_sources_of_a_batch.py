"""An index that has the sources of a batch: each submit sums them in the one writing transaction."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_index(op.f("ix_output_batch_id_source_id"), "output", ["batch_id", "source_id"])
    op.drop_index(op.f("ix_output_batch_id"), "output")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
