"""How far an output lies from its source and from its siblings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("output", sa.Column("variety_source", sa.Float(), nullable=True))
    op.add_column("output", sa.Column("variety_sibling", sa.Float(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
