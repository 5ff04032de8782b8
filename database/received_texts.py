"""Text messages that came to us. STOP and START hold from the moment they are stored."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, insert_once, uuid_key, written_now
from database.customers import Suppression
from database.queries.customers import hold_messages_to
from database.received_mails import OF_STRANGERS
from domain.messages import Channel
from domain.opt_out_words import Wish, wish_of
from domain.received_texts import TextOutcome

_STOPPED = "asked by text to stop"


class ReceivedText(Base):
    """Once for each id that its provider gives it; acted upon by the intake (activities)."""

    __tablename__ = "received_texts"

    id: Mapped[UUID] = uuid_key()
    source: Mapped[str]  # the provider
    event_id: Mapped[str]  # the provider's
    sender: Mapped[str]  # E.164
    text: Mapped[str]
    words_deleted_at: Mapped[datetime | None]  # machine time; under the policy of kind storage
    wish: Mapped[Wish | None]  # a keyword, or words to that effect
    received_at: Mapped[datetime] = written_now()
    attempts: Mapped[int] = mapped_column(default=0, server_default=sa.text("0"))
    not_before: Mapped[datetime] = written_now()  # machine time: of the next attempt
    processed_at: Mapped[datetime | None]
    outcome: Mapped[TextOutcome | None]
    because: Mapped[str | None]  # why it failed
    customer_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("customers.id"))
    happened_at: Mapped[datetime | None]  # received_at in the customer's business time

    __table_args__ = (
        sa.UniqueConstraint("source", "event_id"),
        sa.Index(
            "ix_received_texts_waiting",
            *("not_before", "id"),
            postgresql_where=sa.text("processed_at IS NULL"),
        ),
        sa.Index(
            "ix_received_texts_with_words",
            *("received_at", "id"),
            postgresql_where=sa.text("words_deleted_at IS NULL"),
        ),
        sa.Index(
            "ix_received_texts_of_strangers",
            *("received_at", "id"),
            postgresql_where=sa.text(OF_STRANGERS),
        ),
        sa.Index("ix_received_texts_customer_id", "customer_id", "received_at"),
        sa.CheckConstraint(
            "(processed_at IS NULL) = (outcome IS NULL)", name="processed_has_an_outcome"
        ),
    )


class OtherText(Exception):
    """The source has used the id before, for another text."""


async def keep_text(
    session: AsyncSession, source: str, event_id: str, sender: str, text: str
) -> tuple[UUID, bool]:
    """The row's id, and whether it is new. STOP suppresses the number at once, START lifts that.

    YES and START are wishes only where STOP was said before: else they answer something else.
    Raises OtherText.
    """
    wish = wish_of(text, Channel.SMS)
    statement = insert(ReceivedText).values(
        source=source, event_id=event_id, sender=sender, text=text, wish=wish
    )
    new = await session.scalar(statement.on_conflict_do_nothing().returning(ReceivedText.id))
    if new is None:
        there = sa.select(
            ReceivedText.id, ReceivedText.sender, ReceivedText.text, ReceivedText.words_deleted_at
        ).where(ReceivedText.source == source, ReceivedText.event_id == event_id)
        known = (await session.execute(there)).one()
        is_same = known.words_deleted_at is not None or known.text == text
        if known.sender != sender or not is_same:
            raise OtherText(event_id)
        return known.id, False
    # Only now: a START that its provider repeats must not lift a STOP that came between.
    if wish is Wish.STOP:
        await _suppress(session, sender)
    if wish is Wish.START and not await _lift(session, sender, event_id):
        no_wish = sa.update(ReceivedText).where(ReceivedText.id == new).values(wish=None)
        await session.execute(no_wish)
    return new, True


async def _suppress(session: AsyncSession, number: str) -> None:
    await hold_messages_to(session, Channel.SMS, number)
    await insert_once(
        session, Suppression, channel=Channel.SMS, address=number, purpose=None, reason=_STOPPED
    )


async def _lift(session: AsyncSession, number: str, event_id: str) -> bool:
    """Only what STOP has made; a number that takes no texts stays suppressed."""
    lifted = await session.execute(
        sa.update(Suppression)
        .where(
            Suppression.channel == Channel.SMS,
            Suppression.address == number,
            Suppression.reason == _STOPPED,
            Suppression.lifted_at.is_(None),
        )
        .values(lifted_at=sa.func.now(), lifted_because=f"asked by text {event_id} to start again")
        .returning(Suppression.id)
    )
    return lifted.first() is not None
