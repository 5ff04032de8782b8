"""Staff: accounts, sessions, failed sign-ins, actions, saved views."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

_ROLES = ("sales_rep", "support_agent", "account_manager", "ops", "manager", "admin")
_NOW = sa.text("now()")


def _moment(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column[object]:
    default = _NOW if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(), nullable=True)


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "staff",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Enum(*_ROLES, native_enum=False, length=40), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("one_time_password", sa.Boolean(), nullable=False),
        sa.Column(
            "preferences", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False
        ),
        _moment("disabled_at", nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        _moment("recorded_at", now=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff")),
    )
    op.create_index("uq_staff_email", "staff", [sa.text("lower(email)")], unique=True)
    op.create_table(
        "staff_sessions",
        _id(),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("csrf_token", sa.Text(), nullable=False),
        sa.Column("staff_id", sa.Text(), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        _moment("seen_at", now=True),
        _moment("expires_at"),
        _moment("recorded_at", now=True),
        sa.ForeignKeyConstraint(
            ["staff_id"],
            ["staff.id"],
            name=op.f("fk_staff_sessions_staff_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_staff_sessions_token_hash")),
    )
    op.create_index(op.f("ix_staff_sessions_staff_id"), "staff_sessions", ["staff_id"])
    op.create_table(
        "sign_in_failures",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _moment("blocked_until"),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_sign_in_failures")),
    )
    op.create_table(
        "staff_actions",
        _id(),
        sa.Column("staff_id", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        _json("before"),
        _json("after"),
        sa.Column("request_id", sa.Text(), nullable=False),
        _moment("recorded_at", now=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_actions")),
    )
    op.create_index(op.f("ix_staff_actions_staff_id"), "staff_actions", ["staff_id"])
    op.create_index(op.f("ix_staff_actions_target"), "staff_actions", ["target"])
    op.create_table(
        "saved_views",
        _id(),
        sa.Column("staff_id", sa.Text(), nullable=False),
        sa.Column("screen", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        _moment("recorded_at", now=True),
        sa.ForeignKeyConstraint(
            ["staff_id"], ["staff.id"], name=op.f("fk_saved_views_staff_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
        sa.UniqueConstraint(
            "staff_id", "screen", "name", name=op.f("uq_saved_views_staff_id_screen_name")
        ),
    )
    op.create_index(op.f("ix_saved_views_staff_id"), "saved_views", ["staff_id"])


def downgrade() -> None:
    for table in (
        "saved_views",
        "staff_actions",
        "sign_in_failures",
        "staff_sessions",
        "staff",
    ):
        op.drop_table(table)
