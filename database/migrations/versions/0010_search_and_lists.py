"""Customers, orders and cases are found by what is typed; lists stay fast in a large database."""

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

_FOLDED = r"""
CREATE OR REPLACE FUNCTION folded(said text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN left(translate(encode(convert_to(
    lower(unaccent(normalize(said, NFKC)) COLLATE pg_c_utf8), 'UTF8'), 'escape'
), '\', 'x'), 1000)
"""
_NOT_ARRIVED = (
    "state IN ('bounced','complained','unknown','suppressed','held','cancelled','failed')"
)

# name, table, columns, what narrows it
_INDEXES: tuple[tuple[str, str, tuple[str, ...], str | None], ...] = (
    ("ix_customers_folded_name_id", "customers", ("folded_name", "id"), None),
    ("ix_customers_updated_at_id", "customers", ("updated_at", "id"), None),
    ("ix_customers_reading_locale", "customers", ("COALESCE(chosen_locale, locale)", "id"), None),
    ("ix_consents_stated", "consents", ("channel", "purpose", "state", "customer_id"), None),
    ("ix_orders_state_placed_at_id", "orders", ("state", "placed_at", "id"), None),
    ("ix_orders_promised_on_id", "orders", ("promised_on", "id"), None),
    (
        "ix_orders_on_the_way",
        "orders",
        ("promised_on", "id"),
        "delivered_at IS NULL AND ended_at IS NULL",
    ),
    ("ix_tasks_due_at_id", "tasks", ("due_at", "id"), None),
    ("ix_messages_template_id", "messages", ("template", "id"), None),
    ("ix_messages_texts", "messages", ("id",), "channel = 'sms'"),
    ("ix_messages_not_arrived", "messages", ("state", "id"), _NOT_ARRIVED),
    ("ix_processes_kind_state_step", "processes", ("kind", "state", "step"), None),
    ("ix_processes_next_timer", "processes", ("next_timer_machine_at",), "ended_at IS NULL"),
    (
        "ix_lifecycles_stage_stage_since",
        "lifecycles",
        ("stage", "stage_since", "customer_id"),
        None,
    ),
    ("ix_lifecycles_stage_since", "lifecycles", ("stage_since", "customer_id"), None),
    ("ix_lifecycles_last_heard_at", "lifecycles", ("last_heard_at", "customer_id"), None),
    ("ix_lifecycles_silence_due_at", "lifecycles", ("silence_due_at", "customer_id"), None),
)
# name, table, what is searched, what narrows it
_TRIGRAMS: tuple[tuple[str, str, str, str | None], ...] = (
    ("ix_customers_name_trigrams", "customers", "folded_name", None),
    ("ix_customers_reference_trigrams", "customers", "lower(reference)", None),
    ("ix_contact_points_phone_trigrams", "contact_points", "lower(address)", "channel = 'sms'"),
    ("ix_orders_reference_trigrams", "orders", "lower(reference)", None),
    ("ix_cases_reference_trigrams", "cases", "lower(reference)", None),
)
_PREFIXES: tuple[tuple[str, str, str], ...] = (
    ("ix_customers_reference_prefixes", "customers", "lower(reference)"),
    ("ix_orders_reference_prefixes", "orders", "lower(reference)"),
    ("ix_cases_reference_prefixes", "cases", "lower(reference)"),
)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    op.execute(_FOLDED)
    name: sa.Column[object] = sa.Column(
        "folded_name",
        sa.Text(collation="C"),
        sa.Computed("folded(name)", persisted=True),
        nullable=False,
    )
    op.add_column("customers", name)
    filled: sa.Column[object] = sa.Column(
        "filled", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("simulations", filled)
    op.drop_index("ix_processes_kind_state", "processes")
    op.drop_index("ix_lifecycles_stage", "lifecycles")
    for index, table, columns, where in _INDEXES:
        op.create_index(
            index,
            table,
            [sa.text(column) if "(" in column else column for column in columns],
            postgresql_where=sa.text(where) if where else None,
        )
    for index, table, expression, where in _TRIGRAMS:
        op.create_index(
            index,
            table,
            [sa.text(f"{expression} gin_trgm_ops")],
            postgresql_using="gin",
            postgresql_where=sa.text(where) if where else None,
        )
    for index, table, expression in _PREFIXES:
        op.create_index(index, table, [sa.text(f"{expression} text_pattern_ops")])
    op.drop_index("ix_contact_points_address", "contact_points")
    op.create_index(
        "ix_contact_points_address", "contact_points", [sa.text("lower(address) text_pattern_ops")]
    )


def downgrade() -> None:
    for index, table, _, _ in _INDEXES:
        op.drop_index(index, table)
    for index, table, _, _ in _TRIGRAMS:
        op.drop_index(index, table)
    for index, table, _ in _PREFIXES:
        op.drop_index(index, table)
    op.drop_index("ix_contact_points_address", "contact_points")
    op.create_index("ix_contact_points_address", "contact_points", [sa.text("lower(address)")])
    op.create_index("ix_lifecycles_stage", "lifecycles", ["stage"])
    op.create_index("ix_processes_kind_state", "processes", ["kind", "state"])
    op.drop_column("simulations", "filled")
    op.drop_column("customers", "folded_name")
    op.execute("DROP FUNCTION folded")  # the extensions stay: others may use them
