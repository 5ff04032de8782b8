"""An index for the board of orders: how each that is on its way stands to its promised day."""

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_index(
        "ix_orders_lanes",
        "orders",
        [sa.text("COALESCE(promised_on, '9999-12-31'::date)"), "id"],
        postgresql_include=["promised_on", "state", "endangered_at", "late_noticed_at"],
        postgresql_where=sa.text("delivered_at IS NULL AND ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_orders_lanes", "orders")
