"""Every message we meant to send, once per key, with the decision about it and its fate."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, uuid_key, written_now
from domain.messages import Channel, MessageClass, MessageState, Purpose, SettledBy, Template


class Message(Base):
    """Queued by a process in the transaction of its step; sent by the dispatcher.

    `sending` means that a dispatcher has claimed it (committed before the socket opens): should
    that dispatcher die, the outcome is unknown until evidence or the template's class settles it.
    """

    __tablename__ = "messages"

    id: Mapped[UUID] = uuid_key()
    key: Mapped[str] = mapped_column(unique=True)  # workflow / template / occurrence
    customer_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("customers.id"), index=True)
    workflow_id: Mapped[str]
    step: Mapped[str]
    template: Mapped[Template]
    message_class: Mapped[MessageClass]
    purpose: Mapped[Purpose]
    channel: Mapped[Channel]  # asked for; once it is sent, the one it went by
    asked_channel: Mapped[Channel | None]  # where it went by another
    channel_fixed: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    context: Mapped[dict[str, Any]]
    text_id: Mapped[UUID | None]
    state: Mapped[MessageState] = mapped_column(default=MessageState.QUEUED)
    asked_at: Mapped[datetime]  # business time of the step that asked for it
    queued_at: Mapped[datetime] = written_now()
    not_before: Mapped[datetime] = written_now()  # machine time: of the next try
    due_since: Mapped[datetime] = written_now()  # machine time: queued, or the end of its last hold
    attempts: Mapped[int] = mapped_column(default=0)
    claimed_by: Mapped[str | None]  # the dispatcher's token
    claimed_at: Mapped[datetime | None]
    address: Mapped[str | None]
    locale: Mapped[str | None]
    # What it was rendered from, `file` or the number of a version of staff. Kept from then on: what
    # is sent again says the same. A test send has it from the beginning.
    template_version: Mapped[str | None]
    message_id: Mapped[str | None] = mapped_column(unique=True)
    subject: Mapped[str | None]
    text: Mapped[str | None]
    html: Mapped[str | None]
    text_deleted_at: Mapped[datetime | None]  # machine time; with the subject, under the policy
    reactions_deleted_at: Mapped[datetime | None]  # the newest time that some were
    accepted_at: Mapped[datetime | None]  # machine time of the provider's yes
    told_at: Mapped[datetime | None]  # the same moment in the customer's business time
    provider: Mapped[str | None]  # who was asked, from the claim on
    asked_under: Mapped[str | None]  # the key it was asked under; only that shows it to be the same
    unknown_since: Mapped[datetime | None]  # machine time of the claim whose answer is missing
    provider_answer: Mapped[str | None]
    # Each answer and what it led to, the first and the newest: see activities/message_queue.py.
    conversation: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    decision: Mapped[dict[str, Any] | None]
    not_after: Mapped[datetime | None]  # business time: its deadline
    possible_duplicate: Mapped[bool] = mapped_column(default=False)
    settled_by: Mapped[SettledBy | None]  # the newest time that its outcome was unknown
    process_told_at: Mapped[datetime | None]  # of an undeliverable message

    __table_args__ = (
        sa.Index(
            "ix_messages_sending", "not_before", postgresql_where=sa.text("state = 'sending'")
        ),
        # The next of each lane, however many wait in the others: see activities/message_queue.py.
        sa.Index(
            "ix_messages_lanes",
            *("message_class", "channel", "template", "not_before"),
            postgresql_where=sa.text("state IN ('queued','held')"),
        ),
        sa.Index("ix_messages_workflow_id", "workflow_id"),
        sa.Index(  # what the policy of kind storage asks for
            "ix_messages_with_text",
            *("queued_at", "id"),
            postgresql_where=sa.text(
                "text IS NOT NULL AND state NOT IN ('queued','held','sending')"
            ),
        ),
        # What is rare among the many that arrived.
        sa.Index("ix_messages_template_id", "template", "id"),
        sa.Index("ix_messages_texts", "id", postgresql_where=sa.text("channel = 'sms'")),
        sa.Index(
            "ix_messages_not_arrived",
            *("state", "id"),
            postgresql_where=sa.text(
                "state IN ('bounced','complained','unknown','suppressed','held','cancelled',"
                "'failed')"
            ),
        ),
        sa.Index(
            "ix_messages_in_trouble",
            *("state", "queued_at"),
            postgresql_where=sa.text("state IN ('unknown','failed')"),
        ),
        sa.Index(
            "ix_messages_possible_duplicates",
            "id",
            postgresql_where=sa.text("possible_duplicate"),
        ),
        sa.Index(
            "ix_messages_settled_by",
            *("settled_by", "id"),
            postgresql_where=sa.text("settled_by IS NOT NULL"),
        ),
        sa.Index(
            "ix_messages_untold",
            "id",
            postgresql_where=sa.text(
                "state IN ('failed','bounced','suppressed') AND process_told_at IS NULL"
            ),
        ),
        sa.CheckConstraint(
            "state NOT IN ('accepted','delivered') OR accepted_at IS NOT NULL",
            name="accepted_has_a_date",
        ),
        sa.CheckConstraint(
            "state NOT IN ('suppressed','held','cancelled') OR decision IS NOT NULL",
            name="silence_has_a_reason",
        ),
    )
