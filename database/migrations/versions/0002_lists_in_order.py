"""Indexes in the order of the lists; a column nobody wrote is gone."""

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_LISTS = {
    "orders": "placed_at",
    "cases": "opened_at",
    "surveys": "asked_at",
    "feedback": "answered_at",
}


def upgrade() -> None:
    for table, moment in _LISTS.items():
        op.create_index(f"ix_{table}_{moment}_id", table, [moment, "id"])
    op.drop_column("lifecycles", "paused")


def downgrade() -> None:
    paused: sa.Column[bool] = sa.Column(
        "paused", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("lifecycles", paused)
    for table, moment in _LISTS.items():
        op.drop_index(f"ix_{table}_{moment}_id", table)
