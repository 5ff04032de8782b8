"""A password for once ends: since when an account has its password."""

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    # Of accounts that are there it is the moment of the upgrade: their passwords for once get the
    # whole time from then on.
    op.add_column(
        "staff",
        sa.Column(
            "password_set_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("staff", "password_set_at")
