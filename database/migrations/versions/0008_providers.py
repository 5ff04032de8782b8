"""What is due is found by its lane; a message knows since when its outcome is unknown."""

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    since: sa.Column[object] = sa.Column("unknown_since", sa.DateTime(timezone=True), nullable=True)
    op.add_column("messages", since)
    # Who was asked is now written with the claim: these were asked before.
    op.execute(
        "UPDATE messages SET provider = CASE channel WHEN 'sms' THEN 'local_sms' ELSE 'smtp' END"
        " WHERE state = 'sending' AND provider IS NULL"
    )
    # One index for all that waits led the planner through 20,000 of one class to one of another.
    op.drop_index("ix_messages_due", "messages")
    op.create_index(
        "ix_messages_sending",
        "messages",
        ["not_before"],
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index(
        "ix_messages_lanes",
        "messages",
        ["message_class", "channel", "template", "not_before"],
        postgresql_where=sa.text("state IN ('queued','held')"),
    )


def downgrade() -> None:
    op.drop_index("ix_messages_lanes", "messages")
    op.drop_index("ix_messages_sending", "messages")
    op.create_index(
        "ix_messages_due",
        "messages",
        ["not_before"],
        postgresql_where=sa.text("state IN ('queued','sending','held')"),
    )
    op.drop_column("messages", "unknown_since")
    op.execute("DELETE FROM policies WHERE kind = 'sending'")  # unknown to what was before
