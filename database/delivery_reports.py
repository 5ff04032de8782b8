"""What providers and bounces reported about messages, once per event id, before it is looked at."""

from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, table_of, uuid_key, written_now
from database.messages import Message
from domain.delivery_reports import DeliveryReport, ReportKind


class DeliveryReportRow(Base):
    """Kept in the request or the mail that brought it; applied by the intake (activities)."""

    __tablename__ = "delivery_reports"

    id: Mapped[UUID] = uuid_key()
    source: Mapped[str]  # who told us: "resend", "twilio", "mail"
    event_id: Mapped[str]  # the source's
    kind: Mapped[ReportKind]
    effect: Mapped[UUID | None]  # of the message, as reported
    message_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("messages.id"), index=True)
    provider: Mapped[str]
    said: Mapped[str | None]
    said_deleted_at: Mapped[datetime | None]  # machine time; under the policy of kind storage
    reported_at: Mapped[datetime]  # machine time at the source
    received_at: Mapped[datetime] = written_now()
    processed_at: Mapped[datetime | None]
    outcome: Mapped[str | None]  # what came of it, in words

    __table_args__ = (
        sa.UniqueConstraint("source", "event_id"),
        sa.Index(
            "ix_delivery_reports_unprocessed",
            "id",
            postgresql_where=sa.text("processed_at IS NULL"),
        ),
        sa.Index(
            "ix_delivery_reports_with_words",
            *("received_at", "id"),
            postgresql_where=sa.text("said IS NOT NULL AND processed_at IS NOT NULL"),
        ),
        sa.CheckConstraint(
            "processed_at IS NULL OR outcome IS NOT NULL", name="processed_has_an_outcome"
        ),
    )


async def keep_report(
    session: AsyncSession, source: str, event_id: str, report: DeliveryReport
) -> bool:
    """Store a report; False when it was there. The caller commits, then it can't be lost.

    One about a message that is not ours is kept too.
    """
    row = {
        "source": source,
        "event_id": event_id,
        "kind": report.kind,
        "effect": report.effect,
        "about": report.effect,
        "provider": report.provider,
        "said": report.said,
        "reported_at": min(report.at, datetime.now(UTC)),  # another's clock may be ahead
    }
    return (await session.execute(_KEEP, row)).first() is not None


_reports = table_of(DeliveryReportRow)
_its_message = sa.select(Message.id).where(Message.id == sa.bindparam("about", type_=sa.Uuid))
_KEEP = (
    insert(_reports)
    .values(message_id=_its_message.scalar_subquery())
    .on_conflict_do_nothing()
    .returning(_reports.c.id)
)
