"""An index for attempts whose machine may exist though no list shows it: they are looked for all the time."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_index(op.f("ix_attempt_asked_at"), "attempt", ["asked_at"])


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
