"""The promise ledger: from what was said in selling to kept, partly kept or broken."""

from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, uuid_key, written_now
from domain.promises import PromiseKind, PromiseState

FROM_ORDER = "order"  # the source of what an order promised; anything else was offered before


class Promise(Base):
    __tablename__ = "promises"

    id: Mapped[UUID] = uuid_key()
    customer_id: Mapped[UUID] = customer_key(index=True)
    order_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("orders.id"), index=True)
    kind: Mapped[PromiseKind]
    text: Mapped[str]
    due_on: Mapped[date | None]
    state: Mapped[PromiseState]
    source: Mapped[str]  # order, staff, quote
    settled_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.CheckConstraint(
            "state NOT IN ('open','kept','partly_kept','broken') OR order_id IS NOT NULL",
            name="accepted_belongs_to_an_order",
        ),
        sa.CheckConstraint(
            "(state IN ('kept','partly_kept','broken','released')) = (settled_at IS NOT NULL)",
            name="settled_has_a_date",
        ),
    )
