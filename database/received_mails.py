"""Mail that came to us: kept as it came before it is looked at, then with what came of it."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, uuid_key, written_now
from domain.received_mails import MailKind, MailOutcome

# Of mails and texts: a person has to say whose they are. Their indexes have it word for word.
OF_STRANGERS = "outcome IN ('unknown_sender', 'failed')"


class ReceivedMail(Base):
    """Taken by SMTP or through the API; understood and acted upon by the intake (activities)."""

    __tablename__ = "received_mails"

    id: Mapped[UUID] = uuid_key()
    digest: Mapped[str] = mapped_column(unique=True)  # sha256 of the envelope and the mail
    source: Mapped[str]  # smtp, or who called the API
    mail_from: Mapped[str | None]  # of the envelope; empty: the null return path; null: not known
    rcpt_to: Mapped[list[str]]
    raw: Mapped[bytes | None] = mapped_column(deferred=True, deferred_raiseload=True)  # to 10 MB
    raw_deleted_at: Mapped[datetime | None]  # machine time; with all that was in it but its words
    received_at: Mapped[datetime] = written_now()
    attempts: Mapped[int] = mapped_column(default=0, server_default=sa.text("0"))
    not_before: Mapped[datetime] = written_now()  # machine time: of the next attempt

    # As it was understood. What a person wrote is here and in the event; never in a process.
    kind: Mapped[MailKind | None]
    because: Mapped[str | None]
    sender: Mapped[str | None]  # as it says
    subject: Mapped[str | None]
    message_id: Mapped[str | None]
    # The Message-IDs of what it continues, the one it answers last.
    thread: Mapped[list[str]] = mapped_column(default=list, server_default=sa.text("'[]'"))
    text: Mapped[str | None]  # without what it quotes
    whole_text: Mapped[str | None]
    words_deleted_at: Mapped[datetime | None]  # machine time; with the subject
    left_out: Mapped[int] = mapped_column(default=0)  # attachments beyond the limits

    # What came of it.
    processed_at: Mapped[datetime | None]
    outcome: Mapped[MailOutcome | None]
    customer_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("customers.id"))
    case_id: Mapped[UUID | None]
    happened_at: Mapped[datetime | None]  # received_at in the customer's business time
    answers: Mapped[UUID | None] = mapped_column(sa.ForeignKey("messages.id"))
    event_id: Mapped[str | None]

    __table_args__ = (
        sa.Index(
            "ix_received_mails_unprocessed",
            *("not_before", "id"),
            postgresql_where=sa.text("processed_at IS NULL"),
        ),
        sa.Index(
            "ix_received_mails_with_raw",
            *("received_at", "id"),
            postgresql_where=sa.text("raw IS NOT NULL AND processed_at IS NOT NULL"),
        ),
        sa.Index(
            "ix_received_mails_with_words",
            *("received_at", "id"),
            postgresql_where=sa.text("raw IS NULL AND words_deleted_at IS NULL"),
        ),
        sa.Index(
            "ix_received_mails_of_strangers",
            *("received_at", "id"),
            postgresql_where=sa.text(OF_STRANGERS),
        ),
        sa.Index("ix_received_mails_customer_id", "customer_id", "received_at"),
        sa.Index("ix_received_mails_answers", "answers"),
        sa.Index("ix_received_mails_event_id", "event_id"),
        sa.CheckConstraint(
            "(processed_at IS NULL) = (outcome IS NULL)", name="processed_has_an_outcome"
        ),
        sa.CheckConstraint(
            "(raw IS NULL) = (raw_deleted_at IS NOT NULL)", name="raw_is_there_or_was_deleted"
        ),
    )


class ReceivedAttachment(Base):
    """A file of a person's mail, as it came: never unpacked, never run."""

    __tablename__ = "received_attachments"

    id: Mapped[UUID] = uuid_key()
    mail_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("received_mails.id", ondelete="CASCADE"), index=True
    )
    number: Mapped[int]
    name: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[int]  # bytes
    sha256: Mapped[str]
    content: Mapped[bytes | None] = mapped_column(deferred=True, deferred_raiseload=True)

    __table_args__ = (sa.UniqueConstraint("mail_id", "number"),)


async def keep_mail(
    session: AsyncSession, source: str, mail_from: str | None, rcpt_to: Sequence[str], raw: bytes
) -> tuple[UUID, bool]:
    """The row's id, and whether it is new: a repeated delivery of the same mail is stored once.

    Once the caller has committed, the mail can't be lost.
    """
    envelope = json.dumps([mail_from, list(rcpt_to)]).encode()
    digest = hashlib.sha256(envelope + b"\n" + raw).hexdigest()
    statement = insert(ReceivedMail).values(
        digest=digest,
        source=source,
        mail_from=mail_from,
        rcpt_to=list(rcpt_to),
        raw=raw,
        left_out=0,
    )
    new = await session.scalar(statement.on_conflict_do_nothing().returning(ReceivedMail.id))
    if new is not None:
        return new, True
    there = sa.select(ReceivedMail.id).where(ReceivedMail.digest == digest)
    return (await session.execute(there)).scalar_one(), False
