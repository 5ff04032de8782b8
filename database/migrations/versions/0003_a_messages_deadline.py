"""A message may have a deadline; a hold doesn't count as time in which nobody got through."""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    deadline: sa.Column[object] = sa.Column("not_after", sa.DateTime(timezone=True), nullable=True)
    op.add_column("messages", deadline)
    due: sa.Column[object] = sa.Column("due_since", sa.DateTime(timezone=True), nullable=True)
    op.add_column("messages", due)
    op.execute("UPDATE messages SET due_since = queued_at")
    op.alter_column("messages", "due_since", nullable=False, server_default=sa.func.now())
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
    op.drop_column("messages", "due_since")
    op.drop_column("messages", "not_after")
    op.execute("DELETE FROM policies WHERE kind = 'contact'")  # unknown to what was before
