"""What other systems told us, once per event id; and the answers given to repeated requests."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, insert_once, uuid_key, written_now

# In a body what people wrote in their own words; the same text as in the index that finds it.
HAS_WORDS = "jsonb_exists_any(body, ARRAY['text','comment','title'])"


class Event(Base):
    """An accepted lifecycle event with its body, words of the customer included.

    Inserted in the transaction in which the process was told; a repeat finds the row.
    """

    __tablename__ = "events"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    customer_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("customers.id"), index=True)
    order_id: Mapped[UUID | None] = mapped_column(index=True)
    workflow_id: Mapped[str]
    occurred_at: Mapped[datetime]
    body: Mapped[dict[str, Any]]
    fingerprint: Mapped[str]  # sha256 of the canonical body: another body under the id is refused
    accepted_by: Mapped[str]
    accepted_at: Mapped[datetime] = written_now()
    words_deleted_at: Mapped[datetime | None]  # machine time; under the policy of kind storage

    __table_args__ = (
        sa.Index("ix_events_accepted_at", "accepted_at"),
        sa.Index(
            "ix_events_with_words",
            *("accepted_at", "event_id"),
            postgresql_where=sa.text(HAS_WORDS),
        ),
    )


def fingerprint_of(told: Mapping[str, Any]) -> str:
    """What a repeat is recognised by: sha256 of the canonical JSON of what was told."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


async def keep_event(
    session: AsyncSession,
    body: Mapping[str, Any],
    *,
    fingerprint: str,
    customer_id: UUID | None,
    workflow_id: str,
    occurred_at: datetime,
    accepted_by: str,
    order_id: UUID | None = None,
) -> bool:
    """Store an event with its `event_id` and `kind`; False when one is there under the id.

    Waits for a twin that is under way. To be called in the transaction in which the process is
    told: before its commit, so that the event and what follows from it are there both or neither.
    """
    return await insert_once(
        session,
        Event,
        event_id=body["event_id"],
        kind=body["kind"],
        customer_id=customer_id,
        order_id=order_id,
        workflow_id=workflow_id,
        occurred_at=occurred_at,
        body=dict(body),
        fingerprint=fingerprint,
        accepted_by=accepted_by,
    )


ANSWERS_KEPT_FOR = timedelta(hours=72)  # reliability.md §2


class IdempotentAnswer(Base):
    """The answer to a request with an Idempotency-Key; forgotten in the night after its time."""

    __tablename__ = "idempotent_answers"

    id: Mapped[UUID] = uuid_key()
    principal: Mapped[str]
    route: Mapped[str]
    key: Mapped[str]
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (sa.UniqueConstraint("principal", "route", "key"),)


class KpiSnapshot(Base):
    """The figures of one day, by the KPI schedule."""

    __tablename__ = "kpi_snapshots"

    id: Mapped[UUID] = uuid_key()
    taken_at: Mapped[datetime] = mapped_column(unique=True)
    figures: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime] = written_now()


class Verification(Base):
    """One run of the conservation check (`crm.py verify`, nightly by schedule)."""

    __tablename__ = "verifications"

    id: Mapped[UUID] = uuid_key()
    taken_at: Mapped[datetime]
    clean: Mapped[bool]
    findings: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime] = written_now()
