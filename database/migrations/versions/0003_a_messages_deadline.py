"""A message may have a deadline; one that missed it says so."""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    deadline: sa.Column[object] = sa.Column("not_after", sa.DateTime(timezone=True), nullable=True)
    op.add_column("messages", deadline)
    op.drop_constraint("ck_messages_silence_has_a_reason", "messages")
    op.create_check_constraint(
        op.f("ck_messages_silence_has_a_reason"),
        "messages",
        "state NOT IN ('suppressed','held','cancelled') OR decision IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_constraint("ck_messages_silence_has_a_reason", "messages")
    op.create_check_constraint(
        op.f("ck_messages_silence_has_a_reason"),
        "messages",
        "state NOT IN ('suppressed','held') OR decision IS NOT NULL",
    )
    op.drop_column("messages", "not_after")
