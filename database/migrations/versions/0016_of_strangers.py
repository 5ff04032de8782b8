"""Mails and texts that wait for a person to say whose they are, for the home of an agent."""

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None


_TABLES = ("received_mails", "received_texts")


def upgrade() -> None:
    for table in _TABLES:
        op.create_index(
            f"ix_{table}_of_strangers",
            table,
            ["received_at", "id"],
            postgresql_where=sa.text("outcome IN ('unknown_sender', 'failed')"),
        )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_index(f"ix_{table}_of_strangers", table)
