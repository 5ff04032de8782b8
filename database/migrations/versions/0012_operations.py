"""Indexes for what operators look at: facts of the last day, messages in trouble."""

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_index("ix_events_accepted_at", "events", ["accepted_at"])
    op.create_index(
        "ix_messages_in_trouble",
        "messages",
        ["state", "queued_at"],
        postgresql_where=sa.text("state IN ('unknown','failed')"),
    )


def downgrade() -> None:
    op.drop_index("ix_messages_in_trouble", "messages")
    op.drop_index("ix_events_accepted_at", "events")
