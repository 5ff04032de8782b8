"""What customers choose for themselves: language, channel, a pause; what they opened, if they allow."""

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def _channel() -> sa.Enum:
    return sa.Enum("email", "sms", name="channel", native_enum=False, length=40)


def upgrade() -> None:
    locale: sa.Column[object] = sa.Column("chosen_locale", sa.Text(), nullable=True)
    op.add_column("customers", locale)
    preferred: sa.Column[object] = sa.Column("preferred_channel", _channel(), nullable=True)
    op.add_column("customers", preferred)
    paused: sa.Column[object] = sa.Column(
        "marketing_paused_until", sa.DateTime(timezone=True), nullable=True
    )
    op.add_column("customers", paused)
    asked: sa.Column[object] = sa.Column("asked_channel", _channel(), nullable=True)
    op.add_column("messages", asked)
    fixed: sa.Column[object] = sa.Column(
        "channel_fixed", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("messages", fixed)
    op.create_table(
        "message_reactions",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("opened", "clicked", name="reactionkind", native_enum=False, length=40),
            nullable=False,
        ),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column(
            "day",
            sa.Date(),
            server_default=sa.text("(now() AT TIME ZONE 'UTC')::date"),
            nullable=False,
        ),
        sa.Column(
            "first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_message_reactions_message_id_messages")
        ),
        sa.PrimaryKeyConstraint(
            "message_id", "kind", "link", "day", name=op.f("pk_message_reactions")
        ),
    )


def downgrade() -> None:
    op.drop_table("message_reactions")
    # Unknown to what was before. A consent that was not confirmed is none there either.
    op.execute(
        "DELETE FROM delivery_reports r USING messages m"
        " WHERE m.id = r.message_id AND m.template = 'confirm_opt_in'"
    )
    op.execute(
        "UPDATE received_mails r SET answers = NULL FROM messages m"
        " WHERE m.id = r.answers AND m.template = 'confirm_opt_in'"
    )
    op.execute("DELETE FROM messages WHERE template = 'confirm_opt_in'")
    op.execute("DELETE FROM consents WHERE purpose = 'tracking' OR state = 'pending'")
    op.drop_column("messages", "channel_fixed")
    op.drop_column("messages", "asked_channel")
    op.drop_column("customers", "marketing_paused_until")
    op.drop_column("customers", "preferred_channel")
    op.drop_column("customers", "chosen_locale")
