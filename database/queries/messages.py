"""Messages asked for, and those that wait for something to change."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.base import insert_once, table_of
from database.messages import Message
from domain.contacts import Decision
from domain.messages import MESSAGES, MessageRequest, MessageState, message_key


async def insert_message(
    session: AsyncSession,
    request: MessageRequest,
    *,
    customer_id: UUID,
    workflow_id: str,
    step: str,
    asked_at: datetime,
    cancelled: Decision | None = None,
) -> bool:
    """Queue a message; False when the same one was asked for before, which stays as it is.

    One that is `cancelled` at once is there only to say why it was not sent.
    """
    kind = MESSAGES[request.template]
    fate: dict[str, Any] = {}
    if cancelled is not None:
        fate = {"state": MessageState.CANCELLED, "decision": cancelled.model_dump(mode="json")}
    return await insert_once(
        session,
        Message,
        key=message_key(workflow_id, request.template, request.occurrence),
        customer_id=customer_id,
        workflow_id=workflow_id,
        step=step,
        template=request.template,
        message_class=kind.message_class,
        purpose=kind.purpose,
        channel=request.channel,
        channel_fixed=request.channel_fixed,
        context=dict(request.context),
        text_id=request.text_id,
        not_after=request.not_after,
        asked_at=asked_at,
        **fate,
    )


async def ask_again(session: AsyncSession, customer_id: UUID) -> None:
    """What is held back for the customer is decided about anew.

    A message that a dispatcher has locked is left: it waits for the customer, whom the caller has
    locked, and so it sees the change. To wait for it here would be a deadlock.
    """
    messages = table_of(Message)
    held = (
        sa.select(messages.c.id)
        .where(messages.c.customer_id == customer_id, messages.c.state == MessageState.HELD)
        .with_for_update(skip_locked=True)
    )
    await session.execute(
        sa.update(messages).where(messages.c.id.in_(held)).values(not_before=sa.func.now())
    )
