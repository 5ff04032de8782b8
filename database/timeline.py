"""What happened to a customer, one line each, written in the transaction that made it true."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, written_now
from domain.processes import Phase


class TimelineLine(Base):
    """Also the marker of a process step: (workflow, step key) is unique, so a repeat is seen."""

    __tablename__ = "timeline"

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    customer_id: Mapped[UUID] = customer_key()
    workflow_id: Mapped[str]
    step_key: Mapped[str]
    kind: Mapped[str]  # snake_case word of the event or step
    phase: Mapped[Phase]
    happened_at: Mapped[datetime]  # business time
    facts: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.UniqueConstraint("workflow_id", "step_key"),
        sa.Index("ix_timeline_customer_id_happened_at", "customer_id", "happened_at", "id"),
    )
