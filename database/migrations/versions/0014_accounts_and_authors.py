"""Since when an account has its password, everybody who wrote in a draft; old actions are found."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
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
    op.add_column(
        "template_versions",
        sa.Column("editors", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
    )
    # Who else wrote in them was not kept.
    op.execute("UPDATE template_versions SET editors = jsonb_build_array(author)")
    op.create_index(op.f("ix_staff_actions_recorded_at"), "staff_actions", ["recorded_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_staff_actions_recorded_at"), "staff_actions")
    op.drop_column("template_versions", "editors")
    op.drop_column("staff", "password_set_at")
