"""The template by which the outputs of a batch are named."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("batch", sa.Column("name_template", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
