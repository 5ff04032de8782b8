"""That a message was opened and which of its links were followed, of customers who allow it."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, written_now


class ReactionKind(StrEnum):
    OPENED = "opened"
    CLICKED = "clicked"


class MessageReaction(Base):
    """Once for each message, link and day, however often it was done. Never who, nor from where."""

    __tablename__ = "message_reactions"

    message_id: Mapped[UUID] = mapped_column(
        # Released under this name, which is not the one of the convention.
        sa.ForeignKey("messages.id", name="fk_message_reactions_message_id_messages"),
        primary_key=True,
    )
    kind: Mapped[ReactionKind] = mapped_column(primary_key=True)
    link: Mapped[str] = mapped_column(primary_key=True, default="")  # of a click
    day: Mapped[date] = mapped_column(
        primary_key=True, server_default=sa.text("(now() AT TIME ZONE 'UTC')::date")
    )
    first_at: Mapped[datetime] = written_now()

    __table_args__ = (sa.Index("ix_message_reactions_first_at", "first_at"),)
