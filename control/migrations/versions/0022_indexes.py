"""An index for each foreign key: without one SQLite reads the whole table when a row it may refer to goes.

That of a batch's outputs has their sources too, which each submit sums in the one writing transaction.
Attempts that have ended lately are looked for all the time.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_index(op.f("ix_output_batch_id_source_id"), "output", ["batch_id", "source_id"])
    op.drop_index(op.f("ix_output_batch_id"), "output")
    op.create_index(op.f("ix_output_attempt_id"), "output", ["attempt_id"])
    op.create_index(op.f("ix_event_attempt_id"), "event", ["attempt_id"])
    op.create_index(op.f("ix_attempt_ended_at"), "attempt", ["ended_at"])
    op.create_index(op.f("ix_sourcedata_source_id"), "sourcedata", ["source_id"])


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
