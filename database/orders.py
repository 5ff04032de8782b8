"""Orders on their way: written by the delivery process only."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, written_now
from database.search import prefixes, trigrams
from domain.delivery import DeliveryState, Effect


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID] = customer_key(index=True)
    reference: Mapped[str] = mapped_column(index=True)
    state: Mapped[DeliveryState] = mapped_column(default=DeliveryState.PLACED)
    currency: Mapped[str]
    total_minor: Mapped[int] = mapped_column(sa.BigInteger)
    lines: Mapped[list[dict[str, Any]]] = mapped_column(sa.dialects.postgresql.JSONB)
    promised_on: Mapped[date | None]
    first_promised_on: Mapped[date | None]
    placed_at: Mapped[datetime]
    approved_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]  # returned, unavailable or cancelled
    carrier: Mapped[str] = mapped_column(default="")
    tracking: Mapped[str] = mapped_column(default="")
    # Of the day promised now: the process noticed before it passed, and that it had passed.
    endangered_at: Mapped[datetime | None]
    late_noticed_at: Mapped[datetime | None]
    delivered_late: Mapped[bool | None]
    refund_minor: Mapped[int | None] = mapped_column(sa.BigInteger)
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.Index("ix_orders_placed_at_id", "placed_at", "id"),  # the order of the list
        sa.Index("ix_orders_state_placed_at_id", "state", "placed_at", "id"),
        sa.Index("ix_orders_promised_on_id", "promised_on", "id"),
        sa.Index(
            "ix_orders_on_the_way",
            *("promised_on", "id"),
            postgresql_where=sa.text("delivered_at IS NULL AND ended_at IS NULL"),
        ),
        sa.Index(  # the lanes of the board and their counts, without a look at the orders
            "ix_orders_lanes",
            sa.text("COALESCE(promised_on, '9999-12-31'::date)"),
            "id",
            postgresql_include=["promised_on", "state", "endangered_at", "late_noticed_at"],
            postgresql_where=sa.text("delivered_at IS NULL AND ended_at IS NULL"),
        ),
        prefixes("ix_orders_reference_prefixes", "lower(reference)"),
        trigrams("ix_orders_reference_trigrams", "lower(reference)"),
        sa.CheckConstraint("total_minor >= 0", name="total_is_not_negative"),
        sa.CheckConstraint(
            "state <> 'delivered' OR delivered_at IS NOT NULL", name="delivered_has_a_date"
        ),
        sa.CheckConstraint(
            "state NOT IN ('returned','unavailable','cancelled') OR ended_at IS NOT NULL",
            name="ended_has_a_date",
        ),
        sa.CheckConstraint("refund_minor IS NULL OR refund_minor >= 0", name="refund_is_money"),
    )


class OrderMilestone(Base):
    """One report about an order and what it did; a report is known by its event id."""

    __tablename__ = "order_milestones"

    order_id: Mapped[UUID] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    milestone: Mapped[str]
    effect: Mapped[Effect]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = written_now()
