"""What a customer said about being written to, and what has to be confirmed before it holds."""

from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from database.base import table_of
from database.customers import NEWEST_STATEMENT, Consent
from database.messages import Message
from database.queries.messages import insert_message
from database.queries.policies import current_policy
from domain.contacts import ConsentState
from domain.messages import Channel, MessageRequest, MessageState, Purpose, Template
from domain.policies import ContactPolicy, PolicyKind
from domain.processes import lifecycle_workflow_id

_ASKED_ONCE_IN = timedelta(days=1)  # of business time
_JUST_AFTER = timedelta(microseconds=1)
_ADD = insert(table_of(Consent)).returning(Consent.id)
_OF_STATEMENT = ("id", "state", "source", "wording", "occurred_at")
_UNSENT = (MessageState.CANCELLED, MessageState.SUPPRESSED, MessageState.FAILED)


class Statement(NamedTuple):
    """The newest statement about a channel and purpose; `new` when it was just made."""

    id: UUID
    state: ConsentState
    source: str
    wording: str
    occurred_at: datetime
    new: bool = False


async def contact_policy(session: AsyncSession) -> ContactPolicy:
    return cast(ContactPolicy, await current_policy(session, PolicyKind.CONTACT))


async def newest_statement(
    session: AsyncSession, customer_id: UUID, channel: Channel, purpose: Purpose
) -> Statement | None:
    found = await session.execute(
        sa.select(*(getattr(Consent, name) for name in _OF_STATEMENT))
        .where(
            Consent.customer_id == customer_id,
            Consent.channel == channel,
            Consent.purpose == purpose,
        )
        .order_by(*NEWEST_STATEMENT)
        .limit(1)
    )
    row = found.one_or_none()
    return None if row is None else Statement(*row)


def after_all(newest: Statement | None, now: datetime) -> datetime:
    """The moment of what is said now: after any other statement, whatever the clock of the system
    that reported that one said.
    """
    return now if newest is None else max(now, newest.occurred_at + _JUST_AFTER)


def withdrawn_at(newest: Statement | None, occurred_at: datetime) -> datetime:
    """The moment of a withdrawal that is reported now: after any grant that is recorded already,
    whatever the clock of the system that reported either says.
    """
    if newest is None or newest.state is ConsentState.WITHDRAWN:
        return occurred_at
    return after_all(newest, occurred_at)


async def state_consent(
    session: AsyncSession,
    customer_id: UUID,
    channel: Channel,
    purpose: Purpose,
    state: ConsentState,
    *,
    source: str,
    now: datetime,
    wording: str = "",
) -> Statement:
    """Record what the customer says now; what holds already is not recorded again.

    The caller has called `hold_messages`. `now` is business time.
    """
    newest = await newest_statement(session, customer_id, channel, purpose)
    if newest is not None and newest.state is state:
        return newest
    occurred_at = after_all(newest, now)
    statement_id: UUID = (
        await session.execute(
            _ADD,
            {
                "customer_id": customer_id,
                "channel": channel,
                "purpose": purpose,
                "state": state,
                "source": source,
                "wording": wording,
                "occurred_at": occurred_at,
            },
        )
    ).scalar_one()
    return Statement(statement_id, state, source, wording, occurred_at, new=True)


async def ask_to_confirm(
    session: AsyncSession,
    customer_id: UUID,
    channel: Channel,
    *,
    policy: ContactPolicy,
    now: datetime,
) -> bool:
    """Queue the message whose link makes a pending consent to marketing hold (double opt-in).

    False: it was asked for within the last day. `now` is business time.
    """
    asked_before = await session.scalar(
        sa.select(Message.id)
        .where(
            Message.customer_id == customer_id,
            Message.template == Template.CONFIRM_OPT_IN,
            Message.channel == channel,
            Message.state.not_in(_UNSENT),
            Message.asked_at > now - _ASKED_ONCE_IN,
        )
        .limit(1)
    )
    if asked_before is not None:
        return False
    until = now + policy.confirm_within
    request = MessageRequest(
        template=Template.CONFIRM_OPT_IN,
        occurrence=f"{channel}/{now.isoformat()}",
        context={
            "confirms": f"{channel}/{Purpose.MARKETING}",
            "confirm_until": until.isoformat(),
        },
        channel=channel,
        channel_fixed=True,
        not_after=until,
    )
    return await insert_message(
        session,
        request,
        customer_id=customer_id,
        workflow_id=lifecycle_workflow_id(customer_id),
        step="double_opt_in",
        asked_at=now,
    )
